# amaranth: UnusedElaboratable=no
from dataclasses import replace

import numpy as np
import pytest
from random_layers import random_job, random_layer

from winohw.algorithm.geometry import ConvGeometry
from winohw.gateware.config import EngineConfig
from winohw.gateware.descriptor import LayerError
from winohw.gateware.job import Job
from winohw.sim.layer import EngineSimulation, LayerRefused, compare
from winohw.sim.stalls import Stalls

COMPACT = {"datapath": "compact", "weights": "host", "dimension_bits": 8}
#: Small memories, so that every kind of wait occurs. Each engine is compiled once, by its own test.
ENGINES = {
    "F(2,3), fold 2": EngineConfig(tile_size=2, fold=2, line_words=80, max_tiles=16, **COMPACT),
    "F(2,3), fold 4, one port": EngineConfig(
        tile_size=2, fold=4, line_words=200, line_memory="single", max_tiles=7, requantizer="shift", **COMPACT
    ),
    "F(4,3), fold 6, one port": EngineConfig(
        fold=6, line_words=200, line_memory="single", max_tiles=9, requantizer="shift", family="ice40", **COMPACT
    ),
    "direct 3x3, fold 3": EngineConfig(tile_size=1, fold=3, line_words=330, max_tiles=20, **COMPACT),
}
LAYERS = 14  # of each engine
STALLS = ({}, {"default": 0.3}, {"pixels": 0.95}, {"weights": 0.95}, {"o": 0.97}, {"default": 0.3, "o": 0.9})


def check_run(run, pixels):
    """Every stage is the golden model's, the result direct convolution's, and the counters agree with the job."""
    job = run.job
    assert compare(run, pixels) is None
    np.testing.assert_array_equal(run.pixels, job.layer.reference(pixels))
    assert run.busy == job.array_chunks()
    assert run.cycles > run.busy + run.wait_pixels + run.wait_weights + run.wait_drain + 2 * job.blocks


@pytest.mark.parametrize("name", ENGINES)
def test_drawn_layers(name):
    config = ENGINES[name]
    simulation = EngineSimulation(config, probe=True)
    for value in (-128, 127):
        layer = random_layer(np.random.default_rng(0), ConvGeometry(5, 7, 5, 3, 3), config.requantizer)
        layer = replace(layer, weights=np.full((3, 3, 3, 5), value, np.int8))
        pixels = np.full((2, *layer.input_shape), -128, np.int8)
        check_run(simulation.run(Job(config, layer, 2), pixels), pixels)
    waits = np.zeros(3, int)
    for seed in range(LAYERS):
        job, pixels = random_job(np.random.default_rng(seed), config, largest=12)
        run = simulation.run(job, pixels, stalls=Stalls(**STALLS[seed % len(STALLS)], seed=seed))
        check_run(run, pixels)
        waits += run.wait_pixels > 0, run.wait_weights > 0, run.wait_drain > 0
    assert waits.all()


def test_refused_descriptor():
    config = ENGINES["F(2,3), fold 2"]
    job, pixels = random_job(np.random.default_rng(3), config, largest=12)
    simulation = EngineSimulation(config)

    class Wrong(Job):
        def descriptor(self):
            words = super().descriptor()
            words[1] ^= 1 << 16  # the stride
            return words

    with pytest.raises(LayerRefused) as error:
        simulation.run(Wrong(config, job.layer, job.images), pixels)
    assert error.value.code == LayerError.UNSUPPORTED
    check = simulation.run(job, pixels)
    np.testing.assert_array_equal(check.pixels, job.layer.reference(pixels))


def test_without_counts_and_checks():
    """What a small part can do without changes nothing else."""
    config = replace(ENGINES["F(4,3), fold 6, one port"], statistics=False, descriptor_checks=False)
    simulation = EngineSimulation(config)
    for seed in range(3):
        job, pixels = random_job(np.random.default_rng(seed), config, largest=8)
        run = simulation.run(job, pixels)
        np.testing.assert_array_equal(run.pixels, job.layer.reference(pixels))
        assert (run.cycles, run.busy, run.wait_pixels, run.wait_weights, run.wait_drain) == (0, 0, 0, 0, 0)
