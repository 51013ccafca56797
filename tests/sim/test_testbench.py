# amaranth: UnusedElaboratable=no
import numpy as np
import pytest
from stream_parts import Adder, Faulty, Gather, Ripple, Snoop, Sum

from winohw.sim.stalls import Stalls
from winohw.sim.testbench import SimulationError, StreamActivity, run_stream


@pytest.mark.parametrize("stalls", [None, Stalls(1, 0.5), Stalls(2, i=0.9), Stalls(3, o=0.9)], ids=repr)
def test_values_and_status(stalls):
    values = Sum.beats_in(np.random.default_rng(1), 40)
    result = run_stream(Sum(), {"i": values}, {"o": 40}, constants={"offset": -(2**35)}, stalls=stalls)
    np.testing.assert_array_equal(result.outputs["o"]["lanes"], values)
    np.testing.assert_array_equal(result.outputs["o"]["sum"], Sum.model(values, -(2**35)))
    assert result.status == {"beats": 40}
    if stalls is None:
        assert result.cycles == 41
        assert result.streams == {"i": StreamActivity(40, 0, 39, 0), "o": StreamActivity(40, 1, 40, 0)}


def test_stalls_are_counted_at_the_side_that_waits():
    values = Sum.beats_in(np.random.default_rng(1), 200)
    slow_in = run_stream(Sum(), {"i": values}, {"o": 200}, stalls=Stalls(1, i=0.5)).streams
    assert slow_in["i"].stalls == slow_in["o"].stalls == 0
    assert slow_in["i"].last > 350
    slow_out = run_stream(Sum(), {"i": values}, {"o": 200}, stalls=Stalls(1, o=0.5)).streams
    assert slow_out["o"].stalls == slow_out["o"].last - slow_out["o"].first + 1 - 200 + slow_out["o"].first - 1
    assert slow_out["i"].stalls > 150


def test_several_streams_of_all_kinds():
    rng = np.random.default_rng(2)
    left, a, b = rng.integers(0, 256, (3, 50))
    outputs = {"out.total": 50, "seen": 50, "clock": 70}
    stalls = Stalls(4, 0.2, **{"lanes.1": 0.5})
    result = run_stream(Gather(), {"left": left, "lanes.0": a, "lanes.1": b}, outputs, stalls=stalls)
    np.testing.assert_array_equal(result.outputs["out.total"], left + a + b)
    np.testing.assert_array_equal(result.outputs["seen"], b)
    np.testing.assert_array_equal(result.outputs["clock"], np.arange(70))
    result = run_stream(
        Gather(),
        {"left": left, "lanes.0": a, "lanes.1": b},
        {"out.total": 50, "seen": None, "clock": None},
        constants={"out.scale_by_two": 1},
    )
    np.testing.assert_array_equal(result.outputs["out.total"], (left + a + b) * 2 % 1024)
    np.testing.assert_array_equal(result.outputs["seen"], b)
    assert result.cycles == 51
    assert len(result.outputs["clock"]) == 51 + 32


def test_plain_signals_move_every_cycle():
    a, b = np.array([-128, 127, -1, 0, 5]), np.array([-128, 127, 1, 0])
    result = run_stream(Adder(), {"a": a, "b": b}, {"o": 5})
    assert result.outputs["o"].tolist() == [-256, 254, 0, 0, 5]
    assert result.cycles == 5


def test_combinational_component():
    values = np.array([0, 0xFFFF, 1, 0x8000, 0x1234])
    result = run_stream(Ripple(), {"i": values}, {"o": 5}, stalls=Stalls(1, 0.3))
    np.testing.assert_array_equal(result.outputs["o"], Ripple.model(values))


FAULTS = {
    "drop": r"^Output 'o' withdrew a payload before it was accepted, cycle \d+$",
    "change": r"^Output 'o' changed a payload before it was accepted, cycle \d+$",
    "repeat": r"^Output 'o' gave more than 10 beats, cycle \d+$",
    "block": r"^Not finished after 500 cycles: i 5 of 10 beats \(last in cycle \d+\), o 5 of 10 beats ",
}


@pytest.mark.parametrize(("fault", "message"), FAULTS.items(), ids=FAULTS)
def test_faults_are_seen(fault, message):
    with pytest.raises(SimulationError, match=message):
        run_stream(Faulty(fault), {"i": range(10)}, {"o": 10}, stalls=Stalls(1, o=0.5), max_cycles=500)


def test_too_few_beats():
    with pytest.raises(SimulationError, match=r"o 3 of 4 beats"):
        run_stream(Faulty("none"), {"i": range(3)}, {"o": 4}, max_cycles=50)


def test_junk_without_valid():
    result = run_stream(Snoop(), {"i": [0] * 40}, {"o": None}, stalls=Stalls(1, i=0.5))
    shown = result.outputs["o"].tolist()
    assert shown.count(0) == 40
    assert len(set(shown)) == len(shown) - 39
    assert max(shown) > 2**98


def test_names_and_values_are_checked():
    with pytest.raises(ValueError, match=r"no input 'x'; its inputs are: i, offset$"):
        run_stream(Sum(), {"x": [1]}, {})
    with pytest.raises(ValueError, match=r"no output 'i'"):
        run_stream(Sum(), {}, {"i": 1})
    with pytest.raises(ValueError, match=r"unknown stream 'q'"):
        run_stream(Sum(), {}, {"o": None}, stalls=Stalls(0, q=0.1))
    with pytest.raises(ValueError, match=r"^offset must be within"):
        run_stream(Sum(), {}, {"o": None}, constants={"offset": 2**40})


def test_waveform(tmp_path):
    path = tmp_path / "sum.vcd"
    run_stream(Sum(), {"i": Sum.beats_in(np.random.default_rng(1), 5)}, {"o": 5}, vcd=path)
    assert "$enddefinitions" in path.read_text()
