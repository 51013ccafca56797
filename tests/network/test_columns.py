import numpy as np
import pytest

from winohw.algorithm.geometry import ConvGeometry
from winohw.gateware.config import EngineConfig
from winohw.gateware.job import UnsupportedLayer
from winohw.network.columns import Columns, strips_of
from winohw.network.rearrange import Arrangement
from winohw.numerics.layer import ConvLayer
from winohw.numerics.requantize import ShiftRequantization


def drawn_layer(rng, geometry):
    weights = rng.integers(-128, 128, (geometry.filters, geometry.kernel, geometry.kernel, geometry.channels))
    zeros = np.zeros(geometry.filters, np.int64)
    return ConvLayer(geometry, weights.astype(np.int8), ShiftRequantization(zeros, zeros - 9, 3), input_zero_point=-7)


@pytest.mark.parametrize("padding", ["same", "valid", (0, 2, 3, 1)])
@pytest.mark.parametrize(("width", "strip"), [(1, 1), (17, 1), (17, 4), (17, 16), (17, 100), (64, 8), (9, 7)])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_results_are_the_same(kernel, width, strip, padding):
    rng = np.random.default_rng(width * 7 + strip)
    if padding == "valid" and width < kernel:
        width += kernel
    geometry = ConvGeometry(6, width, 2, 3, kernel, 1, padding)
    layer = drawn_layer(rng, geometry)
    pixels = rng.integers(-128, 128, (2, 6, width, 2)).astype(np.int8)
    columns = Columns(geometry, 2, strip)
    arrangement = Arrangement(geometry, 2, (columns,))
    cut = arrangement.pixels(pixels, layer.input_zero_point)
    assert cut.shape == (arrangement.images, 6, strip + kernel - 1, 2)
    assert columns.strips == -(-geometry.out_width // strip)
    result = arrangement.results(arrangement.layer(layer).reference(cut))
    np.testing.assert_array_equal(result, layer.reference(pixels))


def test_bad_strips():
    with pytest.raises(ValueError, match=r"^only layers of stride 1 are cut into strips, not of stride 2$"):
        Columns(ConvGeometry(8, 8, 1, 1, 3, 2), 1, 4)
    with pytest.raises(ValueError, match=r"^width must be at least 1, not 0$"):
        Columns(ConvGeometry(8, 8, 1, 1, 3), 1, 0)


CONFIG = EngineConfig(tile_size=2, max_tiles=8, line_words=64, requantizer="shift", dimension_bits=6, max_products=99)


def test_as_few_strips_as_fit():
    rng = np.random.default_rng(1)
    narrow = drawn_layer(rng, ConvGeometry(6, 16, 2, 3, 3))
    arrangement, jobs = strips_of(CONFIG, narrow)
    assert (arrangement.steps, len(jobs), jobs[0].images) == ((), 1, 1)
    wide = drawn_layer(rng, ConvGeometry(6, 17, 2, 3, 3))
    arrangement, jobs = strips_of(CONFIG, wide)
    assert (str(arrangement), [job.images for job in jobs]) == ("2 strips", [2])
    # Twice 31 rows of tiles are more than the engine counts: one job after the other.
    high = drawn_layer(rng, ConvGeometry(50, 40, 2, 3, 3))
    arrangement, jobs = strips_of(CONFIG, high, images=2)
    assert (arrangement.images, [job.images for job in jobs]) == (6, [2, 2, 2])


def test_what_no_strip_helps():
    rng = np.random.default_rng(1)
    with pytest.raises(UnsupportedLayer, match="input channels are more than this engine's"):
        strips_of(CONFIG, drawn_layer(rng, ConvGeometry(6, 40, 40, 3, 3)))
    with pytest.raises(UnsupportedLayer, match="needs kernels of"):
        strips_of(CONFIG, drawn_layer(rng, ConvGeometry(6, 40, 2, 3, 7, 1)))
