# amaranth: UnusedElaboratable=no
import numpy as np
import pytest
from amaranth.hdl import signed
from bursts import Bursts

from winohw.gateware.transposer import Transposer
from winohw.sim.stalls import Stalls
from winohw.sim.testbench import run_stream

GRID = [
    # rows, columns, chunk_rows, chunk_columns
    (6, 6, 1, 1),
    (6, 6, 3, 3),
    (4, 4, 2, 2),
    (6, 4, 1, 1),
    (6, 2, 2, 1),
    (4, 4, 4, 4),
    (1, 1, 1, 1),
]


def matrices(dut: Transposer, count: int) -> np.ndarray:
    entries = np.random.default_rng(1).integers(-256, 256, (count, dut.rows, dut.columns))
    return entries.reshape(-1, dut.chunk_rows, dut.columns)


@pytest.mark.parametrize("stalls", [0, 0.3, 0.8])
@pytest.mark.parametrize("sizes", GRID)
def test_equals_model(sizes, stalls):
    dut = Transposer(signed(9), *sizes)
    x = matrices(dut, 20)
    expected = dut.model(x)
    whole = x.reshape(20, dut.chunks_in, *x.shape[1:])
    result = run_stream(Bursts(dut, dut.chunks_in), {"i": whole}, {"o": len(expected)}, stalls=Stalls(7, i=stalls))
    np.testing.assert_array_equal(result.outputs["o"], expected)
    if not stalls:
        assert result.streams["o"].first == dut.chunks_in - 1 + dut.latency
        assert result.streams["o"].last == 19 * dut.chunks_in + result.streams["o"].first + dut.chunks_out - 1


@pytest.mark.parametrize("count", [1, 2, 4])
def test_leaves_out_columns(count):
    dut = Transposer(signed(9), 6, 4, variable=True)
    x = matrices(dut, 10)
    expected = dut.model(x).reshape(10, 4, 6, 1)[:, :count].reshape(-1, 6, 1)
    whole = x.reshape(10, dut.chunks_in, *x.shape[1:])
    result = run_stream(
        Bursts(dut, dut.chunks_in),
        {"i": whole},
        {"o": len(expected)},
        constants={"count": count},
        stalls=Stalls(8, i=0.2),
    )
    np.testing.assert_array_equal(result.outputs["o"], expected)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((0, 6), "Transposer rows must be 1 or more, not 0"),
        ((6, 6, 4, 1), "Transposer chunks must divide the 6 rows, but have 4"),
        ((6, 6, 1, 5), "Transposer chunks must divide the 6 columns, but have 5"),
    ],
)
def test_refuses_bad_sizes(sizes, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        Transposer(signed(9), *sizes)
