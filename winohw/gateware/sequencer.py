"""The sequencer: the loops of a layer, one patch chunk a cycle."""

from __future__ import annotations

from typing import Any

import numpy as np
from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out
from numpy.typing import NDArray

from winohw.gateware.countdown import countdown

__all__ = ["Sequencer"]

#: Tokens that wait to be issued.
_QUEUE = 16


class Sequencer(wiring.Component):
    """Runs the loops of a layer and issues one patch chunk a cycle to the array.

    Loops, outermost first: block of tile rows, group of Pk output channels, group of Pc input channels, tile row,
    tile column, phase. A chunk is issued only when nothing behind it can stall: the block's tile rows are in the line
    buffer, the weights of the group will have reached the shadow registers by the time the chunk meets them, and
    there is room for what leaves the accumulators. The datapath behind needs no backpressure therefore. The loops run
    ahead; their tokens wait in a short queue.

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
        Cycles: 1.
    prefetch : int
        Cycles from `start` to the first chunk, at least: 8.

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
        Tile rows that the line buffer may overwrite, for one cycle, else 0: those of a block, a cycle after its last
        chunk.
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

    latency = 1
    prefetch = 8

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
        token = data.StructLayout(
            {
                **self.o.payload.shape().members,
                "needs_room": 1,  # begins a patch of the last group
                "block_last": 1,
                "block_rows": self.dimension_bits,
            }
        )
        m.submodules.queue = queue = SyncFIFOBuffered(width=token.size, depth=_QUEUE)
        pop, is_idle = Signal(), Signal()
        self._generate(m, token, queue, pop, is_idle)

        # --- the first token is issued when nothing behind can stall -------------------------------------------------
        front = data.View(token, queue.r_data)
        rows_ready = Signal(self.dimension_bits + 1)  # in the line buffer, from the block's first one on
        run = Signal()  # the block's rows are there
        pause = Signal(2)  # cycles that pass before a block
        groups_ready, group_ok = Signal(8), Signal()
        interval = Signal(max(self.least_group.bit_length(), len(self.group_interval)))
        interval_over, next_interval_over = Signal(), Signal()
        credits = Signal(range(self.drain_capacity + 1))
        room = Signal()
        issue, block_over, take_group, spend = Signal(), Signal(), Signal(), Signal()
        weights_ok, room_ok = ~front.swap | group_ok, ~front.needs_room | room
        counting = ~is_idle & ~pause[0]
        m.d.comb += [
            issue.eq(run & queue.r_rdy & weights_ok & room_ok),
            pop.eq(issue),
            queue.r_en.eq(issue),
            block_over.eq(issue & front.block_last),
            take_group.eq(issue & front.swap),
            spend.eq(issue & front.needs_room),
            self.started.eq(take_group),
            self.idle.eq(is_idle),
            self.busy.eq(issue),
            self.wait_pixels.eq(counting & ~run),
            self.wait_weights.eq(counting & run & ~weights_ok),
            self.wait_drain.eq(counting & run & weights_ok & ~room_ok),
        ]
        m.d.sync += [
            pause.eq(Mux(self.start | block_over, 3, pause >> 1)),
            rows_ready.eq(rows_ready + self.row_done - Mux(block_over, front.block_rows, 0)),
            run.eq(queue.r_rdy & (rows_ready >= front.block_rows) & ~block_over & ~pause[1]),
            self.free.eq(Mux(block_over, front.block_rows, 0)),
            groups_ready.eq(groups_ready + self.weights_ready - take_group),
            # One cycle late: right in time, as the interval is not over in the cycle after a group has started.
            group_ok.eq((groups_ready != 0) & next_interval_over),
            interval_over.eq(next_interval_over),
            credits.eq(credits + self.drained - spend),
            # One cycle old, so the credit that is spent now must not count.
            room.eq((credits > 1) | ((credits == 1) & ~spend)),
        ]
        m.d.comb += next_interval_over.eq(~take_group & (interval_over | (interval <= 2)))
        with m.If(take_group):
            m.d.sync += interval.eq(Mux(self.group_interval > self.least_group, self.group_interval, self.least_group))
        with m.Elif(~interval_over):
            m.d.sync += interval.eq(interval - 1)
        with m.If(self.start):
            m.d.sync += [
                rows_ready.eq(0),
                groups_ready.eq(0),
                interval_over.eq(1),
                credits.eq(self.drain_capacity),
            ]

        m.d.sync += self.o.valid.eq(issue)
        m.d.sync += [self.o.payload[name].eq(front[name]) for name in self.o.payload.shape().members]
        return m

    def _generate(self, m: Module, token: data.Layout, queue: SyncFIFOBuffered, pop: Signal, is_idle: Signal) -> None:
        """Runs through the loops, ahead of the tokens' issue."""
        count, fold = self.dimension_bits, self.fold

        block_size = Signal(count)
        rows_left = Signal(count)  # tile rows from this block's first to the layer's last
        block_last = Signal()
        k_last, k_reload, k_step = countdown("k", self.output_groups, count)
        g_last, g_reload, g_step = countdown("g", self.groups, count)
        r_last, r_reload, r_step = countdown("r", block_size, count)
        x_last, x_reload, x_step = countdown("x", self.tile_cols, count)
        p_last, p_reload, p_step = Const(1), [], []
        if fold > 1:
            p_last, p_reload, p_step = countdown("p", fold, range(fold + 1))
        slot, block_slot = Signal(count), Signal(count)
        slot_last, block_slot_last = Signal(), Signal()  # of the line buffer: the next tile row is in slot 0
        slot_base, block_base = Signal(16), Signal(16)
        group_offset = Signal(16)
        column = Signal(16)
        accumulator = Signal(range(self.max_tiles * fold))
        group_start, patch_start, g_first = Signal(), Signal(), Signal()

        next_slot, next_base, next_slot_last = Signal(count), Signal(16), Signal()
        m.d.comb += [
            next_slot.eq(Mux(slot_last, 0, slot + 1)),
            next_base.eq(Mux(slot_last, 0, slot_base + self.slot_pitch)),
            next_slot_last.eq(Mux(slot_last, self.slots == 1, slot + 2 == self.slots)),
        ]
        to_next_row = [slot.eq(next_slot), slot_base.eq(next_base), slot_last.eq(next_slot_last), column.eq(0)]
        to_block = [slot.eq(block_slot), slot_base.eq(block_base), slot_last.eq(block_slot_last), column.eq(0)]

        # A late answer leaves some places of the queue unused.
        go, room = Signal(), Signal()
        waiting = Signal(range(_QUEUE + 1))
        m.d.sync += [waiting.eq(waiting + go - pop), room.eq(waiting <= _QUEUE - 4), go.eq(0)]
        with m.If(go):
            m.d.sync += [
                group_start.eq(0),
                patch_start.eq(p_last),
                column.eq(column + 1),
                accumulator.eq(accumulator + 1),
            ]
            m.d.sync += p_step
            with m.If(p_last):
                m.d.sync += p_reload + x_step
            with m.If(p_last & x_last):
                m.d.sync += x_reload + r_step + to_next_row
            with m.If(p_last & x_last & r_last):
                m.d.sync += r_reload + g_step + to_block
                m.d.sync += [
                    group_offset.eq(group_offset + self.group_pitch),
                    accumulator.eq(0),
                    group_start.eq(1),
                    g_first.eq(0),
                ]
            with m.If(p_last & x_last & r_last & g_last):
                m.d.sync += g_reload + k_step
                m.d.sync += [group_offset.eq(0), g_first.eq(1)]
            with m.If(p_last & x_last & r_last & g_last & k_last):
                m.d.sync += [
                    block_slot.eq(next_slot),
                    block_base.eq(next_base),
                    block_slot_last.eq(next_slot_last),
                    rows_left.eq(rows_left - block_size),
                ]

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += is_idle.eq(waiting == 0)
                m.d.sync += [
                    rows_left.eq(self.total_rows),
                    block_slot.eq(0),
                    block_base.eq(0),
                    block_slot_last.eq(self.slots == 1),
                ]
                with m.If(self.start):
                    m.next = "BLOCK"
            with m.State("BLOCK"):
                m.d.sync += block_size.eq(Mux(rows_left > self.block_rows, self.block_rows, rows_left))
                m.d.sync += block_last.eq(rows_left <= self.block_rows)
                m.next = "ENTER"
            with m.State("ENTER"):
                m.d.sync += k_reload + g_reload + r_reload + x_reload + p_reload + to_block
                m.d.sync += [
                    group_start.eq(1),
                    patch_start.eq(1),
                    g_first.eq(1),
                    group_offset.eq(0),
                    accumulator.eq(0),
                    go.eq(room),
                ]
                m.next = "RUN"
            with m.State("RUN"):
                m.d.sync += go.eq(room)
                with m.If(go & p_last & x_last & r_last & g_last & k_last):
                    m.d.sync += go.eq(0)
                    m.next = "BLOCK"
                    with m.If(block_last):
                        m.next = "IDLE"

        # The address takes three terms: two cycles for two additions.
        partial, last_term = Signal(16, reset_less=True), Signal(16, reset_less=True)
        early, late = Signal(token, reset_less=True), Signal(token, reset_less=True)
        valid = Signal(2)
        m.d.sync += [
            valid.eq(valid << 1 | go),
            partial.eq(slot_base + group_offset),
            last_term.eq(column),
            early.accumulator.eq(accumulator),
            early.swap.eq(group_start),
            early.first.eq(g_first),
            early.last.eq(g_last),
            early.needs_room.eq(g_last & patch_start),
            early.block_last.eq(p_last & x_last & r_last & g_last & k_last),
            early.block_rows.eq(block_size),
            late.eq(early),
            late.line.eq(partial + last_term),
        ]
        m.d.comb += [queue.w_en.eq(valid[-1]), queue.w_data.eq(late)]
