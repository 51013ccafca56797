from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from litert_oracle import LiteRtConvolution

from winohw.numerics.requantize import (
    Activation,
    Requantization,
    ShiftRequantization,
    activation_range,
    multiply_by_quantized_multiplier,
    quantize_multiplier,
    rounding_divide_by_power_of_two,
    saturating_rounding_doubling_high_multiply,
)

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1
EXTREMES = [INT32_MIN, INT32_MIN + 1, -(2**30), -129, -128, -2, -1, 0, 1, 2, 127, 128, 2**30, INT32_MAX - 1, INT32_MAX]
MULTIPLIERS = [0, 1, 2**30, 2**30 + 1, 3 * 2**29, INT32_MAX - 1, INT32_MAX]


def int32(x: int) -> int:
    return (x + 2**31) % 2**32 - 2**31


def c_divide(a: int, b: int) -> int:
    """Division of C: toward zero."""
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def gemmlowp_high_multiply(a: int, b: int) -> int:
    if a == b == INT32_MIN:
        return INT32_MAX
    product = a * b
    nudge = 1 << 30 if product >= 0 else 1 - (1 << 30)
    return c_divide(product + nudge, 1 << 31)


def gemmlowp_divide_by_power_of_two(x: int, exponent: int) -> int:
    mask = (1 << exponent) - 1
    remainder = x & mask
    threshold = (mask >> 1) + (1 if x < 0 else 0)
    return (x >> exponent) + (1 if remainder > threshold else 0)


def tflite_multiply(x: int, multiplier: int, shift: int) -> int:
    left, right = (shift, 0) if shift > 0 else (0, -shift)
    return gemmlowp_divide_by_power_of_two(gemmlowp_high_multiply(int32(x * (1 << left)), multiplier), right)


def tflite_pixel(acc: int, bias: int, multiplier: int, shift: int, zero_point: int, low: int, high: int) -> int:
    scaled = tflite_multiply(int32(acc + bias), multiplier, shift)
    return min(max(int32(scaled + zero_point), low), high)


def test_multiply_of_extremes_equals_gemmlowp():
    shifts = range(-31, 31)
    x = np.array(EXTREMES)[:, None, None]
    result = multiply_by_quantized_multiplier(x, np.array(MULTIPLIERS)[:, None], shifts)
    expected = [[[tflite_multiply(a, b, s) for s in shifts] for b in MULTIPLIERS] for a in EXTREMES]
    assert result.tolist() == expected


@given(st.integers(INT32_MIN, INT32_MAX), st.integers(0, INT32_MAX), st.integers(-31, 30))
@settings(max_examples=500, deadline=None)
def test_multiply_equals_gemmlowp(x, multiplier, shift):
    assert saturating_rounding_doubling_high_multiply(x, multiplier) == gemmlowp_high_multiply(x, multiplier)
    assert multiply_by_quantized_multiplier(x, multiplier, shift) == tflite_multiply(x, multiplier, shift)


@pytest.mark.parametrize("exponent", [0, 1, 2, 5, 30, 31])
def test_ties_of_the_division_go_away_from_zero(exponent):
    half = (1 << exponent) >> 1
    x = [value + offset for value in (-3 * half, -half, half, 3 * half) for offset in (-1, 0, 1)]
    x = [int32(value) for value in x]
    result = rounding_divide_by_power_of_two(x, exponent)
    assert result.tolist() == [gemmlowp_divide_by_power_of_two(value, exponent) for value in x]


def test_requantization_of_extremes_equals_the_definition():
    rng = np.random.default_rng(0)
    for _ in range(40):
        bias = rng.choice([INT32_MIN, -1, 0, 1, INT32_MAX, int(rng.integers(-(10**6), 10**6))], size=5)
        multiplier = rng.choice(MULTIPLIERS, size=5)
        shift = rng.integers(-31, 31, size=5)
        zero_point, low, high = int(rng.integers(-128, 128)), *sorted(rng.integers(-128, 128, size=2).tolist())
        requantization = Requantization(bias, multiplier, shift, zero_point, low, high)
        acc = rng.choice(EXTREMES, size=(7, 5))
        constants = list(zip(bias.tolist(), multiplier.tolist(), shift.tolist(), strict=True))
        expected = [[tflite_pixel(a, *constants[k], zero_point, low, high) for k, a in enumerate(row)] for row in acc]
        pixels = requantization.apply(acc)
        assert pixels.dtype == np.int8
        assert pixels.tolist() == expected


