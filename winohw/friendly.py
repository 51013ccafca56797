"""What all commands of the command line share."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from types import FrameType
from typing import Any

import click

__all__ = ["friendly", "json_option", "terminable"]


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


@contextmanager
def terminable() -> Iterator[None]:
    """Inside, SIGTERM ends the program as an interruption does: what is open is closed, nothing is left half-written,
    no traceback; the exit status is 143.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
