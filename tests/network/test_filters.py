"""The filter bank and layers from files."""

import numpy as np
import pytest

from winohw.network.filters import FILTERS, filter_layer, load_layer


def _direct(levels: np.ndarray, name: str, shift_only: bool) -> np.ndarray:
    """A filter in grey levels, straight from its definition; padded with black. TFLite rounds twice."""
    entry = FILTERS[name]
    padded = np.pad(levels.astype(np.int64), 1)
    height, width = levels.shape
    total = (
        sum(entry.kernel[i][j] * padded[i : i + height, j : j + width] for i in range(3) for j in range(3))
        + entry.offset * entry.divisor
    )
    divisor = entry.divisor
    if not shift_only and divisor > 1:
        total, divisor = (total + 1) // 2, divisor // 2  # by a multiplier of one half, ties up
        total -= (total < 0) & (divisor > 1)  # then ties away from zero
    return np.clip((total + divisor // 2) // divisor, 0, 255)


@pytest.mark.parametrize("shift_only", [False, True])
def test_filters_are_what_they_are_called(shift_only: bool) -> None:
    levels = np.random.default_rng(1).integers(0, 256, (9, 11, 2))
    pixels = (levels - 128).astype(np.int8)
    names = list(FILTERS)
    layer = filter_layer(names, 9, 11, 2, shift_only=shift_only)
    output = layer.reference(pixels[None])[0].astype(np.int64) + 128
    for f, name in enumerate(names):
        for c in range(2):
            expected = _direct(levels[:, :, c], name, shift_only)
            np.testing.assert_array_equal(output[:, :, 2 * f + c], expected)


@pytest.mark.parametrize("name", ["blur", "sharpen"])
def test_flat_image_stays_flat(name: str) -> None:
    layer = filter_layer([name], 8, 8, 1)
    flat = np.full((1, 8, 8, 1), 23, np.int8)
    np.testing.assert_array_equal(layer.reference(flat)[0, 1:-1, 1:-1], flat[0, 1:-1, 1:-1])


def test_unknown_filter_is_named() -> None:
    with pytest.raises(ValueError, match="there is no filter 'sepia'; the bank has blur, sharpen"):
        filter_layer(["sepia"], 4, 4, 1)
    with pytest.raises(ValueError, match="at least one filter"):
        filter_layer([], 4, 4, 1)


def test_layer_from_file(tmp_path) -> None:
    rng = np.random.default_rng(2)
    weights = rng.integers(-128, 128, (4, 5, 5, 3)).astype(np.int8)
    path = tmp_path / "layer.npz"
    np.savez(path, weights=weights, scale=0.01, stride=2, input_zero_point=3)
    layer = load_layer(path, 20, 30)
    assert (layer.geometry.out_height, layer.geometry.out_width, layer.input_zero_point) == (10, 15, 3)
    np.testing.assert_array_equal(layer.weights, weights)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"bias": np.zeros(3)}, "has no array 'weights'"),
        ({"weights": np.zeros((2, 3, 3, 1))}, "must be int8"),
        ({"weights": np.zeros((2, 3, 5, 1), np.int8)}, "must be int8"),
        ({"weights": np.zeros((2, 3, 3, 1), np.int8), "stide": 2}, "unknown array 'stide'"),
        ({"weights": np.zeros((2, 3, 3, 1), np.int8), "padding": "reflect"}, "Padding must be"),
        ({"weights": np.zeros((2, 3, 3, 1), np.int8), "scale": -1.0}, "not negative"),
    ],
)
def test_bad_files_are_refused(tmp_path, arrays, message: str) -> None:
    path = tmp_path / "bad.npz"
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=message):
        load_layer(path, 8, 8)


def test_no_archive_at_all(tmp_path) -> None:
    path = tmp_path / "text.npz"
    path.write_text("no archive")
    with pytest.raises(ValueError, match=r"cannot be read as \.npz"):
        load_layer(path, 8, 8)
    with pytest.raises(ValueError, match=r"cannot be read as \.npz"):
        load_layer(tmp_path / "absent.npz", 8, 8)
