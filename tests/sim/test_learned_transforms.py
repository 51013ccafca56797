# amaranth: UnusedElaboratable=no
"""An engine with learned F(4,3) matrices, a layer of the packaged network, real activations."""

import numpy as np

from winohw.algorithm.toomcook import Winograd, winograd
from winohw.gateware.config import EngineConfig
from winohw.gateware.job import Job
from winohw.numerics.calibrate import calibrate
from winohw.numerics.formats import Quantized
from winohw.samples import cifar10_images, trained_resnet20
from winohw.sim.layer import EngineSimulation, compare
from winohw.train.data import to_pixels
from winohw.train.integer import IntegerResNet

_FRACTION_BITS = 4


def learned(change: int) -> Winograd:
    """F(4,3) in multiples of 1/16, each entry up to ``change`` of them away from Toom-Cook's."""
    rng = np.random.default_rng(1)
    start = winograd(4, 3)
    bt, g, at = (
        (matrix << _FRACTION_BITS) + rng.integers(-change, change + 1, matrix.shape)
        for matrix in (start.bt, start.g, start.at)
    )
    shifts = (_FRACTION_BITS,) * 3
    return Winograd(4, 3, None, bt, g, at, start.divisor << 3 * _FRACTION_BITS, shifts)


def test_a_learned_engine_is_the_golden_model():
    matrices = learned(5)
    assert not matrices.is_exact()
    config = EngineConfig(
        matrices=matrices,
        profile=Quantized.uniform(8),
        fold=6,
        max_products=9 * 64,
        line_words=1600,
        max_tiles=16,
        drain_tiles=2,
        dimension_bits=8,
    )
    with np.load(cifar10_images()) as file:
        pixels = to_pixels(file["images"][:1])
    steps = IntegerResNet.load(trained_resnet20()).convolutions(pixels)
    step = next(step for step in steps if step.conv.name == "s3b3c2")
    layer = step.conv.layer
    profile = calibrate(matrices, layer, step.pixels_in, (8, 8, 8), max_shift=min(config.max_shifts))
    job = Job(config, layer, profile=profile)
    run = EngineSimulation(config, probe=True).run(job, step.pixels_in)
    assert compare(run, step.pixels_in) is None
    # Such matrices are still near a convolution: the pixels are like those of the exact layer.
    assert np.corrcoef(run.pixels.ravel(), step.pixels_out.ravel())[0, 1] > 0.5
