"""Whole layers through the simulated engine, and where it departs from the golden model if it does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from winohw.gateware.config import EngineConfig
from winohw.gateware.descriptor import LayerError, check_descriptor
from winohw.gateware.engine import PROBES, Engine
from winohw.gateware.job import Job
from winohw.numerics.golden import Difference, GoldenModel, Stages
from winohw.sim.compiled import Advance, CompiledSimulation, Waveform
from winohw.sim.stalls import Stalls
from winohw.sim.testbench import Result, run_stream

__all__ = ["EngineSimulation", "LayerRefused", "LayerRun", "compare"]


class LayerRefused(RuntimeError):
    """The engine refused a descriptor; `code` says why."""

    def __init__(self, code: LayerError):
        super().__init__(f"the engine refused the layer: {code.name}")
        self.code = code


@dataclass(frozen=True, eq=False)
class LayerRun:
    """A layer that the simulated engine has computed.

    Parameters
    ----------
    job : what was run.
    pixels : (images, out_height, out_width, filters) int8.
    cycles : from the accepted descriptor to the last pixel out, every load, drain and stall included.
    busy : cycles in which a patch chunk entered the array.
    wait_pixels, wait_weights, wait_drain : cycles in which the array waited for these.
    result : the streams' beats and activity.
    """

    job: Job
    pixels: NDArray[np.int8]
    cycles: int
    busy: int
    wait_pixels: int
    wait_weights: int
    wait_drain: int
    result: Result

    @property
    def utilisation(self) -> float:
        """Share of all multiplier-cycles that worked on tiles of the layer; lanes without a channel count as idle."""
        return self.busy * self.job.used_lanes / self.cycles

    @property
    def effective_macs_per_cycle(self) -> float:
        """Multiply-accumulates of the direct convolution a cycle."""
        return self.job.effective_macs() / self.cycles


class EngineSimulation:
    """One engine, compiled once, for any number of layers.

    Behavioural twins take the place of vendors' primitives.

    Parameters
    ----------
    config : EngineConfig
        The engine.
    probe : bool
        Also record the intermediate stages, for `compare`.
    waveform : bool
        Compile so that waveforms can be written.
    compiled : bool
        False takes Amaranth's own simulator: no compiler, a thousand cycles a second.
    """

    def __init__(
        self, config: EngineConfig, *, probe: bool = False, waveform: bool = False, compiled: bool = True
    ) -> None:
        self.config = config
        self.probe = probe
        self._compiled = CompiledSimulation(self._engine(), waveform=waveform) if compiled else None

    def _engine(self) -> Engine:
        return Engine(self.config.behavioural, probe=self.probe)

    def run(
        self,
        job: Job,
        pixels: NDArray[np.int8],
        *,
        stalls: Stalls | None = None,
        progress: Callable[[Advance], None] | None = None,
        waveform: Waveform | None = None,
        max_cycles: int = 1_000_000_000,
    ) -> LayerRun:
        """Run a job on images (images, height, width, channels) int8.

        Raises
        ------
        LayerRefused
            The engine refused the descriptor.
        SimulationError
            The engine did not finish or broke the rules of its streams.
        ValueError
            The job is for another engine, or the images for another layer.
        """
        if job.config != self.config:
            raise ValueError("the job is for another engine")
        words = job.descriptor()
        inputs = {
            "layer": {"word": words, "last": (np.arange(len(words)) == len(words) - 1).astype(np.uint8)},
            "weights": job.weight_beats(),
            "pixels": job.pixel_beats(pixels),
        }
        outputs: dict[str, int | None] = {"o": len(job.output_order), "status": 1}
        if check_descriptor(words, self.config.limits()) != LayerError.OK:
            # Nothing else moves then, and the engine has the last word on it.
            inputs, outputs = {"layer": inputs["layer"]}, {"status": 1}
        if self.probe:
            outputs |= dict.fromkeys(PROBES)
        arguments: dict[str, Any] = {"stalls": stalls, "max_cycles": max_cycles}
        if self._compiled:
            result = self._compiled.run(inputs, outputs, progress=progress, waveform=waveform, **arguments)
        else:
            result = run_stream(self._engine(), inputs, outputs, vcd=waveform and waveform.path, **arguments)
        status = result.outputs["status"][0]
        if status["code"] != LayerError.OK:
            raise LayerRefused(LayerError(int(status["code"])))
        out = result.outputs["o"]
        figures = ("cycles", "busy", "wait_pixels", "wait_weights", "wait_drain")
        return LayerRun(job, job.collect(out["pixels"], out["count"]), *(int(status[name]) for name in figures), result)


def compare(run: LayerRun, pixels: NDArray[np.int8]) -> Difference | None:
    """Where a run first departs from the golden model: stage, tile, tap and channel.

    Parameters
    ----------
    run : of a simulation with `probe`, else only its output is compared.
    pixels : the images that were given to it.

    Returns
    -------
    difference, or None if every recorded value is the golden model's.
    """
    job = run.job
    layer = job.engine_layer
    model = GoldenModel(job.config.winograd(job.kernel), job.profile)
    stages = model.stages(layer, pixels)
    observed: dict[str, NDArray] = {"pixels": run.pixels}
    recorded = run.result.outputs
    if "product" in recorded:
        observed |= _observed(job, recorded, stages)
    return stages.first_difference(observed)


def _observed(job: Job, recorded: dict[str, NDArray], stages: Stages) -> dict[str, NDArray]:
    """Recorded beats in the golden model's shapes. Lanes without a channel are left out."""
    config, layer = job.config, job.engine_layer
    n, images = config.input_tile, job.images
    rows, columns, groups, filters = job.tile_rows, job.tile_columns, job.groups, job.output_groups
    channels, outputs = layer.geometry.channels, layer.geometry.filters

    def per_tile(beats: NDArray, inner: Sequence[int]) -> list[NDArray]:
        """Beats by block, in the order of the sequencer's loops; `inner` counts the groups of a block."""
        parts, first = [], 0
        for start in range(0, job.total_rows, job.block_rows):
            size = min(job.block_rows, job.total_rows - start)
            count = int(np.prod(inner)) * size * columns * config.fold
            part = beats[first : first + count]
            if config.datapath == "stationary":
                # Input channels, the second of the groups, are innermost.
                part = part.reshape(inner[0], size, columns, config.fold, *inner[1:], *beats.shape[1:])
                part = np.moveaxis(part, 4, 1) if inner[1:] else part
            parts.append(part.reshape(*inner, size, columns, config.fold, *beats.shape[1:]))
            first += count
        if first != len(beats):
            raise ValueError(f"{len(beats)} chunks were recorded, {first} are expected")
        return parts

    # Chunk phase p holds tap columns p * Q ... : (..., fold, lane, n, Q) becomes (..., lane, n, n).
    def taps(chunks: NDArray) -> NDArray:
        moved = np.moveaxis(chunks, -4, -2)
        return moved.reshape(*moved.shape[:-2], n)

    # Subsampled pixels are one phase; the model has four, of which the others meet zero weights only.
    expected_v = stages.input_transform[:, :, :, : job.phases * channels]
    expected_u = stages.weight_transform[:, : job.phases * channels]
    # V comes to the array for every group of output channels: all of them must agree with the model.
    v = np.concatenate(
        [taps(part) for part in per_tile(recorded["input_transform"], (filters, groups))], axis=2
    )  # (filters, groups, rows, columns, Pc, n, n)
    v = np.moveaxis(v, 1, 3).reshape(filters, images, rows, columns, -1, n, n)
    v = _channels(v, job, channels, axis=4)
    wrong = np.flatnonzero((v != expected_v[None]).reshape(filters, -1).any(axis=1))
    u = recorded["weight_transform"].reshape(job.blocks, filters, groups, config.output_lanes, config.input_lanes, n, n)
    u = np.moveaxis(u, 3, 2).reshape(job.blocks, filters * config.output_lanes, -1, n, n)
    u = _channels(u, job, channels, axis=2)[:, :outputs]
    wrong_u = np.flatnonzero((u != expected_u[None]).reshape(job.blocks, -1).any(axis=1))
    m = np.concatenate([taps(part) for part in per_tile(recorded["product"], (filters,))], axis=1)
    m = m.reshape(filters, images, rows, columns, config.output_lanes, n, n)
    m = np.moveaxis(m, 0, 3).reshape(images, rows, columns, -1, n, n)[:, :, :, :outputs]
    if config.quantized:
        m = job.profile.product.apply(m)
    size = job.tile_size
    tiles, first = [], 0
    for start in range(0, job.total_rows, job.block_rows):
        shape = (filters, min(job.block_rows, job.total_rows - start), columns, size)
        part = recorded["output_transform"][first : first + int(np.prod(shape))]
        first += len(part)
        tiles.append(part.reshape(*shape, config.output_lanes, config.largest_tile)[..., :size])
    y = np.concatenate(tiles, axis=1).reshape(filters, images, rows, columns, size, config.output_lanes, size)
    # (filters, images, rows, columns, i, lane, j) to image rows and columns
    y = y.transpose(1, 2, 4, 3, 6, 0, 5).reshape(images, rows * size, columns * size, -1)
    observed_v, observed_u = stages.input_transform.copy(), stages.weight_transform.copy()
    observed_v[:, :, :, : job.phases * channels] = v[wrong[0] if len(wrong) else 0]
    observed_u[:, : job.phases * channels] = u[wrong_u[0] if len(wrong_u) else 0]
    return {
        "accumulators": y[:, : layer.geometry.out_height, : layer.geometry.out_width, :outputs],
        "input_transform": observed_v,
        "weight_transform": observed_u,
        "product": m,
    }


def _channels(array: NDArray, job: Job, channels: int, axis: int) -> NDArray:
    """Effective channels in the golden model's order: each phase's lanes beyond the last channel are dropped."""
    lanes = job.input_groups * job.config.input_lanes
    shape = list(array.shape)
    shape[axis : axis + 1] = [job.phases, lanes]
    split = array.reshape(shape)
    kept = np.take(split, np.arange(channels), axis=axis + 1)
    shape[axis : axis + 2] = [job.phases * channels]
    return kept.reshape(shape)
