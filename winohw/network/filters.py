"""A bank of classic 3x3 image filters, and layers made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from winohw.algorithm.geometry import ConvGeometry
from winohw.numerics.layer import ConvLayer
from winohw.numerics.requantize import Requantization, ShiftRequantization, quantize_multiplier

__all__ = ["FILTERS", "Filter", "filter_layer", "load_layer"]


@dataclass(frozen=True)
class Filter:
    """One image filter: `output = kernel * input / divisor + offset`, in grey levels 0 ... 255.

    Parameters
    ----------
    kernel: rows of int8 taps.
    divisor: power of two, so that a shift alone can requantize as well.
    offset: grey level of a zero result.
    """

    kernel: tuple[tuple[int, ...], ...]
    divisor: int = 1
    offset: int = 0


FILTERS: dict[str, Filter] = {
    "blur": Filter(((1, 2, 1), (2, 4, 2), (1, 2, 1)), 16),
    "sharpen": Filter(((0, -1, 0), (-1, 5, -1), (0, -1, 0))),
    "edges": Filter(((-1, -1, -1), (-1, 8, -1), (-1, -1, -1))),
    "emboss": Filter(((-2, -1, 0), (-1, 1, 1), (0, 1, 2))),
    "sobel-x": Filter(((-1, 0, 1), (-2, 0, 2), (-1, 0, 1)), 2, 128),
    "sobel-y": Filter(((-1, -2, -1), (0, 0, 0), (1, 2, 1)), 2, 128),
}

#: Grey level 0 as an int8 pixel.
_BLACK = -128


def filter_layer(
    names: Sequence[str], height: int, width: int, channels: int, *, shift_only: bool = False
) -> ConvLayer:
    """A layer that applies filters of the bank to each channel of an image, padded with black.

    Parameters
    ----------
    names: filters of `FILTERS`, at least one.
    height, width, channels: shape of the image.
    shift_only: requantize by a shift, for engines without requantization multipliers.

    Returns
    -------
    layer with `len(names) * channels` output channels: filter f of channel c is channel `f * channels + c`.

    Raises
    ------
    ValueError
        A name is not in the bank, or none is given.
    """
    if not names:
        raise ValueError(f"at least one filter is needed: {', '.join(FILTERS)}")
    if unknown := [name for name in names if name not in FILTERS]:
        raise ValueError(f"there is no filter {unknown[0]!r}; the bank has {', '.join(FILTERS)}")
    bank = [FILTERS[name] for name in names]
    filters = len(bank) * channels
    weights = np.zeros((filters, 3, 3, channels), np.int8)
    bias = np.zeros(filters, np.int64)
    multiplier, shift = np.zeros(filters, np.int64), np.zeros(filters, np.int64)
    for f, entry in enumerate(bank):
        for c in range(channels):
            weights[f * channels + c, :, :, c] = entry.kernel
        own = slice(f * channels, (f + 1) * channels)
        bias[own] = entry.offset * entry.divisor
        multiplier[own], exponent = quantize_multiplier(1 / entry.divisor)
        shift[own] = 1 - entry.divisor.bit_length() if shift_only else exponent
    geometry = ConvGeometry(height, width, channels, filters, kernel=3)
    requantization = (
        ShiftRequantization(bias, shift, output_zero_point=_BLACK)
        if shift_only
        else Requantization(bias, multiplier, shift, output_zero_point=_BLACK)
    )
    return ConvLayer(geometry, weights, requantization, input_zero_point=_BLACK)


def load_layer(path: Path, height: int, width: int) -> ConvLayer:
    """A layer from an `.npz` file.

    The file holds `weights` (K, r, r, C) int8, and optionally `bias` (K) int32, `scale` (K or one, real: output levels
    per unit of the sum; default 1), `stride` (1 or 2), `padding` ("same" or "valid"), `input_zero_point` and
    `output_zero_point` (int8; default -128, black).

    Raises
    ------
    ValueError
        The file is not such a file, or an array in it does not fit.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays: dict[str, NDArray] = dict(archive)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as .npz: {error}") from None
    known = {"weights", "bias", "scale", "stride", "padding", "input_zero_point", "output_zero_point"}
    if unknown := sorted(set(arrays) - known):
        raise ValueError(f"{path} has an unknown array {unknown[0]!r}; known are {', '.join(sorted(known))}")
    if "weights" not in arrays:
        raise ValueError(f"{path} has no array 'weights'")
    weights = arrays["weights"]
    if weights.dtype != np.int8 or weights.ndim != 4 or weights.shape[1] != weights.shape[2]:
        raise ValueError(f"weights in {path} must be int8 (K, r, r, C), not {weights.dtype} {weights.shape}")
    filters, kernel, _, channels = weights.shape
    try:
        scales = np.broadcast_to(arrays.get("scale", np.ones(1)), filters).tolist()
        pairs = [quantize_multiplier(scale) for scale in scales]
        geometry = ConvGeometry(
            height, width, channels, filters, kernel, int(arrays.get("stride", 1)), str(arrays.get("padding", "same"))
        )
        requantization = Requantization(
            arrays.get("bias", np.zeros(filters, np.int32)),
            np.array([multiplier for multiplier, _ in pairs]),
            np.array([shift for _, shift in pairs]),
            output_zero_point=int(arrays.get("output_zero_point", _BLACK)),
        )
        return ConvLayer(geometry, weights, requantization, int(arrays.get("input_zero_point", _BLACK)))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None
