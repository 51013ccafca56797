import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from winohw.algorithm.geometry import ConvGeometry, Pads


def convolve(image, weights, stride=1):
    """Definition of the layer without padding: (H, W, C) and (K, r, r, C) to (H', W', K)."""
    _, kernel, _, _ = weights.shape
    height, width = ((size - kernel) // stride + 1 for size in image.shape[:2])
    out = np.empty((height, width, len(weights)), np.int64)
    for row, column in np.ndindex(height, width):
        window = image[row * stride : row * stride + kernel, column * stride : column * stride + kernel]
        out[row, column] = (weights.astype(np.int64) * window).sum(axis=(1, 2, 3))
    return out


paddings = st.one_of(st.sampled_from(["same", "valid"]), st.tuples(*[st.integers(0, 4)] * 4))


@st.composite
def geometries(draw, largest=9):
    sizes = st.integers(1, largest)
    values = [draw(sizes), draw(sizes), draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 7))]
    try:
        return ConvGeometry(*values, stride=draw(st.integers(1, 3)), padding=draw(paddings))
    except ValueError:  # the kernel does not fit the image
        assume(False)


# What TensorFlow Lite gives: size, kernel, stride, outputs, padding before and after.
@pytest.mark.parametrize(
    ("size", "kernel", "stride", "outputs", "before", "after"),
    [
        (56, 3, 1, 56, 1, 1),
        (224, 3, 2, 112, 0, 1),
        (225, 3, 2, 113, 1, 1),
        (224, 7, 2, 112, 2, 3),
        (5, 2, 1, 5, 0, 1),
        (6, 4, 1, 6, 1, 2),
        (7, 1, 2, 4, 0, 0),
        (1, 5, 1, 1, 2, 2),
        (8, 1, 3, 3, 0, 0),
    ],
)
def test_same_padding(size, kernel, stride, outputs, before, after):
    geometry = ConvGeometry(size, 2 * size, 1, 1, kernel, stride)
    assert geometry.out_height == outputs
    assert geometry.pads[:2] == (before, after)
    turned = ConvGeometry(2 * size, size, 1, 1, kernel, stride)
    assert turned.out_width == outputs
    assert turned.pads[2:] == (before, after)


def test_valid_padding():
    geometry = ConvGeometry(7, 8, 3, 4, 3, stride=2, padding="valid")
    assert geometry.pads == Pads(0, 0, 0, 0)
    assert (geometry.out_height, geometry.out_width) == (3, 3)


def test_counts_of_a_residual_block():
    geometry = ConvGeometry(56, 56, 64, 64, 3)
    assert geometry.macs == 115_605_504
    assert geometry.tiles(4) == 14 * 14
    assert geometry.macs == 4 * geometry.multiplications(4)
    assert geometry.macs == geometry.multiplications(1)
    assert ConvGeometry(57, 53, 1, 1, 3).tiles(4) == 15 * 14


@pytest.mark.parametrize(
    ("kernel", "effective", "phases", "tile_size", "saving"), [(3, 2, 4, 5, 1.5625), (7, 4, 4, 3, 3.0625)]
)
def test_polyphase_saving(kernel, effective, phases, tile_size, saving):
    geometry = ConvGeometry(120, 120, 1, 1, kernel, stride=2)
    assert geometry.effective_kernel == effective
    assert len(geometry.phases) == phases
    assert geometry.macs / geometry.multiplications(tile_size) == saving


def test_strided_pointwise_kernel_has_one_phase():
    geometry = ConvGeometry(9, 9, 5, 1, 1, stride=2)
    assert geometry.phases == ((0, 0),)
    assert geometry.effective_channels == 5


