"""Commands that make bitstreams and put them onto boards."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from winohw.friendly import friendly, json_option
from winohw.gateware.board_top import BoardTop
from winohw.gateware.config import EngineConfig
from winohw.numerics.formats import PROFILES
from winohw.synth.bitstream import Bitstream, build_bitstream, suffix_of
from winohw.synth.board import Board, BoardError, board_names, find_board
from winohw.synth.estimate import estimate
from winohw.synth.progress import ConsoleProgress
from winohw.synth.report import print_report, to_json
from winohw.synth.toolchain import find_tool

__all__ = ["boards", "build", "program"]

_BOARD_HELP = "Name of a board, see winohw boards, or a file of your own: ./my_board.py"


@click.command()
@json_option
@friendly
def boards(as_json: bool) -> None:
    """List the boards, and the engine that each carries."""
    records = [_record(find_board(name)) for name in board_names()]
    if as_json:
        click.echo(json.dumps(records, indent=2))
        return
    table = Table("board", "part", "multipliers", "block RAM", "engine", "MHz", "GOPS")
    for column in (2, 3, 5, 6):
        table.columns[column].justify = "right"
    for record in records:
        table.add_row(
            record["name"],
            record["part"],
            f"{record['multipliers']}/{record['multipliers_of_part']}",
            f"{record['block_ram_kbit']} kbit",
            record["engine"],
            f"{record['frequency']:g}",
            f"{record['effective_gops']:.2f}",
        )
    console = Console(highlight=False)
    console = console if console.is_terminal else Console(highlight=False, width=150)
    console.print(table)
    console.print("GOPS: operations of direct convolution a second, two a multiply-accumulate, array always at work.")


def _record(board: Board) -> dict[str, Any]:
    part, config = board.part, board.config
    return {
        "name": board.name,
        "title": board.title,
        "part": part.name,
        "multipliers": config.multiplier_cells,
        "multipliers_of_part": part.multipliers,
        "block_ram_kbit": part.block_rams * part.block_ram_bits // 1024,
        "engine": config.describe(),
        "frequency": board.frequency,
        "effective_gops": board.effective_gops,
        "baud": board.baud,
        "notes": board.notes,
    }


def override_options(command: Callable[..., None]) -> Callable[..., None]:
    """Options that change a board's engine, for `overridden`."""
    for option in reversed(
        [
            click.option("--tile", type=int, help="Tile size m; 1 is direct."),
            click.option("--lanes", help="Input channels a cycle, or input and output channels: 2 or 2,1."),
            click.option("--fold", type=int, help="Cycles a patch; divides m + r - 1."),
            click.option(
                "--profile",
                type=click.Choice(list(PROFILES)),
                help="The arithmetic: exact, V and U in 8 bits (quantized), or M as well (int8).",
            ),
            click.option("--line-words", type=int, help="Words a line buffer bank."),
            click.option("--max-tiles", type=int, help="Tiles a block."),
            click.option("--drain-tiles", type=int, help="Tiles in the drain buffer."),
            click.option("--max-products", type=int, help="Products of one output: channels times r times r."),
            click.option("--dimension-bits", type=int, help="Bits of a height or a width."),
            click.option("--frequency", type=float, help="MHz that the engine runs at."),
        ]
    ):
        command = option(command)
    return command


def overridden(board: Board, changes: dict[str, Any]) -> Board:
    """A board with another engine or clock.

    Parameters
    ----------
    board : Board
    changes : dict
        By the names of `override_options`; None leaves things as they are.

    Raises
    ------
    ValueError
        There is no such engine, or no such clock.
    """
    given = {name: value for name, value in changes.items() if value is not None}
    frequency = given.pop("frequency", board.frequency)
    values: dict[str, Any] = {}
    if "tile" in given:
        # Matrices of a board's own are for its own tile size.
        values |= {"tile_size": given.pop("tile"), "matrices": None}
    if "lanes" in given:
        text = given.pop("lanes")
        try:
            input_lanes, *rest = (int(item) for item in text.split(","))
            (output_lanes,) = rest or (board.config.output_lanes,)
        except ValueError:
            raise ValueError(f"--lanes must be one number or two, for example 2 or 2,1, not {text!r}") from None
        values |= {"input_lanes": input_lanes, "output_lanes": output_lanes}
    if "profile" in given:
        values["profile"] = PROFILES[given.pop("profile")]
    config: EngineConfig = replace(board.config, **values, **given) if values or given else board.config
    return replace(board, config=config, frequency=frequency)