def oracle_case(seed: int):
    """A random 1×1 convolution whose accumulators cover what its scales can produce, and its requantization."""
    rng = np.random.default_rng(seed)
    channels, filters = (int(rng.integers(1, high)) for high in (9, 7))
    height, width = rng.integers(1, 9, size=2).tolist()
    weights = rng.integers(-127, 128, size=(filters, 1, 1, channels)).astype(np.int8)
    spread = int(rng.choice([8, 16, 24, 31]))
    bias = rng.integers(-(2**spread), 2**spread, size=filters)
    input_scale, output_scale = np.float32(2.0 ** rng.uniform(-8, 2, size=2))
    # From everything rounds to zero, over the usual, to shifts to the left that wrap.
    reach = [(-40, -20), (-14, -2), (-2, 24)][seed % 3]
    weight_scales = np.float32(2.0 ** rng.uniform(*reach, size=filters) * output_scale / input_scale)
    zero_points = rng.integers(-128, 128, size=2).tolist()
    activation = list(Activation)[seed // 3 % 3]
    layer = LiteRtConvolution(
        weights, bias, input_scale, zero_points[0], weight_scales, output_scale, zero_points[1], activation
    )
    pixels = rng.integers(-128, 128, size=(1, height, width, channels)).astype(np.int8)
    acc = (pixels.astype(np.int64) - zero_points[0]) @ weights[:, 0, 0].T.astype(np.int64)
    requantization = Requantization.from_scales(
        bias, input_scale, weight_scales, output_scale, zero_points[1], activation
    )
    return layer, pixels, acc, requantization


def test_requantization_equals_litert_reference_kernels():
    for seed in range(300):
        layer, pixels, acc, requantization = oracle_case(seed)
        np.testing.assert_array_equal(requantization.apply(acc), layer.run(pixels), err_msg=f"{seed=} {layer}")


@pytest.mark.parametrize("zero_point", [-128, -1, 0, 127])
def test_addition_of_the_zero_point_wraps_as_in_litert(zero_point):
    scales = [np.float32(x) for x in ("1.5118216", "1.8017415", "2.7239118")]
    bias = np.array([INT32_MAX, INT32_MAX - 60, INT32_MIN, INT32_MIN + 50])
    requantization = Requantization.from_scales(bias, scales[0], scales[1], scales[2], zero_point)
    assert requantization.multiplier[0] > 2**31 - 30
    layer = LiteRtConvolution(
        np.zeros((4, 1, 1, 1), np.int8), bias, scales[0], 0, np.full(4, scales[1]), scales[2], zero_point
    )
    expected = layer.run(np.zeros((1, 1, 1, 1), np.int8))
    np.testing.assert_array_equal(requantization.apply(np.zeros((1, 1, 1, 4), int)), expected)


@pytest.mark.parametrize("activation", Activation)
def test_activation_range_clamps_as_litert(activation):
    rng = np.random.default_rng(3)
    for _ in range(25):
        scale, zero_point = np.float32(2.0 ** rng.uniform(-8, 6)), int(rng.integers(-128, 128))
        # One channel forced to each end of the range.
        bias, nothing = np.array([INT32_MIN, INT32_MAX]), np.zeros((2, 1, 1, 1), np.int8)
        layer = LiteRtConvolution(nothing, bias, scale, 0, np.full(2, 0.5, np.float32), scale, zero_point, activation)
        expected = layer.run(np.zeros((1, 1, 1, 1), np.int8)).ravel().tolist()
        assert list(activation_range(activation, scale, zero_point)) == expected


def test_quantize_multiplier():
    assert quantize_multiplier(0.0) == (0, 0)
    assert quantize_multiplier(1.0) == (2**30, 1)
    assert quantize_multiplier(0.5) == (2**30, 0)
    assert quantize_multiplier(1 - 2.0**-40) == (2**30, 1)
    assert quantize_multiplier(Fraction(1, 3)) == (round(2**32 / 3), -1)
    assert quantize_multiplier(2.0**-32) == (2**30, -31)
    assert quantize_multiplier(2.0**-32 * (1 - 2.0**-31)) == (0, 0)
    assert quantize_multiplier(2.0**29) == (2**30, 30)


@given(st.floats(2.0**-32, 2.0**29))
def test_quantize_multiplier_is_the_nearest(real):
    multiplier, shift = quantize_multiplier(real)
    assert 2**30 <= multiplier < 2**31
    assert abs(multiplier * Fraction(2) ** (shift - 31) - Fraction(real)) <= Fraction(2) ** (shift - 32)


def test_shift_requantization_equals_the_definition():
    rng = np.random.default_rng(1)
    acc = np.concatenate([np.repeat(np.array(EXTREMES)[:, None], 5, axis=1), rng.integers(-5000, 5000, size=(50, 5))])
    for _ in range(40):
        bias = rng.choice([INT32_MIN, -1, 0, 1, INT32_MAX, int(rng.integers(-1000, 1000))], size=5)
        shift = rng.integers(-31, 31, size=5)
        zero_point, low, high = int(rng.integers(-128, 128)), *sorted(rng.integers(-128, 128, size=2).tolist())
        pixels = ShiftRequantization(bias, shift, zero_point, low, high).apply(acc)
        expected = [
            [
                min(max((int32(a + b) * 2 ** (31 + s) + (1 << 30) >> 31) + zero_point, low), high)
                for a, b, s in zip(row, bias.tolist(), shift.tolist(), strict=True)
            ]
            for row in acc.tolist()
        ]
        assert pixels.dtype == np.int8
        assert pixels.tolist() == expected


def test_constants_broadcast_and_can_be_read_back():
    requantization = Requantization([1, 2, 3], 2**30, -4)
    assert requantization.channels == 3
    assert requantization.multiplier.tolist() == [2**30] * 3
    assert requantization.shift.tolist() == [-4] * 3
    assert requantization.real_scales() == [Fraction(1, 32)] * 3
    assert ShiftRequantization([1, 2], -5).real_scales() == [Fraction(1, 32)] * 2
    changed = requantization.with_bias([7, 8, 9])
    assert changed.bias.tolist() == [7, 8, 9]
    assert changed.shift.tolist() == [-4] * 3
    with pytest.raises(ValueError, match="read-only"):
        requantization.bias[0] = 1


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: quantize_multiplier(-0.5), ValueError, "finite and not negative, not -0.5"),
        (lambda: quantize_multiplier(float("nan")), ValueError, "finite and not negative, not nan"),
        (lambda: quantize_multiplier(2.0**30), ValueError, r"below 2\*\*30, not 1073741824"),
        (lambda: Requantization([0.5], 0, 0), TypeError, "The bias must consist of integers, not float64"),
        (lambda: Requantization([2**31], 0, 0), ValueError, "The bias must be between .* not 2147483648"),
        (
            lambda: Requantization(np.zeros(0, int), 0, 0),
            ValueError,
            r"per output channel, not of shape \(0,\)",
        ),
        (lambda: Requantization([[1]], 0, 0), ValueError, r"an entry per output channel, not of shape \(1, 1\)"),
        (lambda: Requantization([1], -1, 0), ValueError, "The multiplier must be between 0 and 2147483647, not -1"),
        (lambda: Requantization([1], 1, 31), ValueError, "The shift must be between -31 and 30, not 31"),
        (
            lambda: Requantization([1], [1, 2], 0),
            ValueError,
            r"There are 1 biases, but multiplier has the shape \(2,\)",
        ),
        (lambda: Requantization([1], 1, 0, 128), ValueError, "output_zero_point must be between -128 and 127, not 128"),
        (lambda: Requantization([1], 1, 0, 0, 5, 4), ValueError, "act_min must not exceed act_max, but is 5"),
        (lambda: Requantization([1], 1, 0).apply([[2**31]]), ValueError, "The accumulator must be between"),
        (lambda: Requantization([1], 1, 0).apply([1, 2]), ValueError, r"must have 1 channels, not \(2,\)"),
        (lambda: ShiftRequantization([1], 31), ValueError, "The shift must be between -31 and 30, not 31"),
    ],
)
def test_errors(make, error, message):
    with pytest.raises(error, match=message):
        make()
