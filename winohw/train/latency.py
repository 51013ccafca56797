"""What a convolution costs on an engine, for the search: a table, or the multiplications until one is given."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from winohw.algorithm.geometry import ConvGeometry

__all__ = ["Candidate", "Latency", "LatencyTable", "MultiplicationCount"]


@dataclass(frozen=True)
class Candidate:
    """A way to compute a layer.

    Parameters
    ----------
    tile_size
        m of F(m×m, r×r), or None for direct convolution.
    bits
        Width of pixels and weights in the Winograd domain; 8 for direct convolution.
    granularity
        Of the scales, by the name of :class:`~winohw.train.shifts.Granularity`; ``none`` for direct convolution.
    """

    tile_size: int | None
    bits: int = 8
    granularity: str = "none"

    def __str__(self) -> str:
        return "direct" if self.tile_size is None else f"F{self.tile_size}-{self.bits}bit-{self.granularity}"


class Latency(Protocol):
    """Tells what a layer costs; only the proportions matter to the search."""

    def cycles(self, geometry: ConvGeometry, candidate: Candidate) -> float:
        """Cycles of one image."""


@dataclass(frozen=True)
class MultiplicationCount:
    """Latency of an array that is always busy: elementwise products, those of partial tiles included.

    Parameters
    ----------
    multipliers
        Of the array.
    wide_cost
        What a multiplication of more than 8 bits costs, in those of 8 bits: 1 where a multiplier takes either.
    """

    multipliers: int = 36
    wide_cost: float = 1.0

    def cycles(self, geometry: ConvGeometry, candidate: Candidate) -> float:
        """Cycles of one image."""
        if candidate.tile_size is None:
            return geometry.macs / self.multipliers
        n = candidate.tile_size + geometry.kernel - 1
        products = geometry.multiplications(n + 1 - geometry.effective_kernel)
        return products * (self.wide_cost if candidate.bits > 8 else 1.0) / self.multipliers


@dataclass(frozen=True)
class LatencyTable:
    """Latency that was measured or modelled elsewhere.

    Parameters
    ----------
    cycles_of
        Cycles by ``"HxWxC->K/stride candidate"``, see :meth:`key`.
    """

    cycles_of: Mapping[str, float]

    @staticmethod
    def key(geometry: ConvGeometry, candidate: Candidate) -> str:
        """Name of an entry, for example ``32x32x16->16/1 F4-8bit-tap``."""
        shape = f"{geometry.height}x{geometry.width}x{geometry.channels}->{geometry.filters}/{geometry.stride}"
        return f"{shape} {candidate}"

    @classmethod
    def load(cls, path: Path) -> "LatencyTable":
        """Read a JSON object of cycles by key.

        Raises
        ------
        ValueError
            If it is something else, or a number is not positive.
        """
        table = json.loads(path.read_text())
        if not isinstance(table, dict) or not all(isinstance(v, int | float) and v > 0 for v in table.values()):
            raise ValueError(f"{path} must hold a JSON object of positive cycles by layer and candidate")
        return cls(table)

    def cycles(self, geometry: ConvGeometry, candidate: Candidate) -> float:
        """Cycles of one image.

        Raises
        ------
        KeyError
            If the table has no such entry; the message is the key.
        """
        return self.cycles_of[self.key(geometry, candidate)]
