"""The command line, `winohw`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import asdict, fields
from functools import partial, wraps
from pathlib import Path
from typing import Any

import click
import numpy as np
from click.core import ParameterSource
from rich.console import Console
from rich.table import Table

from winohw import __version__
from winohw.algorithm.ranges import INT8, UINT8, stage_widths
from winohw.algorithm.toomcook import format_points, parse_points, winograd
from winohw.friendly import friendly, json_option, terminable
from winohw.gateware.config import EngineConfig
from winohw.host.build_commands import boards, build, program
from winohw.host.commands import board_info, board_sim
from winohw.host.connection import connect, connect_simulation
from winohw.host.driver import Driver
from winohw.host.photograph import on_board, transfer_bar
from winohw.network.bench import bench as run_bench
from winohw.network.filters import FILTERS, filter_layer, load_layer
from winohw.network.image import contact_sheet, load_image, save_image
from winohw.numerics.formats import PROFILES
from winohw.samples import photograph
from winohw.sim.compiled import Waveform, progress_bar
from winohw.sim.photograph import Comparison, Runner, run_image
from winohw.synth.board import find_board
from winohw.synth.estimate import estimate
from winohw.synth.flow import synthesize
from winohw.synth.parts import find_part
from winohw.synth.place import PlaceOptions
from winohw.synth.progress import ConsoleProgress
from winohw.synth.report import print_report, resource_table, to_json
from winohw.train.commands import train

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="winohw")
@click.pass_context
def main(context: click.Context) -> None:
    """Bit-exact int8 Winograd convolution for open FPGAs."""
    context.with_resource(terminable())


@main.command()
@click.option("--tile", "tile_size", type=int, default=4, show_default=True, help="Tile size m.")
@click.option("--kernel", "kernel_size", type=int, default=3, show_default=True, help="Kernel size r.")
@click.option("--points", help="Toom-Cook points, for example 0,1,-1,1/2,inf; default: those with the least widths.")
@click.option("--channels", type=int, default=512, show_default=True, help="Input channels, for the sums' widths.")
@click.option("--unsigned", is_flag=True, help="Pixels are uint8 instead of int8.")
@json_option
@friendly
def matrices(
    tile_size: int, kernel_size: int, points: str | None, channels: int, unsigned: bool, as_json: bool
) -> None:
    """Print the integer matrices of F(m x m, r x r), the width of every stage, and what they save."""
    transform = winograd(tile_size, kernel_size, None if points is None else parse_points(points.split(",")))
    widths = stage_widths(transform, channels, UINT8 if unsigned else INT8)
    if as_json:
        click.echo(
            json.dumps(
                {
                    "tile_size": transform.tile_size,
                    "kernel_size": transform.kernel_size,
                    "input_tile": transform.n,
                    "points": None if transform.points is None else format_points(transform.points),
                    "bt": transform.bt.tolist(),
                    "g": transform.g.tolist(),
                    "at": transform.at.tolist(),
                    "divisor": transform.divisor,
                    "multiplications_per_output": float(transform.multiplications_per_output),
                    "gain": float(transform.gain),
                    "channels": channels,
                    "widths": vars(widths),
                },
                indent=2,
            )
        )
        return
    console = Console(highlight=False)
    title = "direct convolution" if transform.direct else f"points {format_points(transform.points)}"
    console.print(f"[bold]F({tile_size}x{tile_size}, {kernel_size}x{kernel_size})[/], {title}")
    per_output = transform.multiplications_per_output
    console.print(
        f"{float(per_output):.3g} multiplications an output instead of {kernel_size**2}: "
        f"{float(transform.gain):.3g} times fewer; the result is {transform.divisor}² = {transform.divisor**2} times "
        "the convolution\n"
    )
    for name, matrix in (("Bᵀ", transform.bt), ("G", transform.g), ("Aᵀ", transform.at)):
        console.print(_matrix(name, matrix))
    table = Table("stage", "bits", title=f"Widths, {'uint8' if unsigned else 'int8'} pixels, {channels} channels")
    for stage, label in _STAGES:
        table.add_row(label, str(getattr(widths, stage)))
    console.print(table)


_STAGES = (
    ("input", "pixel"),
    ("v", "V, transformed pixel"),
    ("weight", "weight"),
    ("u", "U, transformed weight"),
    ("product", "product of one channel"),
    ("channel_sum", "M, if never reduced"),
    ("accumulator", "M and Y, modular"),
    ("output", "result"),
)


def _matrix(name: str, matrix: np.ndarray) -> str:
    cells = [[str(value) for value in row] for row in matrix.tolist()]
    width = max(len(cell) for row in cells for cell in row)
    lines = ["  ".join(cell.rjust(width) for cell in row) for row in cells]
    lead = f"{name} = "
    return "\n".join((lead if number == 0 else " " * len(lead)) + line for number, line in enumerate(lines)) + "\n"


@main.command()
@click.argument("image", required=False, type=click.Path(path_type=Path))
@click.option(
    "--filters",
    default=",".join(FILTERS),
    show_default=True,
    help=f"Filters of the built-in bank, comma-separated: {', '.join(FILTERS)}.",
)
@click.option("--weights", type=click.Path(path_type=Path), help="A layer from an .npz file in place of the filters.")
@click.option("--tile", "tile_size", type=int, default=4, show_default=True, help="Tile size m; 1 is direct.")
@click.option("--input-lanes", type=int, default=1, show_default=True, help="Input channels a cycle, Pc.")
@click.option("--output-lanes", type=int, default=1, show_default=True, help="Output channels a cycle, Pk.")
@click.option("--fold", type=int, default=1, show_default=True, help="Cycles a patch; divides m + r - 1.")
@click.option(
    "--profile",
    type=click.Choice(list(PROFILES)),
    default="exact",
    show_default=True,
    help="Exact: equal to direct convolution. Quantized: V and U in 8 bits, with a shift per tap. int8: M as well.",
)
@click.option("--requantizer", type=click.Choice(["tflite", "shift"]), default="tflite", show_default=True)
@click.option("--port", help="Run on the board at this serial port, such as /dev/ttyUSB0.")
@click.option("--baud", type=int, help="Bits a second at --port; default: those of --board, else 1000000.")
@click.option("--timeout", type=float, default=0.5, show_default=True, help="Seconds to wait for answers at --port.")
@click.option("--board", "board_name", help="The board at --port, or the one to simulate; see winohw boards.")
@click.option("--simulate", is_flag=True, help="Simulate --board, and talk to it through its serial port.")
@click.option("--direct/--no-direct", default=True, help="Also run direct convolution, for the ratio.")
@click.option("--waveform", type=click.Path(path_type=Path, dir_okay=False), help="Write a waveform (VCD).")
@click.option("--window", default="0:2000", show_default=True, help="Cycles of the waveform, first:last.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("winohw-output"),
    show_default=True,
    help="Folder for the pictures.",
)
@json_option
@click.pass_context
@friendly
def run(
    context: click.Context,
    image: Path | None,
    filters: str,
    weights: Path | None,
    tile_size: int,
    input_lanes: int,
    output_lanes: int,
    fold: int,
    profile: str,
    requantizer: str,
    port: str | None,
    baud: int | None,
    timeout: float,
    board_name: str | None,
    simulate: bool,
    direct: bool,
    waveform: Path | None,
    window: str,
    output: Path,
    as_json: bool,
) -> None:
    """Stream IMAGE (PNG or JPEG; a photograph ships with winohw) through the simulated gateware, or through a board.

    Writes the output pictures and a sheet of input and outputs, and says whether the result equals direct
    convolution bit for bit, how many cycles it took, and how many direct convolution takes on as many multipliers.
    """
    source = image or photograph()
    pixels = load_image(source)
    names = [name.strip() for name in filters.split(",") if name.strip()]
    on_a_board = _wants_board(context, port, board_name, simulate)
    console = Console(highlight=False, stderr=as_json)
    with ExitStack() as stack:
        runner: Runner | None = None
        bar: Callable[[str], AbstractContextManager[Any]] = progress_bar
        if on_a_board:
            board = None if board_name is None else find_board(board_name)
            if simulate and not as_json:
                console.print(f"Compiling the simulation of {board.title} …")
            link = connect_simulation(board) if simulate else connect(port, board, baud, timeout)
            driver = stack.enter_context(link)
            config, runner = driver.capabilities.config, on_board(driver)

            def bar(description: str) -> AbstractContextManager[Any]:
                return (
                    transfer_bar(driver, description)
                    if description.startswith("Winograd")
                    else progress_bar(description)
                )

        if weights is None:
            kind = config.requantizer if on_a_board else requantizer
            layer = filter_layer(names, *pixels.shape, shift_only=kind == "shift")
        else:
            layer = load_layer(weights, *pixels.shape[:2])
            if layer.geometry.channels == 1:
                pixels = load_image(source, channels=1)
            elif layer.geometry.channels != 3:
                raise ValueError(f"weights for an image must have 1 or 3 input channels, not {layer.geometry.channels}")
        geometry = layer.geometry
        if not on_a_board:
            config = EngineConfig(
                tile_size=tile_size,
                kernel_size=geometry.effective_kernel if tile_size > 1 else geometry.kernel,
                profile=PROFILES[profile],
                input_lanes=input_lanes,
                output_lanes=output_lanes,
                fold=fold,
                max_tiles=128,
                drain_tiles=128,
                line_words=4096,
                requantizer=requantizer,
                requantizer_lanes=min(4, tile_size),
                output_columns=2 if (tile_size + geometry.kernel - 1) // fold % 2 == 0 else 1,
            )
        if not as_json:
            console.print(f"{source.name}: {geometry.height}x{geometry.width}x{geometry.channels}, {config.describe()}")
        comparison = run_image(
            config,
            layer,
            pixels,
            direct=direct,
            progress=bar if console.is_terminal else lambda description: nullcontext(),
            waveform=waveform and Waveform(waveform, *_window(window)),
            runner=runner,
        )
        board_figures = _board_figures(driver, comparison) if on_a_board else {}

    pictures = _pictures(comparison, pixels, names if weights is None else None)
    output.mkdir(parents=True, exist_ok=True)
    for name, picture in pictures[1:]:
        save_image(output / f"{name}.png", picture)
    contact_sheet(pictures, columns=3).save(output / "sheet.png")
    if as_json:
        click.echo(json.dumps({**comparison.figures(), **board_figures, "sheet": str(output / "sheet.png")}, indent=2))
    else:
        _print_comparison(console, comparison, on_a_board)
        if on_a_board:
            _print_board(console, board_figures["board"])
        console.print(f"Pictures: {output / 'sheet.png'}", soft_wrap=True)
    if not comparison.model:
        raise RuntimeError("the gateware's output differs from the golden model's")


_ENGINE_OPTIONS = ("tile_size", "input_lanes", "output_lanes", "fold", "profile", "requantizer", "waveform")


def _wants_board(context: click.Context, port: str | None, board: str | None, simulate: bool) -> bool:
    """Whether a board is to run the image, real or simulated; options that do not go together are refused."""
    if port is None and board is None and not simulate:
        return False
    if simulate and board is None:
        raise ValueError("--simulate needs --board; winohw boards lists them")
    if simulate and port is not None:
        raise ValueError("--simulate and --port exclude each other")
    if port is None and not simulate:
        raise ValueError("--board needs --port for a real board, or --simulate")
    for option in context.command.params:
        given = context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE
        if option.name in _ENGINE_OPTIONS and given:
            raise ValueError(f"{option.opts[0]} cannot be given for a board, whose engine is in its bitstream")
    return True


def _board_figures(driver: Driver, comparison: Comparison) -> dict[str, Any]:
    """What a run on a board adds to the figures."""
    found, link = driver.capabilities, driver.link
    cycles = comparison.winograd.cycles
    seconds = cycles / found.clock if found.clock and cycles else None
    figures = {"name": found.board, "clock": found.clock, "requantizer": found.config.requantizer}
    return {"board": {**figures, "seconds_of_engine": seconds, "link": asdict(link)}}


def _print_board(console: Console, figures: dict[str, Any]) -> None:
    link = figures["link"]
    at = f" at {figures['clock'] / 1e6:g} MHz" if figures["clock"] else ""
    console.print(
        f"Through the serial port of {figures['name'] or 'the board'}{at}: {link['payload']:,} bytes in "
        f"{link['requests']:,} requests, {link['repeats']} repeated, {link['damaged']} damaged, "
        f"{link['restarts']} restarts."
    )


def _window(text: str) -> tuple[int, int]:
    """First and last cycle of `first:last`."""
    first, colon, last = text.partition(":")
    if not (colon and first.isdecimal() and last.isdecimal() and int(first) <= int(last)):
        raise ValueError(f"--window must be first:last in cycles, for example 0:2000, not {text!r}")
    return int(first), int(last)


def _pictures(comparison: Comparison, pixels: np.ndarray, names: list[str] | None) -> list[tuple[str, np.ndarray]]:
    """The input and every output picture: three channels each for filters, one for other layers."""
    outputs = comparison.winograd.pixels[0]
    if names is None:
        single = [(f"channel-{k}", outputs[:, :, k : k + 1]) for k in range(outputs.shape[2])]
        return [("input", pixels), *single]
    channels = pixels.shape[2]
    return [("input", pixels)] + [
        (name, outputs[:, :, f * channels : (f + 1) * channels]) for f, name in enumerate(names)
    ]


def _print_comparison(console: Console, comparison: Comparison, on_a_board: bool) -> None:
    runs = [run for run in (comparison.winograd, comparison.direct) if run is not None]
    table = Table("", *(("direct" if run.job.config.direct else "Winograd") for run in runs))
    rows: list[tuple[str, Callable[[Any], str]]] = [
        ("tile size m", lambda run: str(run.job.tile_size)),
        ("multipliers", lambda run: str(run.job.config.multipliers)),
        ("cycles", lambda run: f"{run.cycles:,}" if run.cycles else "not counted"),
        ("array at work", lambda run: f"{run.busy:,}" if run.cycles else ""),
        ("utilisation of the multipliers", lambda run: f"{run.utilisation:.1%}" if run.cycles else ""),
        ("effective MAC a cycle", lambda run: f"{run.effective_macs_per_cycle:.1f}" if run.cycles else ""),
    ]
    for label, value in rows:
        table.add_row(label, *(value(run) for run in runs))
    console.print(table)
    if comparison.exact:
        console.print("[green]Bit-exact[/]: every pixel equals direct convolution.")
    else:
        total = comparison.winograd.pixels.size
        console.print(
            f"{comparison.wrong:,} of {total:,} pixels differ from direct convolution; "
            + ("all equal the golden model." if comparison.model else "[red]not equal to the golden model![/]")
        )
    if comparison.ratio is None or comparison.winograd.job.config.direct:
        return
    if on_a_board:
        console.print(
            "The board waits for its serial line; at work, direct convolution takes "
            f"{comparison.busy_ratio:.2f} times the cycles on as many multipliers."
        )
    else:
        console.print(f"Direct convolution takes {comparison.ratio:.2f} times the cycles on as many multipliers.")


def engine_options(command: Callable[..., None]) -> Callable[..., None]:
    """Options that make an `EngineConfig`, which the command gets as `config` but for its family."""
    options = [
        click.option("--tile", "tile_size", type=int, default=4, show_default=True, help="Tile size m; 1 is direct."),
        click.option("--kernel", "kernel_size", type=int, default=3, show_default=True, help="Main kernel size r."),
        click.option("--kernels", help="All kernel sizes on offer at run time, for example 1,2,3,4."),
        click.option("--input-lanes", type=int, default=1, show_default=True, help="Input channels a cycle, Pc."),
        click.option("--output-lanes", type=int, default=1, show_default=True, help="Output channels a cycle, Pk."),
        click.option("--fold", type=int, default=1, show_default=True, help="Cycles a patch; divides m + r - 1."),
        click.option("--max-tiles", type=int, default=64, show_default=True, help="Tiles a block."),
        click.option("--line-words", type=int, default=2048, show_default=True, help="Words a line buffer bank."),
        click.option("--drain-tiles", type=int, default=64, show_default=True, help="Tiles in the drain buffer."),
        click.option("--output-columns", type=int, default=1, show_default=True, help="Output transform, a cycle."),
        click.option("--requantizer", type=click.Choice(["tflite", "shift"]), default="tflite", show_default=True),
        click.option("--requantizer-lanes", type=int, default=1, show_default=True, help="Pixels a cycle."),
    ]

    @wraps(command)
    def wrapped(kernels: str | None, tile_size: int, kernel_size: int, **options: Any) -> None:
        names = [field.name for field in fields(EngineConfig) if field.name in options]
        values: dict[str, Any] = {name: options.pop(name) for name in names}
        try:
            sizes = () if kernels is None else tuple(int(size) for size in kernels.split(","))
        except ValueError:
            raise click.ClickException(f"--kernels must be numbers separated by commas, not {kernels!r}") from None
        command(config=partial(EngineConfig, tile_size, kernel_size, kernels=sizes, **values), **options)

    for option in reversed(options):
        wrapped = option(wrapped)
    return wrapped


@main.command()
@click.argument("network")
@engine_options
@click.option("--images", type=int, default=1, show_default=True, help="Images of the batch.")
@click.option("--simulate", is_flag=True, help="Simulate every layer on random data, checked bit for bit.")
@click.option("--rearrange/--as-is", default=True, help="Whether the host may lay out small images anew.")
@click.option("--weight-bandwidth", type=float, help="Most bytes of weights a cycle; default: no limit.")
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="Write a picture of the figures.")
@json_option
@friendly
def bench(
    network: str,
    config: Callable[[], EngineConfig],
    images: int,
    simulate: bool,
    rearrange: bool,
    weight_bandwidth: float | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Run NETWORK (resnet-18, resnet-20, vgg-16 or mobilenet-v1) layer by layer, against direct convolution.

    Figures come from the cost model, or from simulation with --simulate; the table says which.
    """
    console = Console(highlight=False, stderr=as_json)
    bar = progress_bar if console.is_terminal else lambda description: nullcontext()
    report = run_bench(
        network,
        config(),
        images=images,
        simulate=simulate,
        rearrange=rearrange,
        weight_bandwidth=weight_bandwidth,
        progress=bar,
    )
    if plot is not None:
        report.plot(plot)
    if as_json:
        click.echo(report.to_json())
    else:
        Console(highlight=False, width=None if console.is_terminal else 150).print(report.table())
    if report.exact is False:
        raise RuntimeError("a simulated layer differs from its reference")


