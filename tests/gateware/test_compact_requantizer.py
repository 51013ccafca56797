# amaranth: UnusedElaboratable=no
import numpy as np
import pytest

from winohw.gateware.compact_requantizer import CompactRequantizer
from winohw.numerics.formats import signed_range
from winohw.sim.stalls import Stalls
from winohw.sim.testbench import run_stream

LOW, HIGH = -(2**31), 2**31 - 1
EXTREMES = [LOW, LOW + 1, -(2**30), -129, -128, -2, -1, 0, 1, 2, 127, 128, 2**30, HIGH - 1, HIGH]
CLAMPS = [(0, -128, 127), (-128, -128, 127), (127, -100, 101), (-1, -1, 20), (5, 7, 7)]


def beats(rng):
    """Extremes with every shift, ties and their neighbours, then sums that mostly give pixels within the range."""
    rows = [(acc, bias, shift) for acc in EXTREMES for bias in (LOW, -1, 0, 1, HIGH) for shift in (0, -1, -16, -31)]
    for shift in range(-31, 1):
        rows += [(acc, 0, shift) for acc in EXTREMES]
        ties = (rng.integers(-90, 90, 6) * 2 + 1 << -shift) // 2 + rng.integers(-1, 2, 6)
        rows += [(int(np.clip(tie, LOW, HIGH)), 0, shift) for tie in ties]
        sums = np.clip(rng.integers(-200, 200, 20) << -shift, LOW, HIGH)
        bias = rng.integers(LOW, HIGH, 20)
        rows += [
            ((total - more + 2**31) % 2**32 - 2**31, more, shift)
            for total, more in zip(sums.tolist(), bias.tolist(), strict=True)
        ]
    return dict(zip(("acc", "bias", "shift"), np.array(rows).T, strict=True))


def narrower(given, bits):
    """The same, as far as sums with their bias fit fewer bits."""
    low, high = signed_range(bits)
    totals = np.clip((given["acc"] + given["bias"] + 2**31) % 2**32 - 2**31, low, high)
    bias = np.clip(given["bias"], low, high)
    return {**given, "acc": totals - bias, "bias": bias}


@pytest.mark.parametrize("sum_bits", [32, 24, 10])
@pytest.mark.parametrize("stalls", [{}, {"default": 0.4}, {"o": 0.9}], ids=str)
@pytest.mark.parametrize("clamp", CLAMPS, ids=str)
def test_equals_model(clamp, stalls, sum_bits):
    rng = np.random.default_rng(7)
    dut, given = CompactRequantizer(sum_bits), beats(rng)
    if sum_bits < 32:
        given = narrower(given, sum_bits)
    last = rng.integers(0, 2, len(given["acc"]))
    names = ("output_zero_point", "act_min", "act_max")
    result = run_stream(
        dut,
        {"i": {**given, "last": last}},
        {"o": len(last)},
        constants=dict(zip(names, clamp, strict=True)),
        stalls=Stalls(**stalls, seed=1) if stalls else None,
    )
    np.testing.assert_array_equal(
        result.outputs["o"]["pixel"], dut.model(**given, **dict(zip(names, clamp, strict=True)))
    )
    np.testing.assert_array_equal(result.outputs["o"]["last"], last)
    if not stalls:
        assert result.cycles == len(last) + dut.latency


@pytest.mark.parametrize("sum_bits", [9, 33])
def test_bad_width(sum_bits):
    with pytest.raises(ValueError, match=f"^sum_bits must be within 10 ... 32, not {sum_bits}$"):
        CompactRequantizer(sum_bits)
