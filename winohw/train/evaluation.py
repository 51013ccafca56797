"""Accuracy of a network in whole numbers on many images; an interrupted evaluation goes on where it stopped."""

import csv
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from winohw.algorithm.toomcook import Winograd, winograd
from winohw.numerics.formats import Exact
from winohw.train.data import to_pixels
from winohw.train.integer import IntegerConv, IntegerResNet

__all__ = ["Evaluation", "evaluate", "exactly"]


@dataclass(frozen=True)
class Evaluation:
    """How many of how many images were classified as they are labelled."""

    hits: int
    images: int

    @property
    def accuracy(self) -> float:
        """Percentage of hits."""
        return 100 * self.hits / self.images


def evaluate(
    network: IntegerResNet,
    images: NDArray[np.uint8],
    labels: NDArray[np.integer],
    log: Path | None = None,
    chunk: int = 500,
    golden_images: int = 2,
    report: Callable[[str], None] = lambda line: None,
) -> Evaluation:
    """Classify images ``[N, H, W, 3]`` of bytes.

    Parameters
    ----------
    log
        CSV file with a line for each chunk: first image, images, hits, and a digest of the network. Chunks that stand
        in it for the same network are not computed again.
    golden_images
        So many of the first images also go through the golden model itself, convolution by convolution.
    report
        Called with a line on the progress.

    Raises
    ------
    AssertionError
        If a convolution gives other pixels than the golden model.
    """
    pixels = to_pixels(images)
    for step in network.convolutions(pixels[:golden_images]):
        np.testing.assert_array_equal(step.pixels_out, step.conv.golden(step.pixels_in), err_msg=step.conv.name)
    digest = _digest(network)
    done = _finished(log, digest) if log is not None else {}
    hits = 0
    for start in range(0, len(images), chunk):
        size = min(chunk, len(images) - start)
        if (start, size) not in done:
            part = network.predictions(pixels[start : start + size]) == labels[start : start + size]
            done[start, size] = int(part.sum())
            if log is not None:
                with log.open("a", newline="") as file:
                    csv.writer(file).writerow([start, size, done[start, size], digest])
        hits += done[start, size]
        report(f"{start + size}/{len(images)} images, {100 * hits / (start + size):.2f} %")
    return Evaluation(hits, len(images))


def exactly(network: IntegerResNet, tile_size: int) -> IntegerResNet:
    """The network with every convolution computed in the ``exact`` profile.

    Parameters
    ----------
    tile_size
        m of F(m×m, 3×3), whose n strided layers share; 1 for direct convolution.
    """

    def choose(conv: IntegerConv) -> tuple[Winograd, Exact]:
        geometry = conv.layer.geometry
        if tile_size == 1:
            return winograd(1, geometry.kernel), Exact()
        kernel = geometry.effective_kernel
        return winograd(tile_size + geometry.kernel - kernel, kernel), Exact()

    return network.computed_by(choose)


def _finished(log: Path, digest: str) -> dict[tuple[int, int], int]:
    if not log.exists():
        return {}
    with log.open(newline="") as file:
        rows = [row for row in csv.reader(file) if len(row) == 4 and row[3] == digest]
    return {(int(start), int(size)): int(hits) for start, size, hits, _ in rows}


def _digest(network: IntegerResNet) -> str:
    """Identifies everything that the network's scores depend on."""
    digest = hashlib.sha256()
    for conv in network.convs:
        requantization = conv.layer.requantization
        constants = (requantization.bias, requantization.multiplier, requantization.shift)
        matrices = (conv.winograd.bt, conv.winograd.g, conv.winograd.at)
        for array in (conv.layer.weights, *constants, *matrices):
            digest.update(np.ascontiguousarray(array).tobytes())
        limits = (requantization.output_zero_point, requantization.act_min, requantization.act_max)
        others = (conv.layer.geometry, conv.layer.input_zero_point, limits, conv.profile, conv.winograd.divisor)
        digest.update(repr(others).encode())
    digest.update(repr(network.joins).encode())
    digest.update(network.classifier_weights.tobytes() + network.classifier_bias.tobytes())
    return digest.hexdigest()[:16]
