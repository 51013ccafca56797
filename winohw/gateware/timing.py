# amaranth: UnusedElaboratable=no
"""Latencies of an engine: what its parts tell about themselves, put together for one configuration."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from winohw.gateware.accumulator import Accumulator
from winohw.gateware.config import EngineConfig
from winohw.gateware.credit_queue import CreditQueue
from winohw.gateware.drain_buffer import DrainBuffer
from winohw.gateware.input_transform import InputTransform
from winohw.gateware.line_buffer import LineBuffer
from winohw.gateware.mac_array import MacArray
from winohw.gateware.output_transform import OutputTransform
from winohw.gateware.requantizer import Requantizer
from winohw.gateware.sequencer import Sequencer
from winohw.gateware.weight_loader import CONSTANT_BYTES
from winohw.gateware.weight_transform import HostWeights, WeightTransform

__all__ = ["EngineTiming", "engine_timing"]


@dataclass(frozen=True)
class EngineTiming:
    """Cycles and depths that decide when things happen in an engine.

    Attributes
    ----------
    to_array : from the issue of a chunk to the array; of a group's first chunk, to the swap of the weights.
    to_drain : from the issue of a chunk to the drain buffer.
    drain_latency : from the start of a tile in the drain buffer to its first columns.
    drained_latency : from the start of a tile to the strobe that there is room for another one.
    row_done : from the last pixel of a tile row to the strobe that it is complete.
    ready_delay : from a group's last kernel row to the strobe that its weights have arrived, less one.
    pace : for each kernel size, from the start of a group to the first kernel row of the next that may pass.
    interval : for each kernel size, least cycles between the starts of two groups.
    fifo_rows : kernel rows that wait before the weight transform.
    constant_beats : beats of an output channel's constants.
    drain_depth : tiles that fit behind the accumulators.
    tile_beats : beats in which a tile's columns come to the output transform.
    output_latency : from a tile's last column to its first row at the end of the output transform's pipeline.
    queue_depth, queue_margin : rows in the queue behind it, and how many of them are kept free besides a tile's.
    requantizer : from sums to pixels.
    """

    to_array: int
    to_drain: int
    drain_latency: int
    drained_latency: int
    row_done: int
    ready_delay: int
    pace: dict[int, int]
    interval: dict[int, int]
    fifo_rows: int
    constant_beats: int
    drain_depth: int
    tile_beats: int
    output_latency: int
    queue_depth: int
    queue_margin: int
    requantizer: int


@lru_cache(maxsize=64)
def engine_timing(config: EngineConfig) -> EngineTiming:
    """The latencies of an engine. Nothing is elaborated."""
    n = config.input_tile
    line_buffer = LineBuffer(
        input_tile=n, steps=config.steps, lanes=config.input_lanes, fold=config.fold, words=config.line_words
    )
    mac_array = MacArray(
        input_tile=n,
        fold=config.fold,
        input_lanes=config.input_lanes,
        output_lanes=config.output_lanes,
        v_bits=config.v_bits,
        u_bits=config.u_bits,
        kind=config.multiplier,
        relay=True,
    )
    weight_transform = (
        WeightTransform.of(config) if config.weights == "chip" else HostWeights(n=n, u_bits=config.u_bits)
    )
    drain_buffer = DrainBuffer.of(config)
    output_transform = OutputTransform.of(config, drain_buffer.latency)
    requantizer = Requantizer(config.requantizer_lanes, kind=config.requantizer, multiplier=config.multiplier)
    to_array = Sequencer.latency + line_buffer.read_latency + InputTransform.of(config).chunk_latency
    # The pacer hears of a group's start a cycle later.
    pace = {
        r: to_array + mac_array.swap_delay + 1 - config.kernel_rows(r) - weight_transform.latency
        for r in config.kernels
    }
    return EngineTiming(
        to_array=to_array,
        to_drain=to_array + mac_array.latency + Accumulator.latency,
        drain_latency=drain_buffer.latency,
        drained_latency=drain_buffer.drained_latency,
        row_done=line_buffer.write_latency,
        ready_delay=max(0, weight_transform.latency - to_array + 1),
        pace={r: 1 + max(1, delay) for r, delay in pace.items()},
        interval={
            r: max(config.group_interval(r) + max(0, 1 - delay), config.least_group) for r, delay in pace.items()
        },
        fifo_rows=2 * max(config.group_rows(kernel) for kernel in config.kernels),
        constant_beats=-(-CONSTANT_BYTES // config.weight_bytes),
        drain_depth=drain_buffer.depth,
        tile_beats=drain_buffer.tile_beats,
        output_latency=output_transform.latency - CreditQueue.latency,
        queue_depth=output_transform.queue_depth,
        queue_margin=output_transform.margin,
        requantizer=requantizer.latency,
    )
