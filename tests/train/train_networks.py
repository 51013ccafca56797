"""Small networks in whole numbers, for the tests of the training side."""

import numpy as np

from winohw.algorithm.geometry import ConvGeometry
from winohw.algorithm.toomcook import winograd
from winohw.numerics.formats import Narrowing, Quantized
from winohw.numerics.layer import ConvLayer
from winohw.numerics.requantize import Requantization
from winohw.train.integer import IntegerConv, IntegerResNet, Join
from winohw.train.latency import Candidate


def make_network(seed: int = 1, size: int = 8) -> IntegerResNet:
    """A stem and two blocks, the second with stride 2, of random weights."""
    rng = np.random.default_rng(seed)

    def conv(name, height, channels, filters, stride, low):
        geometry = ConvGeometry(height, height, channels, filters, 3, stride, (1, 1, 1, 1))
        weights = rng.integers(-60, 60, (filters, 3, 3, channels), dtype=np.int8)
        bias = rng.integers(-500, 500, filters)
        requantization = Requantization(bias, rng.integers(2**30, 2**31, filters), -9, 0, low, 127)
        matrices = winograd(4 if stride == 1 else 5, geometry.effective_kernel)
        table = np.add.outer(np.arange(6) % 3, np.arange(6) % 2)
        profile = Quantized(Narrowing(8, table), Narrowing(8, 4), Narrowing(8, 12 - table))
        return IntegerConv(name, ConvLayer(geometry, weights, requantization), matrices, profile)

    convs = (
        conv("stem", size, 3, 4, 1, 0),
        conv("s1b1c1", size, 4, 4, 1, 0),
        conv("s1b1c2", size, 4, 4, 1, -128),
        conv("s2b1c1", size, 4, 8, 2, 0),
        conv("s2b1c2", size // 2, 8, 8, 1, -128),
    )
    joins = (Join(3, 5, 4), Join(4, 4, 5))
    weights = rng.integers(-127, 128, (10, 8), dtype=np.int8)
    return IntegerResNet(convs, joins, weights, rng.integers(-9, 9, 10).astype(np.int32))


class Multiplications:
    """Latency of an array that is always busy: its multiplications."""

    def cycles(self, geometry: ConvGeometry, candidate: Candidate) -> float:
        if candidate.tile_size is None:
            return geometry.macs
        return geometry.multiplications(candidate.tile_size + geometry.kernel - geometry.effective_kernel)
