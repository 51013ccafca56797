# amaranth: UnusedElaboratable=no
"""The compact engine: the stages for parts with few registers, joined behind the ports of any engine."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring

from winohw.gateware.compact_sequencer import RECURRENCE, CompactSequencer
from winohw.gateware.config import EngineConfig
from winohw.gateware.input_transform import InputTransform
from winohw.gateware.multiplier import multiplier_latency, products_per_cell
from winohw.gateware.multiply_add import MultiplyAdd
from winohw.gateware.pipeline import delayed
from winohw.gateware.resting_accumulator import RestingAccumulator
from winohw.gateware.serial_output_transform import SerialOutputTransform
from winohw.gateware.small_engine import SmallEngine, small_line_buffer, small_requantizer
from winohw.gateware.weight_loader import CONSTANT_BYTES
from winohw.gateware.weight_store import WeightStore

if TYPE_CHECKING:
    from winohw.gateware.engine import Engine

__all__ = ["CompactTiming", "compact_output_transform", "compact_timing", "elaborate_compact"]

#: Kernels in the weight store.
_KERNELS = 16


def compact_output_transform(config: EngineConfig) -> SerialOutputTransform:
    """The output transform of a compact engine."""
    return SerialOutputTransform(config.winograd(), fold=config.fold, sum_bits=config.acc_bits)


@dataclass(frozen=True)
class CompactTiming:
    """Cycles and depths that decide when things happen in a compact engine.

    Attributes
    ----------
    row_done : from the last pixel of a tile row to the strobe that it is complete.
    recurrence : least cycles between the starts of two passes.
    settling : from the last chunk of an output channel to the earliest fetch of its first one.
    apart : least cycles between two fetches.
    to_weights : from the issue of a pass's first chunk to when the kernel before it makes room.
    to_output : from a fetch to its chunk at the output transform.
    kernels : places for kernels.
    constant_beats : beats of an output channel's constants.
    tiles : that wait in the output transform, or are at work.
    chunk_cycles, tile_cycles, first_latency, drain_latency, entry_times : see `SerialOutputTransform`.
    requantizer : from sums to pixels.
    """

    row_done: int
    recurrence: int
    settling: int
    apart: int
    to_weights: int
    to_output: int
    kernels: int
    constant_beats: int
    tiles: int
    chunk_cycles: int
    tile_cycles: int
    first_latency: int
    drain_latency: int
    entry_times: tuple[int, ...]
    requantizer: int


@lru_cache(maxsize=64)
def compact_timing(config: EngineConfig) -> CompactTiming:
    """The latencies of a compact engine. Nothing is elaborated."""
    line_buffer, output_transform = small_line_buffer(config), compact_output_transform(config)
    to_array = CompactSequencer.latency + line_buffer.read_latency + InputTransform.of(config).chunk_latency
    return CompactTiming(
        row_done=line_buffer.write_latency,
        recurrence=RECURRENCE,
        settling=RECURRENCE + 1,
        apart=output_transform.chunk_cycles,
        to_weights=to_array - WeightStore.lead,
        to_output=to_array + multiplier_latency(config.u_bits, config.multiplier),
        kernels=_KERNELS,
        constant_beats=-(-CONSTANT_BYTES // config.weight_bytes),
        tiles=output_transform.depth // config.fold,
        chunk_cycles=output_transform.chunk_cycles,
        tile_cycles=output_transform.tile_cycles,
        first_latency=output_transform.first_latency,
        drain_latency=output_transform.drain_latency,
        entry_times=tuple(output_transform.entry_times),
        requantizer=small_requantizer(config).latency,
    )


def elaborate_compact(engine: Engine) -> Module:
    """The gateware of an engine whose configuration asks for a compact datapath."""
    m = Module()
    config = engine.config
    n, q = config.input_tile, config.columns

    output_transform = compact_output_transform(config)
    sequencer = CompactSequencer(
        fold=config.fold,
        max_tiles=config.max_tiles,
        line_words=config.line_words,
        room=output_transform.depth,
        apart=output_transform.chunk_cycles,
        dimension_bits=config.dimension_bits,
    )
    ends = SmallEngine(engine, m, sequencer)
    line_buffer, weight_splitter = ends.line_buffer, ends.weight_splitter
    m.submodules.input_transform = input_transform = InputTransform.of(config)
    m.submodules.weight_store = weight_store = WeightStore(
        input_tile=n, fold=config.fold, u_bits=config.u_bits, kernels=_KERNELS, memory=config.family
    )
    m.submodules.accumulator = accumulator = RestingAccumulator(
        input_tile=n,
        columns=q,
        acc_bits=config.acc_bits,
        words=config.max_tiles * config.fold,
        memory=config.family,
    )
    m.submodules.output_transform = output_transform

    # --- from the line buffer to the accumulators; what the token says about a chunk travels beside it ---------------
    wiring.connect(m, weight_splitter.kernels, weight_store.i)
    token = sequencer.o.payload
    m.d.comb += [
        line_buffer.read.valid.eq(sequencer.o.valid),
        line_buffer.read.payload.eq(token.line),
        sequencer.row_done.eq(line_buffer.row_done),
        sequencer.weights_ready.eq(weight_store.loaded),
        sequencer.drained.eq(output_transform.drained),
        input_transform.i.valid.eq(line_buffer.o.valid),
        input_transform.i.payload.eq(line_buffer.o.payload[0]),
    ]
    if config.line_memory == "single":
        m.d.comb += line_buffer.hold.eq(sequencer.hold)
    # With a chunk, the mark says that it is of the first input channel; without one, that a chunk is fetched.
    mark = Mux(sequencer.o.valid, token.first, token.fetch)
    flags = Cat(sequencer.o.valid, token.start & (sequencer.o.valid | token.fetch), mark)
    to_array = line_buffer.read_latency + input_transform.chunk_latency
    flags = delayed(m, flags, to_array - weight_store.lead, name="flags")
    valid, begins, _ = flags
    m.d.comb += [weight_store.control.valid.eq(valid), weight_store.control.start.eq(begins & valid)]
    cells = [
        MultiplyAdd(config.v_bits, config.u_bits, config.acc_bits, config.multiplier)
        for _ in range(0, n * q, products_per_cell(config.multiplier))
    ]
    # What is stored comes a cycle before the cells add to it.
    to_adders = weight_store.lead + cells[0].latency - 1
    flags = delayed(m, flags, to_adders - accumulator.lead, name="late_flags")
    valid, begins, mark = flags
    m.d.comb += [
        accumulator.control.valid.eq(valid),
        accumulator.control.start.eq(begins),
        accumulator.control.first.eq(mark),
        accumulator.control.fetch.eq(mark & ~valid),
    ]
    for k, cell in enumerate(cells):
        m.submodules[f"cell{k}"] = cell
    for tap in range(n * q):
        i, a = divmod(tap, q)
        cell, product = cells[tap // cells[0].products], tap % cells[0].products
        m.d.comb += [
            cell.a[product].eq(input_transform.o.payload[i][a]),
            cell.b[product].eq(weight_store.o[i][a]),
            cell.c[product].eq(accumulator.o.payload[i][a]),
            accumulator.total[i][a].eq(cell.p[product]),
        ]

    # --- from the accumulators to pixels -----------------------------------------------------------------------------
    wiring.connect(m, accumulator.o, output_transform.i)
    wiring.connect(m, output_transform.o, ends.serializer.i)

    if engine.probe:
        _probe(m, engine, input_transform, weight_store, accumulator, output_transform)
    return m


def _probe(
    m: Module,
    engine: Engine,
    input_transform: InputTransform,
    weight_store: WeightStore,
    accumulator: RestingAccumulator,
    output_transform: SerialOutputTransform,
) -> None:
    """Whole kernels and rows of tiles, put together from what passes."""
    config = engine.config
    n, q = config.input_tile, config.columns
    m.d.comb += [
        engine.input_transform.valid.eq(input_transform.o.valid),
        engine.input_transform.payload[0].eq(input_transform.o.payload),
        engine.product.valid.eq(accumulator.o.valid),
        engine.product.payload[0].eq(accumulator.o.payload),
    ]
    weights = Signal(data.ArrayLayout(config.u_bits, n * n))
    with m.If(weight_store.i.valid & weight_store.i.ready):
        m.d.sync += weights.as_value().eq(
            Cat(weights.as_value()[config.u_bits :], weight_store.i.payload.as_value()[: config.u_bits])
        )
    m.d.comb += engine.weight_transform.valid.eq(weight_store.loaded)
    for i in range(n):
        for j in range(n):
            phase, a = divmod(j, q)
            m.d.comb += engine.weight_transform.payload[i][j].eq(weights[(i * q + a) * config.fold + phase])
    size = config.tile_size
    row, place = Signal(32 * size), Signal(range(size + 1))
    taken = output_transform.o.valid & output_transform.o.ready
    m.d.sync += place.eq(place + taken)
    with m.If(place == size):
        m.d.comb += engine.output_transform.valid.eq(1)
        m.d.sync += place.eq(taken)
    with m.If(taken):
        m.d.sync += row.eq(Cat(row[32:], output_transform.o.payload))
    m.d.comb += engine.output_transform.payload.as_value().eq(row)
