"""Images through a layer on a board."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from winohw.host.driver import Driver
from winohw.network.slicing import sliced_jobs
from winohw.numerics.formats import Profile
from winohw.numerics.layer import ConvLayer
from winohw.sim.compiled import Advance
from winohw.sim.photograph import ImageRun, Runner, expected_pixels

__all__ = ["on_board", "transfer_bar"]


def on_board(driver: Driver) -> Runner:
    """Runs layers on a board. Images that are too wide for its engine are cut into slices.

    Parameters
    ----------
    driver : of the board.
    """

    def run(
        layer: ConvLayer,
        images: NDArray[np.int8],
        profile: Profile | None,
        progress: Callable[[Advance], None] | None,
    ) -> ImageRun:
        arrangement, jobs = sliced_jobs(driver.capabilities.config, layer, len(images), profile)
        arranged = arrangement.pixels(images, layer.input_zero_point)
        pixels, expected, counters = [], [], []
        begun, first = time.monotonic(), 0
        for job in jobs:
            part = arranged[first : first + job.images]

            def report(done: float, before: int = first, count: int = job.images) -> None:
                if progress is not None:
                    share = (before + done * count) / len(arranged)
                    progress(Advance(sum(item.cycles for item in counters), time.monotonic() - begun, share))

            result = driver.run(job, part, progress=report)
            pixels.append(result.pixels)
            expected.append(expected_pixels(job, part))
            counters.append(result.status)
            first += job.images
        return ImageRun(
            jobs[0],
            layer,
            arrangement.results(np.concatenate(pixels)),
            arrangement.results(np.concatenate(expected)),
            counters,
        )

    return run


@contextmanager
def transfer_bar(
    driver: Driver, description: str = "Transferring", console: Console | None = None
) -> Iterator[Callable[[Advance], None]]:
    """A bar on the terminal with kilobytes, rate and time left; what it yields takes the news of a run."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %  {task.fields[moved]:,.0f} kB  {task.fields[rate]:.0f} kB/s"),
        TimeRemainingColumn(),
    )
    before = driver.link.payload
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(description, total=1.0, moved=0.0, rate=0.0)

        def report(advance: Advance) -> None:
            moved = (driver.link.payload - before) / 1000
            bar.update(task, completed=advance.done, moved=moved, rate=moved / max(advance.seconds, 1e-3))

        yield report
