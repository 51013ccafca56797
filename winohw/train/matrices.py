"""Transforms of the layers: Toom-Cook matrices as they are, or learned and rounded to dyadic rationals."""

import numpy as np
import torch
from torch import Tensor, nn

from winohw.algorithm.toomcook import Winograd
from winohw.train.fake_quantization import round_through

__all__ = ["Transforms", "balanced"]

#: Factors of the rows of G, out of the columns of Aᵀ, by (m, r). Rounding M adds the same error at every tap, and Aᵀ
#: multiplies it: of the six columns of F(4,3), whose factors are 6, 4, 4, 1, 1, 24, the first and the last do most of
#: the harm. These were the best of 38 such sets on all convolutions of a ResNet-20 (`docs/accuracy.md`).
_FACTORS = {(4, 3): (2, 1, 1, 1, 1, 3)}


def balanced(matrices: Winograd) -> Winograd:
    """Matrices of the same convolution that lose less when the products are narrowed to few bits.

    Raises
    ------
    ValueError
        If no better factors are known.
    """
    factors = _FACTORS.get((matrices.tile_size, matrices.kernel_size))
    if factors is None or matrices.points is None:
        raise ValueError(f"Balanced matrices are known for F(4×4, 3×3), not for {matrices}")
    columns = np.array(factors)
    return Winograd(
        matrices.tile_size,
        matrices.kernel_size,
        None,
        matrices.bt,
        matrices.g * columns[:, None],
        matrices.at // columns,
        matrices.divisor,
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
        Learned matrices are multiples of ``2**-fraction_bits`` of the initial ones' unit, 0 to 8.

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
                setattr(self, name, nn.Parameter(matrix))
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
        scale = 2.0**self.fraction_bits
        return round_through(self.bt * scale), round_through(self.g * scale), round_through(self.at * scale)

    def export(self) -> Winograd:
        """The matrices as the hardware takes them."""
        if not self.learned:
            return self.initial
        with torch.no_grad():
            bt, g, at = (matrix.numpy().astype(np.int64) for matrix in self.integers())
        shifts = (self.fraction_bits,) * 3
        return Winograd(self.initial.tile_size, self.initial.kernel_size, None, bt, g, at, self.divisor, shifts)
