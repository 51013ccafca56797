"""Exact Toom-Cook matrices for F(m×m, r×r) and the type that holds them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

INFINITY: Final = None
"""The point at infinity: a polynomial evaluated there is its leading coefficient."""

MAX_INPUT_TILE: Final = 8
"""Largest input tile ``n = m + r - 1`` that is offered."""

# Sizes of entries beyond which 64-bit arithmetic on two axes could overflow.
_ENTRY_BITS: Final = 31

Point = Fraction | None
PointLike = Fraction | int | float | str | None
IntMatrix = npt.NDArray[np.int64]

# Small magnitudes first, opposite signs together: rows of p and -p then share their sums, and Bᵀ stays narrow.
_FINITE_POINTS: Final = tuple(Fraction(p) for p in ("0", "1", "-1", "2", "-2", "1/2", "-1/2"))


def default_points(n: int) -> tuple[Point, ...]:
    """Points that give the narrowest transforms for an input tile of ``n``: 0, ±1, ±2, ±1/2, and last infinity.

    Up to n = 6 they are integers.

    Raises
    ------
    TypeError, ValueError
        ``n`` is no integer, or not in 1 to 8.
    """
    _check_size("Input tile", n)
    if n > MAX_INPUT_TILE:
        raise ValueError(f"Input tile must be at most {MAX_INPUT_TILE}, not {n}")
    return (*_FINITE_POINTS[: n - 1], INFINITY)


def parse_points(points: Iterable[PointLike]) -> tuple[Point, ...]:
    """Evaluation points from numbers, fractions like ``"-1/2"``, or infinity as ``None``, ``"inf"`` or ``math.inf``.

    Raises
    ------
    ValueError
        A point cannot be read, or occurs twice.
    """
    parsed = tuple(_parse_point(p) for p in points)
    if len(set(parsed)) != len(parsed):
        raise ValueError(f"Points must differ from each other: {format_points(parsed)}")
    return parsed


def format_points(points: Iterable[Point]) -> str:
    """Points as people write them: ``0, 1, -1, 1/2, inf``."""
    return ", ".join("inf" if p is INFINITY else str(p) for p in points)


@dataclass(frozen=True, eq=False)
class Winograd:
    """Integer matrices of F(m×m, r×r).

    ``Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A = divisor² · correlation(d, g)``, where ``correlation(d, g)[i, j]`` is the sum of
    ``d[i + a, j + b] · g[a, b]``. :func:`winograd` makes exact ones, :meth:`from_matrices` takes any.

    Parameters
    ----------
    tile_size : int
        m, outputs a tile along each axis.
    kernel_size : int
        r, taps of the kernel along each axis.
    points : tuple or None
        Evaluation points, one a row of ``bt``; None where there are none (direct convolution, learned matrices).
    bt, g, at : ndarray of int64
        n×n, n×r and m×n, with n = m + r - 1. Read-only copies are kept.
    divisor : int
        Factor of the result along one axis; at least 1.
    shifts : (int, int, int)
        The user's own matrices are ``bt / 2**shifts[0]``, ``g / 2**shifts[1]`` and ``at / 2**shifts[2]``. Zeros for
        Toom-Cook matrices, whose factors differ from row to row.

    Raises
    ------
    TypeError, ValueError
        A size is no integer or out of range, a matrix does not have the shape above, or the divisor is below 1.
    """

    tile_size: int
    kernel_size: int
    points: tuple[Point, ...] | None
    bt: IntMatrix
    g: IntMatrix
    at: IntMatrix
    divisor: int
    shifts: tuple[int, int, int] = (0, 0, 0)

    def __post_init__(self) -> None:
        _check_size("Tile size", self.tile_size)
        _check_size("Kernel size", self.kernel_size)
        if self.n > MAX_INPUT_TILE:
            raise ValueError(
                f"Input tile m + r - 1 must be at most {MAX_INPUT_TILE}, not {self.n} (m = {self.tile_size}, "
                f"r = {self.kernel_size})"
            )
        if self.points is not None and len(self.points) != self.n:
            raise ValueError(
                f"F({self.tile_size},{self.kernel_size}) needs {self.n} points, not {len(self.points)}: "
                f"{format_points(self.points)}"
            )
        for name, shape in (
            ("bt", (self.n, self.n)),
            ("g", (self.n, self.kernel_size)),
            ("at", (self.tile_size, self.n)),
        ):
            object.__setattr__(self, name, _integer_matrix(name, getattr(self, name), shape))
        if self.divisor < 1:
            raise ValueError(f"Divisor must be at least 1, not {self.divisor!r}")

    @classmethod
    def from_matrices(cls, bt: npt.ArrayLike, g: npt.ArrayLike, at: npt.ArrayLike, divisor: int = 1) -> Winograd:
        """Take the matrices of the user, for example learned ones; only their shapes are checked.

        Every matrix must be dyadic, that is integers over one power of two (every finite float is); the least such
        power is taken out of each and multiplied into the divisor.

        Parameters
        ----------
        bt, g, at : array of int, float or Fraction
            n×n, n×r and m×n.
        divisor : int
            Factor of the result that the given matrices have along one axis.

        Raises
        ------
        ValueError
            The shapes do not belong together, or an entry is not dyadic or too fine or large for 64-bit integers.
        """
        parts = [_dyadic_matrix(name, matrix) for name, matrix in (("bt", bt), ("g", g), ("at", at))]
        (bt_int, bt_shift), (g_int, g_shift), (at_int, at_shift) = parts
        return cls(
            tile_size=len(at_int),
            kernel_size=g_int.shape[1],
            points=None,
            bt=bt_int,
            g=g_int,
            at=at_int,
            divisor=divisor << (bt_shift + g_shift + at_shift),
            shifts=(bt_shift, g_shift, at_shift),
        )

    @property
    def n(self) -> int:
        """Input tile, m + r - 1."""
        return self.tile_size + self.kernel_size - 1

    @property
    def multiplications_per_output(self) -> Fraction:
        """Multiplications that one output of one channel costs: n² / m²."""
        return Fraction(self.n**2, self.tile_size**2)

    @property
    def gain(self) -> Fraction:
        """How many times fewer multiplications than direct convolution: m² r² / n²."""
        return self.kernel_size**2 / self.multiplications_per_output

    @property
    def fractional(self) -> bool:
        """Whether a finite point is no integer, so that the rows of G for different kernels share no prefixes."""
        return self.points is not None and any(p is not INFINITY and p.denominator != 1 for p in self.points)

    @property
    def direct(self) -> bool:
        """Whether this is direct convolution: one output a tile and nothing to transform."""
        identity = np.eye(self.n, dtype=np.int64)
        return self.tile_size == 1 and np.array_equal(self.bt, identity) and np.array_equal(self.g, identity)

    def lifted(self) -> Winograd:
        """The same convolution with the powers of two of each column of Aᵀ moved to the row of G.

        Transformed weights grow by them, and Aᵀ becomes lighter: what an output transform takes that adds up narrowed
        products. The divisor stays; the points are left out, since no rule makes these matrices of them.
        """
        powers = [int(np.bitwise_or.reduce(abs(column))) for column in self.at.T]
        powers = np.array([power & -power or 1 for power in powers])
        return replace(self, points=None, g=self.g * powers[:, None], at=self.at // powers)

    def is_exact(self) -> bool:
        """Whether the identity holds exactly along one axis, hence along both.

        It is trilinear, so it holds when it holds for every entry of input, kernel and output.
        """
        bt, g, at = (matrix.astype(object) for matrix in (self.bt, self.g, self.at))
        # factor[i, j, l]: what input l, multiplied with kernel tap j, adds to output i.
        factor = np.stack([(at * g[:, j]) @ bt for j in range(self.kernel_size)], axis=1)
        output, tap, source = np.indices(factor.shape)
        wanted = (source == output + tap).astype(object) * self.divisor
        return bool((factor == wanted).all())

    def real_matrices(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Bᵀ, G, Aᵀ in floating point with ``Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A = correlation(d, g)``, the divisor left out.

        Each is divided by its own power of two, the rest of the divisor goes into Aᵀ.
        """
        bt_shift, g_shift, _ = self.shifts
        return (
            self.bt / 2.0**bt_shift,
            self.g / 2.0**g_shift,
            self.at * (2.0 ** (bt_shift + g_shift) / self.divisor),
        )

    def _key(self) -> tuple[object, ...]:
        matrices = tuple(matrix.tobytes() for matrix in (self.bt, self.g, self.at))
        return (self.tile_size, self.kernel_size, self.points, self.divisor, self.shifts, matrices)

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, Winograd) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def __str__(self) -> str:
        return f"F({self.tile_size}×{self.tile_size}, {self.kernel_size}×{self.kernel_size})"