#: Share of the lookup tables that an estimate may be wrong by.
_MARGIN = 0.15


def check_estimate(board: Board, console: Console) -> None:
    """Print what a board's design is going to take, before any synthesis.

    Raises
    ------
    BoardError
        It does not fit for certain: multipliers, block RAM or registers are too few, or the lookup tables by more than
        an estimate may be wrong.
    """
    part = board.part
    if part.family.gateware == "generic":
        console.print(f"No estimate: there is none for {part.name}.")
        return
    found = estimate(BoardTop(board.capabilities, divisor=board.divisor), part)
    console.print(f"Estimate: {found.total.words()}; {found.frequency:.0f} MHz")
    certain = replace(found.total, luts=found.total.luts / (1 + _MARGIN))
    if excess := certain.excess(part):
        raise BoardError(f"{board.config.describe()} does not fit {board.title}: {', '.join(excess)}")


@click.command()
@click.option("--board", "name", required=True, help=_BOARD_HELP)
@override_options
@click.option("--seeds", type=click.IntRange(min=1), help="Try seeds 1 ... N and keep the best; default: the board's.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Seeds to place at a time.")
@click.option("--cache/--no-cache", default=True, help="Whether to take results from the cache.")
@click.option(
    "--output", type=click.Path(path_type=Path, file_okay=False), help="Folder for the files; default: build/BOARD."
)
@click.option("--work", type=click.Path(path_type=Path, file_okay=False), help="Folder for the logs of the tools.")
@json_option
@friendly
def build(
    name: str,
    seeds: int | None,
    jobs: int,
    cache: bool,
    output: Path | None,
    work: Path | None,
    as_json: bool,
    **changes: Any,
) -> None:
    """Build a board's bitstream, with a report of resources and timing and a manifest.

    The exit status is 0 only if the engine fits and meets the board's clock; there is no bitstream otherwise.
    """
    board = overridden(find_board(name), changes)
    folder = output or Path("build") / board.name
    console = Console(highlight=False, stderr=as_json)
    console.print(
        f"{board.title}: {board.config.describe()}, {board.frequency:g} MHz, {board.effective_gops:.2f} effective GOPS"
    )
    if any(value is not None for value in changes.values()):
        check_estimate(board, console)
    with ConsoleProgress(console) as progress:
        result = build_bitstream(
            board,
            seeds=range(1, seeds + 1) if seeds else (),
            jobs=jobs,
            progress=progress,
            cache=cache,
            folder=folder,
            work=work,
        )
    if as_json:
        click.echo(to_json(result.report))
    else:
        print_report(result.report, console)
    _conclude(console, result)


def _conclude(console: Console, result: Bitstream) -> None:
    colour = "green" if result.data else "bold red"
    console.print(f"[{colour}]{result.board.name}: {result.verdict}[/]", soft_wrap=True)
    for path in result.files:
        console.print(f"{path}: {path.stat().st_size} bytes", soft_wrap=True)
    if not result.data:
        raise SystemExit(1)


@click.command()
@click.option("--board", "name", required=True, help=_BOARD_HELP)
@click.option("--flash", is_flag=True, help="Write it into the flash memory, so that it stays.")
@click.option("--bitstream", type=click.Path(path_type=Path, dir_okay=False), help="Default: what winohw build made.")
@friendly
def program(name: str, flash: bool, bitstream: Path | None) -> None:
    """Put a bitstream onto a board, with openFPGALoader."""
    board = find_board(name)
    path = bitstream or Path("build") / board.name / f"{board.name}.{suffix_of(board.part)}"
    if not board.programmer:
        raise BoardError(f"openFPGALoader does not know {board.title}. {board.notes}")
    if not path.is_file():
        raise ValueError(f"there is no bitstream {path}; make it with: winohw build --board {name}")
    tool = find_tool("openFPGALoader")
    command = [tool.path, *board.programmer, *(["--write-flash"] if flash else []), str(path)]
    click.echo(f"+ {' '.join(command)}")
    status = subprocess.run(command, check=False).returncode
    if status == 127:
        raise RuntimeError("openFPGALoader cannot start; it needs libusb: sudo apt install libusb-1.0-0")
    if status:
        raise RuntimeError(f"openFPGALoader failed with status {status}; is the board connected, and may you use it?")
