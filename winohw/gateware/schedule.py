"""When the tile rows of a layer stand in the line buffer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from winohw.gateware.descriptor import InputMode
from winohw.gateware.line_buffer import LineBuffer

if TYPE_CHECKING:
    from winohw.gateware.job import Job

__all__ = ["tile_row_times"]


def tile_row_times(job: Job, freed: Sequence[tuple[int, int]], held: Sequence[tuple[int, int]] = ()) -> Iterator[int]:
    """When the last pixel of each tile row is written, and at last when the line buffer's writer is idle again.

    The pixels come without a pause. Time 0 is the cycle in which the engine starts the layer.

    Parameters
    ----------
    job : the layer.
    freed : for each block that has been computed, tile rows released up to then and the cycle of its last chunk. The
        caller appends a block to it before it asks for a tile row that cannot be written earlier.
    held : first and last cycles of the times in which a line buffer of one port is not written, for each block that has
        been computed; appended to as `freed` is.
    """
    n, step, fold = job.config.input_tile, job.step, job.config.fold
    phases = 1 if job.mode == InputMode.DENSE else 4
    beats = job.grid_width * phases * job.input_groups
    # With a fold, the copies of a pixel row are written one after another.
    lines = [beats if fold == 1 else beats * -(-(n - offset) // step) for offset in range(step)]
    now, begun, block, holds = LineBuffer.prefetch[job.config.line_memory == "single"], 0, 0, 0
    again = 0  # when the flag that a slot is free may be set again
    for _ in range(job.images):
        for top in range(0, job.grid_height, step):
            if top // step < job.tile_rows:
                begun += 1
                if begun > job.slots:
                    while freed[block][0] < begun - job.slots:
                        block += 1
                    # The sequencer tells it a cycle later, and the flag that a slot is free takes another one.
                    now = max(now, freed[block][1] + 3)
                now = max(now, again)
                again = now + lines[0] // beats + 1
            for offset in range(min(step, job.grid_height - top)):
                now += lines[offset]
                # Times in which nothing is written come on top.
                while job.config.line_memory == "single" and holds < len(held) and held[holds][0] < now:
                    if held[holds][1] >= now - lines[offset]:
                        now += held[holds][1] + 1 - max(held[holds][0], now - lines[offset])
                    holds += 1
                row = top + offset - (n - 1)
                if row >= 0 and row % step == 0:
                    yield now - 1
    yield now
