# amaranth: UnusedElaboratable=no
import numpy as np
import pytest

from winohw.gateware.byte_buffer import ByteBuffer
from winohw.sim.stalls import Stalls
from winohw.sim.testbench import run_stream


@pytest.mark.parametrize("stalls", [(0, 0), (0, 0.7), (0.7, 0), (0.4, 0.4)], ids=str)
@pytest.mark.parametrize("depth", [4, 16])
def test_first_in_first_out(depth, stalls):
    """Every byte comes once and in order; the level is what has come and not gone, and never above the depth."""
    data = np.random.default_rng(depth).integers(0, 256, 300)
    writer, reader = stalls
    result = run_stream(
        ByteBuffer(depth), {"i": data}, {"o": len(data), "level": None}, stalls=Stalls(3, i=writer, o=reader)
    )
    np.testing.assert_array_equal(result.outputs["o"], data)
    assert result.outputs["level"].max() <= depth
    if stalls == (0, 0.7):
        assert result.outputs["level"].max() == depth


@pytest.mark.parametrize("depth", [2, 5])
def test_refuses_bad_depths(depth):
    with pytest.raises(ValueError, match=rf"^Queue depth must be a power of two, 4 or more, not {depth}$"):
        ByteBuffer(depth)
