# amaranth: UnusedElaboratable=no
from dataclasses import replace

import numpy as np
import pytest
from random_layers import job_for, random_job, random_layer

from winohw.algorithm.geometry import ConvGeometry
from winohw.gateware.config import EngineConfig
from winohw.numerics.formats import Narrowing, Quantized, Rounding
from winohw.numerics.golden import GoldenModel
from winohw.sim.layer import EngineSimulation, compare
from winohw.sim.stalls import Stalls

STATIONARY = {
    "datapath": "stationary",
    "weights": "host",
    "line_memory": "single",
    "requantizer": "shift",
    "dimension_bits": 8,
}
#: Small memories, so that every kind of wait occurs. Each engine is compiled once, by its own test.
ENGINES = {
    "F(2,3), fold 2, 16 products": EngineConfig(
        tile_size=2,
        fold=2,
        output_lanes=2,
        profile=Quantized.uniform(8),
        line_words=256,
        max_tiles=32,
        max_products=9 * 32,
        family="ice40",
        **STATIONARY,
    ),
    "F(4,3), fold 3, 6 bits, rounded down": EngineConfig(
        fold=3,
        profile=Quantized(*(Narrowing(bits, 0, Rounding.FLOOR) for bits in (6, 7, 10))),
        line_words=200,
        max_tiles=20,
        **STATIONARY | {"requantizer": "tflite"},
    ),
    "F(3,2), fold 2, 3 lanes": EngineConfig(
        tile_size=3,
        kernel_size=2,
        fold=2,
        output_lanes=3,
        profile=Quantized(Narrowing(8), Narrowing(6), Narrowing(12)),
        line_words=120,
        **STATIONARY,
    ),
}
LAYERS = 14  # of each engine
STALLS = ({}, {"default": 0.3}, {"pixels": 0.95}, {"weights": 0.95}, {"o": 0.97}, {"default": 0.3, "o": 0.9})


def check_run(run, pixels):
    """Every stage is the golden model's, and the counters agree with the job."""
    job = run.job
    assert compare(run, pixels) is None
    model = GoldenModel(job.config.winograd(job.kernel), job.profile)
    np.testing.assert_array_equal(run.pixels, model.run(job.engine_layer, pixels))
    assert run.busy == job.array_chunks()
    assert run.cycles > run.busy + run.wait_pixels + run.wait_weights + run.wait_drain + 2 * job.blocks


@pytest.mark.parametrize("name", ENGINES)
def test_drawn_layers(name):
    config = ENGINES[name]
    simulation = EngineSimulation(config, probe=True)
    kernel = config.kernel_size
    for value in (-128, 127):
        layer = random_layer(np.random.default_rng(0), ConvGeometry(5, 7, 5, 3, kernel), config.requantizer)
        layer = replace(layer, weights=np.full((3, kernel, kernel, 5), value, np.int8))
        pixels = np.random.default_rng(1).choice([-128, 127], (2, *layer.input_shape)).astype(np.int8)
        check_run(simulation.run(job_for(config, layer, 2, pixels), pixels), pixels)
    waits = np.zeros(3, int)
    for seed in range(LAYERS):
        job, pixels = random_job(np.random.default_rng(seed), config, largest=12)
        run = simulation.run(job, pixels, stalls=Stalls(**STALLS[seed % len(STALLS)], seed=seed))
        check_run(run, pixels)
        waits += run.wait_pixels > 0, run.wait_weights > 0, run.wait_drain > 0
    assert waits.all()


def test_many_channels():
    """Kernels of as many channels as the accumulators take, so that the store is full and turns around."""
    config = ENGINES["F(2,3), fold 2, 16 products"]
    simulation = EngineSimulation(config, probe=True)
    rng = np.random.default_rng(5)
    layer = random_layer(rng, ConvGeometry(4, 4, 32, 9, 3), config.requantizer)
    pixels = rng.integers(-128, 128, (1, *layer.input_shape)).astype(np.int8)
    for shift in (0, 1, 3):
        profile = Quantized.uniform(8, shift, 2, 14 - shift)
        job = replace(job_for(config, layer, 1, pixels), profile=profile)
        check_run(simulation.run(job, pixels), pixels)
