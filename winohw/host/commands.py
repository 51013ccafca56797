"""Commands that need a board, or simulate one."""

from __future__ import annotations

import json
import time

import click
from rich.console import Console
from rich.table import Table

from winohw.friendly import friendly, json_option
from winohw.gateware.capabilities import Capabilities
from winohw.gateware.config import EngineConfig
from winohw.host.board_sim import PseudoTerminal, SimulatedBoard
from winohw.host.connection import connect
from winohw.synth.board import find_board

__all__ = ["board_info", "board_sim"]


@click.command("board-sim")
@click.argument("board_name", metavar="[BOARD]", required=False)
@click.option("--tile", "tile_size", type=int, help="Without BOARD: tile size m; 1 is direct. Default: 4.")
@click.option("--input-lanes", type=int, help="Without BOARD: input channels a cycle, Pc. Default: 1.")
@click.option("--output-lanes", type=int, help="Without BOARD: output channels a cycle, Pk. Default: 1.")
@click.option("--fold", type=int, help="Without BOARD: cycles a patch; divides m + r - 1. Default: 1.")
@click.option("--seconds", type=float, help="Stop after so long; default: on Ctrl-C.")
@friendly
def board_sim(board_name: str | None, seconds: float | None, **engine: int | None) -> None:
    """Simulate a board, and print the name of its serial port.

    BOARD is one of winohw boards, or a file of your own; its gateware is that of the bitstream, but for PLL and pads,
    and is reached through its serial pins only. Without it, the board carries an exact 3x3 engine of your choice. Any
    program for a serial port can talk to it.
    """
    changes = {name: value for name, value in engine.items() if value is not None}
    if board_name is not None:
        if changes:
            raise ValueError("a board has its own engine; leave out the options of one")
        capabilities = find_board(board_name).capabilities
    else:
        capabilities = Capabilities(EngineConfig(**changes), "simulation")
    board = SimulatedBoard(capabilities)
    try:
        with PseudoTerminal(board) as terminal:
            begun = time.monotonic()
            # Who reads the name may interrupt at once: all from here on is inside the try.
            click.echo(f"{capabilities.config.describe()}, at {terminal.device}")
            while seconds is None or time.monotonic() - begun < seconds:
                time.sleep(0.1)
    except KeyboardInterrupt:
        click.echo(f"{board.cycles:,} cycles", err=True)


@click.command("board-info")
@click.option("--port", required=True, help="Serial port, such as /dev/ttyUSB0.")
@click.option("--baud", type=int, default=1_000_000, show_default=True, help="Bits a second.")
@json_option
@friendly
def board_info(port: str, baud: int, as_json: bool) -> None:
    """Ask the board at a serial port what it is."""
    with connect(port, baud=baud) as driver:
        found = driver.capabilities
    config = found.config
    record = {
        "board": found.board,
        "engine": config.describe(),
        "kernels": list(config.kernels),
        "multipliers": config.multipliers,
        "effective_macs_per_cycle": config.effective_macs_per_cycle,
        "clock": found.clock,
        "winohw": found.winohw,
        "protocol": found.protocol,
    }
    if as_json:
        click.echo(json.dumps(record, indent=2))
        return
    table = Table(show_header=False)
    for name, value in record.items():
        table.add_row(name.replace("_", " "), str(value))
    Console(highlight=False).print(table)
