"""The cost model: cycles, bytes and utilisation of a layer on an engine, without simulating it.

The model replays the engine's events: tile rows that become complete in the line buffer, kernel rows on their way
through their queue, starts of groups, chunks and rows of tiles on their way to the output. Each event is the latest of
those that it waits for, so that one pass gives every time exactly. Groups of output channels that find everything as
an earlier one found it repeat its times and are not replayed.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from fractions import Fraction

from winohw.gateware.job import Job
from winohw.gateware.schedule import tile_row_times
from winohw.gateware.sequencer import Sequencer
from winohw.gateware.timing import EngineTiming, engine_timing
from winohw.gateware.weight_loader import CONSTANT_BYTES
from winohw.network.compact_cost import CompactReplay
from winohw.network.stationary_cost import StationaryReplay

__all__ = ["LayerCost", "layer_cost"]

#: Older events than this many cycles before the last issue have no influence any more: more than any latency.
_HORIZON = 1024


@dataclass(frozen=True)
class LayerCost:
    """What a job costs.

    Attributes
    ----------
    job : the job.
    cycles : from the accepted descriptor to the last pixel out, every load, drain and stall included.
    busy : cycles in which a patch chunk enters the array.
    wait_pixels, wait_weights, wait_drain : cycles in which the array waits for these.
    weight_bytes : bytes of kernels and constants that have to be brought, once for each block.
    pixel_bytes : bytes of pixels in, each once.
    output_bytes : bytes of pixels out.
    """

    job: Job
    cycles: int
    busy: int
    wait_pixels: int
    wait_weights: int
    wait_drain: int
    weight_bytes: int
    pixel_bytes: int
    output_bytes: int

    @property
    def weight_bandwidth(self) -> float:
        """Bytes of weights a cycle that keep the array at work: those of a group in the cycles it computes on it."""
        job = self.job
        rows = min(job.block_rows, job.total_rows)
        group = job.config.group_rows(job.kernel) * job.config.row_bytes(job.kernel)
        return group / job.group_cycles(rows)

    @property
    def bytes_per_cycle(self) -> float:
        """Bytes of weights, pixels in and pixels out a cycle, averaged over the job."""
        return (self.weight_bytes + self.pixel_bytes + self.output_bytes) / self.cycles

    @property
    def utilisation(self) -> float:
        """Share of all multiplier-cycles that work on tiles of the layer; lanes without a channel count as idle."""
        return self.busy * self.job.used_lanes / self.cycles

    @property
    def effective_macs_per_cycle(self) -> float:
        """Multiply-accumulates of the direct convolution a cycle."""
        return self.job.effective_macs() / self.cycles

    @property
    def effective_macs_per_multiplier(self) -> float:
        """Multiply-accumulates of the direct convolution a cycle and a multiplier of the array."""
        return self.effective_macs_per_cycle / self.job.config.multipliers


def layer_cost(job: Job, *, weight_bandwidth: float | None = None) -> LayerCost:
    """The cost of a job, with ports that never stall.

    Parameters
    ----------
    job : the job.
    weight_bandwidth : most bytes of weights a cycle that the memory gives; None: a beat a cycle.

    Raises
    ------
    ValueError
        The bandwidth is not above 0; or there is one, and the datapath is not the wide one.
    """
    if weight_bandwidth is not None and not weight_bandwidth > 0:
        raise ValueError(f"weight_bandwidth must be above 0, not {weight_bandwidth!r}")
    replay: _Replay | CompactReplay | StationaryReplay
    if not job.config.small:
        replay = _Replay(job, weight_bandwidth)
    elif weight_bandwidth is None:
        replay = {"compact": CompactReplay, "stationary": StationaryReplay}[job.config.datapath](job)
    else:
        raise ValueError(
            f"the cost of a {job.config.datapath} engine is known without a limit only, not {weight_bandwidth!r}"
        )
    cycles = replay.run()
    geometry, config = job.layer.geometry, job.config
    lanes = config.input_lanes * job.input_groups
    kernels = config.group_rows(job.kernel) * config.row_bytes(job.kernel) * job.groups
    constants = CONSTANT_BYTES * config.output_lanes
    return LayerCost(
        job,
        cycles,
        job.array_chunks(),
        replay.wait_pixels,
        replay.wait_weights,
        replay.wait_drain,
        weight_bytes=(kernels + constants) * job.output_groups * job.blocks,
        pixel_bytes=job.images * job.used_height * job.used_width * lanes,
        output_bytes=geometry.outputs * job.images,
    )


class _Replay:
    """Replays a job's events. Time 0 is the cycle in which the engine starts the layer."""

    def __init__(self, job: Job, weight_bandwidth: float | None):
        self.job = job
        self.config = job.config
        self.timing = engine_timing(job.config)
        self.wait_pixels = self.wait_weights = self.wait_drain = 0
        self.drain = _Drain(job, self.timing)
        self.weights = _Weights(job, self.timing, weight_bandwidth)

    def run(self) -> int:
        """Cycles of the job."""
        job, timing, drain, weights = self.job, self.timing, self.drain, self.weights
        interval, fold = timing.interval[job.kernel], self.config.fold
        freed: list[tuple[int, int]] = []  # (tile rows released so far, when)
        writer = tile_row_times(job, freed)
        complete: list[int] = []  # when each tile row is complete
        issued = 0  # the last chunk
        started = None  # the last group
        for first in range(0, job.total_rows, job.block_rows):
            rows = min(job.block_rows, job.total_rows - first)
            tiles = rows * job.tile_columns
            chunks = tiles * fold
            while len(complete) < first + rows:
                complete.append(next(writer) + timing.row_done)
            # Two cycles pass between blocks, as many as at the start.
            entered = issued + 3
            base = max(entered, complete[first + rows - 1] + 2, Sequencer.prefetch)
            self.wait_pixels += base - entered
            pattern = drain.pattern(first, rows)
            seen: dict[tuple, tuple[int, int, int, int]] = {}
            group_of_outputs = 0
            while group_of_outputs < job.output_groups:
                channels = min(
                    self.config.output_lanes,
                    job.layer.geometry.filters - group_of_outputs * self.config.output_lanes,
                )
                weights.begin(drain.taken)
                drain.begin(weights.offered)
                for group in range(job.groups):
                    ready = weights.group(started)
                    start = max(base, ready)
                    if started is not None:
                        start = max(start, started + interval)
                    self.wait_weights += start - base
                    if group < job.groups - 1:
                        started, issued = start, start + chunks - 1
                    else:
                        room = max(start, drain.room())
                        started, issued, waited = drain.tiles(room, pattern, channels)
                        self.wait_drain += room - start + waited
                    base = issued + 1
                group_of_outputs += 1
                # What comes next is as it was some groups ago: skip as many whole repetitions as there are.
                full = job.layer.geometry.filters // self.config.output_lanes
                if group_of_outputs < full:
                    state = (issued - started, *weights.state(issued), *drain.state(issued))
                    before = seen.get(state)
                    if before is not None:
                        period = group_of_outputs - before[0]
                        times = (full - 1 - group_of_outputs) // period
                        delta = (issued - before[1]) * times
                        self.wait_weights += (self.wait_weights - before[2]) * times
                        self.wait_drain += (self.wait_drain - before[3]) * times
                        group_of_outputs += period * times
                        issued += delta
                        started += delta
                        base += delta
                        weights.shift(delta)
                        drain.shift(delta)
                        seen.clear()
                    else:
                        seen[state] = (group_of_outputs, issued, self.wait_weights, self.wait_drain)
            freed.append((first + rows, issued + Sequencer.latency - 1))
        written = next(writer)
        return 2 + max(drain.finished(), written, issued + 1)


