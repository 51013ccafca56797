"""The bench: a network layer by layer on an engine, against direct convolution on as many multipliers."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from winohw.algorithm.geometry import ConvGeometry
from winohw.gateware.config import EngineConfig
from winohw.gateware.direct_engine import direct_engine
from winohw.gateware.job import UnsupportedLayer
from winohw.network.networks import NamedLayer, network
from winohw.network.plan import LayerPlan, plan_layer
from winohw.numerics.calibrate import calibrate
from winohw.numerics.golden import GoldenModel
from winohw.numerics.layer import ConvLayer
from winohw.numerics.requantize import Requantization, ShiftRequantization, quantize_multiplier
from winohw.sim.compiled import Advance
from winohw.sim.layer import EngineSimulation

__all__ = ["BenchReport", "LayerResult", "bench", "random_layer", "random_pixels"]

ProgressBar = Callable[[str], AbstractContextManager[Callable[[Advance], None] | None]]


def _no_progress(description: str) -> AbstractContextManager[None]:
    return nullcontext()


@dataclass(frozen=True)
class LayerResult:
    """One layer on the engine.

    Attributes
    ----------
    name : the layer's.
    plan : how it is run, and what that costs by the model.
    direct : the same on the direct engine; None where that cannot run it.
    simulated_cycles : of the whole batch in simulation; None where only the model was asked.
    exact : whether the simulated results equal the reference, bit for bit; None likewise.
    """

    name: str
    plan: LayerPlan
    direct: LayerPlan | None
    simulated_cycles: int | None = None
    exact: bool | None = None

    @property
    def images(self) -> int:
        """Images of the batch."""
        return self.plan.images

    @property
    def cycles(self) -> float:
        """Cycles an image: simulated ones if there are any."""
        return (self.plan.cycles if self.simulated_cycles is None else self.simulated_cycles) / self.images

    @property
    def macs(self) -> int:
        """Effective MACs of an image."""
        return self.plan.macs // self.images

    @property
    def ideal_cycles(self) -> float:
        """Cycles an image of a direct engine that never idles: MACs / multipliers."""
        return self.macs / self.plan.cost.job.config.multipliers

    @property
    def direct_cycles(self) -> float | None:
        """Cycles an image of the direct engine, by the model."""
        return None if self.direct is None else self.direct.cycles / self.images

    @property
    def utilisation(self) -> float:
        """Share of the multiplier-cycles that work on tiles of the layer, edge tiles included."""
        job = self.plan.cost.job
        return self.plan.jobs * job.array_chunks() * job.used_lanes / (self.cycles * self.images)

    @property
    def efficiency(self) -> float:
        """Effective MACs a cycle and a multiplier."""
        return self.ideal_cycles / self.cycles

    @property
    def bytes(self) -> float:
        """Bytes of weights, pixels in and pixels out an image."""
        cost = self.plan.cost
        return (cost.weight_bytes + cost.pixel_bytes + cost.output_bytes) * self.plan.jobs / self.images

    def as_dict(self) -> dict[str, object]:
        """The figures, for JSON."""
        cost, job = self.plan.cost, self.plan.cost.job
        geometry = self.plan.arrangement.source
        return {
            "name": self.name,
            "height": geometry.height,
            "width": geometry.width,
            "channels": geometry.channels,
            "filters": geometry.filters,
            "kernel": geometry.kernel,
            "stride": geometry.stride,
            "images": self.images,
            "jobs": self.plan.jobs,
            "arrangement": str(self.plan.arrangement),
            "tile_size": job.tile_size,
            "block_tiles": job.block_rows * job.tile_columns,
            "source": "model" if self.simulated_cycles is None else "simulation",
            "bit_exact": self.exact,
            "cycles": self.cycles,
            "model_cycles": self.plan.cycles / self.images,
            "utilisation": self.utilisation,
            "effective_macs": self.macs,
            "effective_macs_per_cycle": self.macs / self.cycles,
            "effective_macs_per_multiplier_and_cycle": self.efficiency,
            "wait_pixels": cost.wait_pixels / cost.cycles,
            "wait_weights": cost.wait_weights / cost.cycles,
            "wait_drain": cost.wait_drain / cost.cycles,
            "weight_bytes": cost.weight_bytes * self.plan.jobs / self.images,
            "pixel_bytes": cost.pixel_bytes * self.plan.jobs / self.images,
            "output_bytes": cost.output_bytes * self.plan.jobs / self.images,
            "weight_bytes_per_cycle_needed": cost.weight_bandwidth,
            "ideal_direct_cycles": self.ideal_cycles,
            "direct_engine_cycles": self.direct_cycles,
        }


@dataclass(frozen=True)
class BenchReport:
    """A network on an engine.

    Attributes
    ----------
    network : its name.
    config : the engine.
    direct_config : the direct engine beside it.
    images : images of the batch.
    layers : results, in the order of the network.
    weight_bandwidth : most bytes of weights a cycle; None: no limit.
    """

    network: str
    config: EngineConfig
    direct_config: EngineConfig
    images: int
    layers: tuple[LayerResult, ...]
    weight_bandwidth: float | None = None

    @property
    def cycles(self) -> float:
        """Cycles an image, all layers."""
        return sum(layer.cycles for layer in self.layers)

    @property
    def macs(self) -> int:
        """Effective MACs of an image, all layers."""
        return sum(layer.macs for layer in self.layers)

    @property
    def ratio_to_ideal(self) -> float:
        """How many times faster than a direct engine that never idles, with as many multipliers."""
        return sum(layer.ideal_cycles for layer in self.layers) / self.cycles

    @property
    def ratio_to_direct(self) -> float | None:
        """How many times faster than the direct engine, over the layers that it can run; multipliers made equal."""
        both = [layer for layer in self.layers if layer.direct_cycles is not None]
        if not both:
            return None
        scale = self.direct_config.multipliers / self.config.multipliers
        return sum(layer.direct_cycles for layer in both) * scale / sum(layer.cycles for layer in both)

    @property
    def simulated(self) -> bool:
        """Whether every layer was simulated."""
        return all(layer.simulated_cycles is not None for layer in self.layers)

    @property
    def exact(self) -> bool | None:
        """Whether every simulated layer was bit-exact; None if there is none."""
        checked = [layer.exact for layer in self.layers if layer.exact is not None]
        return all(checked) if checked else None

    def table(self) -> Table:
        """All layers and the sum, for the terminal."""
        batch = "1 image" if self.images == 1 else f"batch of {self.images} images"
        table = Table(
            title=f"{self.network}, {self.config.describe()}, {batch}",
            caption="cycles an image; s simulated and compared bit for bit, m modelled; busy: multipliers at work; "
            "MAC: effective MAC a multiplier and cycle, which is how many times faster than direct convolution "
            f"without an idle cycle; × direct: faster than the {self.direct_config.describe()}, multipliers made equal",
        )
        table.add_column("layer")
        for name in ("shape", "layout"):
            table.add_column(name, no_wrap=True)
        for name in ("tile", "cycles", "", "busy", "MAC", "B/cycle", "× direct"):
            table.add_column(name, justify="right")
        scale = self.direct_config.multipliers / self.config.multipliers
        for layer in self.layers:
            source, job = layer.plan.arrangement.source, layer.plan.cost.job
            mark = "m" if layer.exact is None else "s" if layer.exact else "[red]wrong[/]"
            ratio = "" if layer.direct_cycles is None else f"{layer.direct_cycles * scale / layer.cycles:.2f}"
            table.add_row(
                layer.name,
                f"{source.height}×{source.width}×{source.channels}→{source.filters} "
                f"{source.kernel}×{source.kernel}" + (f"/{source.stride}" if source.stride > 1 else ""),
                str(layer.plan.arrangement) + (f" ({layer.plan.jobs} jobs)" if layer.plan.jobs > 1 else ""),
                f"{job.tile_size}",
                f"{layer.cycles:,.0f}",
                mark,
                f"{layer.utilisation:.1%}",
                f"{layer.efficiency:.2f}",
                f"{layer.bytes / layer.cycles:.1f}",
                ratio,
            )
        table.add_section()
        direct = self.ratio_to_direct
        table.add_row(
            *("all layers", f"{self.macs / 1e9:.2f} GMAC", "", "", f"{self.cycles:,.0f}", "", ""),
            f"{self.ratio_to_ideal:.2f}",
            f"{sum(layer.bytes for layer in self.layers) / self.cycles:.1f}",
            "" if direct is None else f"{direct:.2f}",
        )
        return table

    def markdown(self) -> str:
        """The table for a document."""
        columns = ("layer", "shape", "layout", "tile", "cycles", "busy", "MAC", "B / cycle", "× direct")
        rows = [columns, ("---",) * len(columns)]
        scale = self.direct_config.multipliers / self.config.multipliers
        for layer in self.layers:
            source, size = layer.plan.arrangement.source, layer.plan.cost.job.tile_size
            stride = f" / {source.stride}" if source.stride > 1 else ""
            shape = (
                f"{source.height}×{source.width}×{source.channels} → {source.filters}, {source.kernel}×{source.kernel}"
            )
            direct = layer.direct_cycles
            rows.append(
                (
                    layer.name,
                    shape + stride,
                    str(layer.plan.arrangement),
                    f"{size}×{size}",
                    f"{layer.cycles:,.0f}",
                    f"{layer.utilisation:.1%}",
                    f"{layer.efficiency:.2f}",
                    f"{layer.bytes / layer.cycles:.1f}",
                    "" if direct is None else f"{direct * scale / layer.cycles:.2f}",
                )
            )
        direct = self.ratio_to_direct
        total = ("**all layers**", f"{self.macs / 1e9:.2f} GMAC", "", "", f"**{self.cycles:,.0f}**", "")
        total += (f"**{self.ratio_to_ideal:.2f}**", f"{sum(layer.bytes for layer in self.layers) / self.cycles:.1f}")
        rows.append((*total, "" if direct is None else f"{direct:.2f}"))
        return "".join("| " + " | ".join(row) + " |\n" for row in rows)

    def as_dict(self) -> dict[str, object]:
        """All figures."""
        return {
            "network": self.network,
            "engine": self.config.describe(),
            "direct_engine": self.direct_config.describe(),
            "multipliers": self.config.multipliers,
            "direct_multipliers": self.direct_config.multipliers,
            "images": self.images,
            "weight_bandwidth": self.weight_bandwidth,
            "simulated": self.simulated,
            "bit_exact": self.exact,
            "cycles": self.cycles,
            "effective_macs": self.macs,
            "ratio_to_ideal_direct": self.ratio_to_ideal,
            "ratio_to_direct_engine": self.ratio_to_direct,
            "layers": [layer.as_dict() for layer in self.layers],
        }

    def to_json(self) -> str:
        """All figures as JSON."""
        return json.dumps(self.as_dict(), indent=2)

    def plot(self, path: str | Path) -> None:
        """Bars of every layer and a roofline, as an image.

        Raises
        ------
        ImportError
            matplotlib is missing; it comes with the extra `plot`.
        """
        from winohw.network.plot import plot_bench

        plot_bench(self, path)


def random_layer(rng: np.random.Generator, geometry: ConvGeometry, requantizer: str = "tflite") -> ConvLayer:
    """A layer with full-range weights whose output pixels spread over the whole range instead of saturating."""
    filters = geometry.filters
    weights = rng.integers(-128, 128, (filters, geometry.kernel, geometry.kernel, geometry.channels), np.int8)
    bias = rng.integers(-20000, 20000, filters)
    zero_point = int(rng.integers(-40, 40))
    # A full-range product has a standard deviation of about 74².
    spread = 74 * 74 * np.sqrt(geometry.channels * geometry.kernel**2)
    if requantizer == "shift":
        shift = [-max(0, round(np.log2(spread / 50)))] * filters
        constants = ShiftRequantization(bias, shift, zero_point, -128, 127)
    else:
        scales = 50 / spread * 2.0 ** rng.uniform(-1, 1, filters)
        multiplier, shift = zip(*(quantize_multiplier(scale) for scale in scales.tolist()), strict=True)
        constants = Requantization(bias, multiplier, shift, zero_point, -128, 127)
    return ConvLayer(geometry, weights, constants, int(rng.integers(-128, 128)))


def random_pixels(rng: np.random.Generator, geometry: ConvGeometry, images: int) -> NDArray[np.int8]:
    """Full-range images (images, height, width, channels)."""
    return rng.integers(-128, 128, (images, geometry.height, geometry.width, geometry.channels), np.int8)


def bench(
    name: str | Sequence[NamedLayer],
    config: EngineConfig,
    *,
    images: int = 1,
    simulate: bool = False,
    rearrange: bool = True,
    weight_bandwidth: float | None = None,
    seed: int = 1,
    progress: ProgressBar = _no_progress,
    compiled: bool = True,
) -> BenchReport:
    """Run a network layer by layer on an engine, by the cost model or in simulation.

    Parameters
    ----------
    name : a network of `winohw.network.networks`, or layers.
    config : the engine.
    images : images of the batch, 1 or more.
    simulate : simulate every layer, with random pixels and weights, and compare the results with direct convolution
        (with the golden model, if the engine is a quantized one), bit for bit.
    rearrange : whether the host may lay out the images anew.
    weight_bandwidth : most bytes of weights a cycle, for the modelled figures.
    seed : of the random data.
    progress : makes a progress bar from a description.
    compiled : False takes Amaranth's own simulator.

    Raises
    ------
    UnsupportedLayer
        The engine cannot run a layer.
    ValueError
        There is no such network, or no image.
    """
    if images < 1:
        raise ValueError(f"images must be at least 1, not {images}")
    layers = network(name) if isinstance(name, str) else tuple(name)
    other = direct_engine(config, [layer.geometry for layer in layers])
    simulation = EngineSimulation(config, compiled=compiled) if simulate else None
    plans: dict[ConvGeometry, tuple[LayerPlan, LayerPlan | None]] = {}
    results = []
    for number, layer in enumerate(layers):
        if layer.geometry not in plans:
            options = {"rearrange": rearrange, "weight_bandwidth": weight_bandwidth}
            plan = plan_layer(config, layer.geometry, images, **options)
            try:
                direct = plan_layer(other, layer.geometry, images, **options)
            except UnsupportedLayer:
                direct = None
            plans[layer.geometry] = plan, direct
        result = LayerResult(layer.name, *plans[layer.geometry])
        if simulation:
            with progress(layer.name) as report:
                rng = np.random.default_rng((seed, number))
                result = replace(result, **_simulate(simulation, result.plan, rng, report))
        results.append(result)
    title = name if isinstance(name, str) else "layers"
    return BenchReport(title, config, other, images, tuple(results), weight_bandwidth)


def _simulate(
    simulation: EngineSimulation,
    plan: LayerPlan,
    rng: np.random.Generator,
    progress: Callable[[Advance], None] | None,
) -> dict[str, object]:
    """Cycles of all jobs of a plan with random data, and whether the results are right."""
    config = simulation.config
    geometry = plan.arrangement.source
    layer = random_layer(rng, geometry, config.requantizer)
    pixels = random_pixels(rng, geometry, plan.images)
    profile = None
    if config.quantized:
        arranged = plan.arrangement.layer(layer)
        first = plan.arrangement.pixels(pixels[: plan.arrangement.source_images], layer.input_zero_point)
        profile = calibrate(config.winograd(plan.cost.job.kernel), arranged, first, **config.calibration)
    job = plan.job(layer, profile)
    cycles, exact = 0, True
    for start in range(0, plan.images, plan.arrangement.source_images):
        part = pixels[start : start + plan.arrangement.source_images]
        arranged = plan.arrangement.pixels(part, layer.input_zero_point)
        run = simulation.run(job, arranged, progress=progress)
        cycles += run.cycles
        if config.quantized:
            expected = GoldenModel(config.winograd(job.kernel), job.profile).run(job.engine_layer, arranged)
            exact &= np.array_equal(run.pixels, expected)
        else:
            exact &= np.array_equal(plan.arrangement.results(run.pixels), layer.reference(part))
    return {"simulated_cycles": cycles, "exact": bool(exact)}
