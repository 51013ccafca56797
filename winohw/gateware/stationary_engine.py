# amaranth: UnusedElaboratable=no
"""The stationary engine: sums stay in registers while input channels pass, joined behind the ports of any engine."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from amaranth import Cat, Module, Signal
from amaranth.lib import data, wiring

from winohw.gateware.config import EngineConfig
from winohw.gateware.in_place_transform import InPlaceTransform
from winohw.gateware.memory import Memory
from winohw.gateware.pipeline import delayed
from winohw.gateware.replay_store import ReplayStore
from winohw.gateware.replaying_output_transform import ReplayingOutputTransform
from winohw.gateware.shift_table import ShiftMemory
from winohw.gateware.small_engine import SmallEngine, small_line_buffer, small_requantizer
from winohw.gateware.stationary_array import StationaryArray
from winohw.gateware.stationary_sequencer import StationarySequencer
from winohw.gateware.weight_loader import CONSTANT_BYTES

if TYPE_CHECKING:
    from winohw.gateware.engine import Engine

__all__ = ["StationaryTiming", "elaborate_stationary", "stationary_timing"]

#: Words of a block memory of the narrowest part.
_STORE_WORDS = 256


def _places(config: EngineConfig) -> int:
    """Input channels whose kernels fit the store: twice as many as a layer may have, or as a block memory holds."""
    most = min(config.max_groups(config.kernel_size), (1 << config.dimension_bits) - 1)
    needed = 1 << max(1, (most - 1).bit_length())
    return max(needed, min(2 * needed, _STORE_WORDS >> (config.fold - 1).bit_length()))


def _array(config: EngineConfig) -> StationaryArray:
    return StationaryArray(
        input_tile=config.input_tile,
        columns=config.columns,
        output_lanes=config.output_lanes,
        v_bits=config.v_bits,
        u_bits=config.u_bits,
        acc_bits=config.acc_bits,
        kind=config.multiplier,
    )


def _output_transform(config: EngineConfig, ahead: int) -> ReplayingOutputTransform:
    return ReplayingOutputTransform(
        config.winograd(),
        fold=config.fold,
        output_lanes=config.output_lanes,
        sum_bits=config.acc_bits,
        narrowing=config.profile.product,
        max_shift=config.max_shifts[2],
        ahead=ahead,
    )


@dataclass(frozen=True)
class StationaryTiming:
    """Cycles and depths that decide when things happen in a stationary engine.

    Attributes
    ----------
    row_done : from the last pixel of a tile row to the strobe that it is complete.
    row_ready : from there to the strobe that it has been transformed, and as many cycles more as it has words, `rows`
        times.
    rows : cycles of a word while it is transformed.
    places : kernels of an output lane that fit.
    constant_beats : beats of the constants of a group of output channels.
    to_sums : from the issue of a chunk's last input channel to its first sum at the output transform.
    sums : of a chunk.
    ahead : from the strobe that the sums of the next chunk find room to the last sum before them.
    to_memory : from the last sum of a tile to the earliest beginning of its output transform.
    row_cycles : of the adders, for each row of a tile's results of one output channel.
    first_result : from the beginning of an output transform to its first result.
    requantizer : from results to pixels.
    """

    row_done: int
    row_ready: int
    rows: int
    places: int
    constant_beats: int
    to_sums: int
    sums: int
    ahead: int
    to_memory: int
    row_cycles: tuple[int, ...]
    first_result: int
    requantizer: int


@lru_cache(maxsize=64)
def stationary_timing(config: EngineConfig) -> StationaryTiming:
    """The latencies of a stationary engine. Nothing is elaborated."""
    line_buffer, array = small_line_buffer(config), _array(config)
    in_place = InPlaceTransform(config, line_buffer.read_latency)
    to_sums = StationarySequencer.latency + line_buffer.read_latency + array.latency
    # The strobe is seen a cycle later, and the sums move a cycle before they are there.
    ahead = min(to_sums, array.sums - 1)
    output_transform = _output_transform(config, ahead)
    return StationaryTiming(
        row_done=line_buffer.write_latency,
        row_ready=in_place.latency,
        rows=in_place.rows,
        places=_places(config),
        constant_beats=-(-CONSTANT_BYTES // config.weight_bytes) * config.output_lanes,
        to_sums=to_sums,
        sums=array.sums,
        ahead=ahead,
        to_memory=output_transform.to_memory,
        row_cycles=output_transform.row_cycles,
        first_result=output_transform.latency - output_transform.to_memory,
        requantizer=small_requantizer(config).latency,
    )


def elaborate_stationary(engine: Engine) -> Module:
    """The gateware of an engine whose configuration asks for a stationary datapath."""
    m = Module()
    config = engine.config
    n = config.input_tile

    timing = stationary_timing(config)
    sequencer = StationarySequencer(
        fold=config.fold,
        line_words=config.line_words,
        dimension_bits=config.dimension_bits,
    )
    ends = SmallEngine(engine, m, sequencer)
    line_buffer = ends.line_buffer
    m.submodules.in_place_transform = in_place = InPlaceTransform(config, line_buffer.read_latency)
    m.submodules.weight_store = weight_store = ReplayStore(
        input_tile=n,
        fold=config.fold,
        lanes=config.output_lanes,
        u_bits=config.u_bits,
        places=timing.places,
        memory=config.family,
    )
    m.submodules.array = array = _array(config)
    m.submodules.output_transform = output_transform = _output_transform(config, timing.ahead)

    # --- tile rows are transformed where they are --------------------------------------------------------------------
    ends.give_layer(m, in_place)
    token = sequencer.o.payload
    m.d.comb += [
        in_place.row_done.eq(line_buffer.row_done),
        in_place.i.eq(line_buffer.o.payload[0]),
        line_buffer.hold.eq(sequencer.hold | in_place.hold),
        line_buffer.back.valid.eq(in_place.write.valid),
        line_buffer.back.word.eq(in_place.write.word),
        sequencer.row_done.eq(in_place.row_ready),
        line_buffer.read.valid.eq(sequencer.o.valid | in_place.read.valid),
        line_buffer.read.payload.eq(token.line),
    ]
    with m.If(in_place.read.valid):
        m.d.comb += line_buffer.read.payload.eq(in_place.read.payload)
    # An entry of V takes the place of a pixel, whose bits it may not fill.
    entries = [in_place.write.v[i][a] for i in range(n) for a in range(config.columns)]
    pixels = [line_buffer.back.chunk[0][row][column] for row in range(config.columns) for column in range(n)]
    m.d.comb += [pixel.eq(entry) for pixel, entry in zip(pixels, entries, strict=True)]
    m.submodules.shift_memory = shifts = ShiftMemory(n, config.max_shifts[0], config.max_shifts[2])
    wiring.connect(m, ends.descriptor.tap, shifts.i)
    m.d.comb += [
        shifts.clear.eq(ends.descriptor.error_strobe),
        shifts.column.eq(in_place.column),
        in_place.shift.eq(shifts.v),
        shifts.row.eq(output_transform.row),
        shifts.tap_column.eq(output_transform.column),
        output_transform.shift.eq(shifts.m),
    ]

    # --- from the line buffer to sums; what the token says about a chunk travels beside it ---------------------------
    wiring.connect(m, ends.weight_splitter.kernels, weight_store.i)
    flags = Cat(sequencer.o.valid, token.first, token.last)
    valid, first, last = delayed(m, flags, line_buffer.read_latency, name="flags")
    m.d.comb += [
        sequencer.weights_ready.eq(ends.weight_splitter.passed),
        array.i.valid.eq(valid),
        array.i.first.eq(first),
        array.i.last.eq(last),
        array.i.u.eq(weight_store.o),
    ]
    pixels = [pixel for row in line_buffer.o.payload[0] for pixel in row]
    entries = [array.i.v[i][a] for i in range(n) for a in range(config.columns)]
    m.d.comb += [entry.eq(pixel) for entry, pixel in zip(entries, pixels, strict=True)]
    control = Cat(sequencer.o.valid, token.first, token.release, token.phase)
    asked = delayed(m, control, line_buffer.read_latency - Memory.latency, name="asked")
    m.d.comb += weight_store.control.eq(asked)

    # --- from sums to pixels -----------------------------------------------------------------------------------------
    m.d.comb += [
        output_transform.filled.eq(array.filled),
        output_transform.i.eq(array.o),
        array.shift.eq(output_transform.taken),
        sequencer.left.eq(output_transform.left),
        ends.serializer.i.valid.eq(output_transform.o.valid),
        ends.serializer.i.payload.eq(output_transform.o.payload << config.fraction_bits),
        output_transform.o.ready.eq(ends.serializer.i.ready),
    ]

    if engine.probe:
        _probe(m, engine, array, weight_store, output_transform)
    return m


def _probe(
    m: Module,
    engine: Engine,
    array: StationaryArray,
    weight_store: ReplayStore,
    output_transform: ReplayingOutputTransform,
) -> None:
    """Whole kernels, chunks of sums and rows of tiles, put together from what passes."""
    config = engine.config
    n, q, lanes, size = config.input_tile, config.columns, config.output_lanes, config.tile_size
    m.d.comb += [
        engine.input_transform.valid.eq(array.i.valid),
        engine.input_transform.payload[0].eq(array.i.v),
    ]
    arrived, weights = Signal(range(n * n)), Signal(data.ArrayLayout(config.u_bits, n * n))
    taken = weight_store.i.valid & weight_store.i.ready
    with m.If(taken):
        m.d.sync += [
            arrived.eq(arrived + 1),
            weights.as_value().eq(
                Cat(weights.as_value()[config.u_bits :], weight_store.i.payload.as_value()[: config.u_bits])
            ),
        ]
        with m.If(arrived == n * n - 1):
            m.d.sync += arrived.eq(0)
    m.d.sync += engine.weight_transform.valid.eq(taken & (arrived == n * n - 1))
    for i in range(n):
        for j in range(n):
            phase, a = divmod(j, q)
            m.d.comb += engine.weight_transform.payload[i][j].eq(weights[(i * q + a) * config.fold + phase])

    sums, number = Signal(array.sums * config.acc_bits), Signal(range(array.sums))
    with m.If(output_transform.taken):
        m.d.sync += [number.eq(number + 1), sums.eq(Cat(sums[config.acc_bits :], array.o))]
        with m.If(number == array.sums - 1):
            m.d.sync += number.eq(0)
    m.d.sync += engine.product.valid.eq(output_transform.taken & (number == array.sums - 1))
    m.d.comb += engine.product.payload.as_value().eq(sums)

    row, place = Signal(32 * size * lanes), Signal(range(size * lanes))
    left = output_transform.o.valid & output_transform.o.ready
    with m.If(left):
        m.d.sync += [place.eq(place + 1), row.eq(Cat(row[32:], output_transform.o.payload))]
        with m.If(place == size * lanes - 1):
            m.d.sync += place.eq(0)
    m.d.sync += engine.output_transform.valid.eq(left & (place == size * lanes - 1))
    m.d.comb += engine.output_transform.payload.as_value().eq(row)
