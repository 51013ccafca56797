# amaranth: UnusedElaboratable=no
import numpy as np
import pytest

from winohw.gateware.requantizer import KINDS, Requantizer
from winohw.sim.stalls import Stalls
from winohw.sim.testbench import SimulationError, run_stream

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1
EXTREMES = [INT32_MIN, INT32_MIN + 1, -(2**30), -129, -128, -2, -1, 0, 1, 2, 127, 128, 2**30, INT32_MAX - 1, INT32_MAX]
MULTIPLIERS = [0, 1, 2**17 - 1, 2**17, 2**30, 2**30 + 1, 3 * 2**29, INT32_MAX - 1, INT32_MAX]
CLAMPS = [(0, -128, 127), (-128, -128, 127), (127, -100, 101), (-1, -1, 20), (5, 7, 7)]


def extreme_beats(dut: Requantizer, rng) -> dict[str, np.ndarray]:
    """Extreme sums and constants, one by one and mixed."""
    shifts = np.arange(-31, 31 if dut.kind == "tflite" else 1)
    rows = [(INT32_MIN, 0, m, s) for m in MULTIPLIERS for s in (-31, -1, 0)]
    rows += [(acc, bias, INT32_MAX, 0) for acc in EXTREMES for bias in (INT32_MIN, -1, 1, INT32_MAX)]
    rows += [(acc, 0, 2**30, s) for acc in (INT32_MIN, -1, 1, INT32_MAX) for s in shifts]
    acc, bias, multiplier, shift = np.array(rows).T
    acc = np.concatenate([acc[:, None], rng.choice(EXTREMES, size=(len(acc), dut.lanes - 1))], axis=1)
    return {"acc": acc, "bias": bias, "multiplier": multiplier, "shift": shift}


def tie_beats(dut: Requantizer, rng) -> dict[str, np.ndarray]:
    """Sums whose quotients lie on, just below and just above a tie, on both sides of zero."""
    shift = np.repeat(np.arange(-29, 1), 6)
    # With a multiplier of one half: twice the sum, so that the first rounding leaves what the second one divides.
    scale = 2 if dut.kind == "tflite" else 1
    odd = rng.integers(-60, 60, size=(len(shift), dut.lanes)) * 2 + 1
    tie = scale * odd * (1 << -shift[:, None]) // 2
    near = rng.integers(-1, 2, size=tie.shape) * rng.integers(0, 2, size=tie.shape)
    acc = np.clip(tie + near, INT32_MIN, INT32_MAX)
    zeros = np.zeros_like(shift)
    return {"acc": acc, "bias": zeros, "multiplier": np.full_like(shift, 2**30), "shift": shift}


def random_beats(dut: Requantizer, rng, count: int) -> dict[str, np.ndarray]:
    """Constants of all sizes, and sums that mostly give pixels within the range."""
    multiplier = rng.integers(2**30, 2**31, size=count)
    shift = rng.integers(-31, 20, size=count)
    scale = multiplier * 2.0 ** (shift - 31)
    if dut.kind == "shift":
        shift = -np.abs(shift)
        scale = 2.0**shift
    pixels = rng.uniform(-200, 200, size=(count, dut.lanes))
    acc = np.clip(np.round(pixels / scale[:, None]), INT32_MIN, INT32_MAX).astype(np.int64)
    bias = rng.integers(INT32_MIN, INT32_MAX, size=count) >> rng.integers(0, 32, size=count)
    acc = (acc - bias[:, None] + 2**31) % 2**32 - 2**31
    return {"acc": acc, "bias": bias, "multiplier": multiplier, "shift": shift}


def run(dut: Requantizer, beats, clamp, seed: int = 1, max_cycles: int = 100_000, **stalls: float):
    rng = np.random.default_rng(seed)
    count = rng.integers(0, dut.lanes + 1, size=len(beats["bias"]))
    last = rng.integers(0, 2, size=len(count))
    names = ("output_zero_point", "act_min", "act_max")
    result = run_stream(
        dut,
        {"i": {**beats, "count": count, "last": last}},
        {"o": len(count)},
        constants=dict(zip(names, clamp, strict=True)),
        stalls=Stalls(seed, **stalls),
        max_cycles=max_cycles,
    )
    o = result.outputs["o"]
    np.testing.assert_array_equal(o["pixels"], dut.model(**beats, **dict(zip(names, clamp, strict=True))))
    np.testing.assert_array_equal(o["count"], count)
    np.testing.assert_array_equal(o["last"], last)
    return result


def joined(*parts: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@pytest.mark.parametrize("multiplier", ["generic", "lut", "ice40", "ice40_dual"])
@pytest.mark.parametrize("kind", KINDS)
def test_equals_model_and_runs_at_full_speed(kind, multiplier):
    rng = np.random.default_rng(2)
    dut = Requantizer(3, kind, multiplier)
    beats = joined(extreme_beats(dut, rng), tie_beats(dut, rng), random_beats(dut, rng, 300))
    result = run(dut, beats, CLAMPS[0])
    assert len(np.unique(result.outputs["o"]["pixels"])) > 200
    assert result.streams["i"].stalls == 0
    assert result.streams["o"].first == dut.latency
    assert result.streams["o"].last == len(beats["bias"]) - 1 + dut.latency


@pytest.mark.parametrize("clamp", CLAMPS)
@pytest.mark.parametrize("kind", KINDS)
def test_zero_points_and_clamps(kind, clamp):
    rng = np.random.default_rng(3)
    dut = Requantizer(2, kind)
    run(dut, joined(extreme_beats(dut, rng), random_beats(dut, rng, 100)), clamp)


@pytest.mark.parametrize("stalls", [{"i": 0.5}, {"o": 0.5}, {"i": 0.3, "o": 0.4}, {"o": 0.95}, {"i": 0.9}])
@pytest.mark.parametrize(("lanes", "kind"), [(1, "tflite"), (4, "shift")])
def test_random_stalls(lanes, kind, stalls):
    dut = Requantizer(lanes, kind)
    result = run(dut, random_beats(dut, np.random.default_rng(4), 150), CLAMPS[2], **stalls)
    if "i" not in stalls:
        assert result.streams["i"].stalls


@pytest.mark.parametrize("kind", KINDS)
def test_takes_as_many_beats_as_it_says_while_the_output_waits(kind):
    dut = Requantizer(1, kind)
    beats = random_beats(dut, np.random.default_rng(5), dut.depth + 5)
    with pytest.raises(SimulationError, match=f"i {dut.depth} of {dut.depth + 5} beats"):
        run(dut, beats, CLAMPS[0], max_cycles=4 * dut.depth, o=1.0)


def test_attributes_can_be_read_back():
    dut = Requantizer(2, "shift", "ecp5")
    assert (dut.lanes, dut.kind, dut.multiplier) == (2, "shift", "ecp5")
    assert dut.latency < Requantizer(2).latency < Requantizer(2, multiplier="lut").latency


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "Requantizer lanes must be 1 or more, not 0"),
        ((1, "float"), "Requantizer kind must be one of tflite, shift, not 'float'"),
        (
            (1, "tflite", "dsp"),
            "Requantizer multiplier must be one of generic, ecp5, ice40, ice40_dual, lut, not 'dsp'",
        ),
    ],
)
def test_refuses_bad_parameters(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        Requantizer(*arguments)
