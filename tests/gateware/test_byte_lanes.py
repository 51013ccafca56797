# amaranth: UnusedElaboratable=no
import numpy as np
import pytest

from winohw.gateware.byte_lanes import BytesToLanes, LanesToBytes
from winohw.sim.stalls import Stalls
from winohw.sim.testbench import run_stream


@pytest.mark.parametrize("stalls", [None, Stalls(1)])
@pytest.mark.parametrize("lanes", [1, 3, 12])
def test_bytes_become_beats(lanes, stalls):
    x = np.random.default_rng(lanes).integers(-128, 128, (25, lanes)).astype(np.int8)
    x[0], x[1] = -128, 127
    result = run_stream(BytesToLanes(lanes), {"i": x.view(np.uint8).ravel()}, {"o": len(x)}, stalls=stalls)
    np.testing.assert_array_equal(result.outputs["o"], x)
    assert result.status["empty"] == 1
    if stalls is None:
        assert result.streams["o"].first == lanes
        assert result.cycles == len(x) * (lanes + 1)


def test_a_part_of_a_beat_is_kept():
    result = run_stream(BytesToLanes(3), {"i": [1, 2]}, {"o": 0})
    assert result.status["empty"] == 0


@pytest.mark.parametrize("stalls", [None, Stalls(1)])
@pytest.mark.parametrize("lanes", [1, 4])
def test_beats_become_bytes(lanes, stalls):
    rng = np.random.default_rng(lanes)
    pixels = rng.integers(-128, 128, (30, lanes)).astype(np.int8)
    count = np.concatenate([[0, lanes, 1], rng.integers(0, lanes + 1, 27)])
    expected = pixels[np.arange(lanes) < count[:, None]].view(np.uint8)
    beats = {"pixels": pixels, "count": count, "last": np.zeros(30, int)}
    result = run_stream(LanesToBytes(lanes), {"i": beats}, {"o": len(expected)}, stalls=stalls)
    np.testing.assert_array_equal(result.outputs["o"], expected)
    assert result.status["empty"] == 1


@pytest.mark.parametrize("component", [BytesToLanes, LanesToBytes])
def test_refuses_bad_lanes(component):
    with pytest.raises(ValueError, match=r"^lanes must be at least 1, not 0$"):
        component(0)
    with pytest.raises(TypeError, match=r"^lanes must be an integer, not 1\.0$"):
        component(1.0)
