"""An image through a layer on the simulated engine, beside direct convolution on as many multipliers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from winohw.gateware.config import EngineConfig
from winohw.gateware.job import Job
from winohw.numerics.calibrate import calibrate
from winohw.numerics.formats import Profile
from winohw.numerics.golden import GoldenModel
from winohw.numerics.layer import ConvLayer
from winohw.sim.compiled import Advance, Waveform
from winohw.sim.layer import EngineSimulation, LayerRun

__all__ = ["Comparison", "direct_twin", "run_image"]

ProgressBar = Callable[[str], AbstractContextManager[Callable[[Advance], None] | None]]


def _no_progress(description: str) -> AbstractContextManager[None]:
    return nullcontext()


@dataclass(frozen=True, eq=False)
class Comparison:
    """One layer on two engines.

    Parameters
    ----------
    winograd, direct : the runs; direct is None where direct convolution was left out.
    exact : the output equals direct convolution, bit for bit.
    model : the output equals the golden model, bit for bit.
    wrong : pixels that differ from direct convolution.
    """

    winograd: LayerRun
    direct: LayerRun | None
    exact: bool
    model: bool
    wrong: int

    @property
    def ratio(self) -> float | None:
        """Cycles of direct convolution over those of Winograd, on as many multipliers."""
        if self.direct is None:
            return None
        scale = self.direct.job.config.multipliers / self.winograd.job.config.multipliers
        return self.direct.cycles * scale / self.winograd.cycles

    def figures(self) -> dict[str, object]:
        """Everything that is reported, for JSON."""
        return {
            "bit_exact_with_direct_convolution": self.exact,
            "bit_exact_with_golden_model": self.model,
            "wrong_pixels": self.wrong,
            "winograd": _figures(self.winograd),
            "direct": None if self.direct is None else _figures(self.direct),
            "ratio": self.ratio,
        }


def _figures(run: LayerRun) -> dict[str, object]:
    config = run.job.config
    return {
        "engine": config.describe(),
        "tile_size": run.job.tile_size,
        "multipliers": config.multipliers,
        "cycles": run.cycles,
        "utilisation": run.utilisation,
        "effective_macs": run.job.effective_macs(),
        "effective_macs_per_cycle": run.effective_macs_per_cycle,
        "wait_pixels": run.wait_pixels,
        "wait_weights": run.wait_weights,
        "wait_drain": run.wait_drain,
    }


def direct_twin(config: EngineConfig, layer: ConvLayer) -> EngineConfig:
    """The engine of direct convolution, m = 1, for a layer, with as many multipliers as `config` or the next fewer.

    One kernel is the least. The lanes are those that take the fewest cycles for the layer. Folding is undone.
    """
    geometry = layer.geometry
    channels, filters, taps = geometry.channels, geometry.filters, geometry.kernel**2
    lanes = max(1, config.multipliers // taps)

    def cycles_a_pixel(split: tuple[int, int]) -> int:
        groups, output_groups = -(-channels // split[0]), -(-filters // split[1])
        # The row serializer hands on one output channel a cycle, the drain buffer half a chunk.
        return output_groups * max(groups, split[1], 2)

    splits = [(pc, lanes // pc) for pc in range(1, lanes + 1) if lanes % pc == 0]
    input_lanes, output_lanes = min(splits, key=cycles_a_pixel)
    return EngineConfig(
        tile_size=1,
        kernel_size=geometry.kernel,
        input_lanes=input_lanes,
        output_lanes=output_lanes,
        max_tiles=max(config.max_tiles, 512),
        line_words=max(config.line_words, 8192),
        drain_tiles=512,
        output_columns=geometry.kernel,
        max_products=config.max_products,
        requantizer=config.requantizer,
        dimension_bits=config.dimension_bits,
    )


def run_image(
    config: EngineConfig,
    layer: ConvLayer,
    pixels: NDArray[np.int8],
    *,
    direct: bool = True,
    calibration: Sequence[int] = (8, 8, 16),
    progress: ProgressBar = _no_progress,
    compiled: bool = True,
    waveform: Waveform | None = None,
) -> Comparison:
    """Run one image (height, width, channels) int8 through the engine, and through direct convolution.

    Parameters
    ----------
    config : the engine. For a quantized one, shifts per tap are calibrated on the image itself.
    direct : also run the direct engine.
    calibration : bits of V, U and M of a quantized engine.
    progress : makes a progress bar from a description.
    compiled : False takes Amaranth's own simulator.
    waveform : where a waveform of the Winograd engine goes, and its cycles.
    """
    images = pixels[None]
    profile: Profile | None = None
    if config.quantized:
        profile = calibrate(config.winograd(), layer, images, bits=tuple(calibration))
    job = Job(config, layer, profile=profile)
    with progress(f"Winograd, {config.multipliers} multipliers") as report:
        simulation = EngineSimulation(config, compiled=compiled, waveform=waveform is not None)
        run = simulation.run(job, images, progress=report, waveform=waveform)
    model = GoldenModel(config.winograd(job.kernel), job.profile).run(job.engine_layer, images)
    reference = layer.reference(images)
    other = None
    if direct:
        twin = direct_twin(config, layer)
        with progress(f"direct, {twin.multipliers} multipliers") as report:
            other = EngineSimulation(twin, compiled=compiled).run(Job(twin, layer), images, progress=report)
    return Comparison(
        run,
        other,
        exact=np.array_equal(run.pixels, reference),
        model=np.array_equal(run.pixels, model),
        wrong=int((run.pixels != reference).sum()),
    )