@main.command()
@click.argument("part")
@engine_options
@click.option("--seeds", default=1, show_default=True, help="Placements to try; 0 stops after synthesis.")
@click.option("--frequency", type=float, help="MHz to aim for; default: that of the part.")
@click.option("--nextpnr", default="", help="More flags for nextpnr, for example '--placer static'.")
@json_option
@friendly
def synth(
    part: str, config: Callable[..., EngineConfig], seeds: int, frequency: float | None, nextpnr: str, as_json: bool
) -> None:
    """Synthesise an engine for PART (for example LFE5U-85F or iCE40UP5K), place and route it.

    No board is needed: the engine's ports are registered and shifted through four pins.
    """
    family = find_part(part).family.gateware
    with ConsoleProgress(Console(highlight=False, stderr=True)) as progress:
        report = synthesize(
            config(family=family),
            part,
            seeds=range(1, seeds + 1),
            frequency=frequency,
            place=PlaceOptions(flags=tuple(shlex.split(nextpnr))),
            progress=progress,
        )
    if as_json:
        click.echo(to_json(report))
    else:
        print_report(report, Console(highlight=False))


@main.command("estimate")
@click.argument("part")
@engine_options
@json_option
@friendly
def estimate_command(part: str, config: Callable[..., EngineConfig], as_json: bool) -> None:
    """Estimate what an engine takes of PART (an ECP5 or iCE40), and its clock, without synthesis."""
    result = estimate(config(family=find_part(part).family.gateware), part)
    if as_json:
        record = {"part": result.part.name, "frequency": result.frequency, "total": asdict(result.total)}
        stages = {name: asdict(resources) for name, resources in result.stages.items()}
        click.echo(json.dumps({**record, "stages": stages, "excess": result.excess}, indent=2))
        return
    console = Console(highlight=False)
    console.print(resource_table(result.stages, result.total, result.part.capacity))
    console.print(f"About {result.frequency:.0f} MHz.")
    if result.excess:
        console.print(f"[bold red]Does not fit: {', '.join(result.excess)}")


main.add_command(boards)
main.add_command(build)
main.add_command(program)
main.add_command(board_sim)
main.add_command(board_info)
main.add_command(train)


if __name__ == "__main__":
    main()
