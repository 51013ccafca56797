"""Jobs for images that are too large for an engine: cut into slices by the host."""

from __future__ import annotations

from dataclasses import replace

from winohw.gateware.config import EngineConfig
from winohw.gateware.job import Job, UnsupportedLayer
from winohw.network.rearrange import Arrangement, Slices
from winohw.numerics.formats import Profile
from winohw.numerics.layer import ConvLayer

__all__ = ["sliced_jobs"]


def sliced_jobs(
    config: EngineConfig, layer: ConvLayer, images: int = 1, profile: Profile | None = None
) -> tuple[Arrangement, list[Job]]:
    """The fewest slices that an engine can run, and the jobs that they make one after the other.

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
        The engine cannot run the layer, however small the slices.
    """
    geometry = layer.geometry
    whole = Arrangement(geometry, images)
    try:
        return whole, [Job(config, layer, images, profile)]
    except UnsupportedLayer as error:
        refusal = error
    if geometry.stride != 1:
        raise refusal
    tile = config.input_tile + 1 - geometry.kernel
    if config.direct or tile < 1:
        raise refusal
    heights, widths = _parts(geometry.tile_rows(tile)), _parts(geometry.tile_columns(tile))
    grids = [(rows * columns, rows, columns) for rows in heights for columns in widths]
    for _, rows, columns in sorted(grids):
        height = heights[rows] * tile if rows > 1 else None
        arrangement = Arrangement(geometry, images, (Slices(geometry, images, widths[columns] * tile, height),))
        sliced = arrangement.layer(layer)
        try:
            most = Job(config, sliced, 1, profile)
        except UnsupportedLayer:
            continue
        size = _images_a_job(most, arrangement.images)
        counts = [size] * (arrangement.images // size)
        counts += [arrangement.images - sum(counts)] if arrangement.images % size else []
        return arrangement, [Job(config, sliced, count, profile) for count in counts]
    raise refusal


def _parts(tiles: int) -> dict[int, int]:
    """For the numbers of parts that so many tiles can be cut into, the tiles of a part."""
    sizes = {-(-tiles // parts) for parts in range(1, tiles + 1)}
    return {-(-tiles // size): size for size in sizes}


def _images_a_job(job: Job, images: int) -> int:
    """Most images that one job can hold."""
    for size in range(images, 1, -1):
        try:
            replace(job, images=size, block_rows=None)
        except UnsupportedLayer:
            continue
        return size
    return 1
