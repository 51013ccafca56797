from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from winohw.numerics.formats import (
    Exact,
    Narrowing,
    Quantized,
    Rounding,
    rounding_shift,
    saturate,
    signed_range,
    wrap,
)

EXTREMES = [-(2**61), -(2**31), -129, -128, -127, -3, -2, -1, 0, 1, 2, 3, 127, 128, 2**31 - 1, 2**61]


def definition(x: int, shift: int, rounding: Rounding) -> int:
    """Rounding shift in exact rationals."""
    half = Fraction(1, 2) if rounding is Rounding.HALF_UP else 0
    return floor(Fraction(x, 2**shift) + half)


@pytest.mark.parametrize("rounding", Rounding)
def test_rounding_shift_of_extremes(rounding):
    shifts = [0, 1, 2, 7, 8, 31, 62]
    result = rounding_shift(np.array(EXTREMES)[:, None], shifts, rounding)
    assert result.tolist() == [[definition(x, shift, rounding) for shift in shifts] for x in EXTREMES]


@given(st.integers(-(2**61), 2**61), st.integers(0, 62), st.sampled_from(Rounding))
def test_rounding_shift(x, shift, rounding):
    assert rounding_shift(x, shift, rounding) == definition(x, shift, rounding)


def test_ties_go_up_or_down():
    odd = [-5, -3, -1, 1, 3, 5]
    assert rounding_shift(odd, 1, Rounding.HALF_UP).tolist() == [-2, -1, 0, 1, 2, 3]
    assert rounding_shift(odd, 1, Rounding.FLOOR).tolist() == [-3, -2, -1, 0, 1, 2]


@pytest.mark.parametrize("bits", [1, 2, 8, 18, 63])
def test_saturate_and_wrap(bits):
    low, high = signed_range(bits)
    x = sorted({*EXTREMES, low - 1, low, low + 1, high - 1, high, high + 1})
    assert saturate(x, bits).tolist() == [min(max(value, low), high) for value in x]
    assert wrap(x, bits).tolist() == [(value - low) % 2**bits + low for value in x]


def test_narrowing_per_tap_takes_the_last_two_axes():
    narrowing = Narrowing(8, [[0, 1], [2, 3]])
    x = np.arange(-800, 800).reshape(-1, 1, 1) + np.zeros((2, 2), dtype=np.int64)
    expected = [
        [[min(max(definition(v, 2 * i + j, Rounding.HALF_UP), -128), 127) for j in (0, 1)] for i in (0, 1)]
        for v in range(-800, 800)
    ]
    assert narrowing.apply(x).tolist() == expected


def test_narrowing_that_wraps():
    assert Narrowing(8, 1, Rounding.FLOOR, saturate=False).apply([255, 256, -257, -256]).tolist() == [
        127,
        -128,
        127,
        -128,
    ]


def test_full_eight_bits_in_all_three_steps():
    profile = Quantized.uniform(8, 3, 4, 5)
    assert [step.bits for step in (profile.input, profile.weight, profile.product)] == [8, 8, 8]
    assert profile.input.apply([-(2**40), 2**40]).tolist() == [-128, 127]
    assert profile.total_shift(6) == 12


def test_tables_are_kept_as_values():
    table = np.arange(16).reshape(4, 4)
    narrowing = Narrowing(9, table)
    assert narrowing == Narrowing(9, table.tolist())
    assert hash(narrowing) == hash(Narrowing(9, table.tolist()))
    assert narrowing.per_tap
    assert narrowing.max_shift == 15
    np.testing.assert_array_equal(narrowing.table(4), table)
    assert not Narrowing(9, 3).per_tap
    assert Narrowing(9, 3).max_shift == 3
    np.testing.assert_array_equal(Narrowing(9, 3).table(2), [[3, 3], [3, 3]])
    assert narrowing.with_shift(2) == Narrowing(9, 2)


def test_total_shift_must_not_depend_on_the_tap():
    balanced = Quantized.uniform(8, [[0, 1], [2, 3]], [[3, 2], [1, 0]], 4)
    assert balanced.total_shift(2) == 7
    with pytest.raises(ValueError, match=r"but tap \(0, 0\) has 4 and tap \(0, 1\) has 5"):
        Quantized.uniform(8, [[0, 1], [2, 3]], 0, 4).total_shift(2)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Narrowing(1), ValueError, "Narrowing bits must be between 2 and 63, not 1"),
        (lambda: Narrowing(8.0), TypeError, "Narrowing bits must be an integer, not 8.0"),
        (lambda: Narrowing(8, 1, "up"), TypeError, "Narrowing rounding must be a Rounding, not 'up'"),
        (lambda: Narrowing(8, -1), ValueError, "A shift must be between 0 and 62, not -1"),
        (lambda: Narrowing(8, [[0, 63], [0, 0]]), ValueError, "A shift must be between 0 and 62, not 63"),
        (lambda: Narrowing(8, 0.5), TypeError, "A shift must be an integer or a table of integers, not 0.5"),
        (lambda: Narrowing(8, [1, 2]), ValueError, r"square table, not an array of shape \(2,\)"),
        (lambda: Narrowing(8, [[1, 2, 3]]), ValueError, r"square table, not an array of shape \(1, 3\)"),
        (lambda: Narrowing(8, [[0, 0], [0, 0]]).table(4), ValueError, "is for 2×2 taps, not 4×4"),
        (lambda: Narrowing(8, [[0, 0], [0, 0]]).apply([1, 2]), ValueError, r"2×2 taps, .* values are \(2,\)"),
        (lambda: Narrowing(8).apply([0.5]), TypeError, "Expected integers .* not float64"),
        (lambda: Exact(33), ValueError, "must have 2 to 32 bits, not 33"),
        (lambda: Quantized(8, 8, 8), TypeError, "The input step .* must be a Narrowing, not 8"),
        (lambda: signed_range(64), ValueError, "between 1 and 63 bits, not 64"),
    ],
)
def test_errors(make, error, message):
    with pytest.raises(error, match=message):
        make()
