# amaranth: UnusedElaboratable=no
import itertools
import time

import numpy as np
import pytest
from random_layers import random_job, random_layer

from winohw.algorithm.geometry import ConvGeometry
from winohw.gateware.config import EngineConfig
from winohw.gateware.job import Job
from winohw.network.cost import layer_cost
from winohw.numerics.formats import Quantized
from winohw.sim.layer import EngineSimulation

SMALL = {"max_tiles": 16, "line_words": 256, "dimension_bits": 8}
#: Small buffers, so that every kind of wait occurs: a column and several a cycle, folded, direct, without queue.
ENGINES = {
    "F(2,3)": EngineConfig(tile_size=2, input_lanes=2, drain_tiles=8, requantizer_lanes=2, **SMALL),
    "direct": EngineConfig(tile_size=1, input_lanes=3, drain_tiles=4, **SMALL),
    "n = 4, kernels 1 to 3, fold 2": EngineConfig(
        tile_size=2, kernels=(1, 2, 3), fold=2, output_lanes=2, output_columns=2, drain_tiles=4, **SMALL
    ),
    "ice40, host weights": EngineConfig(
        tile_size=2, fold=2, weights="host", family="ice40", multiplier="lut", drain_tiles=4, **SMALL
    ),
}
LARGE = {
    "n = 6, kernels 1 to 4": EngineConfig(
        kernels=(1, 2, 3, 4), input_lanes=2, requantizer_lanes=4, output_columns=2, drain_tiles=8, **SMALL
    ),
    "n = 4, a tile a cycle": EngineConfig(
        tile_size=2,
        kernels=(1, 2, 3),
        input_lanes=2,
        output_lanes=2,
        requantizer_lanes=4,
        output_columns=4,
        drain_tiles=4,
        **SMALL,
    ),
    "F(4,3), 8 bits, fold 3": EngineConfig(
        profile=Quantized.uniform(8), fold=3, requantizer_lanes=2, drain_tiles=2, **SMALL
    ),
}
#: As on the largest board.
BOARD = EngineConfig(kernels=(1, 2, 3, 4), input_lanes=4, requantizer_lanes=3, output_columns=2)


def figures(run):
    """What the status beat tells; both kinds of waiting behind the pixels together, as they overlap."""
    return run.cycles, run.busy, run.wait_pixels, run.wait_weights + run.wait_drain


def check_drawn(config, layers):
    simulation = EngineSimulation(config)
    waits = np.zeros(3, int)
    for seed in range(layers):
        rng = np.random.default_rng(seed)
        channels, filters = rng.integers(1, 25, 2).tolist()
        job, pixels = random_job(rng, config, largest=14, channels=channels, filters=filters)
        run, cost = simulation.run(job, pixels), layer_cost(job)
        assert figures(cost) == figures(run), f"seed {seed}, {job.layer.geometry}, {job.images} images"
        assert cost.utilisation == run.utilisation
        assert cost.effective_macs_per_cycle == run.effective_macs_per_cycle
        waits += cost.wait_pixels > 0, cost.wait_weights > 0, cost.wait_drain > 0
    assert waits.all()


def board_job(geometry, images=1, config=BOARD, block_rows=None):
    return Job(config, random_layer(np.random.default_rng(0), geometry), images, block_rows=block_rows)


@pytest.mark.parametrize("name", ENGINES)
def test_equals_simulation(name):
    check_drawn(ENGINES[name], 80)


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_equals_simulation_of_larger_engines(name):
    check_drawn(LARGE[name], 80)


def test_repetitions_are_skipped_without_a_difference(monkeypatch):
    job = board_job(ConvGeometry(12, 20, 13, 90, 3), 2)
    quick = layer_cost(job)
    monkeypatch.setattr("winohw.network.cost._Weights.state", lambda self, now: (object(),))
    assert figures(layer_cost(job)) == figures(quick)


def test_large_layers_take_no_time():
    job = board_job(ConvGeometry(28, 28, 512, 512, 3))
    layer_cost(board_job(ConvGeometry(4, 4, 4, 4, 3)))
    start = time.process_time()
    cost = layer_cost(job)
    assert time.process_time() - start < 1
    waits = cost.wait_pixels + cost.wait_weights + cost.wait_drain
    # Two cycles pass between blocks; the last group has to leave.
    assert 0 < cost.cycles - cost.busy - waits - 2 * job.blocks < 1500


def test_bytes():
    job = board_job(ConvGeometry(8, 9, 5, 3, 3), 2, block_rows=2)
    cost = layer_cost(job)
    assert job.blocks == 2
    # 2 groups of 4 channels; each filter brings 9 bytes a kernel and 9 bytes of constants.
    assert cost.weight_bytes == 2 * 3 * (2 * 4 * 9 + 9)
    assert cost.pixel_bytes == 2 * 8 * 9 * 8
    assert cost.output_bytes == 2 * 8 * 9 * 3
    total = cost.weight_bytes + cost.pixel_bytes + cost.output_bytes
    assert cost.bytes_per_cycle == total / cost.cycles
    assert cost.busy == 4 * 3 * 2 * 3
    assert cost.utilisation == cost.busy * 5 / 8 / cost.cycles
    assert cost.effective_macs_per_multiplier == 2 * 8 * 9 * 3 * 5 * 9 / cost.cycles / 144


def test_weights_needed():
    job = board_job(ConvGeometry(56, 56, 64, 8, 3), block_rows=2)
    assert layer_cost(job).weight_bandwidth == 36 / 28
    short = board_job(ConvGeometry(8, 8, 64, 8, 3))
    assert short.block_rows * short.tile_columns == 4
    # Four kernels of three rows a group, a row a cycle.
    assert layer_cost(short).weight_bandwidth == 36 / 12


def test_limited_bandwidth():
    job = board_job(ConvGeometry(28, 28, 64, 32, 3), block_rows=2)
    free = layer_cost(job).cycles
    assert layer_cost(job, weight_bandwidth=100).cycles == free
    assert layer_cost(job, weight_bandwidth=3).cycles < 1.02 * free
    slow = [layer_cost(job, weight_bandwidth=bandwidth) for bandwidth in (2, 1.5, 1, 0.5, 1 / 3)]
    assert all(a.cycles < b.cycles for a, b in itertools.pairwise(slow))
    for cost, bandwidth in zip(slow[1:], (1.5, 1, 0.5, 1 / 3), strict=True):
        # The memory is the limit then, once there are pixels.
        assert 0.95 < (cost.cycles - cost.wait_pixels) * bandwidth / cost.weight_bytes < 1.01
    large = board_job(ConvGeometry(28, 28, 64, 32, 3), block_rows=4)
    assert layer_cost(large, weight_bandwidth=2).cycles < slow[0].cycles


def test_bad_bandwidth():
    job = board_job(ConvGeometry(8, 8, 4, 4, 3))
    with pytest.raises(ValueError, match=r"^weight_bandwidth must be above 0, not 0$"):
        layer_cost(job, weight_bandwidth=0)
