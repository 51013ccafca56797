"""The cost model of a stationary engine: its events, replayed as `winohw.network.cost` does those of a wide one."""

from __future__ import annotations

from collections import deque

from winohw.gateware.job import Job
from winohw.gateware.schedule import tile_row_times
from winohw.gateware.stationary_engine import StationaryTiming, stationary_timing

__all__ = ["StationaryReplay"]

_NEVER = 1 << 62


class StationaryReplay:
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
        self.timing = stationary_timing(job.config)
        self.wait_pixels = self.wait_weights = self.wait_drain = 0
        self.weights = _Weights(job, self.timing)
        self.output = _Output(job, self.timing)

    def run(self) -> int:
        """Cycles of the job."""
        job, timing, output, weights = self.job, self.timing, self.output, self.weights
        freed: list[tuple[int, int]] = []  # (tile rows released so far, when)
        held: list[tuple[int, int]] = []  # when the line buffer is not written
        writer = tile_row_times(job, freed, held)
        issued = 0  # the last chunk
        ready = 0  # the last tile row
        for first in range(0, job.total_rows, job.block_rows):
            rows = min(job.block_rows, job.total_rows - first)
            for _ in range(rows):
                done = next(writer) + timing.row_done
                ready = done + timing.row_ready + timing.rows * job.slot_pitch
                held.append((done + 1, ready + 1))
            # Two cycles pass between blocks, as many as at the start.
            begun = now = max(issued + 3, ready + 2)
            self.wait_pixels += begun - issued - 3
            pattern = self._pattern(first, rows)
            for channel in range(job.output_groups):
                weights.constants(output.constants_taken)
                output.begin_channels(weights.written + 1)
                start = max(now, weights.kernels(job.groups))
                self.wait_weights += start - now
                now = start
                for tile, last_entry in enumerate(pattern):
                    for phase in range(job.config.fold):
                        # The last input channel waits for the sums before to find their way out.
                        last = max(now + job.groups - 1, output.room)
                        self.wait_drain += last - now - job.groups + 1
                        if tile == len(pattern) - 1 and phase == job.config.fold - 1:
                            weights.release([*range(now, now + job.groups - 1), last])
                        output.sums(last, phase, last_entry[channel == job.output_groups - 1])
                        now = last + 1
                output.end_channels(channel == job.output_groups - 1)
            issued = now - 1
            held.append((begun, issued))
            # Slots are free a cycle earlier than after the sequencer of a wide engine.
            freed.append((first + rows, issued - 1))
        written = next(writer)
        return 1 + max(output.finished(), written, issued + 1)

    def _pattern(self, first: int, rows: int) -> list[tuple[int, int]]:
        """For each tile of a block, the last result that lies inside the image, from 0 on: of any group of output
        channels but the last, and of that.
        """
        job, geometry, m = self.job, self.job.layer.geometry, self.job.tile_size
        lanes = job.config.output_lanes
        used = geometry.filters - (job.output_groups - 1) * lanes
        pattern = []
        for tile_row in range(first, first + rows):
            inside = min(m, geometry.out_height - tile_row % job.tile_rows * m)
            for left in range(0, job.tile_columns * m, m):
                width = min(m, geometry.out_width - left)
                pattern.append(tuple(((inside - 1) * lanes + lane - 1) * m + width - 1 for lane in (lanes, used)))
        return pattern


class _Weights:
    """Constants and kernels: the splitter and the store."""

    def __init__(self, job: Job, timing: StationaryTiming):
        self.timing = timing
        self.beats = job.config.group_rows(job.kernel)
        self.written = 0  # the last beat
        self.released: deque[int] = deque([-_NEVER] * timing.places)  # when places were given up

    def constants(self, taken: int) -> None:
        """The constants of a group of output channels; `taken`: when the serializer took those before."""
        self.written = max(self.written, taken) + self.timing.constant_beats

    def kernels(self, groups: int) -> int:
        """The kernels of all input channels; when the array may begin with them."""
        for _ in range(groups):
            self.written = max(self.written, self.released.popleft()) + self.beats
        return self.written + 3

    def release(self, issued: list[int]) -> None:
        """The last uses of the kernels, input channel by input channel."""
        self.released += [time + 1 for time in issued]


class _Output:
    """From the array to pixels: narrowing, output transform, serializer."""

    def __init__(self, job: Job, timing: StationaryTiming):
        self.timing = timing
        self.fold = job.config.fold
        lanes, self.size = job.config.output_lanes, job.tile_size
        # When the rows of a tile land, in cycles after its beginning.
        self.landings, cycles = [], 0
        for row in timing.row_cycles:
            for _ in range(lanes):
                self.landings.append(cycles + row - timing.row_cycles[0] + timing.first_result)
                cycles += row
        self.tile_cycles = cycles
        self.room = -_NEVER  # the earliest last input channel of the next chunk
        self.over: deque[int] = deque([-_NEVER] * 2, 2)  # the last steps of the tiles in memory
        self.constants_taken = 0
        self.serializer = 2  # when it is ready for constants
        self.last_entry = self.last_pixel = 0

    def begin_channels(self, offered: int) -> None:
        """The constants of another group of output channels are `offered`."""
        self.constants_taken = max(self.serializer, offered)
        self.last_entry = max(self.last_entry, self.constants_taken)

    def end_channels(self, block_ends: bool) -> None:
        """All tiles of the group have come."""
        self.serializer = self.last_entry + 1 + block_ends

    def sums(self, issued: int, phase: int, last_inside: int) -> None:
        """The last input channel of a chunk is issued; the last chunk of a tile sets the adders to work."""
        timing = self.timing
        begin = issued + timing.to_sums + 1
        if phase == 0:
            begin = max(begin, self.over[0] + 1)
        self.room = begin + timing.sums - timing.ahead
        if phase == self.fold - 1:
            start = max(begin + timing.sums - 1 + timing.to_memory, self.over[-1] + 1)
            self.over.append(start + self.tile_cycles - 1)
            for number, landing in enumerate(self.landings):
                first = max(start + landing, self.last_entry + 1)
                self.last_entry = first + self.size - 1
                if number == last_inside // self.size:
                    self.last_pixel = first + last_inside % self.size

    def finished(self) -> int:
        """When the last pixel has left and the serializer is idle."""
        return max(self.last_pixel + self.timing.requantizer + 1, self.last_entry + 1)