class _Weights:
    """Constants and kernel rows: the loader, its queues and the pacer."""

    def __init__(self, job: Job, timing: EngineTiming, bandwidth: float | None):
        config = job.config
        self.rows = config.group_rows(job.kernel)
        self.pace = timing.pace[job.kernel]
        self.arrival = timing.ready_delay + 3
        self.constants = config.output_lanes * timing.constant_beats
        self.written = 0  # the last beat
        self.passed = 0  # the last row through the pacer
        self.moved: deque[int] = deque([-_HORIZON] * (timing.fifo_rows - 1), timing.fifo_rows - 1)
        self.pushed: deque[int] = deque([-_HORIZON] * 3, 3)  # constants that moved to their queue's output
        self.offered = 0  # the constants' arrival at the serializer
        # A memory that gives `bandwidth` bytes a cycle: cycles are counted in units of 1 / `unit`.
        self.unit, self.row_time, self.constant_time, self.free = 1, 0, 0, 0
        if bandwidth is not None:
            share = Fraction(bandwidth).limit_denominator(1000)
            self.unit = share.numerator * timing.constant_beats
            cycle = share.denominator * timing.constant_beats
            self.row_time = cycle * config.row_bytes(job.kernel)
            self.constant_time = share.denominator * CONSTANT_BYTES

    def _beat(self, now: int, time: int) -> int:
        """When the memory gives a beat wanted from `now` on that takes it `time`; it is at most a cycle ahead."""
        if not time:
            return now
        self.free = max(self.free, (now - 2) * self.unit) + time
        return max(now, -(-self.free // self.unit))

    def begin(self, taken: int) -> None:
        """The constants of a group of output channels; `taken`: when the serializer took those before."""
        now = self.written
        for _ in range(self.constants):
            now = self._beat(now + 1, self.constant_time)
        push = max(now + 1, self.pushed[0] + 1)
        self.written = push
        moved = max(push + 2, taken)
        self.pushed.append(moved)
        self.offered = moved + 1

    def group(self, started: int | None) -> int:
        """The next group's rows, given the start of the group before; when the group may be started."""
        written, passed, moved, row_time = self.written, self.passed, self.moved, self.row_time
        permitted = 1 if started is None else started + self.pace
        for _ in range(self.rows):
            written += 1
            if row_time:
                written = self._beat(written, row_time)
            room = moved[0] + 1
            if room > written:
                written = room
            move = written + 1
            if passed > move:
                move = passed
            moved.append(move)
            passed = max(move + 1, passed + 1, permitted)
        self.written, self.passed = written, passed
        return written + self.arrival

    def state(self, now: int) -> tuple[int, ...]:
        """Times before `now`."""
        times = (self.written, self.passed, *self.moved, *self.pushed)
        state = tuple(max(time - now, -_HORIZON) for time in times)
        return (*state, max(self.free - now * self.unit, -_HORIZON)) if self.row_time else state

    def shift(self, cycles: int) -> None:
        """Move everything later."""
        self.written += cycles
        self.passed += cycles
        self.offered += cycles
        self.free += cycles * self.unit
        for times in (self.moved, self.pushed):
            times.extend([time + cycles for time in times])


class _Drain:
    """From the accumulators to pixels: drain buffer, output transform, serializer."""

    def __init__(self, job: Job, timing: EngineTiming):
        config = job.config
        self.job = job
        self.timing = timing
        self.fold = config.fold
        self.interval = max(timing.tile_beats, job.tile_size)
        self.drained: deque[int] = deque([-_HORIZON] * timing.drain_depth, timing.drain_depth)
        self.started = -_HORIZON  # the last tile
        # Rows that left the queue; the oldest of them must have done so before a tile is started.
        room = max(1, timing.queue_depth + 1 - job.tile_size - timing.queue_margin)
        self.left: deque[int] = deque([-_HORIZON] * (room + job.tile_size), room + job.tile_size)
        self.start = -_HORIZON  # of the last row in the serializer
        self.absent = 0  # output lanes without a channel
        self.emission = 0  # its cycles
        self.offered, self.taken = 0, -_HORIZON  # the constants of a group
        self.last_pixel = 0

    # --- tables --------------------------------------------------------------------------------------------------
    def pattern(self, first: int, rows: int) -> list[tuple[int, ...]]:
        """For each tile of a block, whole and in the order of the loops, the columns of each of its rows inside."""
        job, geometry, m = self.job, self.job.layer.geometry, self.job.tile_size
        pattern = []
        for tile_row in range(first, first + rows):
            top = tile_row % job.tile_rows * m
            for left in range(0, job.tile_columns * m, m):
                columns = min(m, geometry.out_width - left)
                pattern.append(tuple(columns if top + row < geometry.out_height else 0 for row in range(m)))
        return pattern

    # --- a group of output channels ------------------------------------------------------------------------------
    def begin(self, offered: int) -> None:
        """The group's constants are offered from then on; the serializer takes them with its first row."""
        self.offered, self.taken = offered, None

    def room(self) -> int:
        """When there is room for the next tile."""
        return self.drained[0] + 2

    def tiles(self, start: int, pattern: list[tuple[int, ...]], channels: int) -> tuple[int, int, int]:
        """The last pass over a block's tiles, from `start` on.

        Returns
        -------
        start of the group, issue of its last chunk, cycles waited for room in between
        """
        lanes = self.job.config.requantizer_lanes
        self.absent = self.job.config.output_lanes - channels
        cycles = {
            columns: channels * -(-columns // lanes) + self.absent for columns in range(1, self.job.tile_size + 1)
        }
        cycles[0] = 0
        issue, waited = start, 0
        for number, tile in enumerate(pattern):
            if number:
                room = self.room()
                if room > issue:
                    waited += room - issue
                    issue = room
            self._start(issue + self.timing.to_drain - 1)
            issue += self.fold
            self._rows(tile, cycles)
        return start, issue - 1, waited

    def _start(self, now: int) -> None:
        """A tile leaves the drain buffer, from `now` on, once there is room for its rows."""
        now = max(now, self.started + self.interval)
        # For three cycles the tile before has not been charged yet.
        early = max(now, self.left[0] + 3)
        late = max(now, self.left[self.job.tile_size] + 3)
        self.started = early if early < self.started + 3 else late
        self.drained.append(self.started + self.timing.drained_latency)

    def _rows(self, tile: tuple[int, ...], cycles: dict[int, int]) -> None:
        """The rows of the tile that was started leave."""
        timing = self.timing
        now = self.started + timing.drain_latency + timing.tile_beats - 1 + timing.output_latency
        for columns in tile:
            now += 1
            self.start = max(now, self.start + self.emission, self.offered + 1)
            if self.taken is None:
                self.taken = self.start + 1
            self.emission = max(1, cycles[columns])
            self.left.append(self.start + self.emission - 1)
            if columns:
                self.last_pixel = self.start + 1 + self.emission - self.absent

    def finished(self) -> int:
        """When the last pixel has left and the serializer is idle."""
        return max(self.last_pixel + self.timing.requantizer + 1, self.start + self.emission + 2)

    # --- repetition ----------------------------------------------------------------------------------------------
    def state(self, now: int) -> tuple[int, ...]:
        """Times before `now`."""
        times = (self.started, self.start + self.emission, self.taken, *self.drained, *self.left)
        return tuple(max(time - now, -_HORIZON) for time in times)

    def shift(self, cycles: int) -> None:
        """Move everything later."""
        for name in ("started", "start", "taken", "last_pixel"):
            setattr(self, name, getattr(self, name) + cycles)
        for times in (self.drained, self.left):
            times.extend([time + cycles for time in times])
