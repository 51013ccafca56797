"""Transforms of the layers: Toom-Cook matrices as they are, or learned and rounded to dyadic rationals."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from winohw.algorithm.toomcook import Winograd, parse_points, winograd
from winohw.train.fake_quantization import round_through

__all__ = ["Transforms", "balanced"]

#: Points, and factors of the rows of Bᵀ and of G, by (m, r). The products of both go out of the columns of Aᵀ.
_BALANCES = {(4, 3): ((0, "2/3", "-2/3", "3/2", "-3/2", None), (1, 2, 2, 2, 2, 1), (10, 1, 1, 1, 1, 10))}


def balanced(tile_size: int, kernel_size: int) -> Winograd:
    """Exact matrices that lose less than Toom-Cook's usual ones where all steps are narrowed to few bits.

    Two things make them different. Points nearer to one, ±2/3 and ±3/2 in place of ±1 and ±2, whose powers differ
    less. And factors: a rounded product has the same error at every tap, but each column of Aᵀ multiplies it by its
    own factor; what is large there is better in G, and rows of Bᵀ and G of about one size need no scales of their own.
    All of it is in constants of the hardware. `docs/accuracy.md` has the figures.

    Raises
    ------
    ValueError
        If none are known for these sizes.
    """
    if (tile_size, kernel_size) not in _BALANCES:
        raise ValueError(
            f"Balanced matrices are known for F(4×4, 3×3), not for F({tile_size}×{tile_size}, "
            f"{kernel_size}×{kernel_size})"
        )
    points, on_pixels, on_weights = _BALANCES[tile_size, kernel_size]
    start = winograd(tile_size, kernel_size, parse_points(points))
    rows, columns = np.array(on_pixels), np.array(on_weights)
    out = rows * columns
    scale = math.lcm(*(int(f) // math.gcd(int(f), *column) for f, column in zip(out, start.at.T.tolist(), strict=True)))
    return Winograd(
        tile_size,
        kernel_size,
        None,
        start.bt * rows[:, None],
        start.g * columns[:, None],
        start.at * scale // out,
        start.divisor * scale,
    )


class Transforms(nn.Module):
    """The three matrices of a layer.

    Parameters
    ----------
    initial
        What they are at first, or for good.
    learned
        Whether they are parameters (``flex``) or stay (``static``).
    fraction_bits
        Learned matrices are multiples of ``2**-fraction_bits`` of the initial ones' unit, 0 to 8. What is learned are
        parts of the greatest entry, so that one learning rate suits all matrices.

    Raises
    ------
    ValueError
        If ``fraction_bits`` is out of range.

    Source: J. Fernandez-Marques et al., *Searching for Winograd-aware Quantized Networks*, MLSys 2020, section 4.
    """

    def __init__(self, initial: Winograd, learned: bool = False, fraction_bits: int = 4) -> None:
        super().__init__()
        if learned and not 0 <= fraction_bits <= 8:
            raise ValueError(f"Fraction bits of learned matrices must be 0 to 8, not {fraction_bits!r}")
        self.initial, self.learned = initial, learned
        self.fraction_bits = fraction_bits if learned else 0
        for name in ("bt", "g", "at"):
            matrix = torch.from_numpy(getattr(initial, name).astype(np.float32))
            if learned:
                setattr(self, name, nn.Parameter(matrix / float(matrix.abs().max())))
            else:
                self.register_buffer(name, matrix)

    @property
    def divisor(self) -> int:
        """Factor of the result along one axis when the matrices are taken as integers."""
        return self.initial.divisor << (3 * self.fraction_bits)

    def integers(self) -> tuple[Tensor, Tensor, Tensor]:
        """Bᵀ, G and Aᵀ as integers, with gradients where they are learned."""
        if not self.learned:
            return self.bt, self.g, self.at
        return tuple(round_through(getattr(self, name) * self._unit(name)) for name in ("bt", "g", "at"))

    def _unit(self, name: str) -> float:
        """What is rounded for a learned part of 1."""
        return float(np.abs(getattr(self.initial, name)).max()) * 2.0**self.fraction_bits

    def export(self) -> Winograd:
        """The matrices as the hardware takes them."""
        if not self.learned:
            return self.initial
        with torch.no_grad():
            bt, g, at = (matrix.numpy().astype(np.int64) for matrix in self.integers())
        shifts = (self.fraction_bits,) * 3
        return Winograd(self.initial.tile_size, self.initial.kernel_size, None, bt, g, at, self.divisor, shifts)
