# amaranth: UnusedElaboratable=no
import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from winohw.gateware.drain_buffer import DrainBuffer
from winohw.sim.stalls import Stalls
from winohw.sim.testbench import run_stream


class Credited(wiring.Component):
    """The buffer behind a sender that counts the room, as the sequencer does."""

    def __init__(self, dut):
        self.dut = dut
        super().__init__(
            {
                "i": In(stream.Signature(dut.i.payload.shape())),
                "o": Out(stream.Signature(dut.o.payload.shape())),
                "credits": Out(range(2 * dut.depth + 1)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.dut = dut = self.dut
        credits = Signal(self.credits.shape(), init=dut.depth)
        wiring.connect(m, dut.o, wiring.flipped(self.o))
        m.d.comb += [
            self.credits.eq(credits),
            self.i.ready.eq(credits != 0),
            dut.i.valid.eq(self.i.valid & self.i.ready),
            dut.i.payload.eq(self.i.payload),
        ]
        m.d.sync += credits.eq(credits + dut.drained - dut.i.valid)
        return m


def chunks(dut, count):
    low, high = -(1 << (dut.bits - 1)), (1 << (dut.bits - 1)) - 1
    shape = (dut.output_lanes, dut.input_tile, dut.columns)
    values = np.random.default_rng(1).integers(low, high, (count, *shape), endpoint=True)
    for k, extreme in enumerate((low, high, max(low, -1), 0, min(1, high))):
        values[k] = extreme
    return values


GRID = [
    # output lanes, input tile, columns, bits, depth, columns out
    (1, 4, 4, 20, 8, 1),
    (2, 6, 6, 35, 5, 1),
    (3, 6, 2, 11, 7, 1),
    (2, 6, 3, 13, 2, 1),
    (1, 6, 1, 30, 6, 1),
    (1, 1, 1, 9, 4, 1),
    (1, 6, 6, 35, 8, 2),
    (2, 4, 4, 12, 5, 4),
]


@pytest.mark.parametrize("stalls", [0, 0.4, 0.9])
@pytest.mark.parametrize("sizes", GRID)
def test_equals_model(sizes, stalls):
    output_lanes, input_tile, columns, bits, depth, output_columns = sizes
    dut = DrainBuffer(
        output_lanes=output_lanes,
        input_tile=input_tile,
        columns=columns,
        bits=bits,
        depth=depth,
        output_columns=output_columns,
    )
    x = chunks(dut, 20)
    expected = dut.model(x)
    result = run_stream(
        Credited(dut),
        {"i": x},
        {"o": len(expected), "credits": None},
        stalls=Stalls(2, i=stalls, o=stalls),
    )
    np.testing.assert_array_equal(result.outputs["o"], expected)
    credits = result.outputs["credits"]
    assert credits.max() == depth  # nothing is given back twice
    assert credits[-1] == depth
    if stalls == 0.9:
        assert credits.min() <= depth // 2
    if not stalls:
        activity = result.streams
        assert activity["o"].first - activity["i"].first == dut.latency == 4
        beats = columns // output_columns
        a_chunk = max(beats, 2)
        assert activity["o"].last - activity["o"].first == 19 * a_chunk + beats - 1
        if 20 - 20 // a_chunk > depth + 2:
            assert credits.min() == 0  # all the room is used


@pytest.mark.parametrize("slow", ["i", "o"])
def test_one_slow_side(slow):
    dut = DrainBuffer(output_lanes=2, input_tile=4, columns=2, bits=12, depth=3)
    x = chunks(dut, 30)
    expected = dut.model(x)
    result = run_stream(Credited(dut), {"i": x}, {"o": len(expected)}, stalls=Stalls(3, **{slow: 0.85}))
    np.testing.assert_array_equal(result.outputs["o"], expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"output_lanes": 0}, "output_lanes must be 1 or more, not 0"),
        ({"input_tile": 0}, "input_tile must be 1 or more, not 0"),
        ({"columns": 0}, "columns must be 1 or more, not 0"),
        ({"bits": 0}, "bits must be 1 or more, not 0"),
        ({"depth": 1}, "depth must be 2 or more, not 1"),
        ({"output_columns": 4}, "output_columns must divide the 2 columns of a chunk, not 4"),
        ({"memory": "tape"}, "Memory kind must be one of generic, ecp5, ice40, not 'tape'"),
    ],
)
def test_refuses_bad_parameters(change, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        DrainBuffer(**{"output_lanes": 1, "input_tile": 4, "columns": 2, "bits": 8, "depth": 4} | change)
