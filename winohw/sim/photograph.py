"""An image through a layer on an engine, simulated unless told, beside direct convolution on as many multipliers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from winohw.gateware.config import EngineConfig
from winohw.gateware.direct_engine import direct_engine
from winohw.gateware.job import Job
from winohw.numerics.calibrate import calibrate
from winohw.numerics.formats import Profile
from winohw.numerics.golden import GoldenModel
from winohw.numerics.layer import ConvLayer
from winohw.sim.compiled import Advance, Waveform
from winohw.sim.layer import EngineSimulation

__all__ = ["Comparison", "ImageRun", "Runner", "expected_pixels", "run_image", "simulated"]

ProgressBar = Callable[[str], AbstractContextManager[Callable[[Advance], None] | None]]


class Counters(Protocol):
    """Cycles of a job: all of them, those in which the array worked, and those in which it waited."""

    cycles: int
    busy: int
    wait_pixels: int
    wait_weights: int
    wait_drain: int


@dataclass(frozen=True, eq=False)
class ImageRun:
    """A layer that an engine has computed, in one job or several that its images are cut into.

    Parameters
    ----------
    job : the first of the jobs.
    layer : the whole layer.
    pixels : (images, out_height, out_width, filters) int8.
    expected : the same from the golden model.
    counters : of every job.
    """

    job: Job
    layer: ConvLayer
    pixels: NDArray[np.int8]
    expected: NDArray[np.int8]
    counters: Sequence[Counters]

    def _sum(self, name: str) -> int:
        return sum(getattr(item, name) for item in self.counters)

    @property
    def cycles(self) -> int:
        """From accepted descriptors to last pixels out, without what lies between jobs; 0 if they are not counted."""
        return self._sum("cycles")

    @property
    def busy(self) -> int:
        """Cycles in which a patch chunk entered the array; 0 if they are not counted."""
        return self._sum("busy")

    @property
    def utilisation(self) -> float | None:
        """Share of all multiplier-cycles that worked on tiles of the layer; lanes without a channel count as idle. None
        if the engine does not count.
        """
        return None if not self.cycles else self.busy * self.job.used_lanes / self.cycles

    @property
    def effective_macs(self) -> int:
        """Multiply-accumulates of the direct convolution."""
        return self.layer.geometry.macs * len(self.pixels)

    @property
    def effective_macs_per_cycle(self) -> float | None:
        """Multiply-accumulates of the direct convolution a cycle; None if the engine does not count."""
        return None if not self.cycles else self.effective_macs / self.cycles

    def figures(self) -> dict[str, object]:
        """Everything that is reported, for JSON."""
        config = self.job.config
        waits = ("wait_pixels", "wait_weights", "wait_drain")
        return {
            "engine": config.describe(),
            "tile_size": self.job.tile_size,
            "multipliers": config.multipliers,
            "cycles": self.cycles,
            "busy": self.busy,
            "utilisation": self.utilisation,
            "effective_macs": self.effective_macs,
            "effective_macs_per_cycle": self.effective_macs_per_cycle,
            **{name: self._sum(name) for name in waits},
        }


#: Runs a layer on images (images, height, width, channels) int8, in the profile given, and tells of its progress.
Runner = Callable[[ConvLayer, NDArray[np.int8], Profile | None, Callable[[Advance], None] | None], ImageRun]


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

    winograd: ImageRun
    direct: ImageRun | None
    exact: bool
    model: bool
    wrong: int

    @property
    def ratio(self) -> float | None:
        """Cycles of direct convolution over those of Winograd, on as many multipliers; None if one is not known."""
        return self._ratio("cycles")

    @property
    def busy_ratio(self) -> float | None:
        """As `ratio`, but only of cycles in which the arrays are at work: what is left where a slow line delivers the
        pixels.
        """
        return self._ratio("busy")

    def _ratio(self, figure: str) -> float | None:
        if self.direct is None or not self.winograd.cycles:
            return None
        scale = self.direct.job.config.multipliers / self.winograd.job.config.multipliers
        return getattr(self.direct, figure) * scale / getattr(self.winograd, figure)

    def figures(self) -> dict[str, object]:
        """Everything that is reported, for JSON."""
        return {
            "bit_exact_with_direct_convolution": self.exact,
            "bit_exact_with_golden_model": self.model,
            "wrong_pixels": self.wrong,
            "winograd": self.winograd.figures(),
            "direct": None if self.direct is None else self.direct.figures(),
            "ratio": self.ratio,
            "busy_ratio": self.busy_ratio,
        }


def _direct_engine(config: EngineConfig, layer: ConvLayer) -> EngineConfig:
    """The engine of direct convolution for a layer, with memories for images of any width that is usual."""
    engine = direct_engine(config, [layer.geometry], layer.geometry.kernel)
    return replace(
        engine,
        max_tiles=max(engine.max_tiles, 512),
        line_words=max(engine.line_words, 8192),
        drain_tiles=max(engine.drain_tiles, 512),
        dimension_bits=max(engine.dimension_bits, 12),
        family="generic",
        multiplier="generic",
    )


def simulated(config: EngineConfig, *, compiled: bool = True, waveform: Waveform | None = None) -> Runner:
    """Runs layers on a simulated engine.

    Parameters
    ----------
    config : the engine.
    compiled : False takes Amaranth's own simulator.
    waveform : where a waveform of the engine goes, and its cycles.
    """
    simulation = EngineSimulation(config, compiled=compiled, waveform=waveform is not None)

    def run(
        layer: ConvLayer,
        images: NDArray[np.int8],
        profile: Profile | None,
        progress: Callable[[Advance], None] | None,
    ) -> ImageRun:
        job = Job(config, layer, len(images), profile)
        result = simulation.run(job, images, progress=progress, waveform=waveform)
        return ImageRun(job, layer, result.pixels, expected_pixels(job, images), [result])

    return run


def expected_pixels(job: Job, images: NDArray[np.int8]) -> NDArray[np.int8]:
    """The golden model's output for a job."""
    return GoldenModel(job.config.winograd(job.kernel), job.profile).run(job.engine_layer, images)


