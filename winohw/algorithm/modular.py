"""Exact division by the factor of the integer Winograd matrices, in arithmetic modulo a power of two."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class ExactDivision:
    """Divide by ``divisor_squared = 2^k · odd``, knowing that there is no remainder.

    The quotient fits ``result_bits`` signed bits, so the dividend needs to be known modulo ``2^acc_bits`` only, with
    ``acc_bits = result_bits + k``: drop the k low bits, which are zero, and multiply by the inverse of ``odd``
    modulo ``2^result_bits``. Whatever overflows on the way to the dividend is harmless.

    Parameters
    ----------
    divisor_squared : int
        The factor of the result, at least 1.
    result_bits : int
        Signed width of the quotient, 1 to 64, such that ``acc_bits`` is at most 64.

    Raises
    ------
    ValueError
        A parameter is out of range.

    Source: T. Jebelean, *An Algorithm for Exact Division*, J. Symbolic Computation 15, 1993.
    """

    divisor_squared: int
    result_bits: int

    def __post_init__(self) -> None:
        if self.divisor_squared < 1:
            raise ValueError(f"Divisor must be at least 1, not {self.divisor_squared!r}")
        if self.result_bits < 1 or self.acc_bits > 64:
            raise ValueError(
                f"Result must have 1 to {64 - self.k} bits to be divided by {self.divisor_squared}, "
                f"not {self.result_bits!r}"
            )

    @property
    def k(self) -> int:
        """Exponent of two in the divisor: how many low bits are dropped."""
        return exponent_of_two(self.divisor_squared)

    @property
    def odd(self) -> int:
        """The odd part of the divisor."""
        return self.divisor_squared >> self.k

    @property
    def inverse(self) -> int:
        """The inverse of :attr:`odd` modulo ``2^result_bits``, 0 ≤ inverse < 2^result_bits."""
        return pow(self.odd, -1, 1 << self.result_bits)

    @property
    def acc_bits(self) -> int:
        """Width of the dividend: everything before the division may be computed modulo ``2^acc_bits``."""
        return accumulator_bits(self.divisor_squared, self.result_bits)

    def divide(self, x: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Quotients of ``x``, which need only be right modulo ``2^acc_bits``: bit for bit what the hardware gives.

        Parameters
        ----------
        x : array of integers
            Any shape; an unsigned 64-bit pattern stands for the same residue as its signed twin.

        Raises
        ------
        TypeError
            ``x`` does not hold integers.
        """
        dividend = np.asarray(x)
        if dividend.dtype.kind not in "iu":
            raise TypeError(f"Dividends must be integers, not {dividend.dtype}")
        # Unsigned 64-bit arithmetic wraps, and 2^result_bits divides 2^64.
        quotient = (dividend.astype(np.uint64) >> np.uint64(self.k)) * np.uint64(self.inverse)
        return wrap(quotient, self.result_bits)


def exponent_of_two(x: int) -> int:
    """Largest k such that 2^k divides ``x``, which is not zero."""
    return (x & -x).bit_length() - 1


def accumulator_bits(divisor_squared: int, result_bits: int) -> int:
    """Bits that accumulators need so that a result of ``result_bits`` can be divided out exactly."""
    return result_bits + exponent_of_two(divisor_squared)


def wrap(x: npt.ArrayLike, bits: int) -> npt.NDArray[np.int64]:
    """``x`` modulo ``2^bits`` as a signed number of ``bits`` bits, 1 to 64: what a register of that width keeps."""
    array = np.asarray(x)
    if array.dtype == object:
        array = np.asarray(array & ((1 << 64) - 1))
    unused = 64 - bits
    return (array.astype(np.uint64) << np.uint64(unused)).astype(np.int64) >> np.int64(unused)
