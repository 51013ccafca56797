# amaranth: UnusedElaboratable=no
import numpy as np
import pytest
from amaranth.hdl import signed
from bursts import Bursts

from winohw.gateware.transposer import Transposer
from winohw.gateware.turning_transposer import TurningTransposer
from winohw.sim.stalls import Stalls
from winohw.sim.testbench import run_stream


@pytest.mark.parametrize("stalls", [0, 0.3, 0.8])
@pytest.mark.parametrize(("size", "chunk"), [(2, 1), (6, 1), (6, 2), (6, 3), (4, 1), (8, 2)])
def test_equals_transposer(size, chunk, stalls):
    """Chunk for chunk and, without stalls, cycle for cycle."""
    dut, twin = TurningTransposer(signed(9), size, chunk), Transposer(signed(9), size, size, chunk, chunk)
    x = np.random.default_rng(1).integers(-256, 256, (20 * dut.chunks, chunk, size))
    expected = dut.model(x)
    np.testing.assert_array_equal(expected, twin.model(x))
    whole = x.reshape(20, dut.chunks, chunk, size)
    result = run_stream(Bursts(dut, dut.chunks), {"i": whole}, {"o": len(expected)}, stalls=Stalls(7, i=stalls))
    np.testing.assert_array_equal(result.outputs["o"], expected)
    if not stalls:
        assert result.streams["o"].first == dut.chunks - 1 + dut.latency
        assert result.streams["o"].last == 19 * dut.chunks + result.streams["o"].first + dut.chunks - 1


@pytest.mark.parametrize(("size", "chunk"), [(0, 1), (6, 4), (6, 6), (6, 0)])
def test_refuses_bad_sizes(size, chunk):
    with pytest.raises(ValueError, match=f"^TurningTransposer chunks must be a part of the {size} rows, not {chunk} "):
        TurningTransposer(signed(9), size, chunk)
