# amaranth: UnusedElaboratable=no
import numpy as np
import pytest
from random_layers import random_layer, random_pixels

from winohw.algorithm.geometry import ConvGeometry
from winohw.gateware.config import EngineConfig
from winohw.gateware.job import Job, UnsupportedLayer
from winohw.network.cost import layer_cost
from winohw.network.networks import network
from winohw.network.plan import plan_layer
from winohw.numerics.formats import Quantized

#: As on the largest board.
BOARD = EngineConfig(kernels=(1, 2, 3, 4), input_lanes=4, requantizer_lanes=3, output_columns=2)
SHAPES = {layer.name: layer.geometry for layer in network("resnet-18")}


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("conv1", "4 phases"),
        ("layer1.0.conv1", ""),
        ("layer2.0.downsample", "subsampled, strip"),
        ("layer3.0.conv2", "mosaic"),
        ("layer4.0.conv2", "mosaic"),
    ],
)
def test_layouts_of_resnet(name, layout):
    plan = plan_layer(BOARD, SHAPES[name], 4)
    assert str(plan.arrangement).startswith(layout)
    assert bool(str(plan.arrangement)) == bool(layout)
    plain = plan_layer(BOARD, SHAPES[name], 4, rearrange=False)
    assert plan.cycles <= plain.cycles
    assert plain.arrangement.steps == ()
    assert plan.macs == 4 * SHAPES[name].macs
    assert plan.cycles == plan.jobs * layer_cost(plan.cost.job).cycles


def test_images_too_wide_are_sliced():
    """Of many channels the line buffer holds too few tile rows, or none, of a whole image."""
    wide = ConvGeometry(28, 28, 512, 512, 3)
    plan, whole = plan_layer(BOARD, wide), plan_layer(BOARD, wide, rearrange=False)
    assert str(plan.arrangement).endswith(" slices")
    assert plan.cycles < 0.65 * whole.cycles
    direct = EngineConfig(tile_size=1, line_words=4096, max_tiles=1024)
    with pytest.raises(UnsupportedLayer):
        plan_layer(direct, ConvGeometry(32, 64, 64, 4, 3), rearrange=False)
    assert "slices" in str(plan_layer(direct, ConvGeometry(32, 64, 64, 4, 3)).arrangement)


def test_images_are_cut_only_where_it_pays():
    assert not plan_layer(BOARD, SHAPES["layer1.0.conv1"]).arrangement.steps


def test_batch_is_split_where_it_fits_better():
    # The line buffer holds four images of this layer: each job begins with all of them, without a row ahead.
    plan = plan_layer(BOARD, SHAPES["layer4.0.conv2"], 8, rearrange=False)
    assert (plan.jobs, plan.arrangement.images) == (2, 4)
    whole = layer_cost(Job(BOARD, random_layer(np.random.default_rng(0), SHAPES["layer4.0.conv2"]), 8))
    assert plan.cycles < whole.cycles


def test_larger_blocks_for_a_slow_memory():
    geometry = SHAPES["layer1.0.conv1"]
    tiles = [
        plan.cost.job.block_rows * plan.cost.job.tile_columns
        for plan in (plan_layer(BOARD, geometry, 2, weight_bandwidth=bandwidth) for bandwidth in (None, 2, 1))
    ]
    assert tiles == [14, 28, 56]


@pytest.mark.parametrize(
    "config", [BOARD, EngineConfig(kernels=(2, 3), profile=Quantized.uniform(8), requantizer="shift")]
)
@pytest.mark.parametrize("geometry", [ConvGeometry(9, 7, 3, 5, 4, 2), ConvGeometry(7, 7, 6, 3, 3)])
def test_job_of_a_layer(config, geometry):
    plan = plan_layer(config, geometry, 4)
    rng = np.random.default_rng(0)
    layer = random_layer(rng, geometry, config.requantizer)
    job = plan.job(layer, config.profile if config.quantized else None)
    assert (job.block_rows, job.images) == (plan.block_rows, plan.arrangement.images)
    assert layer_cost(job).cycles * plan.jobs == plan.cycles
    pixels = random_pixels(rng, layer, plan.arrangement.source_images)
    job.pixel_beats(plan.arrangement.pixels(pixels, layer.input_zero_point))


def test_layer_that_does_not_fit():
    with pytest.raises(UnsupportedLayer, match=r"^a 9x9 kernel with stride 1 needs kernels of 9, "):
        plan_layer(BOARD, ConvGeometry(20, 20, 3, 4, 9))
