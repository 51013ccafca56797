"""The cost model of a compact engine: its events, replayed as `winohw.network.cost` does those of a wide one."""

from __future__ import annotations

from collections import deque

from winohw.gateware.compact_engine import CompactTiming, compact_timing
from winohw.gateware.job import Job
from winohw.gateware.schedule import tile_row_times

__all__ = ["CompactReplay"]

_NEVER = 1 << 62


class CompactReplay:
    """Replays a job's events. Time 0 is the cycle in which the engine starts the layer.

    Parameters
    ----------
    job : the job.

    Attributes
    ----------
    wait_pixels, wait_weights, wait_drain : cycles in which the array waits for these, after `run`.
    """

    def __init__(self, job: Job):
        self.job = job
        self.timing = compact_timing(job.config)
        self.wait_pixels = self.wait_weights = self.wait_drain = 0
        self.output = _Output(job, self.timing)
        self.weights = _Weights(job, self.timing)

    def run(self) -> int:
        """Cycles of the job."""
        job, timing, output, weights = self.job, self.timing, self.output, self.weights
        fold = job.config.fold
        freed: list[tuple[int, int]] = []  # (tile rows released so far, when)
        held: list[tuple[int, int]] = []  # when the line buffer is read and not written
        writer = tile_row_times(job, freed, held)
        complete: list[int] = []
        issued, started = 0, -_NEVER  # the last chunk and the last pass
        for first in range(0, job.total_rows, job.block_rows):
            rows = min(job.block_rows, job.total_rows - first)
            patches = rows * job.tile_columns
            while len(complete) < first + rows:
                complete.append(next(writer) + timing.row_done)
            # Two cycles pass between blocks, as many as at the start.
            begun = base = max(issued + 3, complete[first + rows - 1] + 2)
            self.wait_pixels += base - issued - 3
            for channel in range(job.output_groups):
                weights.constants(output.taken)
                output.offered.append(weights.written + 1)
                for group in range(job.groups):
                    start = max(base, weights.kernel(), started + timing.recurrence)
                    self.wait_weights += start - base
                    output.fetch_before(issued + 1, start)
                    last = group == job.groups - 1
                    now = start
                    left = patches
                    while left:
                        final = last and left == 1
                        if final:
                            # The sums of the channel before have to be fetched.
                            now = max(now, output.fetch_all(now))
                        elif output.earliest <= now:
                            output.fetch(now)
                            now += 1
                        if left == patches:
                            started = now
                        # Patches that are issued until a fetch may come between two of them.
                        count = 1 if final else min(left - last, max(1, -(-(output.earliest - now) // fold)))
                        now += count * fold
                        left -= count
                    self.wait_drain += now - start - patches * fold
                    weights.begin(started)
                    issued = now - 1
                    base = now
                last_of_block = channel == job.output_groups - 1
                output.finish(issued, self._pattern(first, rows), last_of_block)
            held.append((begun, issued))
            # Slots are free a cycle earlier than after the sequencer of a wide engine.
            freed.append((first + rows, issued - 1))
        output.fetch_before(issued + 1, _NEVER)
        written = next(writer)
        return 1 + max(output.finished(), written, issued + 1)

    def _pattern(self, first: int, rows: int) -> list[int]:
        """For each tile of a block, the last entry of it that lies inside the image, from 0 on."""
        job, geometry, m = self.job, self.job.layer.geometry, self.job.tile_size
        pattern = []
        for tile_row in range(first, first + rows):
            inside = min(m, geometry.out_height - tile_row % job.tile_rows * m)
            for left in range(0, job.tile_columns * m, m):
                pattern.append((inside - 1) * m + min(m, geometry.out_width - left) - 1)
        return pattern


class _Weights:
    """Constants and kernels: the splitter and the store."""

    def __init__(self, job: Job, timing: CompactTiming):
        self.timing = timing
        self.beats = job.config.kernel_rows(job.kernel)
        self.written = 0  # the last beat
        self.begins: deque[int] = deque([-_NEVER] * (timing.kernels - 1))  # of the passes whose places come next

    def constants(self, taken: int) -> None:
        """The constants of an output channel; `taken`: when the serializer took those before."""
        self.written = max(self.written, taken) + self.timing.constant_beats

    def kernel(self) -> int:
        """When the next pass may start."""
        self.written = max(self.written, self.begins.popleft()) + self.beats
        return self.written + 3

    def begin(self, started: int) -> None:
        """A pass has started; the kernel before it makes room."""
        self.begins.append(started + self.timing.to_weights)


class _Output:
    """From the accumulators to pixels: fetches, serial output transform, serializer."""

    def __init__(self, job: Job, timing: CompactTiming):
        self.timing = timing
        self.fold = job.config.fold
        self.pattern: list[int] = []  # of the tiles that rest in the accumulators
        self.left = 0  # chunks of them
        self.earliest = _NEVER  # the next fetch
        self.settled = self.last_fetch = -_NEVER
        self.drained: deque[int] = deque([-_NEVER] * timing.tiles, timing.tiles)
        self.tile_end = 0
        self.offered: deque[int] = deque()  # when constants stand ready
        self.taken = 0  # the last constants
        self.serializer = 2  # when it is ready for constants
        self.last_entry = self.last_pixel = 0
        self.block_ends = False

    def finish(self, issued: int, pattern: list[int], block_ends: bool) -> None:
        """The last chunk of an output channel has been issued; all earlier ones have been fetched."""
        self.pattern, self.left, self.block_ends = pattern, len(pattern) * self.fold, block_ends
        self.taken = max(self.serializer, self.offered.popleft())
        self.settled = issued + self.timing.settling
        self._next()

    def _next(self) -> None:
        if not self.left:
            self.earliest = _NEVER
            return
        self.earliest = max(self.settled, self.last_fetch + self.timing.apart, self.drained[0] + 2)

    def fetch_before(self, now: int, end: int) -> None:
        """Fetches in the cycles from `now` on and before `end`, in which nothing is issued."""
        while max(self.earliest, now) < end and self.left:
            self.fetch(max(self.earliest, now))

    def fetch_all(self, now: int) -> int:
        """Fetches all that is left, from `now` on; the cycle after that."""
        while self.left:
            now = max(self.earliest, now)
            self.fetch(now)
            now += 1
        return now

    def fetch(self, now: int) -> None:
        """A chunk is fetched; the last one of a tile sets the adders to work."""
        timing = self.timing
        self.last_fetch = now
        self.left -= 1
        if self.left % self.fold == 0:
            begin = max(now + timing.to_output + timing.chunk_cycles + 2, self.tile_end)
            self.tile_end = begin + timing.tile_cycles
            self.drained.append(begin + timing.drain_latency)
            first = begin + timing.first_latency
            self.last_pixel = first + timing.entry_times[self.pattern[-(self.left // self.fold) - 1]]
            self.last_entry = first + timing.entry_times[-1]
            if not self.left:
                self.serializer = self.last_entry + 1 + self.block_ends
        self._next()

    def finished(self) -> int:
        """When the last pixel has left and the serializer is idle."""
        return max(self.last_pixel + self.timing.requantizer + 1, self.last_entry + 1)
