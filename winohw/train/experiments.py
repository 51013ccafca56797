"""The steps of an experiment, each from files to files: train, quantize, tune, evaluate."""

import csv
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch.nn import functional

from winohw.train.convolution import DirectConv2d, QuantizedConv2d, WinogradConv2d
from winohw.train.data import Cifar10
from winohw.train.evaluation import Evaluation, evaluate
from winohw.train.latency import Candidate, Latency
from winohw.train.loop import Recipe, accuracy, fit, read_checkpoint, to_tensor
from winohw.train.quantized_resnet import QuantizedConvFactory, QuantizedResNet20
from winohw.train.resnet import ConvShape, ResNet20
from winohw.train.search import CANDIDATES, Choice, SearchedConv, SearchRecipe, chosen, search
from winohw.train.shifts import Granularity, ShiftTable

__all__ = [
    "Arithmetic",
    "append_result",
    "find",
    "load_float",
    "quantize",
    "record",
    "step_seconds",
    "train_float",
    "tune",
    "write_choices",
]

#: Training images that scales are calibrated with.
CALIBRATION_IMAGES = 64
#: The same for all candidates of a search, which are many.
SEARCH_IMAGES = 16


@dataclass(frozen=True)
class Arithmetic:
    """How the convolutions of a network are computed.

    Parameters
    ----------
    tile_size
        m of F(m×m, 3×3); None for direct convolution. Strided layers use the same n.
    transforms, granularity, bits, learned_scales, fraction_bits, balanced
        See :class:`~winohw.train.convolution.WinogradConv2d`.
    """

    tile_size: int | None = None
    transforms: Literal["static", "flex"] = "static"
    granularity: Granularity = Granularity.TAP
    bits: tuple[int, int, int] = (8, 8, 8)
    learned_scales: bool = False
    fraction_bits: int = 4
    balanced: bool = False

    def conv(self, shape: ConvShape, rectified: bool) -> QuantizedConv2d:
        """The convolution for a shape."""
        sizes = (shape.channels, shape.filters, 3, shape.stride, 1)
        if self.tile_size is None:
            return DirectConv2d(*sizes, rectified=rectified, quantize_input=False)
        options = {name: value for name, value in vars(self).items() if value is not None}
        return WinogradConv2d(*sizes, rectified=rectified, quantize_input=False, **options)


def train_float(
    data: Cifar10, recipe: Recipe, checkpoint: Path, report: Callable[[str], None] = print
) -> tuple[ResNet20, float, float]:
    """Train the unquantized network; returns it, the seconds, and its accuracy on the test images."""
    torch.manual_seed(recipe.seed)
    network = ResNet20().to(memory_format=torch.channels_last)
    seconds = fit(network, data, recipe, checkpoint, report)
    return network, seconds, accuracy(network, data.test_images, data.test_labels)


def load_float(checkpoint: Path) -> ResNet20:
    """The unquantized network of a checkpoint that :func:`train_float` wrote.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no checkpoint of this network.
    """
    if not Path(checkpoint).is_file():
        raise FileNotFoundError(f"There is no checkpoint {checkpoint}: train the unquantized network first")
    network = ResNet20()
    try:
        network.load_state_dict(read_checkpoint(checkpoint, ("model",))["model"])
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"{checkpoint} is no checkpoint of the unquantized ResNet-20") from error
    return network.eval()


def quantize(
    network: ResNet20, data: Cifar10, conv: QuantizedConvFactory, images: int | None = None
) -> QuantizedResNet20:
    """Quantize a network without retraining: scales from the first ``images`` training images.

    The scales of pixels are those that direct convolution would get, whatever the convolutions are, so that all ways to
    compute them start from the same int8 network.
    """
    samples = to_tensor(data.train_images[: CALIBRATION_IMAGES if images is None else images])
    direct = QuantizedResNet20(Arithmetic().conv)
    direct.load_float(network)
    direct.calibrate(samples)
    quantized = QuantizedResNet20(conv)
    quantized.load_quantized(direct)
    quantized.calibrate(samples, pixel_scales=False)
    return quantized.eval()


