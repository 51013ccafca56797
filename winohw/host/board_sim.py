"""A simulated board: its top level, compiled, with a serial line at its pins."""

from __future__ import annotations

import ctypes
import os
import select
import threading
import tty

from winohw.gateware.board_top import BoardTop
from winohw.gateware.capabilities import Capabilities
from winohw.sim.compiled import CompiledSimulation

__all__ = ["PseudoTerminal", "SimulatedBoard", "SimulatedTransport"]

#: Cycles a bit. Both ends share the clock, so that the least does.
DIVISOR = 2
_ROOM = 1 << 16  # bytes
_NO_STOP = 256
_DELIMITER = 0


class SimulatedBoard:
    """A board after power-on. Time passes for it only while it is run.

    Parameters
    ----------
    capabilities : the engine's configuration, and what the board is called.

    Attributes
    ----------
    cycles : clock cycles since power-on.

    Raises
    ------
    CompilerError
        There is no C++ compiler, or it fails.
    """

    def __init__(self, capabilities: Capabilities):
        simulation = CompiledSimulation(BoardTop(capabilities, divisor=DIVISOR, simulated=True))
        ports = list(simulation.ports)
        self._pins = ports.index("rx"), ports.index("tx")
        self._functions = _load(str(simulation.library))
        self._received = (ctypes.c_uint8 * _ROOM)()
        self._handle = None
        self.power_cycle()

    def power_cycle(self) -> None:
        """Switches the board off and on."""
        self.close()
        self._handle = self._functions.winohw_uart_open(*self._pins, DIVISOR)
        self.cycles = 0

    def run(self, data: bytes, cycles: int, *, stop: bool = False) -> tuple[int, bytes]:
        """Let some time pass.

        Parameters
        ----------
        data : bytes to put on the line, as far as there is time.
        cycles : clock cycles.
        stop : end when all is sent and a frame has come.

        Returns
        -------
        how many bytes were put on the line, and the bytes that came.
        """
        sent, received = ctypes.c_uint64(len(data)), ctypes.c_uint64(_ROOM)
        self.cycles += self._functions.winohw_uart_run(
            self._handle,
            cycles,
            data,
            ctypes.byref(sent),
            self._received,
            ctypes.byref(received),
            _DELIMITER if stop else _NO_STOP,
        )
        return sent.value, bytes(self._received[: received.value])

    def close(self) -> None:
        """Switches the board off; it cannot be run until it is switched on again."""
        if self._handle is not None:
            self._functions.winohw_uart_close(self._handle)
            self._handle = None


class SimulatedTransport:
    """The way to a simulated board in the same process; its time passes while the host waits for it.

    Parameters
    ----------
    board : the board.
    patience : clock cycles that stand for the timeout of a read, whatever its seconds.
    """

    def __init__(self, board: SimulatedBoard, patience: int = 100_000):
        self.board = board
        self.patience = patience
        self._pending = b""

    def write(self, data: bytes) -> None:
        self._pending += data

    def read(self, timeout: float) -> bytes:
        sent, received = self.board.run(self._pending, self.patience, stop=True)
        self._pending = self._pending[sent:]
        return received

    def close(self) -> None:
        self.board.close()


class PseudoTerminal:
    """Joins a simulated board to a pseudo-terminal, so that any program for a serial port can talk to it.

    A context manager; inside, a thread runs the board, and sleeps when nothing moves on the line for long.

    Parameters
    ----------
    board : the board; nobody else may run it meanwhile.

    Attributes
    ----------
    device : name of the terminal, such as /dev/pts/3.
    """

    def __init__(self, board: SimulatedBoard):
        self.board = board
        self._outer, self._inner = os.openpty()
        # Every byte as it is, and no echo. The inner end stays open, so that programs may come and go.
        tty.setraw(self._inner)
        self.device = os.ttyname(self._inner)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> PseudoTerminal:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        os.close(self._outer)
        os.close(self._inner)

    def _serve(self) -> None:
        pending, quiet = b"", 0
        while not self._stop.is_set():
            # While the line is quiet the engine may still be at work: its time goes on, in short steps between naps.
            nap = _SHORT_NAP if quiet < _QUIET else _NAP
            if not pending and select.select([self._outer], [], [], nap)[0]:
                pending = os.read(self._outer, _ROOM)
            sent, received = self.board.run(pending, _STEP if pending else _QUIET_STEP, stop=True)
            quiet = 0 if sent or received else quiet + 1
            pending = pending[sent:]
            while received and not self._stop.is_set():
                # A program that does not read what it is sent holds up the board, as no real line would.
                if select.select([], [self._outer], [], _NAP)[1]:
                    received = received[os.write(self._outer, received) :]


_STEP, _QUIET_STEP = 20_000, 2_000  # cycles, while bytes wait and while none do
_QUIET = 200  # steps without a byte until naps become long
_SHORT_NAP, _NAP = 0.001, 0.02  # seconds


def _load(library: str) -> ctypes.CDLL:
    functions = ctypes.CDLL(library)
    index, number, pointer = ctypes.c_uint32, ctypes.c_uint64, ctypes.c_void_p
    for name, result, arguments in (
        ("open", pointer, (index, index, index)),
        ("close", None, (pointer,)),
        ("run", number, (pointer, number, ctypes.c_char_p, pointer, pointer, pointer, index)),
    ):
        function = getattr(functions, f"winohw_uart_{name}")
        function.restype = result
        function.argtypes = arguments
    return functions