def run_image(
    config: EngineConfig,
    layer: ConvLayer,
    pixels: NDArray[np.int8],
    *,
    direct: bool = True,
    progress: ProgressBar = _no_progress,
    compiled: bool = True,
    waveform: Waveform | None = None,
    runner: Runner | None = None,
) -> Comparison:
    """Run one image (height, width, channels) int8 through the engine, and through direct convolution.

    Parameters
    ----------
    config : the engine. For a quantized one, shifts per tap are calibrated on the image itself.
    direct : also run the direct engine, if there are cycles to compare: an engine without statistics counts none.
    progress : makes a progress bar from a description.
    compiled : False takes Amaranth's own simulator.
    waveform : where a waveform of the Winograd engine goes, and its cycles.
    runner : what runs the layer on an engine of this configuration; the simulation of that engine unless told.
    """
    images = pixels[None]
    profile: Profile | None = None
    if config.quantized:
        profile = calibrate(config.winograd(), layer, images, **config.calibration)
    with progress(f"Winograd, {config.multipliers} multipliers") as report:
        run = runner or simulated(config, compiled=compiled, waveform=waveform)
        winograd = run(layer, images, profile, report)
    reference = layer.reference(images)
    other = None
    if direct and config.statistics:
        twin = _direct_engine(config, layer)
        with progress(f"direct, {twin.multipliers} multipliers") as report:
            other = simulated(twin, compiled=compiled)(layer, images, None, report)
    return Comparison(
        winograd,
        other,
        exact=np.array_equal(winograd.pixels, reference),
        model=np.array_equal(winograd.pixels, winograd.expected),
        wrong=int((winograd.pixels != reference).sum()),
    )