def winograd(tile_size: int, kernel_size: int, points: Iterable[PointLike] | None = None) -> Winograd:
    """Exact integer matrices of F(m×m, r×r) by Toom-Cook interpolation.

    Every row of Bᵀ and G is scaled to coprime integers; the factors move into Aᵀ and the divisor. Signs are those that
    make all entries of the first row of Aᵀ positive, with G's rows starting positive; no other choice gives narrower
    V or U for int8 inputs (tests show it). Bᵀ depends on the points only, not on the kernel. With m = 1 and no
    points of the user's, this is direct convolution: Bᵀ = G = I, Aᵀ all ones.

    Parameters
    ----------
    tile_size : int
        m, at least 1.
    kernel_size : int
        r, at least 1; m + r - 1 is at most 8.
    points : iterable, optional
        m + r - 1 different points as :func:`parse_points` reads them; :func:`default_points` unless told.

    Raises
    ------
    TypeError, ValueError
        A size is no integer or out of range; the points do not differ, are not m + r - 1, or need integers of more than
        32 bits.

    Source: A. Lavin and S. Gray, *Fast Algorithms for Convolutional Neural Networks*, CVPR 2016; the transposition of
    polynomial multiplication by S. Winograd, *Arithmetic Complexity of Computations*, SIAM 1980.
    """
    _check_size("Tile size", tile_size)
    _check_size("Kernel size", kernel_size)
    return _winograd(tile_size, kernel_size, None if points is None else parse_points(points))


