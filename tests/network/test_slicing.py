import numpy as np
import pytest

from winohw.algorithm.geometry import ConvGeometry
from winohw.gateware.config import EngineConfig
from winohw.gateware.job import UnsupportedLayer
from winohw.network.slicing import sliced_jobs
from winohw.numerics.layer import ConvLayer
from winohw.numerics.requantize import ShiftRequantization


def drawn_layer(rng, geometry):
    weights = rng.integers(-128, 128, (geometry.filters, geometry.kernel, geometry.kernel, geometry.channels))
    zeros = np.zeros(geometry.filters, np.int64)
    return ConvLayer(geometry, weights.astype(np.int8), ShiftRequantization(zeros, zeros - 9, 3), input_zero_point=-7)


CONFIG = EngineConfig(tile_size=2, max_tiles=8, line_words=64, requantizer="shift", dimension_bits=6, max_products=99)


def test_as_few_slices_as_fit():
    rng = np.random.default_rng(1)
    narrow = drawn_layer(rng, ConvGeometry(6, 16, 2, 3, 3))
    arrangement, jobs = sliced_jobs(CONFIG, narrow)
    assert (arrangement.steps, len(jobs), jobs[0].images) == ((), 1, 1)
    wide = drawn_layer(rng, ConvGeometry(6, 17, 2, 3, 3))
    arrangement, jobs = sliced_jobs(CONFIG, wide)
    assert (str(arrangement), [job.images for job in jobs]) == ("2 slices", [2])
    # Twice 31 rows of tiles are more than the engine counts: one job after the other.
    high = drawn_layer(rng, ConvGeometry(50, 40, 2, 3, 3))
    arrangement, jobs = sliced_jobs(CONFIG, high, images=2)
    assert (arrangement.images, [job.images for job in jobs]) == (6, [2, 2, 2])


def test_too_high():
    """More rows than the engine counts: cut there, and in columns as well where need be."""
    rng = np.random.default_rng(1)
    high = drawn_layer(rng, ConvGeometry(64, 16, 2, 3, 3))
    arrangement, jobs = sliced_jobs(CONFIG, high)
    assert (str(arrangement), arrangement.geometry.height, [job.images for job in jobs]) == ("2 slices", 34, [2])
    both = drawn_layer(rng, ConvGeometry(70, 40, 2, 3, 3))
    arrangement, jobs = sliced_jobs(CONFIG, both)
    assert arrangement.images == 6
    pixels = rng.integers(-128, 128, (1, 70, 40, 2)).astype(np.int8)
    parts = arrangement.layer(both).reference(arrangement.pixels(pixels, both.input_zero_point))
    np.testing.assert_array_equal(arrangement.results(parts), both.reference(pixels))


def test_what_no_slice_helps():
    rng = np.random.default_rng(1)
    with pytest.raises(UnsupportedLayer, match="input channels are more than this engine's"):
        sliced_jobs(CONFIG, drawn_layer(rng, ConvGeometry(6, 40, 40, 3, 3)))
    with pytest.raises(UnsupportedLayer, match="needs kernels of"):
        sliced_jobs(CONFIG, drawn_layer(rng, ConvGeometry(6, 40, 2, 3, 7, 1)))
