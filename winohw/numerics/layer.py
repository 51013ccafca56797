"""One int8 convolution layer: shape, weights, zero point and requantization, and what it is by direct convolution."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

from winohw.algorithm.geometry import ConvGeometry
from winohw.algorithm.modular import wrap
from winohw.algorithm.toomcook import Winograd
from winohw.numerics.direct import direct_convolution
from winohw.numerics.formats import Profile, Quantized
from winohw.numerics.requantize import Requantization, ShiftRequantization

__all__ = ["ConvLayer", "fold_zero_point"]


def fold_zero_point(bias: ArrayLike, weights: NDArray[np.int8], input_zero_point: int) -> NDArray[np.int32]:
    """The bias for sums over raw pixels: ``bias - input_zero_point · Σ weights``, which wraps at 32 bits.

    The hardware multiplies pixels as they are, and pads with the zero point; so every sum exceeds that over pixels
    less their zero point by the same amount, wherever the kernel lies.

    Parameters
    ----------
    bias
        int32 ``[K]``.
    weights
        ``[K, r, r, C]``.
    input_zero_point
        -128 to 127.
    """
    return wrap(np.asarray(bias) - input_zero_point * weights.sum(axis=(1, 2, 3), dtype=np.int64), 32).astype(np.int32)


@dataclass(frozen=True, eq=False)
class ConvLayer:
    """An int8 convolution layer as TFLite defines it.

    ``pixel_out = requantization(Σ weight · (pixel_in - input_zero_point))``; the bias is part of the requantization.

    Parameters
    ----------
    geometry
        Shape of the layer.
    weights
        int8 ``[K, r, r, C]``; a read-only copy is kept.
    requantization
        Bias, scales, output zero point and clamp, of K channels; the bias is the layer's own, with no zero point
        folded into it.
    input_zero_point
        -128 to 127; also the value of the padding.

    Raises
    ------
    TypeError
        If the weights are not int8, or something else is of the wrong kind.
    ValueError
        If weights, geometry and requantization do not belong together, or the zero point is out of range.
    """

    geometry: ConvGeometry
    weights: NDArray[np.int8]
    requantization: Requantization | ShiftRequantization
    input_zero_point: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.geometry, ConvGeometry):
            raise TypeError(f"The geometry of a layer must be a ConvGeometry, not {self.geometry!r}")
        if not isinstance(self.requantization, Requantization | ShiftRequantization):
            raise TypeError(
                f"The requantization of a layer must be a Requantization or ShiftRequantization, "
                f"not {self.requantization!r}"
            )
        weights = np.array(self.weights)
        if weights.dtype != np.int8:
            raise TypeError(f"The weights of a layer must be int8, not {weights.dtype}")
        geometry = self.geometry
        shape = (geometry.filters, geometry.kernel, geometry.kernel, geometry.channels)
        if weights.shape != shape:
            raise ValueError(
                f"The weights must have the shape {shape} (filters, rows, columns, channels), not {weights.shape}"
            )
        if self.requantization.channels != geometry.filters:
            raise ValueError(
                f"The layer has {geometry.filters} filters, but its requantization {self.requantization.channels}"
            )
        if isinstance(self.input_zero_point, bool) or not isinstance(self.input_zero_point, int | np.integer):
            raise TypeError(f"The input zero point must be an integer, not {self.input_zero_point!r}")
        if not -128 <= self.input_zero_point <= 127:
            raise ValueError(f"The input zero point must be between -128 and 127, not {self.input_zero_point}")
        weights.flags.writeable = False
        object.__setattr__(self, "weights", weights)
        object.__setattr__(self, "input_zero_point", int(self.input_zero_point))

    @property
    def bias(self) -> NDArray[np.int32]:
        """The layer's own bias, ``[K]``."""
        return self.requantization.bias

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Shape of an input image, height, width, channels."""
        return self.geometry.height, self.geometry.width, self.geometry.channels

    def check_pixels(self, pixels: NDArray[np.int8]) -> None:
        """Raise unless ``pixels`` are int8 of shape ``[N, height, width, channels]``."""
        if pixels.dtype != np.int8:
            raise TypeError(f"The pixels must be int8, not {pixels.dtype}")
        if pixels.shape[1:] != self.input_shape or pixels.ndim != 4:
            wanted = ", ".join(map(str, self.input_shape))
            raise ValueError(f"The pixels must have the shape [N, {wanted}], not {list(pixels.shape)}")

    def accumulator_range(self) -> tuple[int, int]:
        """Least and greatest sum of raw pixels times weights that any input can give, over all filters."""
        weights = self.weights.astype(np.int64)
        high = np.where(weights > 0, 127 * weights, -128 * weights).sum(axis=(1, 2, 3))
        low = np.where(weights > 0, -128 * weights, 127 * weights).sum(axis=(1, 2, 3))
        return int(low.min()), int(high.max())

    def accumulators(self, pixels: NDArray[np.int8]) -> NDArray[np.int32]:
        """Sums over raw pixels by direct convolution, ``[N, out_height, out_width, K]``, no bias added."""
        self.check_pixels(pixels)
        geometry = self.geometry
        return direct_convolution(pixels, self.weights, geometry.stride, geometry.padding, self.input_zero_point)

    def reference(self, pixels: NDArray[np.int8]) -> NDArray[np.int8]:
        """Output pixels by direct convolution: what TFLite's reference kernels compute."""
        return self.folded_requantization().apply(self.accumulators(pixels))

    def folded_requantization(self) -> Requantization | ShiftRequantization:
        """The requantization of sums over raw pixels: the input's zero point is folded into its bias."""
        return self.requantization.with_bias(fold_zero_point(self.bias, self.weights, self.input_zero_point))

    def requantization_for(self, winograd: Winograd, profile: Profile) -> Requantization | ShiftRequantization:
        """The constants that the hardware gets: those of the sums that it computes in this profile.

        In the ``exact`` profile these are true sums over raw pixels. In the ``quantized`` profile they are
        ``divisor² / 2**S`` times as large, with ``S`` the sum of the three shifts, and nothing divides them but the
        requantization.

        Raises
        ------
        ValueError
            If the shifts do not add up to the same S in all taps, or a constant leaves its range. A shift-only
            requantization cannot take up a divisor that is not a power of two.
        """
        folded = self.folded_requantization()
        if not isinstance(profile, Quantized):
            return folded
        return folded.rescaled(Fraction(winograd.divisor**2, 2 ** profile.total_shift(winograd.n)))
