"""What a convolution costs on an engine, for the search: by the cost model, or by a table."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from winohw.algorithm.geometry import ConvGeometry
from winohw.gateware.config import EngineConfig
from winohw.network.plan import plan_layer
from winohw.numerics.formats import Exact, Quantized

__all__ = ["Candidate", "EngineLatency", "Latency", "LatencyTable"]


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


class EngineLatency:
    """Cycles on engines of this project, one for each tile size, by their cost model.

    All have the same multipliers, or the next fewer that make whole lanes, and memories that are not in the way; their
    lanes are split in the way that takes the fewest cycles for the network. Widths do not matter: a multiplier of 18
    bits takes either. Strided layers run on the engine of the same n by their phases; with F(4,3), whose matrices are
    balanced, as kernels of 3.

    Parameters
    ----------
    geometries
        The layers of the network.
    multipliers
        At most so many.
    images
        Images a batch; cycles are those of one of them.

    Raises
    ------
    ValueError
        If there are too few multipliers for a lane with n = 8.
    """

    def __init__(self, geometries: Sequence[ConvGeometry], multipliers: int = 144, images: int = 1) -> None:
        if multipliers < 64:
            raise ValueError(f"Engines up to F(6×6, 3×3) need at least 64 multipliers, not {multipliers}")
        self.geometries, self.multipliers, self.images = tuple(geometries), multipliers, images
        self._tables: dict[int | None, tuple[EngineConfig, dict[ConvGeometry, float]]] = {}

    def engine(self, tile_size: int | None) -> EngineConfig:
        """The engine of a tile size; of direct convolution for None."""
        return self._table(tile_size)[0]

    def cycles(self, geometry: ConvGeometry, candidate: Candidate) -> float:
        """Cycles of one image."""
        return self._table(candidate.tile_size)[1][geometry]

    def _table(self, tile_size: int | None) -> tuple[EngineConfig, dict[ConvGeometry, float]]:
        if tile_size not in self._tables:
            m = 1 if tile_size is None else tile_size
            lanes = self.multipliers // (m + 2) ** 2
            configs = [_engine(m, pc, lanes // pc) for pc in range(1, lanes + 1) if lanes % pc == 0]
            tables = [(config, self._cycles(config)) for config in configs]
            self._tables[tile_size] = min(tables, key=lambda table: sum(table[1][each] for each in self.geometries))
        return self._tables[tile_size]

    def _cycles(self, config: EngineConfig) -> dict[ConvGeometry, float]:
        return {each: plan_layer(config, each, self.images).cycles / self.images for each in set(self.geometries)}


def _engine(m: int, input_lanes: int, output_lanes: int) -> EngineConfig:
    return EngineConfig(
        tile_size=m,
        # Other matrices than Toom-Cook's of integer points come with one kernel, which takes the phases, too.
        kernels=(2, 3) if m in (2, 3) else (3,),
        profile=Exact() if m == 1 else Quantized.uniform(8),
        input_lanes=input_lanes,
        output_lanes=output_lanes,
        output_columns=m + 2,
        requantizer_lanes=m,
        max_tiles=1024,
        drain_tiles=1024,
        line_words=1 << 15,
    )


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
