"""Commands that need a board, or simulate one."""

from __future__ import annotations

import json
import time

import click
from rich.console import Console
from rich.table import Table

from winohw.gateware.capabilities import Capabilities
from winohw.gateware.config import EngineConfig
from winohw.host.board_sim import PseudoTerminal, SimulatedBoard
from winohw.host.driver import Driver
from winohw.host.transport import SerialTransport

__all__ = ["board_info", "board_sim"]


@click.command("board-sim")
@click.option("--tile", "tile_size", type=int, default=4, show_default=True, help="Tile size m; 1 is direct.")
@click.option("--input-lanes", type=int, default=1, show_default=True, help="Input channels a cycle, Pc.")
@click.option("--output-lanes", type=int, default=1, show_default=True, help="Output channels a cycle, Pk.")
@click.option("--fold", type=int, default=1, show_default=True, help="Cycles a patch; divides m + r - 1.")
@click.option("--seconds", type=float, help="Stop after so long; default: on Ctrl-C.")
def board_sim(tile_size: int, input_lanes: int, output_lanes: int, fold: int, seconds: float | None) -> None:
    """Simulate a board with an exact 3x3 engine, and print the name of its serial port.

    Any program for a serial port can talk to it; its gateware is that of a board, and is reached through its pins only.
    """
    try:
        config = EngineConfig(tile_size=tile_size, input_lanes=input_lanes, output_lanes=output_lanes, fold=fold)
        board = SimulatedBoard(Capabilities(config, "simulation"))
    except (ValueError, TypeError, OSError, RuntimeError) as error:
        raise click.ClickException(str(error)) from None
    with PseudoTerminal(board) as terminal:
        click.echo(f"{config.describe()}, at {terminal.device}")
        begun = time.monotonic()
        try:
            while seconds is None or time.monotonic() - begun < seconds:
                time.sleep(0.1)
        except KeyboardInterrupt:
            click.echo(f"{board.cycles:,} cycles", err=True)


@click.command("board-info")
@click.option("--port", required=True, help="Serial port, such as /dev/ttyUSB0.")
@click.option("--baud", type=int, default=1_000_000, show_default=True, help="Bits a second.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def board_info(port: str, baud: int, as_json: bool) -> None:
    """Ask the board at a serial port what it is."""
    try:
        with Driver(SerialTransport(port, baud)) as driver:
            found = driver.capabilities
    except (ValueError, OSError, RuntimeError) as error:
        raise click.ClickException(str(error)) from None
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
