"""A build's steps on a terminal."""

import threading

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table

from winohw.synth.flow import StepEvent

__all__ = ["ConsoleProgress"]


class ConsoleProgress:
    """Prints each step when it ends, with its number and time; on a terminal, also what runs and what it is at.

    A context manager, to be given as `progress` to `winohw.synth.flow.synthesize`.

    Parameters
    ----------
    console : rich.console.Console, optional
    """

    def __init__(self, console: Console | None = None):
        self.console = console or Console()
        self._running: dict[int, Spinner] = {}
        self._lock = threading.Lock()
        self._live = Live(console=self.console, get_renderable=self._render, transient=True, refresh_per_second=8)

    def __enter__(self) -> "ConsoleProgress":
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def __call__(self, event: StepEvent) -> None:
        head = f"[{event.number}/{event.total}] {event.title}"
        with self._lock:
            if event.state == "end":
                self._running.pop(event.number, None)
            else:
                text = f"{head}: {event.text}" if event.text else head
                spinner = self._running.get(event.number) or Spinner("dots")
                spinner.update(text=text)
                self._running[event.number] = spinner
        if event.state == "end":
            how = "cached" if event.cached else f"{event.seconds:.1f} s"
            self.console.print(f"{head}: {event.text} ({how})", markup=False, highlight=False)

    def _render(self) -> Table:
        grid = Table.grid()
        with self._lock:
            for number in sorted(self._running):
                grid.add_row(self._running[number])
        return grid