def tune(
    network: QuantizedResNet20, data: Cifar10, recipe: Recipe, checkpoint: Path, report: Callable[[str], None] = print
) -> float:
    """Train a quantized network further, and return the seconds that it took.

    What the scales of the Winograd domain were calibrated for changes while the weights do: unless they are learned,
    they are chosen once more at the end.
    """
    seconds = fit(network, data, recipe, checkpoint, report)
    tables = [module for module in network.modules() if isinstance(module, ShiftTable)]
    if not any(table.learned for table in tables):
        network.calibrate(to_tensor(data.train_images[:CALIBRATION_IMAGES]), pixel_scales=False)
    return seconds


def find(
    base: ResNet20,
    data: Cifar10,
    recipe: SearchRecipe,
    latency: Latency,
    log: Path,
    report: Callable[[str], None] = print,
    candidates: tuple[Candidate, ...] = CANDIDATES,
) -> tuple[QuantizedResNet20, tuple[Choice, ...], float]:
    """Search the candidates of each layer; returns the network that was found, the choices, and the seconds."""

    def conv(shape: ConvShape, rectified: bool) -> SearchedConv:
        return SearchedConv(shape, rectified, candidates, latency)

    wide = quantize(base, data, conv, SEARCH_IMAGES)
    choices, seconds = search(wide, data, recipe, log, report)
    network = QuantizedResNet20(chosen(choices))
    network.load_quantized(wide)
    network.calibrate(to_tensor(data.train_images[:CALIBRATION_IMAGES]), pixel_scales=False)
    return network, choices, seconds


def write_choices(path: Path, choices: tuple[Choice, ...]) -> None:
    """Write what a search found to a CSV file, a line for each layer."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["layer", "candidate", "probability", "cycles", "direct_cycles"])
        for choice in choices:
            probability = f"{choice.probability:.3f}"
            writer.writerow([choice.layer, choice.candidate, probability, choice.cycles, choice.direct_cycles])


def step_seconds(arithmetic: Arithmetic, batch: int = 128, repeats: int = 3) -> float:
    """Processor seconds of a training step of ResNet-20, forward and backward: the least of several, after one more."""
    torch.manual_seed(1)
    network = QuantizedResNet20(arithmetic.conv)
    images = np.random.default_rng(1).integers(0, 256, (batch, 32, 32, 3), dtype=np.uint8)
    x, labels = to_tensor(images), torch.zeros(batch, dtype=torch.long)
    network.calibrate(x[:8])
    network.train()
    seconds = []
    for _ in range(repeats + 1):
        started = time.process_time()
        functional.cross_entropy(network(x), labels).backward()
        seconds.append(time.process_time() - started)
    return min(seconds[1:])


def record(
    results: Path,
    row: str,
    network: QuantizedResNet20,
    data: Cifar10,
    seed: int,
    seconds: float,
    command: str,
    report: Callable[[str], None] = print,
    torch_images: int | None = None,
) -> Evaluation:
    """Export a network, evaluate it in whole numbers on all test images, and add a line to a table of results.

    The fake-quantized network is evaluated, too, on the first ``torch_images``; it stands beside.
    """
    exported = network.export()
    path = results / f"{row}.npz"
    exported.save(path)
    evaluation = evaluate(
        exported, data.test_images, data.test_labels, results / f"{row}-evaluation.csv", report=report
    )
    fake = accuracy(network, data.test_images[:torch_images], data.test_labels[:torch_images])
    append_result(results / "results.csv", row, evaluation.accuracy, fake, seed, seconds, command)
    return evaluation


def append_result(
    table: Path, row: str, integer: float | None, fake: float, seed: int, seconds: float, command: str
) -> None:
    """Add a line to a table of results."""
    new = not table.exists()
    with table.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(["row", "integer_accuracy", "torch_accuracy", "seed", "seconds", "finished", "command"])
        measured = "" if integer is None else f"{integer:.2f}"
        finished = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
        writer.writerow([row, measured, f"{fake:.2f}", seed, f"{seconds:.0f}", finished, command])
