"""The trained network in whole numbers: what an engine computes, layer by layer, in numpy alone."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from winohw.algorithm.geometry import ConvGeometry
from winohw.algorithm.toomcook import Winograd, parse_points
from winohw.numerics.formats import Exact, Narrowing, Profile, Quantized, Rounding, rounding_shift
from winohw.numerics.golden import GoldenModel
from winohw.numerics.layer import ConvLayer
from winohw.numerics.requantize import Requantization
from winohw.train.fast import layer_pixels

__all__ = ["Convolution", "IntegerConv", "IntegerResNet", "Join"]

_FORMAT = 1


@dataclass(frozen=True, eq=False)
class IntegerConv:
    """A convolution, with the matrices and the profile that it is computed with.

    Parameters
    ----------
    name
        As in :class:`~winohw.train.resnet.ConvShape`.
    layer, winograd, profile
        What :class:`~winohw.numerics.golden.GoldenModel` takes.
    """

    name: str
    layer: ConvLayer
    winograd: Winograd
    profile: Profile

    def run(self, pixels: NDArray[np.int8]) -> NDArray[np.int8]:
        """Output pixels, as the golden model gives them, but fast."""
        return layer_pixels(self.layer, self.winograd, self.profile, pixels)

    def golden(self, pixels: NDArray[np.int8]) -> NDArray[np.int8]:
        """Output pixels by the golden model itself."""
        return GoldenModel(self.winograd, self.profile).run(self.layer, pixels)

    def computed_by(self, winograd: Winograd, profile: Profile) -> "IntegerConv":
        """The same layer with other matrices and another profile."""
        return IntegerConv(self.name, self.layer, winograd, profile)


@dataclass(frozen=True)
class Join:
    """Addition of a block's shortcut, and ReLU: ``clamp(round((y·2**-branch + x·2**-shortcut) · 2**output), 0, 127)``.

    Parameters
    ----------
    branch, shortcut, output
        Exponents of the scales of the three: one step of a pixel means ``2**-exponent``.
    """

    branch: int
    shortcut: int
    output: int

    def run(self, branch: NDArray[np.int8], shortcut: NDArray[np.int8]) -> NDArray[np.int8]:
        """Pixels of the sum, rounded half up."""
        finest = max(self.branch, self.shortcut, self.output)
        total = (branch.astype(np.int64) << (finest - self.branch)) + (
            shortcut.astype(np.int64) << (finest - self.shortcut)
        )
        return np.clip(rounding_shift(total, finest - self.output, Rounding.HALF_UP), 0, 127).astype(np.int8)


@dataclass(frozen=True, eq=False)
class Convolution:
    """A convolution in the middle of a network: what goes into it and what comes out."""

    conv: IntegerConv
    pixels_in: NDArray[np.int8]
    pixels_out: NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class IntegerResNet:
    """A ResNet of basic blocks in whole numbers.

    Parameters
    ----------
    convs
        The stem, then two for each block.
    joins
        One for each block.
    classifier_weights, classifier_bias
        int8 ``[classes, C]`` and int32 ``[classes]``; the classifier sees the sum of all pixels of a channel.

    Raises
    ------
    ValueError
        If the numbers of convolutions and joins do not belong together, or neighbouring shapes do not.
    """

    convs: tuple[IntegerConv, ...]
    joins: tuple[Join, ...]
    classifier_weights: NDArray[np.int8]
    classifier_bias: NDArray[np.int32]

    def __post_init__(self) -> None:
        if len(self.convs) != 1 + 2 * len(self.joins):
            raise ValueError(f"{len(self.joins)} blocks need a stem and two convolutions each, not {len(self.convs)}")
        for before, after in zip(self.convs, self.convs[1:], strict=False):
            given = before.layer.geometry
            if (given.out_height, given.out_width, given.filters) != after.layer.input_shape:
                raise ValueError(f"The output of {before.name} does not fit the input of {after.name}")
        if self.classifier_weights.shape != (len(self.classifier_bias), self.convs[-1].layer.geometry.filters):
            raise ValueError(f"The classifier's weights have the shape {self.classifier_weights.shape}")

    def convolutions(self, pixels: NDArray[np.int8]) -> Iterator[Convolution]:
        """Every convolution in turn, with the pixels that reach it when the network sees ``pixels``."""
        yield from self._run(pixels)[0]

    def logits(self, pixels: NDArray[np.int8]) -> NDArray[np.int64]:
        """Scores ``[N, classes]``, all in one unit, of images ``[N, H, W, C]``."""
        steps, features = self._run(pixels)
        for _ in steps:
            pass
        sums = features[-1].sum(axis=(1, 2), dtype=np.int64)
        return sums @ self.classifier_weights.T.astype(np.int64) + self.classifier_bias

    def predictions(self, pixels: NDArray[np.int8], batch: int = 100) -> NDArray[np.int64]:
        """The class of greatest score of each image."""
        parts = [self.logits(pixels[start : start + batch]).argmax(axis=1) for start in range(0, len(pixels), batch)]
        return np.concatenate(parts)

    def _run(self, pixels: NDArray[np.int8]) -> tuple[Iterator[Convolution], list[NDArray[np.int8]]]:
        features: list[NDArray[np.int8]] = []

        def step(conv: IntegerConv, x: NDArray[np.int8]) -> Convolution:
            return Convolution(conv, x, conv.run(x))

        def steps() -> Iterator[Convolution]:
            stem, *rest = self.convs
            done = step(stem, pixels)
            yield done
            x = done.pixels_out
            for first, second, join in zip(rest[::2], rest[1::2], self.joins, strict=True):
                middle = step(first, x)
                yield middle
                last = step(second, middle.pixels_out)
                yield last
                x = join.run(last.pixels_out, _shortcut(x, first.layer.geometry))
            features.append(x)

        return steps(), features

    def computed_by(self, choose: Callable[[IntegerConv], tuple[Winograd, Profile]]) -> "IntegerResNet":
        """The same network with ``choose(conv) -> (winograd, profile)`` for every convolution."""
        convs = tuple(conv.computed_by(*choose(conv)) for conv in self.convs)
        return IntegerResNet(convs, self.joins, self.classifier_weights, self.classifier_bias)

    def save(self, path: Path) -> None:
        """Write the network to an ``.npz`` file."""
        arrays: dict[str, NDArray] = {
            "classifier_weights": self.classifier_weights,
            "classifier_bias": self.classifier_bias,
        }
        described = []
        for number, conv in enumerate(self.convs):
            layer, requantization, matrices = conv.layer, conv.layer.requantization, conv.winograd
            if not isinstance(requantization, Requantization):
                raise TypeError(f"The requantization of {conv.name} must be a Requantization, not {requantization!r}")
            geometry = layer.geometry
            arrays[f"weights{number}"] = layer.weights
            arrays[f"constants{number}"] = np.stack(
                [requantization.bias, requantization.multiplier, requantization.shift]
            ).astype(np.int32)
            points = matrices.points
            described.append(
                {
                    "name": conv.name,
                    "geometry": [
                        geometry.height,
                        geometry.width,
                        geometry.channels,
                        geometry.filters,
                        geometry.kernel,
                        geometry.stride,
                        list(geometry.pads),
                    ],
                    "input_zero_point": layer.input_zero_point,
                    "output": [requantization.output_zero_point, requantization.act_min, requantization.act_max],
                    "winograd": {
                        "tile_size": matrices.tile_size,
                        "kernel_size": matrices.kernel_size,
                        "points": None if points is None else [None if p is None else str(p) for p in points],
                        "bt": matrices.bt.tolist(),
                        "g": matrices.g.tolist(),
                        "at": matrices.at.tolist(),
                        "divisor": matrices.divisor,
                        "shifts": list(matrices.shifts),
                    },
                    "profile": _describe(conv.profile),
                }
            )
        joins = [[join.branch, join.shortcut, join.output] for join in self.joins]
        text = json.dumps({"format": _FORMAT, "convs": described, "joins": joins})
        np.savez_compressed(path, network=np.array(text), **arrays)

    @classmethod
    def load(cls, path: Path) -> "IntegerResNet":
        """Read a network that :meth:`save` wrote.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is not such a network, or a damaged one; the message names the file and what is wrong.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        except (ValueError, BadZipFile, EOFError) as error:
            raise ValueError(f"{path} is no network of winohw: {error}") from error
        if "network" not in arrays:
            raise ValueError(f"{path} is no network of winohw: it has no description")
        try:
            description = json.loads(str(arrays["network"]))
            if description["format"] != _FORMAT:
                raise ValueError(f"its format is {description['format']!r}, and only {_FORMAT} is known")
            convs = tuple(
                _read_conv(each, arrays[f"weights{number}"], arrays[f"constants{number}"])
                for number, each in enumerate(description["convs"])
            )
            joins = tuple(Join(*each) for each in description["joins"])
            return cls(convs, joins, arrays["classifier_weights"], arrays["classifier_bias"])
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is a damaged network of winohw: {error}") from error


