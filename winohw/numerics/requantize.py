"""From int32 accumulators to int8 pixels: TFLite's reference requantization, bit for bit, and a shift-only sibling.

Sources: ``MultiplyByQuantizedMultiplier`` and ``QuantizeMultiplier`` of TensorFlow Lite's reference int8 kernels (the
build with double rounding), whose fixed-point operations are those of gemmlowp, ``fixedpoint/fixedpoint.h``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from fractions import Fraction
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from winohw.numerics.formats import Rounding, rounding_shift, wrap

__all__ = [
    "Activation",
    "Requantization",
    "ShiftRequantization",
    "activation_range",
    "multiply_by_quantized_multiplier",
    "quantize_multiplier",
    "rounding_divide_by_power_of_two",
    "saturating_rounding_doubling_high_multiply",
]

#: Range of the exponent that the reference kernels allow; positive shifts left.
MIN_SHIFT, MAX_SHIFT = -31, 30
_INT32 = (-(2**31), 2**31 - 1)
_INT8 = (-128, 127)


class Activation(Enum):
    """Activation function that the requantization's clamp carries out."""

    NONE = "none"
    RELU = "relu"
    RELU6 = "relu6"


def saturating_rounding_doubling_high_multiply(a: ArrayLike, b: ArrayLike) -> NDArray[np.int64]:
    """High half of the doubled product, ``round(a * b / 2**31)``, ties toward plus infinity.

    gemmlowp's ``SaturatingRoundingDoublingHighMul``, whose one saturating case, both operands -2**31, cannot occur
    here: quantized multipliers are not negative.

    Parameters
    ----------
    a
        int32 values.
    b
        Multipliers, 0 to 2**31 - 1.
    """
    # gemmlowp adds ±2**30 by the sign of the product and divides toward zero: the same as adding 2**30 and flooring.
    return rounding_shift(np.asarray(a, dtype=np.int64) * np.asarray(b, dtype=np.int64), 31, Rounding.HALF_UP)


def rounding_divide_by_power_of_two(x: ArrayLike, exponent: ArrayLike) -> NDArray[np.int64]:
    """``round(x / 2**exponent)``, ties away from zero: gemmlowp's ``RoundingDivideByPOT``.

    Parameters
    ----------
    x
        int32 values.
    exponent
        0 to 31, broadcast against ``x``.
    """
    x, exponent = np.asarray(x, dtype=np.int64), np.asarray(exponent, dtype=np.int64)
    half = (np.int64(1) << exponent) >> 1
    return (x + half - ((x < 0) & (exponent > 0))) >> exponent


def multiply_by_quantized_multiplier(x: ArrayLike, multiplier: ArrayLike, shift: ArrayLike) -> NDArray[np.int64]:
    """``x * multiplier * 2**(shift - 31)`` as TFLite computes it, with two roundings.

    Parameters
    ----------
    x
        int32 values.
    multiplier
        0 to 2**31 - 1: a fixed-point number below 1 with 31 fractional bits.
    shift
        Exponent, -31 to 30. If positive, ``x`` is first shifted left, and wraps at 32 bits; if negative, the product
        is divided by ``2**-shift``, rounding a second time.
    """
    shift = np.asarray(shift, dtype=np.int64)
    left, right = np.maximum(shift, 0), np.maximum(-shift, 0)
    shifted = wrap(np.asarray(x, dtype=np.int64) << left, 32)
    return rounding_divide_by_power_of_two(saturating_rounding_doubling_high_multiply(shifted, multiplier), right)


def quantize_multiplier(real: float | Fraction) -> tuple[int, int]:
    """The multiplier and shift that stand for a real number: ``real ≈ multiplier * 2**(shift - 31)``.

    TFLite's ``QuantizeMultiplier``. The multiplier is 0, or between 2**30 and 2**31 - 1.

    Parameters
    ----------
    real
        Non-negative and below 2**30. Numbers under 2**-32 become 0.

    Returns
    -------
    multiplier, shift
        The shift is between -31 and 30; negative shifts right.

    Raises
    ------
    ValueError
        If ``real`` is negative, not finite or too large.
    """
    value = float(real)
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"A requantization scale must be finite and not negative, not {real!r}")
    fraction, shift = math.frexp(value)
    multiplier = math.floor(fraction * 2**31 + 0.5)  # exact: a double has 53 bits, so half away from zero
    if multiplier == 2**31:
        multiplier, shift = 2**30, shift + 1
    if shift < MIN_SHIFT:
        return 0, 0
    if shift > MAX_SHIFT:
        raise ValueError(f"A requantization scale must be below 2**{MAX_SHIFT}, not {real!r}")
    return multiplier, shift


