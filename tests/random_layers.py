"""Random layers and images for tests of whole engines."""

from dataclasses import replace

import numpy as np

from winohw.algorithm.geometry import ConvGeometry
from winohw.gateware.config import EngineConfig
from winohw.gateware.job import Job, UnsupportedLayer
from winohw.numerics.calibrate import calibrate
from winohw.numerics.layer import ConvLayer
from winohw.numerics.requantize import Requantization, ShiftRequantization, quantize_multiplier


def random_layer(rng, geometry, requantizer="tflite"):
    """A layer whose output pixels spread over the whole range instead of saturating."""
    filters = geometry.filters
    weights = rng.integers(-128, 128, (filters, geometry.kernel, geometry.kernel, geometry.channels)).astype(np.int8)
    bias = rng.integers(-20000, 20000, filters)
    output_zero_point = int(rng.integers(-40, 40))
    clamp = {"act_min": int(rng.integers(-128, -90)), "act_max": int(rng.integers(90, 128))}
    spread = 74 * 74 * np.sqrt(geometry.channels * geometry.kernel**2)
    if requantizer == "shift":
        shifts = [-round(np.log2(spread / 50)) - int(step) for step in rng.integers(0, 2, filters)]
        requantization = ShiftRequantization(bias, shifts, output_zero_point, **clamp)
    else:
        scales = 50 / spread * 2.0 ** rng.uniform(-1, 1, filters)
        multiplier, shift = zip(*(quantize_multiplier(scale) for scale in scales.tolist()), strict=True)
        requantization = Requantization(bias, multiplier, shift, output_zero_point, **clamp)
    return ConvLayer(geometry, weights, requantization, int(rng.integers(-128, 128)))


def random_pixels(rng, layer, images=1):
    """Images (images, height, width, channels) int8, the extremes among them."""
    pixels = rng.integers(-128, 128, (images, *layer.input_shape))
    extremes = rng.choice([-128, 127], pixels.shape)
    return np.where(rng.random(pixels.shape) < 0.2, extremes, pixels).astype(np.int8)


def random_geometry(rng, kernels, largest=14, channels=7, filters=7):
    """Any shape, kernel, stride and padding that needs no larger kernel than those given."""
    while True:
        stride = int(rng.integers(1, 3))
        kernel = int(rng.integers(1, max(kernels) * stride + 1))
        height, width = rng.integers(1, largest + 1, 2).tolist()
        padding = [
            "same",
            "valid",
            tuple(rng.integers(0, kernel + 1, 4).tolist()),
        ][rng.integers(3)]
        sizes = int(rng.integers(1, channels + 1)), int(rng.integers(1, filters + 1))
        try:
            return ConvGeometry(height, width, *sizes, kernel, stride, padding)
        except ValueError:  # the kernel is larger than the padded image
            continue


def job_for(config: EngineConfig, layer, images=1, pixels=None, block_rows=None):
    """The layer's job; a quantized engine's shifts are calibrated to the pixels."""
    if not config.quantized:
        return Job(config, layer, images, block_rows=block_rows)
    # Which kernel it becomes does not depend on what the shifts are still to be made for.
    constants = replace(layer.requantization, bias=0 * layer.bias, shift=0 * layer.bias)
    plain = Job(config, replace(layer, requantization=constants, input_zero_point=0), images, config.profile)
    profile = calibrate(
        config.winograd(plain.kernel),
        replace(plain.engine_layer, input_zero_point=layer.input_zero_point),
        pixels,
        **config.calibration,
    )
    return Job(config, layer, images, profile, block_rows)


def random_job(rng, config: EngineConfig, **sizes):
    """Any job that the engine can run, and images for it."""
    while True:
        reach = (config.kernel_size,) if config.direct else config.kernels
        geometry = random_geometry(rng, reach, **sizes)
        layer = random_layer(rng, geometry, config.requantizer)
        images = int(rng.integers(1, 4))
        pixels = random_pixels(rng, layer, images)
        try:
            return job_for(config, layer, images, pixels), pixels
        except UnsupportedLayer:
            continue
