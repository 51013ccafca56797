import numpy as np
import pytest

from winohw.algorithm.geometry import ConvGeometry
from winohw.numerics.direct import direct_convolution


def definition(pixels, weights, stride, padding, pad_value):
    """The sum of the docstring, in Python integers."""
    images, height, width, channels = pixels.shape
    filters, kernel, _, _ = weights.shape
    geometry = ConvGeometry(height, width, channels, filters, kernel, stride, padding)
    top, _, left, _ = geometry.pads

    def pixel(image, row, column, channel):
        inside = 0 <= row < height and 0 <= column < width
        return int(pixels[image, row, column, channel]) if inside else pad_value

    result = np.zeros((images, geometry.out_height, geometry.out_width, filters), dtype=object)
    for image, i, j, k in np.ndindex(result.shape):
        result[image, i, j, k] = sum(
            int(weights[k, u, v, c]) * pixel(image, stride * i + u - top, stride * j + v - left, c)
            for u, v, c in np.ndindex(kernel, kernel, channels)
        )
    return result


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
def test_equals_the_definition(kernel, stride):
    rng = np.random.default_rng(kernel + 10 * stride)
    for padding in ("same", "valid", (2, 0, 1, 3)):
        height, width = rng.integers(max(kernel - 1, 1), kernel + 5, size=2) + (padding == "valid")
        pixels = rng.integers(-128, 128, size=(2, height, width, 2)).astype(np.int8)
        weights = rng.integers(-128, 128, size=(3, kernel, kernel, 2)).astype(np.int8)
        sums = direct_convolution(pixels, weights, stride, padding, -7)
        assert sums.dtype == np.int32
        np.testing.assert_array_equal(sums, definition(pixels, weights, stride, padding, -7))


def test_single_pixel_image():
    pixels, weights = np.full((1, 1, 1, 1), -128, np.int8), np.full((1, 3, 3, 1), -128, np.int8)
    assert direct_convolution(pixels, weights).item() == 2**14
    assert direct_convolution(pixels, weights, pad_value=-128).item() == 9 * 2**14


def test_greatest_sum_that_fits():
    weights = np.full((1, 1, 1, 2**17), -128, np.int8)
    pixels = np.full((1, 1, 1, 2**17), 127, np.int8)
    assert direct_convolution(pixels, weights).item() == -127 * 2**24
    pixels[...] = -128
    with pytest.raises(ValueError, match="Sums of 1×1×131072 products do not fit 32 bits"):
        direct_convolution(pixels, weights)


@pytest.mark.parametrize(
    ("pixels", "weights", "pad_value", "error", "message"),
    [
        (np.zeros((1, 4, 4, 1), int), np.zeros((1, 3, 3, 1), np.int8), 0, TypeError, "pixels must be int8, not int64"),
        (np.zeros((1, 4, 4, 1), np.int8), np.zeros((1, 3, 3, 1)), 0, TypeError, "weights must be int8, not float64"),
        (np.zeros((4, 4, 1), np.int8), np.zeros((1, 3, 3, 1), np.int8), 0, ValueError, r"axes \[N, H, W, C\]"),
        (np.zeros((1, 4, 4, 2), np.int8), np.zeros((1, 3, 3, 1), np.int8), 0, ValueError, "do not fit pixels"),
        (np.zeros((1, 4, 4, 1), np.int8), np.zeros((1, 3, 2, 1), np.int8), 0, ValueError, "do not fit pixels"),
        (np.zeros((1, 4, 4, 1), np.int8), np.zeros((1, 3, 3, 1), np.int8), 128, ValueError, "-128 and 127, not 128"),
    ],
)
def test_errors(pixels, weights, pad_value, error, message):
    with pytest.raises(error, match=message):
        direct_convolution(pixels, weights, pad_value=pad_value)
