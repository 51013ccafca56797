# amaranth: UnusedElaboratable=no
"""The compact engine: the stages for parts with few registers, joined behind the ports of any engine."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring

from winohw.gateware.compact_requantizer import CompactRequantizer
from winohw.gateware.compact_sequencer import RECURRENCE, CompactSequencer
from winohw.gateware.config import EngineConfig
from winohw.gateware.descriptor import DescriptorReader, LayerError
from winohw.gateware.input_transform import InputTransform
from winohw.gateware.line_buffer import LineBuffer
from winohw.gateware.multiplier import multiplier_latency, products_per_cell
from winohw.gateware.multiply_add import MultiplyAdd
from winohw.gateware.pipeline import delayed
from winohw.gateware.pixel_serializer import PixelSerializer
from winohw.gateware.requantizer import Requantizer
from winohw.gateware.resting_accumulator import RestingAccumulator
from winohw.gateware.serial_output_transform import SerialOutputTransform
from winohw.gateware.weight_loader import CONSTANT_BYTES
from winohw.gateware.weight_splitter import WeightSplitter
from winohw.gateware.weight_store import WeightStore

if TYPE_CHECKING:
    from winohw.gateware.engine import Engine

__all__ = ["CompactTiming", "compact_line_buffer", "compact_output_transform", "compact_timing", "elaborate_compact"]

#: Kernels in the weight store.
_KERNELS = 16


def compact_line_buffer(config: EngineConfig) -> LineBuffer:
    """The line buffer of a compact engine."""
    single = config.line_memory == "single"
    kind = config.family
    if single and kind != "ice40":
        kind = "generic"
    return LineBuffer(
        input_tile=config.input_tile,
        steps=config.steps,
        lanes=1,
        fold=config.fold,
        words=config.line_words,
        dimension_bits=config.dimension_bits,
        memory=kind,
        single_port=single,
    )


def compact_output_transform(config: EngineConfig) -> SerialOutputTransform:
    """The output transform of a compact engine."""
    return SerialOutputTransform(config.winograd(), fold=config.fold, sum_bits=config.acc_bits)


def compact_requantizer(config: EngineConfig) -> CompactRequantizer | Requantizer:
    """The requantizer of a compact engine."""
    if config.requantizer == "shift":
        return CompactRequantizer()
    return Requantizer(1, kind=config.requantizer, multiplier=config.multiplier)


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
    line_buffer, output_transform = compact_line_buffer(config), compact_output_transform(config)
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
        requantizer=compact_requantizer(config).latency,
    )


def elaborate_compact(engine: Engine) -> Module:
    """The gateware of an engine whose configuration asks for a compact datapath."""
    m = Module()
    config = engine.config
    n, q, count = config.input_tile, config.columns, config.dimension_bits

    m.submodules.descriptor = descriptor = DescriptorReader(config.limits())
    m.submodules.line_buffer = line_buffer = compact_line_buffer(config)
    m.submodules.input_transform = input_transform = InputTransform.of(config)
    m.submodules.weight_splitter = weight_splitter = WeightSplitter(
        beat_bytes=config.weight_bytes, kernel_beats=n * n, dimension_bits=count
    )
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
    m.submodules.output_transform = output_transform = compact_output_transform(config)
    m.submodules.serializer = serializer = PixelSerializer(tile_size=config.tile_size, dimension_bits=count)
    m.submodules.requantizer = requantizer = compact_requantizer(config)
    m.submodules.sequencer = sequencer = CompactSequencer(
        fold=config.fold,
        max_tiles=config.max_tiles,
        line_words=config.line_words,
        room=output_transform.depth,
        apart=output_transform.chunk_cycles,
        dimension_bits=count,
    )

    # --- the layer's values go to whoever needs them -----------------------------------------------------------------
    job = descriptor.job
    start = Signal()
    for component in (line_buffer, sequencer, weight_splitter, serializer):
        m.d.comb += component.start.eq(start)
        for name in job.shape().members:
            if name in component.signature.members:
                m.d.comb += getattr(component, name).eq(job[name])
    m.d.comb += [
        line_buffer.step.eq(job.stride if config.direct else config.tile_size),
        requantizer.output_zero_point.eq(job.output_zero_point.as_signed()),
        requantizer.act_min.eq(job.act_min.as_signed()),
        requantizer.act_max.eq(job.act_max.as_signed()),
    ]
    wiring.connect(m, wiring.flipped(engine.layer), descriptor.i)
    wiring.connect(m, wiring.flipped(engine.weights), weight_splitter.i)
    wiring.connect(m, wiring.flipped(engine.pixels), line_buffer.i)

    # --- from the line buffer to the accumulators; what the token says about a chunk travels beside it ---------------
    wiring.connect(m, weight_splitter.kernels, weight_store.i)
    token = sequencer.o.payload
    m.d.comb += [
        line_buffer.read.valid.eq(sequencer.o.valid),
        line_buffer.read.payload.eq(token.line),
        line_buffer.free.eq(sequencer.free),
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
    wiring.connect(m, output_transform.o, serializer.i)
    wiring.connect(m, weight_splitter.constants, serializer.constants)
    sums, result = requantizer.i.payload, requantizer.o.payload
    constants = serializer.o.payload.constants
    m.d.comb += [
        requantizer.i.valid.eq(serializer.o.valid),
        serializer.o.ready.eq(requantizer.i.ready),
        sums.bias.eq(constants.bias),
        sums.shift.eq(constants.shift),
        sums.last.eq(serializer.o.payload.last),
        engine.o.valid.eq(requantizer.o.valid),
        requantizer.o.ready.eq(engine.o.ready),
        engine.o.payload.count.eq(1),
        engine.o.payload.last.eq(result.last),
    ]
    if config.requantizer == "shift":
        m.d.comb += [sums.acc.eq(serializer.o.payload.acc), engine.o.payload.pixels[0].eq(result.pixel)]
    else:
        m.d.comb += [
            sums.acc[0].eq(serializer.o.payload.acc),
            sums.multiplier.eq(constants.multiplier),
            sums.count.eq(1),
            engine.o.payload.pixels[0].eq(result.pixels[0]),
        ]

    # --- one layer after another -------------------------------------------------------------------------------------
    status = engine.status.payload
    counters = {
        "busy": sequencer.busy,
        "wait_pixels": sequencer.wait_pixels,
        "wait_weights": sequencer.wait_weights,
        "wait_drain": sequencer.wait_drain,
    }
    if not config.statistics:
        counters = {}
    complete = Signal()
    with m.If(engine.o.valid & engine.o.ready & engine.o.payload.last):
        m.d.sync += complete.eq(1)
    with m.FSM():
        with m.State("IDLE"):
            m.d.sync += [status.cycles.eq(0), status.code.eq(LayerError.OK), complete.eq(0)]
            m.d.sync += [status[name].eq(0) for name in counters]
            with m.If(descriptor.error_strobe):
                m.d.sync += status.code.eq(descriptor.error)
                m.next = "REPORT"
            with m.Elif(descriptor.valid):
                m.next = "START"
        with m.State("START"):
            m.d.comb += start.eq(1)
            m.d.sync += status.cycles.eq(config.statistics)
            m.next = "RUN"
        with m.State("RUN"):
            if config.statistics:
                m.d.sync += status.cycles.eq(status.cycles + 1)
            for name, active in counters.items():
                with m.If(active):
                    m.d.sync += status[name].eq(status[name] + 1)
            with m.If(complete & serializer.idle & sequencer.idle & line_buffer.idle):
                m.d.comb += descriptor.done.eq(1)
                m.next = "REPORT"
        with m.State("REPORT"):
            m.d.comb += engine.status.valid.eq(1)
            with m.If(engine.status.ready):
                m.next = "IDLE"

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
