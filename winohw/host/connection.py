"""Finding the way to a board, or to its simulation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from winohw.host.board_sim import PseudoTerminal, SimulatedBoard
from winohw.host.driver import Driver
from winohw.host.transport import SerialTransport
from winohw.synth.board import Board

__all__ = ["connect", "connect_simulation"]

#: Bits a second where nothing else is known.
BAUD = 1_000_000
# Simulated time passes slowly: a frame may take seconds on a busy machine.
_PATIENCE = 20.0


@contextmanager
def connect(port: str, board: Board | None = None, baud: int | None = None, timeout: float = 0.5) -> Iterator[Driver]:
    """A driver for the board at a serial port.

    Parameters
    ----------
    port : name of the device.
    board : what it must be, and where its speed comes from; None takes any.
    baud : bits a second; default: those of `board`, else 1 000 000.
    timeout : seconds to wait for an answer.

    Raises
    ------
    TransportError
        The port cannot be opened.
    NoAnswer
        Nothing answers at it.
    ValueError
        It is another board, carries another engine, or speaks another version of the protocol.
    """
    wanted = baud or (board.baud if board else BAUD)
    with Driver(SerialTransport(port, wanted), timeout=timeout) as driver:
        found = driver.capabilities
        if board is not None and found.board != board.name:
            raise ValueError(f"the board at {port} is {found.board or 'without a name'!r}, not {board.name!r}")
        if board is not None and found.config != board.config:
            raise ValueError(
                f"the bitstream on {board.name} at {port} carries another engine ({found.config.describe()}, made by "
                f"winohw {found.winohw}) than the board's file ({board.config.describe()}): leave out --board to use "
                "it as it is, or build and program the board again"
            )
        yield driver


@contextmanager
def connect_simulation(board: Board) -> Iterator[Driver]:
    """A driver for a simulated board behind a pseudo-terminal.

    Parameters
    ----------
    board : what to simulate: its engine, link and UART pins, cycle by cycle; its PLL and pads are left out.
    """
    with (
        PseudoTerminal(SimulatedBoard(board.capabilities)) as terminal,
        Driver(SerialTransport(terminal.device), timeout=_PATIENCE) as driver,
    ):
        yield driver