def activation_range(activation: Activation, output_scale: float, output_zero_point: int) -> tuple[int, int]:
    """Least and greatest output pixel, ``act_min, act_max``, of an activation function.

    TFLite's ``CalculateActivationRangeQuantized`` for int8, which divides in single precision.
    """
    zero = output_zero_point
    if activation is Activation.NONE:
        return _INT8
    if activation is Activation.RELU:
        return max(_INT8[0], zero), _INT8[1]
    six = float(np.float32(6.0) / np.float32(output_scale))
    return max(_INT8[0], zero), int(min(_INT8[1], zero + math.floor(six + 0.5)))


class _ChannelConstants:
    """Validation that both kinds of requantization share."""

    bias: NDArray[np.int32]
    output_zero_point: int
    act_min: int
    act_max: int

    @property
    def channels(self) -> int:
        """Number of output channels."""
        return len(self.bias)

    def _set_channels(self, limits: dict[str, tuple[int, int]]) -> None:
        bias = _checked("bias", self.bias, *_INT32)
        if bias.ndim != 1 or not bias.size:
            raise ValueError(f"A bias must be a vector with an entry per output channel, not of shape {bias.shape}")
        object.__setattr__(self, "bias", _frozen(bias))
        for name, (low, high) in limits.items():
            values = _checked(name, getattr(self, name), low, high)
            if values.shape not in ((), (1,), bias.shape):
                raise ValueError(f"There are {bias.size} biases, but {name} has the shape {values.shape}")
            object.__setattr__(self, name, _frozen(np.broadcast_to(values, bias.shape)))
        for name in ("output_zero_point", "act_min", "act_max"):
            object.__setattr__(self, name, int(_checked(name, getattr(self, name), *_INT8)))
        if self.act_min > self.act_max:
            raise ValueError(f"act_min must not exceed act_max, but is {self.act_min}, and act_max {self.act_max}")

    def _accumulators(self, acc: ArrayLike) -> NDArray[np.int64]:
        acc = _checked("accumulator", acc, *_INT32)
        if acc.shape[-1:] != self.bias.shape:
            raise ValueError(f"The last axis of the accumulators must have {self.channels} channels, not {acc.shape}")
        return wrap(acc + self.bias, 32)

    def _clamped(self, pixels: NDArray[np.int64]) -> NDArray[np.int8]:
        return np.clip(pixels, self.act_min, self.act_max).astype(np.int8)

    def with_bias(self, bias: ArrayLike) -> Self:
        """The same requantization with another bias."""
        return replace(self, bias=bias)  # type: ignore[type-var]


@dataclass(frozen=True, eq=False)
class Requantization(_ChannelConstants):
    """TFLite's per-channel requantization of an int8 layer.

    ``pixel = clamp(MultiplyByQuantizedMultiplier(acc + bias, multiplier, shift) + output_zero_point)``. Both additions
    and a shift to the left wrap at 32 bits, as the compiled reference kernels do.

    Parameters
    ----------
    bias
        int32 ``[K]``.
    multiplier
        ``[K]`` or one for all: 0 to 2**31 - 1, see :func:`quantize_multiplier`.
    shift
        ``[K]`` or one for all: -31 to 30; positive shifts left.
    output_zero_point
        -128 to 127.
    act_min, act_max
        Clamp, -128 to 127.

    Raises
    ------
    TypeError
        If a value is not an integer.
    ValueError
        If a value is out of its range, or shapes disagree.
    """

    bias: NDArray[np.int32]
    multiplier: NDArray[np.int32]
    shift: NDArray[np.int32]
    output_zero_point: int = 0
    act_min: int = -128
    act_max: int = 127

    def __post_init__(self) -> None:
        self._set_channels({"multiplier": (0, _INT32[1]), "shift": (MIN_SHIFT, MAX_SHIFT)})

    @classmethod
    def from_scales(
        cls,
        bias: ArrayLike,
        input_scale: float,
        weight_scales: float | Sequence[float] | NDArray[np.floating],
        output_scale: float,
        output_zero_point: int = 0,
        activation: Activation = Activation.NONE,
    ) -> "Requantization":
        """The requantization that TFLite derives from the scales of a layer's tensors (stored as float32).

        Parameters
        ----------
        bias
            int32 ``[K]``, of scale ``input_scale * weight_scale``.
        weight_scales
            ``[K]``, or one for all channels.
        """
        bias = np.asarray(bias)
        scales = np.broadcast_to(np.asarray(weight_scales, dtype=np.float32), bias.shape).tolist()
        inward, outward = float(np.float32(input_scale)), float(np.float32(output_scale))
        constants = [quantize_multiplier(inward * scale / outward) for scale in scales]
        act_min, act_max = activation_range(activation, output_scale, output_zero_point)
        multiplier, shift = zip(*constants, strict=True)
        return cls(bias, np.array(multiplier), np.array(shift), output_zero_point, act_min, act_max)

    def apply(self, acc: ArrayLike) -> NDArray[np.int8]:
        """Pixels of the accumulators ``acc``, int32 ``[..., K]``, which do not contain the bias."""
        x = self._accumulators(acc)
        scaled = multiply_by_quantized_multiplier(x, self.multiplier, self.shift)
        return self._clamped(wrap(scaled + self.output_zero_point, 32))

    def rescaled(self, factor: Fraction) -> "Requantization":
        """The requantization that gives the same pixels for accumulators ``factor`` times as large.

        The bias grows by the factor, rounded half up, and the scales shrink by it.

        Raises
        ------
        ValueError
            If a bias does not fit 32 bits any more, or a scale not its exponent.
        """
        multiplier, shift = zip(*(quantize_multiplier(scale / factor) for scale in self.real_scales()), strict=True)
        bias = _rescaled_bias(self.bias, factor)
        return replace(self, bias=bias, multiplier=np.array(multiplier), shift=np.array(shift))

    def real_scales(self) -> list[Fraction]:
        """The factor of each channel that multiplier and shift stand for, exactly."""
        pairs = zip(self.multiplier.tolist(), self.shift.tolist(), strict=True)
        return [multiplier * Fraction(2) ** (shift - 31) for multiplier, shift in pairs]


