"""The command line, `winohw`."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from winohw import __version__
from winohw.algorithm.ranges import INT8, UINT8, stage_widths
from winohw.algorithm.toomcook import Winograd, format_points, parse_points, winograd

__all__ = ["main"]


def friendly(command: Callable[..., None]) -> Callable[..., None]:
    """Errors that the user can mend are one line on the command line, not a traceback."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except (ValueError, TypeError, OSError, RuntimeError) as error:
            raise click.ClickException(str(error)) from None

    return wrapped


json_option = click.option("--json", "as_json", is_flag=True, help="Print figures as JSON.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="winohw")
def main() -> None:
    """Bit-exact int8 Winograd convolution for open FPGAs."""


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
        f"{float(per_output):.3g} multiplications an output instead of {kernel_size**2}: {float(transform.gain):.3g} times "
        f"fewer; the result is {transform.divisor}² = {transform.divisor**2} times the convolution\n"
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


if __name__ == "__main__":
    main()
