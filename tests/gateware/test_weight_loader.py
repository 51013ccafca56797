# amaranth: UnusedElaboratable=no
import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from winohw.gateware.weight_loader import CONSTANT_BYTES, WeightLoader, constants_layout
from winohw.sim.stalls import Stalls
from winohw.sim.testbench import run_stream


class Watched(wiring.Component):
    """The loader with outputs that tell when it would take a beat and when it does."""

    def __init__(self, dut):
        self.dut = dut
        super().__init__({**dict(dut.signature.members), "ready": Out(1), "taken": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.dut = dut = self.dut
        for name, member in dut.signature.members.items():
            if not member.is_port:
                wiring.connect(m, wiring.flipped(getattr(self, name)), getattr(dut, name))
            elif member.flow is Out:
                m.d.comb += getattr(self, name).eq(getattr(dut, name))
            else:
                m.d.comb += getattr(dut, name).eq(getattr(self, name))
        m.d.comb += [self.ready.eq(dut.i.ready), self.taken.eq(dut.i.ready & dut.i.valid)]
        return m


#: The values of a layer stand for two cycles before it.
START = [0, 0, 1, 0]


def layer(dut, *, total_rows=1, block_rows=1, groups=1, output_groups=1, group_rows=3):
    """Values of a layer, and beats enough for it: the extremes, then random bytes."""
    values = {
        "total_rows": total_rows,
        "block_rows": block_rows,
        "groups": groups,
        "output_groups": output_groups,
        "group_rows": group_rows,
    }
    count = dut.output_lanes * dut.constant_beats + groups * group_rows
    count *= -(-total_rows // block_rows) * output_groups
    beats = np.random.default_rng(count).integers(-128, 128, (count, dut.beat_bytes))
    beats.ravel()[:4] = np.resize([-128, 127, -1, 0], beats.size)[:4]
    return values, beats


def run(dut, values, beats, stalls=None):
    """Checks rows, constants, and when `weights_ready` comes; the result."""
    rows, constants = dut.model(beats, **values)
    result = run_stream(
        Watched(dut),
        {"i": beats, "start": START},
        {"rows": len(rows), "constants": len(constants), "weights_ready": None, "ready": None, "taken": None},
        constants=values,
        stalls=stalls,
    )
    np.testing.assert_array_equal(result.outputs["rows"], rows)
    for name, _ in constants_layout():
        np.testing.assert_array_equal(result.outputs["constants"][name], constants[name])
    # The strobe of a group comes a fixed time after its last row.
    part = dut.output_lanes * dut.constant_beats + values["groups"] * values["group_rows"]
    taken = np.flatnonzero(result.outputs["taken"])
    assert len(taken) == len(beats)
    assert not result.outputs["ready"][taken[-1] + 1 :].any()
    lasts = [
        taken[start + part - (values["groups"] - group - 1) * values["group_rows"] - 1]
        for start in range(0, len(beats), part)
        for group in range(values["groups"])
    ]
    strobes = np.flatnonzero(result.outputs["weights_ready"])
    np.testing.assert_array_equal(strobes, np.array(lasts) + 1 + dut.ready_delay)
    return result


GRID = [
    # parameters, layer
    ({"beat_bytes": 3, "output_lanes": 1, "fifo_rows": 6}, {}),
    (
        {"beat_bytes": 3, "output_lanes": 2, "fifo_rows": 24, "ready_delay": 3},
        {"total_rows": 5, "block_rows": 2, "groups": 3, "output_groups": 2, "group_rows": 12},
    ),
    (
        {"beat_bytes": 5, "output_lanes": 3, "fifo_rows": 10, "ready_delay": 1},
        {"total_rows": 4, "block_rows": 2, "groups": 2, "output_groups": 7, "group_rows": 1},
    ),
    (
        {"beat_bytes": 1, "output_lanes": 1, "fifo_rows": 2, "ready_delay": 17},
        {"total_rows": 3, "block_rows": 7, "groups": 9, "output_groups": 1, "group_rows": 1},
    ),
    (
        {"beat_bytes": 12, "output_lanes": 1, "fifo_rows": 7},
        {"total_rows": 2, "block_rows": 1, "groups": 1, "output_groups": 9, "group_rows": 7},
    ),
    (
        {"beat_bytes": 9, "output_lanes": 4, "fifo_rows": 5},
        {"total_rows": 1, "block_rows": 1, "groups": 2, "output_groups": 3, "group_rows": 5},
    ),
]


@pytest.mark.parametrize("stalls", [0, 0.3, 0.8])
@pytest.mark.parametrize("case", GRID, ids=str)
def test_equals_model(case, stalls):
    parameters, values = case
    dut = WeightLoader(dimension_bits=5, **parameters)
    values, beats = layer(dut, **values)
    result = run(dut, values, beats, Stalls(3, i=stalls, rows=stalls, constants=stalls))
    if not stalls and dut.fifo_rows > 2:
        parts = -(-values["total_rows"] // values["block_rows"]) * values["output_groups"]
        assert result.streams["i"].first == 3
        assert result.streams["i"].last == len(beats) + parts + 2  # a cycle more for each part
        assert result.streams["constants"].first == dut.output_lanes * dut.constant_beats + 6
        assert result.streams["rows"].first == dut.output_lanes * dut.constant_beats + 6
        assert result.streams["rows"].last == result.streams["i"].last + 2


@pytest.mark.parametrize("slow", ["i", "rows", "constants"])
def test_one_slow_side(slow):
    dut = WeightLoader(beat_bytes=3, output_lanes=2, fifo_rows=4, dimension_bits=5)
    values, beats = layer(dut, total_rows=3, groups=2, output_groups=4, group_rows=3)
    run(dut, values, beats, Stalls(4, **{slow: 0.95}))


def test_next_layer():
    """The loader is ready for another layer after the last beat, with nothing left of the first."""
    dut = WeightLoader(beat_bytes=3, output_lanes=2, fifo_rows=4, dimension_bits=5)
    values, beats = layer(dut, total_rows=3, block_rows=2, groups=2, output_groups=2, group_rows=3)
    rows, constants = dut.model(beats, **values)
    result = run_stream(
        dut,
        {"i": np.concatenate([beats, beats[::-1]]), "start": [*START, *[0] * 200, 1, 0]},
        {"rows": 2 * len(rows), "constants": 2 * len(constants), "weights_ready": None},
        constants=values,
    )
    later = dut.model(beats[::-1], **values)
    np.testing.assert_array_equal(result.outputs["rows"], np.concatenate([rows, later[0]]))
    np.testing.assert_array_equal(result.outputs["constants"]["bias"][len(constants) :], later[1]["bias"])
    assert result.outputs["weights_ready"].sum() == 2 * 2 * 2 * 2


def test_constants_bytes():
    """Little-endian, bias, multiplier, shift, then filling."""
    dut = WeightLoader(beat_bytes=4, output_lanes=1, fifo_rows=2, dimension_bits=4)
    data = np.zeros((4, 4), np.int8)
    data[:3] = np.frombuffer(
        (-5).to_bytes(4, "little", signed=True)
        + (0x12345678).to_bytes(4, "little")
        + (-7).to_bytes(1, "little", signed=True)
        + b"\x55\x66\x77",
        np.int8,
    ).reshape(3, 4)
    values = {"total_rows": 1, "block_rows": 1, "groups": 1, "output_groups": 1, "group_rows": 1}
    result = run_stream(dut, {"i": data, "start": START}, {"rows": 1, "constants": 1}, constants=values)
    assert result.outputs["constants"][0, 0].tolist() == (-5, 0x12345678, -7)
    assert constants_layout().size == CONSTANT_BYTES * 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beat_bytes": 0}, "beat_bytes must be 1 or more, not 0"),
        ({"output_lanes": 0}, "output_lanes must be 1 or more, not 0"),
        ({"fifo_rows": 1}, "fifo_rows must be 2 or more, not 1"),
        ({"ready_delay": -1}, "ready_delay must be 0 or more, not -1"),
        ({"dimension_bits": 0}, "dimension_bits must be 1 or more, not 0"),
    ],
)
def test_refuses_bad_parameters(change, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        WeightLoader(**{"beat_bytes": 3, "output_lanes": 1, "fifo_rows": 6} | change)