@dataclass(frozen=True, eq=False)
class ShiftRequantization(_ChannelConstants):
    """Requantization without a multiplier: a rounding right shift, ties toward plus infinity, or a shift to the left.

    ``pixel = clamp(round((acc + bias) * 2**shift) + output_zero_point)``. The sum with the bias wraps at 32 bits;
    nothing wraps behind it. Shifts to the left are for coarse sums, as the ``quantized`` profile makes them.

    Parameters
    ----------
    bias
        int32 ``[K]``.
    shift
        ``[K]`` or one for all: -31 to 30, an exponent as in :class:`Requantization`.
    output_zero_point
        -128 to 127.
    act_min, act_max
        Clamp, -128 to 127.

    Raises
    ------
    TypeError
        If a value is not an integer.
    ValueError
        If a value is out of its range, or shapes disagree.
    """

    bias: NDArray[np.int32]
    shift: NDArray[np.int32]
    output_zero_point: int = 0
    act_min: int = -128
    act_max: int = 127

    def __post_init__(self) -> None:
        self._set_channels({"shift": (MIN_SHIFT, MAX_SHIFT)})

    def apply(self, acc: ArrayLike) -> NDArray[np.int8]:
        """Pixels of the accumulators ``acc``, int32 ``[..., K]``, which do not contain the bias."""
        scaled = rounding_shift(self._accumulators(acc), np.maximum(-self.shift, 0), Rounding.HALF_UP)
        scaled <<= np.maximum(self.shift, 0)
        return self._clamped(scaled + self.output_zero_point)

    def rescaled(self, factor: Fraction) -> "ShiftRequantization":
        """The requantization that gives the same pixels for accumulators ``factor`` times as large.

        Raises
        ------
        ValueError
            If the factor is not a power of two, or a bias or shift leaves its range.
        """
        power = factor.numerator.bit_length() - factor.denominator.bit_length()
        if factor != Fraction(2) ** power:
            raise ValueError(f"Shifts alone cannot take up the factor {factor}: use a Requantization with multipliers")
        return replace(self, bias=_rescaled_bias(self.bias, factor), shift=self.shift - power)

    def real_scales(self) -> list[Fraction]:
        """The factor of each channel that the shift stands for, exactly."""
        return [Fraction(2) ** shift for shift in self.shift.tolist()]


def _checked(name: str, values: ArrayLike, low: int, high: int) -> NDArray[np.int64]:
    """``values`` as int64; raises unless they are integers between ``low`` and ``high``."""
    array = np.asarray(values)
    if array.dtype.kind not in "iu":
        raise TypeError(f"The {name} must consist of integers, not {array.dtype}")
    if (outside := array[(array < low) | (array > high)]).size:
        raise ValueError(f"The {name} must be between {low} and {high}, not {outside[0]}")
    return array.astype(np.int64)


def _rescaled_bias(bias: NDArray[np.int32], factor: Fraction) -> NDArray[np.int64]:
    return np.array([math.floor(value * factor + Fraction(1, 2)) for value in bias.tolist()])


def _frozen(values: NDArray[np.int64]) -> NDArray[np.int32]:
    array = values.astype(np.int32)
    array.flags.writeable = False
    return array
