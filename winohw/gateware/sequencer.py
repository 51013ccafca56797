"""The sequencer: the loops of a layer, one patch chunk a cycle."""

from __future__ import annotations

from typing import Any

import numpy as np
from amaranth.hdl import Module, Mux, ShapeLike, Signal, Value, ValueLike
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import NDArray

__all__ = ["Sequencer"]


class Sequencer(wiring.Component):
    """Runs the loops of a layer and issues one patch chunk a cycle to the array.

    Loops, outermost first: block of tile rows, group of Pk output channels, group of Pc input channels, tile row,
    tile column, phase. A chunk is issued only when nothing behind it can stall: the block's tile rows are in the line
    buffer, the weights of the group will have reached the shadow registers by the time the chunk meets them, and
    there is room for what leaves the accumulators. The datapath behind needs no backpressure therefore.

    Latency: `latency` cycles from the cycle that issues a chunk (`busy`) to its token at `o`; what a strobe allows is
    issued two cycles after it. Throughput: a token a cycle, without a bubble between tile rows, groups and phases; two
    cycles pass between blocks. A group takes at least `group_interval` and `least_group` cycles.

    Parameters
    ----------
    fold : int
        Phases a patch, 1 or more.
    max_tiles : int
        Most tiles a block, 1 or more.
    least_group : int
        Least cycles from the start of a group to the start of the next, 1 or more: after so many the same accumulator
        may be used again.
    drain_capacity : int
        Tiles that fit behind the accumulators, 1 or more.
    dimension_bits : int
        Width of counts and sizes, 1 or more.

    Attributes
    ----------
    latency : int
        Cycles: 2.

    Members
    -------
    start : In(1)
        Begins a layer whose values stand at the inputs below until `idle`.
    total_rows, block_rows, tile_cols, groups, output_groups, slots : In(dimension_bits)
        Fields of the layer descriptor, as are the pitches.
    group_pitch, slot_pitch : In(16)
        Words of the line buffer.
    group_interval : In(16)
        Least cycles from the start of a group to the start of the next, for loading its weights.
    row_done : In(1)
        Strobe, the line buffer has completed a tile row.
    free : Out(dimension_bits)
        Tile rows that the line buffer may overwrite, for one cycle, else 0: those of a block, with its last chunk.
    weights_ready : In(1)
        Strobe, all weights of one more group have arrived; at most 255 groups may wait.
    drained : In(1)
        Strobe, a tile has left the buffer behind the accumulators.
    o : Out(stream.Signature(StructLayout({"line": 16, "accumulator": …, …}), always_ready=True))
        Tokens: word of the line buffer, accumulator, and one bit each for `swap`, the first chunk of a group, `first`,
        a chunk of the first group of input channels, and `last`, a chunk of their last group.
    idle : Out(1)
        No chunk is left to issue.
    busy, wait_pixels, wait_weights, wait_drain : Out(1)
        What the current cycle was used for: issuing a chunk, or waiting for tile rows, for weights (or for the least
        cycles of a group), or for room behind the accumulators. None of them between blocks.

    Raises
    ------
    ValueError
        If a parameter is out of its range.
    """

    latency = 2

    def __init__(self, *, fold: int, max_tiles: int, least_group: int, drain_capacity: int, dimension_bits: int = 12):
        for name, value in (
            ("fold", fold),
            ("max_tiles", max_tiles),
            ("least_group", least_group),
            ("drain_capacity", drain_capacity),
            ("dimension_bits", dimension_bits),
        ):
            if value < 1:
                raise ValueError(f"{name} must be 1 or more, not {value!r}")
        self.fold = fold
        self.max_tiles = max_tiles
        self.least_group = least_group
        self.drain_capacity = drain_capacity
        self.dimension_bits = count = dimension_bits
        token = data.StructLayout(
            {"line": 16, "accumulator": range(max_tiles * fold), "swap": 1, "first": 1, "last": 1}
        )
        super().__init__(
            {
                "start": In(1),
                "total_rows": In(count),
                "block_rows": In(count),
                "tile_cols": In(count),
                "groups": In(count),
                "output_groups": In(count),
                "slots": In(count),
                "group_pitch": In(16),
                "slot_pitch": In(16),
                "group_interval": In(16),
                "row_done": In(1),
                "free": Out(count),
                "weights_ready": In(1),
                "drained": In(1),
                "o": Out(stream.Signature(token, always_ready=True)),
                "started": Out(1),
                "idle": Out(1),
                "busy": Out(1),
                "wait_pixels": Out(1),
                "wait_weights": Out(1),
                "wait_drain": Out(1),
            }
        )

    def model(
        self,
        *,
        total_rows: int,
        block_rows: int,
        tile_cols: int,
        groups: int,
        output_groups: int,
        slots: int,
        group_pitch: int,
        slot_pitch: int,
    ) -> NDArray[Any]:
        """The tokens of a layer, a structured array with the fields of `o`."""
        tokens = []
        for top in range(0, total_rows, block_rows):
            rows = range(top, min(top + block_rows, total_rows))
            for _ in range(output_groups):
                for group in range(groups):
                    chunks = [
                        row % slots * slot_pitch + group * group_pitch + column
                        for row in rows
                        for column in range(tile_cols * self.fold)
                    ]
                    tokens += [
                        (line, number, number == 0, group == 0, group == groups - 1)
                        for number, line in enumerate(chunks)
                    ]
        return np.array(tokens, np.dtype([(name, np.int64) for name in self.o.payload.shape().members]))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        count, fold = self.dimension_bits, self.fold

        # Every loop counts down; a flag beside it says that this is its last turn, so that no comparison stands
        # between a counter and the enables of the others.
        def loop(name: str, size: ValueLike, width: ShapeLike = count) -> tuple[Signal, list, list]:
            left = Signal(width, name=f"{name}_left")
            last = Signal(name=f"{name}_last")
            reload = [left.eq(size - 1), last.eq(Value.cast(size) == 1)]
            step = [left.eq(left - 1), last.eq(left == 1)]
            return last, reload, step

        block_size = Signal(count)
        rows_left = Signal(count)  # tile rows from this block's first to the layer's last
        block_last = Signal()
        k_last, k_reload, k_step = loop("k", self.output_groups)
        g_last, g_reload, g_step = loop("g", self.groups)
        r_last, r_reload, r_step = loop("r", block_size)
        x_last, x_reload, x_step = loop("x", self.tile_cols)
        if fold > 1:
            p_last, p_reload, p_step = loop("p", fold, range(fold + 1))

        # Rows in the line buffer from the block's first one on.
        rows_ready = Signal(count + 1)
        block_ready = Signal()
        groups_ready = Signal(8)
        group_ready = Signal()
        interval = Signal(max(self.least_group.bit_length(), len(self.group_interval)))
        interval_over = Signal()
        credits = Signal(range(self.drain_capacity + 1))
        room = Signal()

        group_start, patch_start, g_first = Signal(), Signal(), Signal()
        slot, block_slot = Signal(count), Signal(count)
        slot_base, block_base = Signal(16), Signal(16)
        group_offset = Signal(16)
        column = Signal(16)
        accumulator = Signal(range(self.max_tiles * fold))

        running, issue = Signal(), Signal()
        ok_pixels, ok_weights, ok_drain = Signal(), Signal(), Signal()
        m.d.comb += [
            ok_pixels.eq(block_ready),
            ok_weights.eq(~group_start | (group_ready & interval_over)),
            ok_drain.eq(~(g_last & patch_start) | room),
            issue.eq(running & ok_pixels & ok_weights & ok_drain),
            self.busy.eq(issue),
            self.wait_pixels.eq(running & ~ok_pixels),
            self.wait_weights.eq(running & ok_pixels & ~ok_weights),
            self.wait_drain.eq(running & ok_pixels & ok_weights & ~ok_drain),
        ]

        next_slot, next_base = Signal(count), Signal(16)
        m.d.comb += [next_slot.eq(slot + 1), next_base.eq(slot_base + self.slot_pitch)]
        with m.If(slot == self.slots - 1):
            m.d.comb += [next_slot.eq(0), next_base.eq(0)]

        chunk_last = Signal()
        m.d.comb += chunk_last.eq(p_last if fold > 1 else 1)

        consumed = Signal(count)  # tile rows that the end of a block takes off `rows_ready`
        m.d.sync += rows_ready.eq(rows_ready + self.row_done - consumed)
        # Compared one cycle late; between two blocks pass the cycles that it takes to see the next one.
        m.d.sync += block_ready.eq(rows_ready >= block_size)
        m.d.comb += self.free.eq(consumed)

        take_group = Signal()
        m.d.comb += [take_group.eq(issue & group_start), self.started.eq(take_group)]
        m.d.sync += groups_ready.eq(groups_ready + self.weights_ready - take_group)
        # One cycle late: right in time, as `interval_over` is low in the cycle after a group has started.
        m.d.sync += group_ready.eq(groups_ready != 0)
        with m.If(take_group):
            m.d.sync += [
                interval.eq(Mux(self.group_interval > self.least_group, self.group_interval, self.least_group)),
                interval_over.eq(0),
            ]
        with m.Elif(~interval_over):
            m.d.sync += [interval.eq(interval - 1), interval_over.eq(interval <= 2)]

        spend = Signal()
        m.d.comb += spend.eq(issue & g_last & patch_start)
        m.d.sync += credits.eq(credits + self.drained - spend)
        # One cycle old, so the credit that is spent now must not count.
        m.d.sync += room.eq((credits > 1) | ((credits == 1) & ~spend))

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.idle.eq(1)
                m.d.sync += [
                    rows_left.eq(self.total_rows),
                    block_slot.eq(0),
                    block_base.eq(0),
                    rows_ready.eq(0),
                    block_ready.eq(0),
                    groups_ready.eq(0),
                    group_ready.eq(0),
                    interval_over.eq(1),
                    credits.eq(self.drain_capacity),
                ]
                with m.If(self.start):
                    m.next = "BLOCK"
            with m.State("BLOCK"):
                m.d.sync += block_size.eq(Mux(rows_left > self.block_rows, self.block_rows, rows_left))
                m.d.sync += block_last.eq(rows_left <= self.block_rows)
                m.next = "ENTER"
            with m.State("ENTER"):
                m.d.sync += k_reload + g_reload + r_reload + x_reload
                if fold > 1:
                    m.d.sync += p_reload
                m.d.sync += [
                    group_start.eq(1),
                    patch_start.eq(1),
                    g_first.eq(1),
                    slot.eq(block_slot),
                    slot_base.eq(block_base),
                    group_offset.eq(0),
                    column.eq(0),
                    accumulator.eq(0),
                ]
                m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += running.eq(1)
                with m.If(issue):
                    m.d.sync += [
                        group_start.eq(0),
                        patch_start.eq(chunk_last),
                        column.eq(column + 1),
                        accumulator.eq(accumulator + 1),
                    ]
                    if fold > 1:
                        m.d.sync += p_step
                    with m.If(chunk_last):
                        if fold > 1:
                            m.d.sync += p_reload
                        m.d.sync += x_step
                    with m.If(chunk_last & x_last):
                        m.d.sync += x_reload + r_step
                        m.d.sync += [slot.eq(next_slot), slot_base.eq(next_base), column.eq(0)]
                    with m.If(chunk_last & x_last & r_last):
                        m.d.sync += r_reload + g_step
                        m.d.sync += [
                            slot.eq(block_slot),
                            slot_base.eq(block_base),
                            group_offset.eq(group_offset + self.group_pitch),
                            accumulator.eq(0),
                            group_start.eq(1),
                            g_first.eq(0),
                        ]
                    with m.If(chunk_last & x_last & r_last & g_last):
                        m.d.sync += g_reload + k_step
                        m.d.sync += [group_offset.eq(0), g_first.eq(1)]
                    with m.If(chunk_last & x_last & r_last & g_last & k_last):
                        m.d.sync += [block_slot.eq(next_slot), block_base.eq(next_base)]
                        m.d.sync += rows_left.eq(rows_left - block_size)
                        m.d.comb += consumed.eq(block_size)
                        m.next = "BLOCK"
                        with m.If(block_last):
                            m.next = "IDLE"

        # The address takes three terms: two cycles for two additions.
        sum_valid = Signal()
        partial = Signal(16, reset_less=True)
        last_term = Signal(16, reset_less=True)
        flags = Signal.like(self.o.payload, reset_less=True)
        m.d.sync += [
            sum_valid.eq(issue),
            partial.eq(slot_base + group_offset),
            last_term.eq(column),
            flags.accumulator.eq(accumulator),
            flags.swap.eq(group_start),
            flags.first.eq(g_first),
            flags.last.eq(g_last),
        ]
        m.d.sync += [self.o.valid.eq(sum_valid), self.o.payload.eq(flags), self.o.payload.line.eq(partial + last_term)]
        return m
