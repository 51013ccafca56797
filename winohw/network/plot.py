"""The bench as a picture: bars of every layer, and a roofline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from winohw.network.bench import BenchReport

__all__ = ["plot_bench"]

_BLUE, _SKY, _GREY, _RED = "#1f4e9c", "#9cc0ec", "#8a8a8a", "#c23b22"
#: Bytes a cycle of external memories that the roofline shows.
_BANDWIDTHS = (1, 2, 4, 8)


def plot_bench(report: BenchReport, path: str | Path) -> None:
    """Write the picture of a report; the format follows from the name's ending."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.patches import Patch
    from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter

    config, layers = report.config, report.layers
    gain = config.effective_macs_per_cycle / config.multipliers
    height = max(4.2, 0.27 * len(layers) + 1.6)
    figure, (bars, roof) = pyplot.subplots(1, 2, figsize=(13, height), width_ratios=(1.25, 1), layout="constrained")
    figure.suptitle(
        f"{report.network} on {config.describe()}, "
        f"{'1 image' if report.images == 1 else f'{report.images} images'}: "
        f"{report.ratio_to_ideal:.2f} times direct convolution without an idle cycle",
        fontsize=12,
    )

    places = range(len(layers))
    colors = [_SKY if layer.exact is None else _BLUE if layer.exact else _RED for layer in layers]
    bars.barh(places, [layer.efficiency for layer in layers], color=colors, height=0.72)
    for place, layer in zip(places, layers, strict=True):
        value = bars.text(layer.efficiency + 0.04, place, f"{layer.efficiency:.2f}", va="center", fontsize=7.5)
        value.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.6})
        if layer.efficiency > 0.6:
            bars.text(0.05, place, f"{layer.utilisation:.0%} busy", va="center", fontsize=6.5, color="white")
    bars.set_yticks(places, [layer.name for layer in layers], fontsize=8)
    bars.invert_yaxis()
    bars.set_xlim(0, gain * 1.12)
    bars.set_xlabel("effective MAC a multiplier and cycle")
    m, r = config.tile_size, config.kernel_size
    for value, text in ((1.0, "direct"), (gain, f"F({m}×{m}, {r}×{r})")):
        bars.axvline(value, color=_GREY, linewidth=1, linestyle="--", zorder=0)
        bars.text(value - 0.03, -0.75, text, ha="right", va="bottom", fontsize=8, color=_GREY)
    marks = [(_BLUE, "simulated, bit-exact"), (_SKY, "cost model"), (_RED, "simulated, wrong")]
    bars.legend(
        handles=[Patch(color=color, label=text) for color, text in marks if color in colors],
        loc="lower right",
        fontsize=8,
        frameon=False,
    )

    intensity = [layer.macs / layer.bytes for layer in layers]
    speed = [layer.macs / layer.cycles for layer in layers]
    left, right = min(intensity) / 2, max(intensity) * 2
    bottom, top = min(speed) / 2, config.effective_macs_per_cycle * 2
    for bandwidth in _BANDWIDTHS:
        roof.plot([left, right], [left * bandwidth, right * bandwidth], color=_GREY, linewidth=0.7, zorder=0)
        place = min(top / 1.15, right / 1.3 * bandwidth) / bandwidth
        if left < place < right:
            roof.text(place, place * bandwidth, f"{bandwidth} B/cycle ", ha="right", va="top", fontsize=7, color=_GREY)
    roof.axhline(config.effective_macs_per_cycle, color="black", linewidth=1.2)
    roof.text(left * 1.1, config.effective_macs_per_cycle * 1.04, f"F({m}×{m}, {r}×{r})", fontsize=8, va="bottom")
    roof.axhline(config.multipliers, color="black", linewidth=1.2, linestyle="--")
    roof.text(left * 1.1, config.multipliers * 1.04, "direct", fontsize=8, va="bottom")
    shapes = {(layer.plan.arrangement.source.kernel, layer.plan.arrangement.source.stride) for layer in layers}
    for (kernel, stride), marker in zip(sorted(shapes), "osD^vP*", strict=False):
        chosen = [
            index
            for index, layer in enumerate(layers)
            if (layer.plan.arrangement.source.kernel, layer.plan.arrangement.source.stride) == (kernel, stride)
        ]
        roof.scatter(
            [intensity[index] for index in chosen],
            [speed[index] for index in chosen],
            marker=marker,
            s=42,
            color=[colors[index] for index in chosen],
            edgecolor="black",
            linewidth=0.5,
            label=f"{kernel}×{kernel}" + (f", stride {stride}" if stride > 1 else ""),
        )
    roof.set_xscale("log")
    roof.set_yscale("log")
    roof.set_xlim(left, right)
    roof.set_ylim(bottom, top)
    roof.set_xlabel("effective MAC a byte of weights and pixels")
    roof.set_ylabel("effective MAC a cycle")
    roof.legend(loc="lower right", fontsize=8, frameon=False)
    for axis in (roof.xaxis, roof.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(ScalarFormatter())
        axis.set_minor_locator(NullLocator())
    for axes in (bars, roof):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
