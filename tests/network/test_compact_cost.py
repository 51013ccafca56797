# amaranth: UnusedElaboratable=no
from dataclasses import replace

import numpy as np
import pytest
from random_layers import random_job, random_layer, random_pixels

from winohw.algorithm.geometry import ConvGeometry
from winohw.gateware.config import EngineConfig
from winohw.gateware.job import Job
from winohw.host.build_commands import overridden
from winohw.network.cost import layer_cost
from winohw.sim.layer import EngineSimulation
from winohw.synth.board import find_board

COMPACT = {"datapath": "compact", "weights": "host", "dimension_bits": 8}
ENGINES = {
    "F(2,3), fold 2": EngineConfig(tile_size=2, fold=2, line_words=80, max_tiles=16, **COMPACT),
    "F(2,3), fold 2, one port": EngineConfig(
        tile_size=2, fold=2, line_words=80, line_memory="single", max_tiles=16, requantizer="shift", **COMPACT
    ),
    "F(4,3), fold 6": EngineConfig(fold=6, line_words=200, max_tiles=9, **COMPACT),
    "F(4,3), fold 6, one port": EngineConfig(
        fold=6, line_words=200, line_memory="single", max_tiles=9, requantizer="shift", **COMPACT
    ),
}


def figures(run):
    return run.cycles, run.busy, run.wait_pixels, run.wait_weights, run.wait_drain


@pytest.mark.parametrize("name", ENGINES)
def test_equals_simulation(name):
    config = ENGINES[name]
    simulation = EngineSimulation(config)
    waits = np.zeros(3, int)
    for seed in range(50):
        rng = np.random.default_rng(seed)
        channels, filters = rng.integers(1, 25, 2).tolist()
        job, pixels = random_job(rng, config, largest=14, channels=channels, filters=filters)
        run, cost = simulation.run(job, pixels), layer_cost(job)
        assert figures(cost) == figures(run), f"seed {seed}, {job.layer.geometry}, {job.images} images"
        waits += cost.wait_pixels > 0, cost.wait_weights > 0, cost.wait_drain > 0
    assert waits.all()


def on_a_small_part(changes):
    """The engine of an iCEBreaker's bitstream, and the layer of docs/benchmarks.md: 28×28, 32 to 32 channels."""
    config = overridden(find_board("icebreaker"), changes).config
    return config, random_layer(np.random.default_rng(0), ConvGeometry(28, 28, 32, 32, 3), "shift")


SMALL_PART = [
    (471_721, {}),
    (355_544, {"tile": 4, "fold": 6, "dimension_bits": 7, "max_products": 288, "line_words": 8192}),
]


@pytest.mark.parametrize(("cycles", "changes"), SMALL_PART)
def test_layer_of_the_benchmarks(cycles, changes):
    config, layer = on_a_small_part(changes)
    assert layer_cost(Job(config, layer)).cycles == cycles


@pytest.mark.slow
@pytest.mark.parametrize(("cycles", "changes"), SMALL_PART)
def test_simulated_layer_of_the_benchmarks(cycles, changes):
    config, layer = on_a_small_part(changes)
    counting = replace(config, statistics=True)
    pixels = random_pixels(np.random.default_rng(1), layer)
    run = EngineSimulation(counting).run(Job(counting, layer), pixels)
    np.testing.assert_array_equal(run.pixels, layer.reference(pixels))
    assert run.cycles == cycles


def test_bytes():
    config = ENGINES["F(4,3), fold 6"]
    job, _ = random_job(np.random.default_rng(2), config, largest=8)
    cost = layer_cost(job)
    kernels = job.groups * job.output_groups * job.blocks
    assert cost.weight_bytes == kernels * 36 * 2 + job.output_groups * job.blocks * 9


def test_no_limit():
    job, _ = random_job(np.random.default_rng(2), ENGINES["F(4,3), fold 6"], largest=8)
    with pytest.raises(ValueError, match=r"^the cost of a compact engine is known without a limit only, not 2$"):
        layer_cost(job, weight_bandwidth=2)