@settings(deadline=None)
@given(geometries(largest=40))
def test_padding_properties(geometry):
    pads = geometry.pads
    if geometry.padding == "same":
        assert geometry.out_height == -(-geometry.height // geometry.stride)
        assert geometry.out_width == -(-geometry.width // geometry.stride)
        assert 0 <= pads.bottom - pads.top <= 1
        assert 0 <= pads.right - pads.left <= 1
    elif geometry.padding != "valid":
        assert pads == geometry.padding
    for outputs, size in (
        (geometry.out_height, geometry.padded_height),
        (geometry.out_width, geometry.padded_width),
    ):
        last = (outputs - 1) * geometry.stride + geometry.kernel
        assert last <= size < last + geometry.stride or geometry.padding == "same"


@settings(deadline=None)
@given(geometries(largest=40), st.integers(1, 6))
def test_tiles_cover_the_output_once(geometry, tile_size):
    for tiles, outputs in (
        (geometry.tile_rows(tile_size), geometry.out_height),
        (geometry.tile_columns(tile_size), geometry.out_width),
    ):
        assert (tiles - 1) * tile_size < outputs <= tiles * tile_size


@settings(deadline=None)
@given(geometries(), st.integers(-128, 127), st.integers(0, 2**32 - 1))
def test_polyphase_equals_strided_convolution(geometry, pad_value, seed):
    rng = np.random.default_rng(seed)
    image = rng.integers(-128, 128, (geometry.height, geometry.width, geometry.channels), np.int8)
    shape = (geometry.filters, geometry.kernel, geometry.kernel, geometry.channels)
    weights = rng.integers(-128, 128, shape, np.int8)
    top, bottom, left, right = geometry.pads
    padded = np.pad(image, ((top, bottom), (left, right), (0, 0)), constant_values=pad_value)
    split_image = geometry.polyphase_input(image, pad_value)
    split_weights = geometry.polyphase_weights(weights)
    assert split_image.dtype == np.int8
    assert split_weights.dtype == np.int8
    np.testing.assert_array_equal(convolve(split_image, split_weights), convolve(padded, weights, geometry.stride))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"height": 0}, ValueError, "Height must be at least 1, not 0"),
        ({"filters": 2.0}, TypeError, "Filters must be an integer, not 2.0"),
        ({"kernel": True}, TypeError, "Kernel must be an integer, not True"),
        ({"stride": -1}, ValueError, "Stride must be at least 1, not -1"),
        (
            {"padding": "full"},
            ValueError,
            "Padding must be 'same', 'valid' or (top, bottom, left, right), not 'full'",
        ),
        ({"padding": 1}, TypeError, "Padding must be 'same', 'valid' or (top, bottom, left, right), not 1"),
        (
            {"padding": (0, 1, 2)},
            TypeError,
            "Padding must be 'same', 'valid' or (top, bottom, left, right), not (0, 1, 2)",
        ),
        ({"padding": (0, 0, -1, 0)}, ValueError, "Padding must be at least 0, not -1"),
        (
            {"height": 2, "padding": "valid"},
            ValueError,
            "A kernel of 3 does not fit an image of 2×8 pixels with its padding",
        ),
    ],
)
def test_bad_parameters(arguments, error, message):
    good = {"height": 8, "width": 8, "channels": 1, "filters": 1, "kernel": 3}
    with pytest.raises(error) as info:
        ConvGeometry(**(good | arguments))
    assert str(info.value) == message


def test_bad_arrays():
    geometry = ConvGeometry(4, 5, 2, 3, 3)
    with pytest.raises(ValueError, match=r"^Weights must have the shape \(3, 3, 3, 2\), not \(2, 3, 3, 3\)$"):
        geometry.polyphase_weights(np.zeros((2, 3, 3, 3), np.int8))
    with pytest.raises(ValueError, match=r"^Input must have the shape \(4, 5, 2\), not \(5, 4, 2\)$"):
        geometry.polyphase_input(np.zeros((5, 4, 2), np.int8))
    with pytest.raises(ValueError, match=r"^Padding value must fit int8, not 200$"):
        geometry.polyphase_input(np.zeros((4, 5, 2), np.int8), 200)
