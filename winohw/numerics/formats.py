"""Number formats of the datapath: two's-complement widths, rounding right shifts, saturation, and the two profiles."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from operator import index
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from winohw.algorithm.modular import wrap

__all__ = [
    "PROFILES",
    "Exact",
    "Narrowing",
    "Profile",
    "Quantized",
    "Rounding",
    "ShiftTable",
    "rounding_shift",
    "saturate",
    "signed_range",
    "wrap",
]

Int64Array: TypeAlias = NDArray[np.int64]
#: One shift for every tap, or a table ``[row][column]`` with an entry per tap.
ShiftTable: TypeAlias = int | tuple[tuple[int, ...], ...]


class Rounding(Enum):
    """What a right shift by ``s`` bits does with the bits that it drops."""

    #: Drop them: ``x >> s``, toward minus infinity.
    FLOOR = "floor"
    #: Add half a unit of the result first: ``(x + (1 << s - 1)) >> s``; ties go toward plus infinity.
    HALF_UP = "half_up"


def signed_range(bits: int) -> tuple[int, int]:
    """Least and greatest value of a two's-complement number of ``bits`` bits.

    Raises
    ------
    ValueError
        If ``bits`` is not in 1 to 63 (values are computed in 64-bit integers).
    """
    if not 1 <= bits <= 63:
        raise ValueError(f"A width must be between 1 and 63 bits, not {bits!r}")
    return -(1 << (bits - 1)), (1 << (bits - 1)) - 1


def saturate(x: ArrayLike, bits: int) -> Int64Array:
    """The values of ``x``, each replaced by the nearest one that ``bits`` bits (signed) can hold."""
    return np.clip(_integers(x), *signed_range(bits))


def rounding_shift(x: ArrayLike, shift: ArrayLike, rounding: Rounding = Rounding.HALF_UP) -> Int64Array:
    """Arithmetic right shift with rounding.

    Parameters
    ----------
    x
        Integers of magnitude below 2**62.
    shift
        Places to shift right, 0 to 62, broadcast against ``x``. A shift of 0 leaves the value as it is.
    rounding
        What becomes of the dropped bits.
    """
    x, shift = _integers(x), _integers(shift)
    if rounding is Rounding.FLOOR:
        return x >> shift
    half = (np.int64(1) << shift) >> 1
    return (x + half) >> shift


@dataclass(frozen=True)
class Narrowing:
    """One narrowing step of the ``quantized`` profile: rounding right shift, then reduction to ``bits`` bits.

    ``narrow(x) = saturate(round(x / 2**shift), bits)``, all values two's complement.

    Parameters
    ----------
    bits
        Width of the result, 2 to 63.
    shift
        Places to shift right, 0 to 62: one number for the whole stage, or a square table with an entry per tap. Any
        nested sequence or integer array is accepted, and kept as a tuple of tuples.
    rounding
        Rounding of the shift.
    saturate
        Whether values that do not fit go to the nearest one that does (True) or lose their high bits (False).

    Raises
    ------
    TypeError
        If a width or shift is not an integer, or ``rounding`` is not a :class:`Rounding`.
    ValueError
        If a width or shift is out of its range, or the table is not square.
    """

    bits: int
    shift: ShiftTable = 0
    rounding: Rounding = Rounding.HALF_UP
    saturate: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.bits, bool) or not isinstance(self.bits, int | np.integer):
            raise TypeError(f"Narrowing bits must be an integer, not {self.bits!r}")
        if not 2 <= self.bits <= 63:
            raise ValueError(f"Narrowing bits must be between 2 and 63, not {self.bits!r}")
        if not isinstance(self.rounding, Rounding):
            raise TypeError(f"Narrowing rounding must be a Rounding, not {self.rounding!r}")
        object.__setattr__(self, "bits", index(self.bits))
        object.__setattr__(self, "saturate", bool(self.saturate))
        object.__setattr__(self, "shift", _shift_table(self.shift))

    @property
    def per_tap(self) -> bool:
        """Whether the shift is a table with an entry per tap."""
        return not isinstance(self.shift, int)

    @property
    def max_shift(self) -> int:
        """The greatest shift of any tap."""
        return self.shift if isinstance(self.shift, int) else max(max(row) for row in self.shift)

    def table(self, n: int) -> Int64Array:
        """The shifts as an array ``[n, n]``, one entry per tap.

        Raises
        ------
        ValueError
            If the shift is a table for another ``n``.
        """
        shift = np.asarray(self.shift, dtype=np.int64)
        if shift.ndim == 2 and shift.shape != (n, n):
            raise ValueError(f"The shift table is for {shift.shape[0]}×{shift.shape[1]} taps, not {n}×{n}")
        return np.broadcast_to(shift, (n, n)).copy()

    def with_shift(self, shift: ArrayLike) -> "Narrowing":
        """The same narrowing with other shifts."""
        return replace(self, shift=_shift_table(shift))

    def apply(self, x: ArrayLike) -> Int64Array:
        """Narrow ``x``.

        Parameters
        ----------
        x
            Integers of magnitude below 2**62. With a shift table, the last two axes are the taps (row, column).
        """
        x = _integers(x)
        shift = np.asarray(self.shift, dtype=np.int64)
        if shift.ndim and x.shape[-2:] != shift.shape:
            taps = "×".join(map(str, shift.shape))
            raise ValueError(f"The shift table has {taps} taps, but the last axes of the values are {x.shape[-2:]}")
        shifted = rounding_shift(x, shift, self.rounding)
        return saturate(shifted, self.bits) if self.saturate else wrap(shifted, self.bits)


@dataclass(frozen=True)
class Exact:
    """The ``exact`` profile: the result equals direct convolution, bit for bit.

    Transformed pixels and weights are as wide as they need; sums are kept modulo ``2**(result_bits + k)``, where
    ``2**k`` is the power of two in the square of the matrices' divisor.

    Parameters
    ----------
    result_bits
        Width of the true sums that the hardware is built for, 2 to 32. It changes the intermediate sums, which are
        modular, but never the result, as long as the result fits.
    """

    result_bits: int = 32

    def __post_init__(self) -> None:
        if not 2 <= self.result_bits <= 32:
            raise ValueError(f"The result of the exact profile must have 2 to 32 bits, not {self.result_bits!r}")


@dataclass(frozen=True)
class Quantized:
    """The ``quantized`` profile: each of the three steps in the Winograd domain is narrowed, with a shift per tap.

    Parameters
    ----------
    input
        Narrowing of the transformed pixels, ``V = narrow(Bᵀ d B)``.
    weight
        Narrowing of the transformed weights, ``U = narrow(G g Gᵀ)``.
    product
        Narrowing of the elementwise product, summed over all channels, ``M = narrow(Σ U ⊙ V)``.
    """

    input: Narrowing
    weight: Narrowing
    product: Narrowing

    def __post_init__(self) -> None:
        for name in ("input", "weight", "product"):
            step = getattr(self, name)
            if not isinstance(step, Narrowing):
                raise TypeError(f"The {name} step of a quantized profile must be a Narrowing, not {step!r}")

    @classmethod
    def uniform(
        cls, bits: int, input_shift: ArrayLike = 0, weight_shift: ArrayLike = 0, product_shift: ArrayLike = 0
    ) -> "Quantized":
        """The same width for all three steps, half-up rounding, saturating; shifts per tap or per stage."""
        steps = (Narrowing(bits, _shift_table(shift)) for shift in (input_shift, weight_shift, product_shift))
        return cls(*steps)

    def shift_sums(self, n: int) -> Int64Array:
        """The three shifts added up, an array ``[n, n]`` with an entry per tap."""
        return self.input.table(n) + self.weight.table(n) + self.product.table(n)

    def total_shift(self, n: int) -> int:
        """The one sum of shifts that every tap has: the result is ``2**-total_shift`` times the exact one.

        Raises
        ------
        ValueError
            If the sum differs between taps: the output transform would add numbers of different scales.
        """
        sums = self.shift_sums(n)
        total = int(sums[0, 0])
        if (differing := np.argwhere(sums != total)).size:
            row, column = differing[0].tolist()
            raise ValueError(
                f"The shifts of input, weight and product must have the same sum for every tap, but tap (0, 0) has "
                f"{total} and tap ({row}, {column}) has {sums[row, column]}"
            )
        return total


#: How the hardware computes in the Winograd domain.
Profile: TypeAlias = Exact | Quantized


def _integers(x: ArrayLike) -> Int64Array:
    """``x`` as 64-bit integers; refuses anything that is not made of integers."""
    array = np.asarray(x)
    if array.dtype.kind not in "iu" or array.dtype == np.uint64:
        raise TypeError(f"Expected integers of at most 64 bits (signed), not {array.dtype}")
    return array.astype(np.int64, copy=False)


def _shift_table(shift: ArrayLike) -> ShiftTable:
    array = np.asarray(shift)
    if array.dtype.kind not in "iu":
        raise TypeError(f"A shift must be an integer or a table of integers, not {shift!r}")
    if array.ndim not in (0, 2) or (array.ndim == 2 and (array.shape[0] != array.shape[1] or not array.size)):
        raise ValueError(f"A shift must be one integer or a square table, not an array of shape {array.shape}")
    if array.min() < 0 or array.max() > 62:
        raise ValueError(
            f"A shift must be between 0 and 62, not {int(array.min() if array.min() < 0 else array.max())}"
        )
    return tuple(tuple(row) for row in array.tolist()) if array.ndim else int(array)


#: What commands offer, by name: the widths of an engine, without shifts.
PROFILES: Mapping[str, Profile] = MappingProxyType(
    {
        "exact": Exact(),
        "quantized": Quantized(Narrowing(8), Narrowing(8), Narrowing(16)),
        "int8": Quantized.uniform(8),
    }
)
