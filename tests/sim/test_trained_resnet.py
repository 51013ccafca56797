# amaranth: UnusedElaboratable=no
"""The packaged network, with real images, convolution by convolution through the simulated engine."""

from functools import cache

import numpy as np
import pytest

from winohw.gateware.config import EngineConfig
from winohw.gateware.job import Job
from winohw.numerics.formats import Quantized
from winohw.samples import cifar10_images, trained_resnet20
from winohw.sim.layer import EngineSimulation, compare
from winohw.train.data import to_pixels
from winohw.train.evaluation import exactly
from winohw.train.integer import IntegerResNet

SIZES = {
    "fold": 6,
    "max_products": 9 * 128,
    "line_words": 3200,
    "max_tiles": 16,
    "drain_tiles": 2,
    "dimension_bits": 8,
}


@cache
def network(engine: str) -> IntegerResNet:
    if engine == "exact":
        return exactly(IntegerResNet.load(trained_resnet20()), 4)
    return IntegerResNet.load(trained_resnet20(quantized=True))


@cache
def config(engine: str) -> EngineConfig:
    """One engine for all nineteen layers."""
    if engine == "exact":  # F(4×4, 3×3), and F(5×5, 2×2) for the phases of the strided layers
        return EngineConfig(kernels=(2, 3), **SIZES)
    return EngineConfig(matrices=network(engine).convs[0].winograd, profile=Quantized.uniform(8), **SIZES)


#: The stem, a strided layer, and the widest one.
SOME = ("stem", "s2b1c1", "s3b3c2")


@cache
def simulation(engine: str) -> EngineSimulation:
    return EngineSimulation(config(engine), probe=True)


def check_convolutions(engine: str, image: int, names: tuple[str, ...] | None) -> list[str]:
    """Every stage of the engine is the golden model's, and the pixels are those that the next layer sees."""
    with np.load(cifar10_images()) as file:
        pixels = to_pixels(file["images"][image : image + 1])
    done = []
    for step in network(engine).convolutions(pixels):
        conv = step.conv
        if names is not None and conv.name not in names:
            continue
        job = Job(config(engine), conv.layer, profile=conv.profile if engine == "8 bits" else None)
        run = simulation(engine).run(job, step.pixels_in)
        assert compare(run, step.pixels_in) is None, conv.name
        np.testing.assert_array_equal(run.pixels, step.pixels_out, err_msg=conv.name)
        if engine == "exact":
            np.testing.assert_array_equal(run.pixels, conv.layer.reference(step.pixels_in), err_msg=conv.name)
        done.append(conv.name)
    return done


@pytest.mark.parametrize("engine", ["exact", "8 bits"])
def test_some_convolutions(engine):
    assert check_convolutions(engine, 0, SOME) == list(SOME)


@pytest.mark.slow
@pytest.mark.parametrize("image", [1, 2])
@pytest.mark.parametrize("engine", ["exact", "8 bits"])
def test_every_convolution(engine, image):
    assert len(check_convolutions(engine, image, None)) == 19
