"""Vertical strips of images that are too wide for an engine, cut by the host."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from winohw.algorithm.geometry import ConvGeometry
from winohw.gateware.config import EngineConfig
from winohw.gateware.job import Job, UnsupportedLayer
from winohw.network.rearrange import Arrangement
from winohw.numerics.formats import Profile
from winohw.numerics.layer import ConvLayer

__all__ = ["Columns", "strips_of"]


@dataclass(frozen=True)
class Columns:
    """Strips of some output columns, each an image of its own; neighbours share the columns that a kernel spans.

    The last strip is filled with padding, and what comes of that is dropped.

    Parameters
    ----------
    source : ConvGeometry
        Of stride 1.
    source_images : int
    width : int
        Output columns of a strip, 1 or more.

    Raises
    ------
    ValueError
        The stride is not 1, or there are no columns.
    """

    source: ConvGeometry
    source_images: int
    width: int

    def __post_init__(self) -> None:
        if self.source.stride != 1:
            raise ValueError(f"only layers of stride 1 are cut into strips, not of stride {self.source.stride}")
        if self.width < 1:
            raise ValueError(f"width must be at least 1, not {self.width}")

    @property
    def strips(self) -> int:
        """Strips of an image."""
        return -(-self.source.out_width // self.width)

    @cached_property
    def geometry(self) -> ConvGeometry:
        pads = self.source.pads
        width = self.width + self.source.kernel - 1
        return replace(self.source, width=width, padding=(pads.top, pads.bottom, 0, 0))

    @property
    def images(self) -> int:
        return self.source_images * self.strips

    def weights(self, weights: NDArray[np.int8]) -> NDArray[np.int8]:
        return weights

    def pixels(self, pixels: NDArray[np.int8], pad_value: int) -> NDArray[np.int8]:
        pads, wide = self.source.pads, self.geometry.width
        total = (self.strips - 1) * self.width + wide
        shape = (*pixels.shape[:2], total, pixels.shape[3])
        padded = np.full(shape, pad_value, np.int8)
        used = min(self.source.width, total - pads.left)
        padded[:, :, pads.left : pads.left + used] = pixels[:, :, :used]
        cut = [padded[:, :, strip * self.width : strip * self.width + wide] for strip in range(self.strips)]
        return np.stack(cut, axis=1).reshape(self.images, *cut[0].shape[1:])

    def results(self, pixels: NDArray[np.int8]) -> NDArray[np.int8]:
        strips = pixels.reshape(self.source_images, self.strips, *pixels.shape[1:])
        joined = np.concatenate(list(np.moveaxis(strips, 1, 0)), axis=2)
        return joined[:, :, : self.source.out_width]

    def __str__(self) -> str:
        return f"{self.strips} strips"


def strips_of(
    config: EngineConfig, layer: ConvLayer, images: int = 1, profile: Profile | None = None
) -> tuple[Arrangement, list[Job]]:
    """The fewest strips that an engine can run, and the jobs that they make one after the other.

    Parameters
    ----------
    config : EngineConfig
    layer : ConvLayer
    images : int
        Images of the batch.
    profile : Exact or Quantized, optional
        As for `Job`.

    Returns
    -------
    the layout, and jobs for its images in their order; one, unless a job cannot hold all of them.

    Raises
    ------
    UnsupportedLayer
        The engine cannot run the layer, however narrow the strips.
    """
    geometry = layer.geometry
    whole = Arrangement(geometry, images)
    try:
        return whole, [Job(config, layer, images, profile)]
    except UnsupportedLayer as error:
        refusal = error
    if geometry.stride != 1:
        raise refusal
    columns = geometry.tile_columns(tile := config.input_tile + 1 - geometry.kernel) if not config.direct else 0
    for strips in range(1, columns + 1):
        width = -(-columns // strips) * tile
        arrangement = Arrangement(geometry, images, (Columns(geometry, images, width),))
        strip = arrangement.layer(layer)
        try:
            most = Job(config, strip, 1, profile)
        except UnsupportedLayer:
            continue
        size = _images_a_job(most, arrangement.images)
        counts = [size] * (arrangement.images // size)
        counts += [arrangement.images - sum(counts)] if arrangement.images % size else []
        return arrangement, [Job(config, strip, count, profile) for count in counts]
    raise refusal


def _images_a_job(job: Job, images: int) -> int:
    """Most images that one job can hold."""
    for size in range(images, 1, -1):
        try:
            replace(job, images=size, block_rows=None)
        except UnsupportedLayer:
            continue
        return size
    return 1
