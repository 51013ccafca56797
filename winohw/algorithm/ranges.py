"""Exact worst-case range of every stage, and the widths that follow."""

from __future__ import annotations

from collections.abc import Sequence


def signed_bits(lo: int, hi: int) -> int:
    """Least width of a signed number that holds every integer from ``lo`` to ``hi``; at least 1."""
    return 1 + max(bound.bit_length() if bound >= 0 else (~bound).bit_length() for bound in (int(lo), int(hi)))


def linear_range(matrix: Sequence[Sequence[int]], ranges: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
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