def _shortcut(x: NDArray[np.int8], geometry: ConvGeometry) -> NDArray[np.int8]:
    """The identity of a block: every stride-th pixel, and zeros for half of the new channels on either side."""
    x = x[:, :: geometry.stride, :: geometry.stride]
    extra = geometry.filters - geometry.channels
    return np.pad(x, ((0, 0), (0, 0), (0, 0), (extra // 2, extra - extra // 2)))


def _describe(profile: Profile) -> dict:
    if isinstance(profile, Exact):
        return {"exact": profile.result_bits}
    return {
        name: [step.bits, step.shift, step.rounding.value, step.saturate]
        for name, step in (("input", profile.input), ("weight", profile.weight), ("product", profile.product))
    }


def _read_profile(description: dict) -> Profile:
    if "exact" in description:
        return Exact(description["exact"])
    steps = (description[name] for name in ("input", "weight", "product"))
    return Quantized(*(Narrowing(bits, shift, Rounding(rounding), cut) for bits, shift, rounding, cut in steps))


def _read_conv(description: dict, weights: NDArray[np.int8], constants: NDArray[np.int32]) -> IntegerConv:
    *sizes, pads = description["geometry"]
    matrices = description["winograd"]
    requantization = Requantization(*constants, *description["output"])
    layer = ConvLayer(ConvGeometry(*sizes, tuple(pads)), weights, requantization, description["input_zero_point"])
    points = matrices["points"]
    winograd = Winograd(
        tile_size=matrices["tile_size"],
        kernel_size=matrices["kernel_size"],
        points=None if points is None else parse_points(points),
        bt=np.array(matrices["bt"]),
        g=np.array(matrices["g"]),
        at=np.array(matrices["at"]),
        divisor=matrices["divisor"],
        shifts=tuple(matrices["shifts"]),
    )
    return IntegerConv(description["name"], layer, winograd, _read_profile(description["profile"]))
