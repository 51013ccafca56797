"""Exact worst-case range of every stage, and the widths that follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from .modular import ExactDivision
from .toomcook import Winograd

Range = tuple[int, int]
"""Least and greatest value."""

INT8: Final[Range] = (-128, 127)
UINT8: Final[Range] = (0, 255)


def signed_bits(lo: int, hi: int) -> int:
    """Least width of a signed number that holds every integer from ``lo`` to ``hi``; at least 1."""
    return 1 + max(bound.bit_length() if bound >= 0 else (~bound).bit_length() for bound in (int(lo), int(hi)))


def linear_range(matrix: Sequence[Sequence[int]], ranges: Sequence[Range]) -> tuple[Range, ...]:
    """Exact (least, greatest) of every row of a matrix times a vector of independent inputs.

    Parameters
    ----------
    matrix : rows of int
        outputs × inputs.
    ranges : sequence of (int, int)
        Least and greatest value of every input.

    Raises
    ------
    ValueError
        There are not as many ranges as columns.
    """
    bounds = []
    for row in matrix:
        products = [sorted((int(c) * lo, int(c) * hi)) for c, (lo, hi) in zip(row, ranges, strict=True)]
        bounds.append((sum(lo for lo, _ in products), sum(hi for _, hi in products)))
    return tuple(bounds)


def product_range(a: Range, b: Range) -> Range:
    """Exact (least, greatest) product of two independent numbers."""
    corners = [x * y for x in a for y in b]
    return min(corners), max(corners)


@dataclass(frozen=True, eq=False)
class Ranges:
    """Least and greatest value of every entry of an array.

    Attributes
    ----------
    lo, hi : ndarray of Python integers
        One shape; read-only.
    """

    lo: npt.NDArray[np.object_]
    hi: npt.NDArray[np.object_]

    def __post_init__(self) -> None:
        for bound in (self.lo, self.hi):
            bound.flags.writeable = False

    @property
    def span(self) -> Range:
        """Least of the least, greatest of the greatest."""
        return min(self.lo.flat), max(self.hi.flat)

    @property
    def bits(self) -> npt.NDArray[np.int64]:
        """Signed width of every entry."""
        widths = [signed_bits(lo, hi) for lo, hi in zip(self.lo.flat, self.hi.flat, strict=True)]
        return np.array(widths, np.int64).reshape(self.lo.shape)

    @property
    def width(self) -> int:
        """Signed width that holds every entry."""
        return signed_bits(*self.span)

    def scaled(self, factor: int) -> Ranges:
        """Ranges of the sum of ``factor`` ≥ 0 independent arrays like this one."""
        return Ranges(self.lo * factor, self.hi * factor)

    def transformed(self, matrix: npt.NDArray[np.integer]) -> Ranges:
        """Ranges of ``matrix @ x`` for independent entries of x, an array of one or two axes."""
        positive, negative = (np.maximum(sign * matrix.astype(object), 0) for sign in (1, -1))
        return Ranges(positive @ self.lo - negative @ self.hi, positive @ self.hi - negative @ self.lo)

    def times(self, other: Ranges) -> Ranges:
        """Ranges of the elementwise product with an independent array of the same shape."""
        corners = [a * b for a in (self.lo, self.hi) for b in (other.lo, other.hi)]
        return Ranges(np.minimum.reduce(corners), np.maximum.reduce(corners))


@dataclass(frozen=True, eq=False)
class StageRanges:
    """What every stage can hold in the worst case. Each bound is attained, except as noted for inexact matrices.

    Attributes
    ----------
    input_rows : Ranges, (n,)
        One-dimensional input transform: every entry of row i of Bᵀ d, or of column i of d B.
    v : Ranges, (n, n)
        Taps of the input transform.
    weight_rows : Ranges, (n,)
        One-dimensional weight transform: every entry of row i of G g, or of column i of g Gᵀ.
    u : Ranges, (n, n)
        Taps of the weight transform.
    product : Ranges, (n, n)
        U ⊙ V of one channel.
    channel_sum : Ranges, (n, n)
        M, the sum over the channels, before any modulus.
    output_columns : Ranges, (m, n)
        One-dimensional output transform Aᵀ M, before any modulus. For matrices that are not exact: a bound, M's taps
        taken as independent.
    scaled_output : Ranges, (m, m)
        Aᵀ M A, divisor² times the output; a bound as above for matrices that are not exact.
    output : (int, int)
        The convolution itself.
    """

    input_rows: Ranges
    v: Ranges
    weight_rows: Ranges
    u: Ranges
    product: Ranges
    channel_sum: Ranges
    output_columns: Ranges
    scaled_output: Ranges
    output: Range


@dataclass(frozen=True)
class StageWidths:
    """Signed bits of every stage of :class:`StageRanges`, its widest entry each.

    Attributes
    ----------
    input, weight : int
        What comes in.
    input_rows, v, weight_rows, u, product, channel_sum, output_columns, scaled_output, output : int
        As in :class:`StageRanges`.
    accumulator : int
        All that accumulators and output transform need, which work modulo ``2**accumulator``: the output and the power
        of two in divisor².
    """

    input: int
    weight: int
    input_rows: int
    v: int
    weight_rows: int
    u: int
    product: int
    channel_sum: int
    output_columns: int
    scaled_output: int
    output: int
    accumulator: int


@lru_cache(maxsize=256)
def stage_ranges(
    winograd: Winograd, channels: int, input_range: Range = INT8, weight_range: Range = INT8
) -> StageRanges:
    """Exact worst case of every stage for independent inputs and weights within their ranges.

    Parameters
    ----------
    winograd : Winograd
        Matrices.
    channels : int
        Input channels that are summed, at least 1; phases of a strided layer count as channels.
    input_range, weight_range : (int, int)
        Least and greatest pixel and weight, for example :data:`INT8` or :data:`UINT8`.

    Raises
    ------
    ValueError
        No channels, or an empty range.
    """
    if channels < 1:
        raise ValueError(f"Channels must be at least 1, not {channels!r}")
    for name, (lo, hi) in (("Input", input_range), ("Weight", weight_range)):
        if lo > hi:
            raise ValueError(f"{name} range must not be empty: ({lo}, {hi})")
    n, tile_size, kernel_size = winograd.n, winograd.tile_size, winograd.kernel_size
    input_rows = _constant(input_range, n).transformed(winograd.bt)
    v = _constant(input_range, n * n).transformed(np.kron(winograd.bt, winograd.bt))
    weight_rows = _constant(weight_range, kernel_size).transformed(winograd.g)
    u = _constant(weight_range, kernel_size**2).transformed(np.kron(winograd.g, winograd.g))
    product = _reshaped(v.times(u), n, n)
    channel_sum = product.scaled(channels)
    lo, hi = (channels * kernel_size**2 * bound for bound in product_range(input_range, weight_range))
    if winograd.is_exact():
        # Tap column j of Aᵀ M is the one-dimensional convolution of the columns j of d B and g Gᵀ, divisor times.
        column = input_rows.times(weight_rows).scaled(channels * kernel_size * winograd.divisor)
        output_columns = Ranges(np.tile(column.lo, (tile_size, 1)), np.tile(column.hi, (tile_size, 1)))
        scaled_output = _reshaped(_constant((lo, hi), tile_size**2).scaled(winograd.divisor**2), tile_size, tile_size)
    else:
        output_columns = channel_sum.transformed(winograd.at)
        taps = _reshaped(channel_sum, n * n)
        scaled_output = _reshaped(taps.transformed(np.kron(winograd.at, winograd.at)), tile_size, tile_size)
    return StageRanges(
        input_rows=input_rows,
        v=_reshaped(v, n, n),
        weight_rows=weight_rows,
        u=_reshaped(u, n, n),
        product=product,
        channel_sum=channel_sum,
        output_columns=output_columns,
        scaled_output=scaled_output,
        output=(lo, hi),
    )


def stage_widths(
    winograd: Winograd, channels: int, input_range: Range = INT8, weight_range: Range = INT8
) -> StageWidths:
    """Width of every stage, parameters and errors as :func:`stage_ranges`."""
    ranges = stage_ranges(winograd, channels, input_range, weight_range)
    output = signed_bits(*ranges.output)
    return StageWidths(
        input=signed_bits(*input_range),
        weight=signed_bits(*weight_range),
        input_rows=ranges.input_rows.width,
        v=ranges.v.width,
        weight_rows=ranges.weight_rows.width,
        u=ranges.u.width,
        product=ranges.product.width,
        channel_sum=ranges.channel_sum.width,
        output_columns=ranges.output_columns.width,
        scaled_output=ranges.scaled_output.width,
        output=output,
        accumulator=ExactDivision(winograd.divisor**2, output).acc_bits,
    )


def _constant(bounds: Range, count: int) -> Ranges:
    lo, hi = (np.full(count, int(bound), dtype=object) for bound in bounds)
    return Ranges(lo, hi)


def _reshaped(ranges: Ranges, *shape: int) -> Ranges:
    return Ranges(ranges.lo.reshape(shape), ranges.hi.reshape(shape))