@lru_cache(maxsize=256)
def _winograd(tile_size: int, kernel_size: int, points: tuple[Point, ...] | None) -> Winograd:
    n = tile_size + kernel_size - 1
    if points is None:
        if tile_size == 1 and n <= MAX_INPUT_TILE:
            identity = np.eye(n, dtype=np.int64)
            return Winograd(1, kernel_size, None, identity, identity, np.ones((1, n), np.int64), divisor=1)
        points = default_points(n)
    if len(points) != n:
        raise ValueError(f"F({tile_size},{kernel_size}) needs {n} points, not {len(points)}: {format_points(points)}")
    bt, factors = [], []
    for k, point in enumerate(points):
        # The product of (b x - a) over the other points a/b: zero at each of them, and its coefficients are coprime.
        row = [1]
        for other in points[:k] + points[k + 1 :]:
            if other is not INFINITY:
                row = _multiply_by_root(row, other)
        row += [0] * (n - len(row))
        value = sum(c * power for c, power in zip(row, _powers(point, n), strict=True))
        bt.append(row if value > 0 else [-c for c in row])
        factors.append(abs(value))
    g = []
    for k, point in enumerate(points):
        denominator = 1 if point is INFINITY else point.denominator ** (kernel_size - 1)
        g.append([int(denominator * power) for power in _powers(point, kernel_size)])
        factors[k] *= denominator
    columns = [[power / factors[k] for power in _powers(point, tile_size)] for k, point in enumerate(points)]
    divisor = math.lcm(*(entry.denominator for column in columns for entry in column))
    at = [[int(column[i] * divisor) for column in columns] for i in range(tile_size)]
    if any(abs(entry) >> _ENTRY_BITS for row in (*bt, *g, *at, [divisor]) for entry in row):
        raise ValueError(f"Points must give integers of at most 32 bits, not {format_points(points)}")
    return Winograd(tile_size, kernel_size, points, *(np.array(matrix) for matrix in (bt, g, at)), divisor)


def family(n: int, points: Iterable[PointLike] | None = None) -> dict[int, Winograd]:
    """Every kernel size that an n×n array serves with one Bᵀ: ``{r: F(n + 1 - r, r)}``, r from 1 to n - 1.

    With integer points they also share the divisor, and the rows of G are prefixes of the same powers of the points
    (except for infinity, which takes the last kernel tap). r = n has one output a tile: use direct convolution. For
    n = 1 the family is the 1×1 kernel alone.

    Raises
    ------
    TypeError, ValueError
        As :func:`winograd`.
    """
    _check_size("Input tile", n)
    points = default_points(n) if points is None else parse_points(points)
    members = {r: winograd(n + 1 - r, r, points) for r in range(1, max(n, 2))}
    assert all(np.array_equal(member.bt, members[1].bt) for member in members.values())
    return members


def _check_size(what: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what} must be an integer, not {value!r}")
    if value < 1:
        raise ValueError(f"{what} must be at least 1, not {value}")


def _parse_point(point: PointLike) -> Point:
    if point is INFINITY or point in (math.inf, "inf"):
        return INFINITY
    try:
        return Fraction(point)
    except (TypeError, ValueError, OverflowError, ZeroDivisionError):
        raise ValueError(f"Point must be a number, a fraction or infinity, not {point!r}") from None


def _powers(point: Point, count: int) -> list[Fraction]:
    if point is INFINITY:
        return [Fraction(0)] * (count - 1) + [Fraction(1)]
    return [point**exponent for exponent in range(count)]


def _multiply_by_root(row: Sequence[int], root: Fraction) -> list[int]:
    numerator, denominator = root.numerator, root.denominator
    return [denominator * higher - numerator * lower for higher, lower in zip([0, *row], [*row, 0], strict=True)]


def _integer_matrix(name: str, matrix: npt.ArrayLike, shape: tuple[int, int]) -> IntMatrix:
    array = np.array(matrix)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must hold integers, not {array.dtype}")
    if array.shape != shape:
        raise ValueError(f"{name} must have the shape {shape}, not {array.shape}")
    array = array.astype(np.int64)
    array.flags.writeable = False
    return array


def _dyadic_matrix(name: str, matrix: npt.ArrayLike) -> tuple[IntMatrix, int]:
    array = np.array(matrix, dtype=object)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"{name} must be a matrix, not of the shape {array.shape}")
    try:
        entries = [Fraction(entry.item() if isinstance(entry, np.generic) else entry) for entry in array.flat]
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} must hold finite numbers") from None
    denominator = math.lcm(*(entry.denominator for entry in entries))
    if denominator & (denominator - 1):
        raise ValueError(f"{name} must be integers over one power of two, not over {denominator}")
    integers = [int(entry * denominator) for entry in entries]
    if any(abs(entry) >> _ENTRY_BITS for entry in integers):
        raise ValueError(f"{name} needs integers of more than 32 bits over {denominator}: round its entries first")
    return np.array(integers, np.int64).reshape(array.shape), denominator.bit_length() - 1
