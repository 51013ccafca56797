# amaranth: UnusedElaboratable=no
from dataclasses import replace

import numpy as np
import pytest
from random_layers import job_for, random_job, random_layer, random_pixels

from winohw.algorithm.geometry import ConvGeometry
from winohw.gateware.config import EngineConfig
from winohw.gateware.job import Job
from winohw.network.cost import layer_cost
from winohw.numerics.formats import Quantized
from winohw.numerics.golden import GoldenModel
from winohw.sim.layer import EngineSimulation
from winohw.synth.board import find_board

STATIONARY = {
    "datapath": "stationary",
    "weights": "host",
    "line_memory": "single",
    "dimension_bits": 8,
    "profile": Quantized.uniform(8),
}
ENGINES = {
    "F(2,3), fold 2, 16 products": EngineConfig(
        tile_size=2, fold=2, output_lanes=2, line_words=160, requantizer="shift", max_products=9 * 28, **STATIONARY
    ),
    "F(4,3), fold 3": EngineConfig(fold=3, line_words=200, **STATIONARY),
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


#: Cycles of the layer of docs/benchmarks.md on the engine of an iCEBreaker's bitstream.
SMALL_PART = 283_694


def on_a_small_part():
    """The engine of the bitstream, and the layer: 28×28, 32 to 32 channels."""
    return find_board("icebreaker-int8").config, random_layer(
        np.random.default_rng(0), ConvGeometry(28, 28, 32, 32, 3), "shift"
    )


def test_layer_of_the_benchmarks():
    config, layer = on_a_small_part()
    job = Job(config, layer, profile=Quantized.uniform(8, 1, 1, 7))
    assert (layer_cost(job).cycles, job.blocks) == (SMALL_PART, 1)


@pytest.mark.slow
def test_simulated_layer_of_the_benchmarks():
    config, layer = on_a_small_part()
    counting = replace(config, statistics=True)
    pixels = random_pixels(np.random.default_rng(1), layer)
    job = job_for(counting, layer, 1, pixels)
    run = EngineSimulation(counting).run(job, pixels)
    np.testing.assert_array_equal(run.pixels, GoldenModel(config.winograd(), job.profile).run(layer, pixels))
    assert run.cycles == SMALL_PART


def test_blocks():
    """As few as the line buffer allows, and alike."""
    config = ENGINES["F(2,3), fold 2, 16 products"]
    layer = random_layer(np.random.default_rng(0), ConvGeometry(14, 8, 4, 3, 3), "shift")
    job = Job(config, layer, profile=Quantized.uniform(8, 1, 1, 7))
    # Five slots, one of which is needed for what comes next.
    assert (job.slots, job.total_rows, job.blocks, job.block_rows) == (5, 7, 2, 4)


def test_no_limit():
    job, _ = random_job(np.random.default_rng(2), ENGINES["F(4,3), fold 3"], largest=8)
    with pytest.raises(ValueError, match=r"^the cost of a stationary engine is known without a limit only, not 2$"):
        layer_cost(job, weight_bandwidth=2)
