from fractions import Fraction

import numpy as np
import pytest
from litert_oracle import LiteRtConvolution

from winohw.algorithm.geometry import ConvGeometry
from winohw.algorithm.toomcook import winograd
from winohw.numerics.formats import Exact, Quantized
from winohw.numerics.layer import ConvLayer, fold_zero_point
from winohw.numerics.requantize import Activation, Requantization, ShiftRequantization


def litert_layer(seed: int) -> tuple[LiteRtConvolution, ConvLayer, np.ndarray]:
    """The same random layer as a TFLite model and as ours, and pixels for it."""
    rng = np.random.default_rng(seed)
    kernel, stride = int(rng.choice([1, 2, 3, 4, 5, 7])), int(rng.integers(1, 3))
    padding = "same" if rng.integers(2) else "valid"
    least = kernel if padding == "valid" else 1
    height, width = (int(rng.integers(least, least + 9)) for _ in range(2))
    channels, filters = (int(rng.integers(1, 7)) for _ in range(2))
    geometry = ConvGeometry(height, width, channels, filters, kernel, stride, padding)
    weights = rng.integers(-127, 128, size=(filters, kernel, kernel, channels)).astype(np.int8)
    bias = rng.integers(-20000, 20000, size=filters)
    input_scale = np.float32(2.0 ** rng.uniform(-8, 0))
    weight_scales = np.float32(2.0 ** rng.uniform(-10, -6, size=filters))
    output_scale = np.float32(input_scale * 2.0 ** rng.uniform(-3, 3))
    input_zero, output_zero = rng.integers(-128, 128, size=2).tolist()
    activation = list(Activation)[seed % 3]
    oracle = LiteRtConvolution(
        weights, bias, input_scale, input_zero, weight_scales, output_scale, output_zero, activation, stride, padding
    )
    requantization = Requantization.from_scales(bias, input_scale, weight_scales, output_scale, output_zero, activation)
    pixels = rng.integers(-128, 128, size=(1, height, width, channels)).astype(np.int8)
    return oracle, ConvLayer(geometry, weights, requantization, input_zero), pixels


def test_whole_layers_equal_litert_reference_kernels():
    for seed in range(250):
        oracle, layer, pixels = litert_layer(seed)
        np.testing.assert_array_equal(layer.reference(pixels), oracle.run(pixels), err_msg=f"{seed=} {layer.geometry}")


def test_zero_point_is_folded_into_the_bias():
    weights = np.array([[[[1, -2]]], [[[127, 127]]]], np.int8)
    assert fold_zero_point([10, 20], weights, -3).tolist() == [10 - 3, 20 + 3 * 254]
    assert fold_zero_point([2**31 - 1, 0], weights, 1).tolist() == [-(2**31), -254]
    assert fold_zero_point([0, 0], weights, -128).dtype == np.int32


def small_layer(requantization=None, zero_point=0, **changes):
    geometry = ConvGeometry(4, 5, 2, 3, 3)
    weights = np.arange(-27, 27).reshape(3, 3, 3, 2).astype(np.int8)
    fields = {
        "geometry": geometry,
        "weights": weights,
        "requantization": requantization or Requantization([100, -200, 300], 2**30, -6, 3),
        "input_zero_point": zero_point,
    }
    return ConvLayer(**{**fields, **changes})


def test_constants_of_the_exact_profile_are_those_of_direct_convolution():
    layer = small_layer(zero_point=5)
    constants = layer.requantization_for(winograd(4, 3), Exact())
    assert constants.bias.tolist() == fold_zero_point(layer.bias, layer.weights, 5).tolist()
    assert constants.multiplier.tolist() == [2**30] * 3
    assert constants.shift.tolist() == [-6] * 3


def test_constants_of_the_quantized_profile_take_up_divisor_and_shifts():
    layer, matrices = small_layer(zero_point=5), winograd(4, 3)
    constants = layer.requantization_for(matrices, Quantized.uniform(8, 3, 2, 1))
    factor = Fraction(matrices.divisor**2, 2**6)
    assert factor == 9
    folded = fold_zero_point(layer.bias, layer.weights, 5).tolist()
    assert constants.bias.tolist() == [9 * value for value in folded]
    for scale in constants.real_scales():
        assert abs(scale * factor / Fraction(1, 128) - 1) < Fraction(1, 2**30)
    assert constants.output_zero_point == 3
    rounded = layer.requantization_for(matrices, Quantized.uniform(8, 4, 4, 2))
    assert rounded.bias.tolist() == [(9 * value + 8) // 16 for value in folded]


def test_shift_only_constants_take_up_powers_of_two_alone():
    layer = small_layer(ShiftRequantization([100, -200, 300], -7))
    constants = layer.requantization_for(winograd(2, 3), Quantized.uniform(8, 1, 1, 2))
    assert constants.shift.tolist() == [-5] * 3
    assert constants.bias.tolist() == [25, -50, 75]
    with pytest.raises(ValueError, match="Shifts alone cannot take up the factor 9/4: use a Requantization"):
        layer.requantization_for(winograd(4, 3), Quantized.uniform(8, 3, 3, 2))


def test_bias_that_no_longer_fits():
    layer = small_layer(Requantization([2**30, 0, 0], 2**30, -6))
    with pytest.raises(ValueError, match="The bias must be between"):
        layer.requantization_for(winograd(4, 3), Quantized.uniform(8))


def test_accumulator_range_is_reached():
    layer = small_layer()
    low, high = layer.accumulator_range()
    valid = small_layer(geometry=ConvGeometry(3, 3, 2, 3, 3, padding="valid"))
    extremes = []
    for weights in layer.weights:
        for sign in (1, -1):
            pixels = np.where(sign * weights.astype(int) > 0, 127, -128).astype(np.int8)
            extremes += valid.accumulators(pixels[None]).ravel().tolist()
    assert (min(extremes), max(extremes)) == (low, high)


def test_weights_are_kept_as_a_read_only_copy():
    weights = np.zeros((3, 3, 3, 2), np.int8)
    layer = small_layer(weights=weights)
    weights[...] = 1
    assert not layer.weights.any()
    with pytest.raises(ValueError, match="read-only"):
        layer.weights[0] = 1


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: small_layer(geometry=3), TypeError, "geometry of a layer must be a ConvGeometry, not 3"),
        (lambda: small_layer(requantization="x"), TypeError, "must be a Requantization or .* not 'x'"),
        (lambda: small_layer(weights=np.zeros((3, 3, 3, 2))), TypeError, "must be int8, not float64"),
        (
            lambda: small_layer(weights=np.zeros((2, 3, 3, 3), np.int8)),
            ValueError,
            r"the shape \(3, 3, 3, 2\) \(filters, rows, columns, channels\), not \(2, 3, 3, 3\)",
        ),
        (lambda: small_layer(Requantization([1], 0, 0)), ValueError, "3 filters, but its requantization 1"),
        (lambda: small_layer(zero_point=128), ValueError, "between -128 and 127, not 128"),
        (lambda: small_layer(zero_point=0.5), TypeError, "zero point must be an integer, not 0.5"),
        (lambda: small_layer().reference(np.zeros((1, 4, 5, 2))), TypeError, "pixels must be int8, not float64"),
        (
            lambda: small_layer().reference(np.zeros((4, 5, 2), np.int8)),
            ValueError,
            r"must have the shape \[N, 4, 5, 2\], not \[4, 5, 2\]",
        ),
    ],
)
def test_errors(make, error, message):
    with pytest.raises(error, match=message):
        make()
