"""How a layer is best run on an engine: layout of its images, images a job, tile rows a block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from winohw.algorithm.geometry import ConvGeometry
from winohw.gateware.config import EngineConfig
from winohw.gateware.job import Job, UnsupportedLayer
from winohw.network.cost import LayerCost, layer_cost
from winohw.network.rearrange import Arrangement, Mosaic, Phases, Slices, Strip
from winohw.numerics.layer import ConvLayer
from winohw.numerics.requantize import Requantization, ShiftRequantization

__all__ = ["LayerPlan", "plan_layer"]

#: Candidates that are costed exactly; the others are left out by their estimates.
_FINALISTS = 4
#: Most images along a side of a mosaic.
_MOSAIC = 8
#: Most slices of an image, and what each must save: it costs pixels that are sent twice.
_SLICES = 8
_SLICE_GAIN = 0.02


@dataclass(frozen=True)
class LayerPlan:
    """A batch of images on an engine.

    Attributes
    ----------
    images : images of the batch.
    jobs : equal jobs, one after the other, that the batch is split into.
    arrangement : layout of each job's images.
    cost : what one of the jobs costs.
    """

    images: int
    jobs: int
    arrangement: Arrangement
    cost: LayerCost

    @property
    def block_rows(self) -> int:
        """Tile rows a block."""
        return self.cost.job.block_rows

    @property
    def cycles(self) -> int:
        """Cycles of the whole batch."""
        return self.jobs * self.cost.cycles

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the direct convolution of the whole batch: the effective MACs."""
        return self.images * self.arrangement.source.macs

    def job(self, layer: ConvLayer, profile: object = None) -> Job:
        """One of the jobs, for a layer with weights."""
        arranged = self.arrangement.layer(layer)
        return Job(self.cost.job.config, arranged, self.arrangement.images, profile, self.block_rows)


def plan_layer(
    config: EngineConfig,
    geometry: ConvGeometry,
    images: int = 1,
    *,
    rearrange: bool = True,
    weight_bandwidth: float | None = None,
) -> LayerPlan:
    """The plan that takes the fewest cycles for a batch; images are cut only where that saves enough.

    Parameters
    ----------
    config : the engine.
    geometry : shape of the layer.
    images : images of the batch, 1 or more.
    rearrange : whether the host may lay out the images anew; else only the batch is split.
    weight_bandwidth : as `layer_cost` takes it.

    Raises
    ------
    UnsupportedLayer
        The engine cannot run the layer in any of the layouts.
    """
    found: list[tuple[float, int, int, Arrangement, Job]] = []
    refused = None
    for split in (size for size in range(1, images + 1) if images % size == 0):
        for arrangement in _arrangements(config, geometry, split) if rearrange else [Arrangement(geometry, split)]:
            try:
                job = Job(config, _blank(config, arrangement.geometry), arrangement.images, _profile(config))
            except UnsupportedLayer as error:
                refused = refused or error
                continue
            if weight_bandwidth is not None:
                rows = min(job.block_choices, key=lambda rows: job.estimate_cycles(rows, weight_bandwidth))
                job = replace(job, block_rows=rows)
            estimate = job.estimate_cycles(job.block_rows, weight_bandwidth) * (images // split)
            found.append((estimate * _handicap(arrangement), len(arrangement.steps), len(found), arrangement, job))
    if not found:
        raise refused
    plans = []
    for _, _, _, arrangement, job in sorted(found)[:_FINALISTS]:
        jobs = images // arrangement.source_images
        plans.append(LayerPlan(images, jobs, arrangement, layer_cost(job, weight_bandwidth=weight_bandwidth)))
    return min(plans, key=lambda plan: plan.cycles * _handicap(plan.arrangement))


def _handicap(arrangement: Arrangement) -> float:
    return 1 + _SLICE_GAIN * sum(step.count for step in arrangement.steps if isinstance(step, Slices))


def _arrangements(config: EngineConfig, geometry: ConvGeometry, images: int) -> Iterator[Arrangement]:
    """Layouts worth a try."""
    bases = [Arrangement(geometry, images)]
    if geometry.stride == 2 and not config.direct:
        bases.append(Arrangement(geometry, images, (Phases(geometry, images),)))
    for base in bases:
        yield base
        shape = base.geometry
        if shape.kernel > 1 and (config.direct or shape.stride == 1):
            edge = 1 if config.direct else config.input_tile + 1 - shape.kernel
            columns = -(-shape.out_width // edge)
            for width in sorted({-(-columns // count) for count in range(2, min(columns, _SLICES) + 1)}):
                yield Arrangement(geometry, images, (*base.steps, Slices(shape, images, width * edge)))
        if config.direct or shape.stride > 1:
            continue
        if shape.kernel == 1 and not any(shape.pads):
            edge = config.input_tile + 1 - min(config.kernels)
            tiles = -(-images * shape.height * shape.width // edge**2)
            for columns in range(1, min(tiles, config.max_tiles) + 1):
                height, width = -(-tiles // columns) * edge, columns * edge
                yield Arrangement(geometry, images, (*base.steps, Strip(shape, images, height, width)))
            continue
        for rows in range(1, min(images, _MOSAIC) + 1):
            for columns in range(1, min(images // rows, _MOSAIC) + 1):
                if rows * columns > 1:
                    yield Arrangement(geometry, images, (*base.steps, Mosaic(shape, images, rows, columns)))


def _profile(config: EngineConfig) -> object:
    return config.profile if config.quantized else None


def _blank(config: EngineConfig, geometry: ConvGeometry) -> ConvLayer:
    """A layer of this shape whose weights do not matter."""
    filters = geometry.filters
    weights = np.zeros((filters, geometry.kernel, geometry.kernel, geometry.channels), np.int8)
    zeros = np.zeros(filters, np.int64)
    if config.requantizer == "shift":
        constants = ShiftRequantization(zeros, zeros, 0, -128, 127)
    else:
        constants = Requantization(zeros, zeros + 2**30, zeros, 0, -128, 127)
    return ConvLayer(geometry, weights, constants)
