# amaranth: UnusedElaboratable=no
import numpy as np
import pytest
from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from winohw.gateware.drain_buffer import DrainBuffer
from winohw.sim.stalls import Stalls
from winohw.sim.testbench import run_stream


class Credited(wiring.Component):
    """The buffer between a sender that counts the room, as the sequencer does, and a receiver that does too.

    Tiles come in as streams of chunks; a chunk stands at the buffer two cycles later. The receiver has room for
    ``queue`` beats, and answers a cycle late.
    """

    def __init__(self, dut, queue):
        self.dut = dut
        self.queue = queue
        super().__init__(
            {
                "i": In(stream.Signature(dut.i.shape())),
                "o": Out(stream.Signature(dut.o.payload.shape())),
                "credits": Out(range(2 * dut.depth + 1)),
                "started": Out(stream.Signature(1, always_ready=True)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.dut = dut = self.dut
        beats = dut.tile_beats
        credits = Signal(self.credits.shape(), init=dut.depth)
        phase = Signal(range(dut.fold))
        first = phase == 0
        accepted = Signal()
        m.submodules.queue = queue = SyncFIFOBuffered(width=dut.o.payload.shape().size, depth=self.queue)
        room = Signal(range(-beats, self.queue + 1), init=self.queue)
        rest = Signal(range(beats + 1))
        left = self.o.valid & self.o.ready
        m.d.comb += [
            self.credits.eq(credits),
            self.i.ready.eq(~first | (credits != 0)),
            accepted.eq(self.i.valid & self.i.ready),
            dut.coming.eq(accepted),
            dut.room.eq((room >= beats) & (rest == 0)),
            self.started.valid.eq(dut.started),
            queue.w_en.eq(dut.o.valid),
            queue.w_data.eq(dut.o.payload),
            self.o.valid.eq(queue.r_rdy),
            self.o.payload.eq(queue.r_data),
            queue.r_en.eq(self.o.ready),
        ]
        waiting = Signal(dut.i.shape())
        m.d.sync += [
            waiting.eq(self.i.payload),
            dut.i.eq(waiting),
            credits.eq(credits + dut.drained - (accepted & first)),
            room.eq(room + left - Mux(dut.started, beats, 0)),
            rest.eq(Mux(dut.started, beats - 1, Mux(rest == 0, 0, rest - 1))),
        ]
        with m.If(accepted):
            m.d.sync += phase.eq(Mux(phase == dut.fold - 1, 0, phase + 1))
        return m


def chunks(dut, tiles):
    low, high = -(1 << (dut.bits - 1)), (1 << (dut.bits - 1)) - 1
    shape = (dut.output_lanes, dut.input_tile, dut.columns)
    values = np.random.default_rng(1).integers(low, high, (tiles * dut.fold, *shape), endpoint=True)
    for k, extreme in enumerate((low, high, max(low, -1), 0, min(1, high))):
        values[k] = extreme
    return values


GRID = [
    # output lanes, input tile, fold, bits, depth, columns out
    (1, 4, 1, 20, 8, 1),
    (2, 6, 1, 35, 5, 1),
    (3, 6, 3, 11, 7, 1),
    (2, 6, 2, 13, 1, 1),
    (1, 6, 6, 30, 6, 1),
    (1, 1, 1, 9, 4, 1),
    (1, 8, 1, 20, 1, 1),
    (1, 6, 1, 35, 8, 2),
    (2, 6, 2, 11, 3, 3),
    (2, 4, 1, 12, 5, 4),
]


def build(sizes):
    names = ("output_lanes", "input_tile", "fold", "bits", "depth", "output_columns")
    return DrainBuffer(**dict(zip(names, sizes, strict=True)))


@pytest.mark.parametrize("stalls", [0, 0.4, 0.9])
@pytest.mark.parametrize("sizes", GRID)
def test_equals_model(sizes, stalls):
    dut = build(sizes)
    tiles = 20
    x = chunks(dut, tiles)
    expected = dut.model(x)
    result = run_stream(
        Credited(dut, queue=3 * dut.tile_beats + 60),
        {"i": x},
        {"o": len(expected), "credits": None, "started": tiles},
        # Chunks of a tile come without a pause: with a fold, the sender may not stall.
        stalls=Stalls(2, i=stalls if dut.fold == 1 else 0, o=stalls),
    )
    np.testing.assert_array_equal(result.outputs["o"], expected)
    credits = result.outputs["credits"]
    assert credits.max() == dut.depth  # nothing is given back twice
    assert credits[-1] == dut.depth
    if not stalls:
        activity = result.streams
        beats = dut.tile_beats
        # The queue of the receiver takes two cycles.
        assert activity["started"].first == activity["i"].first + 1
        assert activity["o"].first == activity["started"].first + dut.latency + 2
        read = (dut.fold + 1) * (dut.columns // dut.output_columns - 1)
        if dut.depth * beats > read + beats + 4:
            assert activity["started"].last - activity["started"].first == (tiles - 1) * beats
            assert activity["o"].last - activity["o"].first == tiles * beats - 1


@pytest.mark.parametrize("slow", ["i", "o"])
def test_one_slow_side(slow):
    dut = build((2, 4, 1, 12, 3, 2))
    x = chunks(dut, 30)
    expected = dut.model(x)
    result = run_stream(
        Credited(dut, queue=8), {"i": x}, {"o": len(expected), "credits": None}, stalls=Stalls(3, **{slow: 0.85})
    )
    np.testing.assert_array_equal(result.outputs["o"], expected)
    if slow == "o":
        assert result.outputs["credits"].min() == 0  # all the room is used


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"output_lanes": 0}, "output_lanes must be 1 or more, not 0"),
        ({"input_tile": 0}, "input_tile must be 1 or more, not 0"),
        ({"fold": 0}, "fold must divide the input tile 4, not 0"),
        ({"fold": 3}, "fold must divide the input tile 4, not 3"),
        ({"bits": 0}, "bits must be 1 or more, not 0"),
        ({"depth": 0}, "depth must be 1 or more, not 0"),
        ({"output_columns": 4}, "output_columns must divide the 2 columns of a chunk, not 4"),
        ({"memory": "tape"}, "Memory kind must be one of generic, ecp5, ice40, not 'tape'"),
    ],
)
def test_refuses_bad_parameters(change, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        DrainBuffer(**{"output_lanes": 1, "input_tile": 4, "fold": 2, "bits": 8, "depth": 4} | change)
