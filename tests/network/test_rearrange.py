import numpy as np
import pytest
from random_layers import random_layer, random_pixels

from winohw.algorithm.geometry import ConvGeometry
from winohw.network.rearrange import Arrangement, Mosaic, Phases, Slices, Strip


def check(steps, geometry, images, seed=0):
    """The arranged layer gives the layer's own results."""
    rng = np.random.default_rng(seed)
    layer = random_layer(rng, geometry)
    pixels = random_pixels(rng, layer, images)
    arrangement = Arrangement(geometry, images, steps)
    arranged = arrangement.pixels(pixels, layer.input_zero_point)
    assert arranged.shape == (arrangement.images, *arrangement.layer(layer).input_shape)
    results = arrangement.results(arrangement.layer(layer).reference(arranged))
    np.testing.assert_array_equal(results, layer.reference(pixels))
    return arrangement


@pytest.mark.parametrize(
    "geometry",
    [
        ConvGeometry(14, 13, 3, 5, 7, 2, (3, 3, 3, 3)),
        ConvGeometry(9, 8, 2, 3, 3, 2),
        ConvGeometry(8, 8, 2, 3, 3, 2, (1, 1, 1, 1)),
        ConvGeometry(7, 10, 3, 2, 1, 2, "valid"),
        ConvGeometry(5, 5, 1, 1, 2, 2, (0, 1, 2, 1)),
        ConvGeometry(11, 9, 2, 2, 5, 3),
    ],
)
def test_phases(geometry):
    arrangement = check((Phases(geometry, 2),), geometry, 2)
    assert arrangement.geometry.stride == 1
    assert arrangement.geometry.channels == geometry.effective_channels


def test_phases_of_resnet():
    geometry = ConvGeometry(224, 224, 3, 64, 7, 2, (3, 3, 3, 3))
    assert Phases(geometry, 1).geometry == ConvGeometry(115, 115, 12, 64, 4, 1, "valid")


@pytest.mark.parametrize(("images", "height", "width"), [(1, 12, 6), (3, 6, 36), (2, 1, 140), (3, 210, 1)])
def test_strip(images, height, width):
    geometry = ConvGeometry(7, 10, 3, 4, 1)
    arrangement = check((Strip(geometry, images, height, width),), geometry, images)
    assert (arrangement.images, arrangement.geometry.height, arrangement.geometry.width) == (1, height, width)


@pytest.mark.parametrize(
    ("images", "rows", "columns"), [(1, 1, 1), (4, 2, 2), (5, 2, 2), (3, 3, 1), (7, 1, 4), (1, 2, 3)]
)
@pytest.mark.parametrize("padding", ["same", "valid", (2, 0, 1, 3)])
def test_mosaic(images, rows, columns, padding):
    geometry = ConvGeometry(5, 4, 2, 3, 3, 1, padding)
    arrangement = check((Mosaic(geometry, images, rows, columns),), geometry, images)
    assert arrangement.images == -(-images // (rows * columns))


def test_mosaic_of_resnet():
    geometry = ConvGeometry(14, 14, 256, 256, 3, 1, (1, 1, 1, 1))
    mosaic = Mosaic(geometry, 4, 4, 1)
    assert mosaic.geometry.height == 4 * 15 - 1
    assert (geometry.tiles(4) * 4, mosaic.geometry.tiles(4)) == (64, 60)


@pytest.mark.parametrize("height", [None, 1, 2, 4])
@pytest.mark.parametrize("width", [1, 2, 4, 5, 9, 20])
@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize(
    "geometry",
    [
        ConvGeometry(5, 9, 2, 3, 3),
        ConvGeometry(5, 9, 2, 3, 3, 1, "valid"),
        ConvGeometry(4, 10, 1, 2, 2, 1, (0, 1, 3, 2)),
        ConvGeometry(6, 12, 2, 2, 3, 2),
        ConvGeometry(6, 11, 2, 2, 2, 3, "valid"),
    ],
)
def test_slices(geometry, images, width, height):
    arrangement = check((Slices(geometry, images, width, height),), geometry, images)
    rows = height or geometry.out_height
    assert arrangement.images == images * -(-geometry.out_width // width) * -(-geometry.out_height // rows)
    assert (arrangement.geometry.out_height, arrangement.geometry.out_width) == (rows, width)


def test_one_after_the_other():
    geometry = ConvGeometry(9, 9, 2, 3, 3, 2, (1, 1, 1, 1))
    phases = Phases(geometry, 5)
    arrangement = check((phases, Mosaic(phases.geometry, 5, 2, 2)), geometry, 5)
    assert str(arrangement) == "4 phases, mosaic 2×2"
    geometry = ConvGeometry(9, 9, 2, 3, 1, 2, "valid")
    phases = Phases(geometry, 3)
    arrangement = check((phases, Strip(phases.geometry, 3, 6, 18)), geometry, 3)
    assert str(arrangement) == "subsampled, strip 6×18"


def test_nothing_changed():
    geometry = ConvGeometry(5, 6, 2, 3, 3)
    arrangement = check((), geometry, 2)
    assert (arrangement.geometry, arrangement.images, str(arrangement)) == (geometry, 2, "")


def test_errors():
    strided, plain = ConvGeometry(8, 8, 2, 3, 3, 2), ConvGeometry(8, 8, 2, 3, 3)
    with pytest.raises(ValueError, match=r"^a layer of stride 1 has no phases$"):
        Phases(plain, 1)
    with pytest.raises(ValueError, match=r"^only 1x1 layers of stride 1 without padding make a strip, not "):
        Strip(plain, 1, 8, 8)
    with pytest.raises(ValueError, match=r"^9x14 pixels do not hold 128$"):
        Strip(ConvGeometry(8, 8, 2, 3, 1), 2, 9, 14)
    with pytest.raises(ValueError, match=r"^only layers of stride 1 make a mosaic, not "):
        Mosaic(strided, 2, 2, 1)
    with pytest.raises(ValueError, match=r"^mosaic 2×1 is made for 2 of .*, not 3 of "):
        Arrangement(plain, 3, (Mosaic(plain, 2, 2, 1),))
    with pytest.raises(ValueError, match=r"^a slice must be at least 1 column wide, not 0$"):
        Slices(plain, 1, 0)
    with pytest.raises(ValueError, match=r"^a slice must be at least 1 row high, not 0$"):
        Slices(plain, 1, 4, 0)
    layer = random_layer(np.random.default_rng(0), plain)
    with pytest.raises(ValueError, match=r"^the arrangement is for .*stride=2.*, not .*stride=1"):
        Arrangement(strided, 1).layer(layer)
