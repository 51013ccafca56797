import numpy as np
import pytest

from winohw.algorithm.geometry import ConvGeometry
from winohw.algorithm.toomcook import winograd
from winohw.numerics.formats import Exact, Narrowing, Quantized, Rounding
from winohw.numerics.golden import GoldenModel
from winohw.numerics.layer import ConvLayer
from winohw.numerics.requantize import Requantization, ShiftRequantization
from winohw.train.fast import layer_pixels, requantized

FULL = (-128, 127)


def make_layer(rng, kernel=3, stride=1, padding="same", zero_point=0, channels=3, filters=4, extreme=False):
    geometry = ConvGeometry(9, 11, channels, filters, kernel, stride, padding)
    weights = rng.integers(-127, 128, (filters, kernel, kernel, channels), dtype=np.int8)
    if extreme:
        weights = np.where(weights < 0, np.int8(-128), np.int8(127))
    bias = rng.integers(-9000, 9000, filters)
    requantization = Requantization(bias, rng.integers(2**30, 2**31, filters), rng.integers(-11, -7, filters), 3)
    return ConvLayer(geometry, weights, requantization, zero_point)


def make_pixels(rng, layer, images=3):
    pixels = rng.integers(-128, 128, (images, *layer.input_shape), dtype=np.int8)
    pixels[0] = np.where(rng.random(pixels[0].shape) < 0.5, -128, 127)
    return pixels


@pytest.mark.parametrize("extreme", [True, False])
@pytest.mark.parametrize("zero_point", [0, -128])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2), (1, 1)])
@pytest.mark.parametrize("tile_size", [1, 2, 4])
def test_exact(tile_size, kernel, stride, zero_point, extreme):
    rng = np.random.default_rng(1)
    layer = make_layer(rng, kernel, stride, zero_point=zero_point, extreme=extreme)
    pixels = make_pixels(rng, layer)
    matrices = winograd(1, kernel) if tile_size == 1 else winograd(tile_size, layer.geometry.effective_kernel)
    np.testing.assert_array_equal(layer_pixels(layer, matrices, Exact(), pixels), layer.reference(pixels))


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("padding", ["same", "valid", (2, 0, 1, 1)])
@pytest.mark.parametrize(("tile_size", "bits"), [(2, 8), (4, 8), (4, 12), (6, 8)])
def test_quantized(tile_size, bits, padding, rounding):
    rng = np.random.default_rng(2)
    layer = make_layer(rng, padding=padding, zero_point=-5)
    pixels = make_pixels(rng, layer)
    matrices = winograd(tile_size, 3)
    on_input, on_weight = (rng.integers(0, 7, (matrices.n, matrices.n)) for _ in range(2))
    steps = (on_input, on_weight, 15 - on_input - on_weight)
    profile = Quantized(*(Narrowing(bits, shift, rounding) for shift in steps))
    wanted = GoldenModel(matrices, profile).run(layer, pixels)
    np.testing.assert_array_equal(layer_pixels(layer, matrices, profile, pixels), wanted)


@pytest.mark.parametrize("shift", [-31, -16, -9, -8, -4, -1, 0, 1])
def test_requantized(shift):
    rng = np.random.default_rng(3)
    bias = np.array([-(2**31), 2**31 - 1, -1, 0, 1, 1000, -1000])
    multiplier = np.array([2**30, 2**31 - 1, 2**30, 2**30, 0, 1518500250, 2**30 + 2**29])
    near = np.arange(-3000, 3000)
    sums = np.stack([np.append(near - b, rng.integers(-(2**31), 2**31, 500)) for b in bias])
    sums = np.clip(sums, -(2**31), 2**31 - 1).astype(np.float64)
    # Products that end in the middle between two pixels, and beside it.
    for limits in (FULL, (0, 127)):
        constants = Requantization(bias, multiplier, np.full(7, shift), -7, *limits)
        wanted = constants.apply(sums.T.astype(np.int64)).T
        np.testing.assert_array_equal(requantized(constants, sums), wanted)
        small = Requantization(bias[2:], multiplier[2:], np.full(5, shift), -7, *limits)
        exact = (sums[2:, :6000]).astype(np.float32)
        np.testing.assert_array_equal(requantized(small, exact), small.apply(exact.T.astype(np.int64)).T)


def test_shift_requantization():
    constants = ShiftRequantization(np.array([5, -5]), np.array([-4, -3]))
    sums = np.arange(-4000, 4000, dtype=np.float32).reshape(2, -1)
    np.testing.assert_array_equal(requantized(constants, sums), constants.apply(sums.T.astype(np.int64)).T)


def test_what_it_does_not_offer_is_said():
    rng = np.random.default_rng(4)
    layer = make_layer(rng)
    pixels = make_pixels(rng, layer)
    wrapping = Narrowing(8, 4, saturate=False)
    with pytest.raises(ValueError, match="use the golden model"):
        layer_pixels(layer, winograd(4, 3), Quantized(wrapping, wrapping, wrapping), pixels)
    with pytest.raises(ValueError, match="must have the shape"):
        layer_pixels(layer, winograd(4, 3), Exact(), pixels[:, 1:])
