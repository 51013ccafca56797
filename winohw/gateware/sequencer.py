"""The sequencer: the loops of a layer, one patch chunk a cycle."""

from __future__ import annotations

from typing import Any

import numpy as np
from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import NDArray

from winohw.gateware.blocks import blocks, keep_for_next_block
from winohw.gateware.countdown import countdown
from winohw.gateware.head_queue import HeadQueue

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
        Least cycles from the start of a group to the start of the next, 3 or more: after so many the same accumulator
        may be used again.
    drain_capacity : int
        Tiles that fit behind the accumulators, 1 or more.
    dimension_bits : int
        Width of counts and sizes, 1 or more.

    Attributes
    ----------
    latency : int
        Cycles: 2.
    prefetch : int
        Cycles from `start` to the first chunk, at least: 8.

    Members
    -------
    start : In(1)
        Begins a layer whose values have stood at the inputs below for three cycles, and stand until `idle`.
    total_rows, block_rows, tile_cols, groups, output_groups, slots : In(dimension_bits)
        Fields of the layer descriptor, as are the pitches.
    group_pitch, slot_pitch : In(16)
        Words of the line buffer.
    group_interval : In(16)
        Least cycles from the start of a group to the start of the next, for loading its weights.
    row_done : In(1)
        Strobe, the line buffer has completed a tile row.
    free : Out(dimension_bits)
        Tile rows that the line buffer may overwrite, for one cycle, else 0: those of a block, two cycles after its
        last chunk.
    weights_ready : In(1)
        Strobe, all weights of one more group have arrived; at most 255 groups may wait.
    drained : In(1)
        Strobe, a tile has left the buffer behind the accumulators.
    o : Out(stream.Signature(StructLayout({"line": 16, "accumulator": …, …}), always_ready=True))
        Tokens: word of the line buffer, accumulator, and one bit each for `swap`, the first chunk of a group, `first`,
        a chunk of the first group of input channels, and `last`, a chunk of their last group.
    started : Out(1)
        Strobe, a group has started in the cycle before.
    idle : Out(1)
        No chunk is left to issue; two cycles after the last one.
    busy, wait_pixels, wait_weights, wait_drain : Out(1)
        What the current cycle was used for: issuing a chunk, or waiting for tile rows, for weights (or for the least
        cycles of a group), or for room behind the accumulators. None of them between blocks.

    Raises
    ------
    ValueError
        If a parameter is out of its range.
    """

    latency = 2
    prefetch = 8

    def __init__(self, *, fold: int, max_tiles: int, least_group: int, drain_capacity: int, dimension_bits: int = 12):
        for name, value, least in (
            ("fold", fold, 1),
            ("max_tiles", max_tiles, 1),
            ("least_group", least_group, 3),
            ("drain_capacity", drain_capacity, 1),
            ("dimension_bits", dimension_bits, 1),
        ):
            if value < least:
                raise ValueError(f"{name} must be {least} or more, not {value!r}")
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
        # What the decision to issue needs of a token, and what follows it a cycle later.
        verdict = data.StructLayout({"swap": 1, "needs_room": 1, "block_last": 1})
        token = data.StructLayout({**self.o.payload.shape().members, "block_rows": self.dimension_bits})
        m.submodules.verdicts = verdicts = HeadQueue(verdict, _QUEUE)
        m.submodules.tokens = tokens = HeadQueue(token, _QUEUE)
        issued, is_idle = Signal(), Signal()
        self._generate(m, verdicts, tokens, issued, is_idle)

        # --- the first token is issued when nothing behind can stall -------------------------------------------------
        rows_ready = Signal(
            self.dimension_bits + 1, reset_less=True
        )  # in the line buffer, from the block's first one on
        run = Signal()  # the block's rows are there
        pause = Signal(2)  # cycles that pass before a block
        groups_ready, group_ok = Signal(8, reset_less=True), Signal()
        interval = Signal(max(self.least_group.bit_length(), len(self.group_interval)))
        whole_interval = Signal.like(interval)  # less one
        interval_over, next_interval_over = Signal(reset_less=True), Signal()
        credits = Signal(range(self.drain_capacity + 1), reset_less=True)
        available = Signal.like(credits)
        room = Signal()
        # In this cycle; and in the one before, for all counts.
        issue, block_over, take_group, spend = Signal(), Signal(), Signal(), Signal()
        block_passed, group_taken, spent = Signal(), Signal(), Signal()
        weights_ok, room_ok = ~verdicts.head.swap | group_ok, ~verdicts.head.needs_room | room
        counting = ~is_idle & ~pause[0]
        m.d.comb += [
            issue.eq(run & verdicts.filled & weights_ok & room_ok),
            verdicts.pop.eq(issue),
            tokens.pop.eq(issued),
            block_over.eq(issue & verdicts.head.block_last),
            take_group.eq(issue & verdicts.head.swap),
            spend.eq(issue & verdicts.head.needs_room),
            available.eq(credits - spent),
            self.started.eq(group_taken),
            self.idle.eq(is_idle),
            self.busy.eq(issue),
            self.wait_pixels.eq(counting & ~run),
            self.wait_weights.eq(counting & run & ~weights_ok),
            self.wait_drain.eq(counting & run & weights_ok & ~room_ok),
        ]
        block_rows = tokens.head.block_rows
        m.d.sync += [
            issued.eq(issue),
            block_passed.eq(block_over),
            group_taken.eq(take_group),
            spent.eq(spend),
            pause.eq(Mux(self.start | block_over, 3, pause >> 1)),
            rows_ready.eq(rows_ready + self.row_done - Mux(block_passed, block_rows, 0)),
            run.eq(verdicts.filled & (rows_ready >= block_rows) & ~block_over & ~pause[1]),
            self.free.eq(Mux(block_passed, block_rows, 0)),
            # Right in time, as the interval is not over in the two cycles after a group has started.
            groups_ready.eq(groups_ready + self.weights_ready - group_taken),
            group_ok.eq((groups_ready != 0) & next_interval_over),
            interval_over.eq(next_interval_over),
            whole_interval.eq(Mux(self.group_interval > self.least_group, self.group_interval, self.least_group) - 1),
            credits.eq(credits + self.drained - spent),
            # One cycle old, so the credit that is spent now must not count.
            room.eq((available > 1) | ((available == 1) & ~spend)),
        ]
        m.d.comb += next_interval_over.eq(~take_group & ~group_taken & (interval_over | (interval <= 2)))
        with m.If(group_taken):
            m.d.sync += interval.eq(whole_interval)
        with m.Elif(~interval_over):
            m.d.sync += interval.eq(interval - 1)
        with m.If(self.start):
            m.d.sync += [
                rows_ready.eq(0),
                groups_ready.eq(0),
                interval_over.eq(1),
                credits.eq(self.drain_capacity),
            ]

        m.d.sync += self.o.valid.eq(issued)
        m.d.sync += [self.o.payload[name].eq(tokens.head[name]) for name in self.o.payload.shape().members]
        return m

    def _generate(self, m: Module, verdicts: HeadQueue, tokens: HeadQueue, issued: Signal, is_idle: Signal) -> None:
        """Runs through the loops, ahead of the tokens' issue."""
        count, fold = self.dimension_bits, self.fold

        block = blocks(m, self.total_rows, self.block_rows, count)
        # Of the layer: whether a loop has one turn only.
        single_k, single_g, single_x = Signal(), Signal(), Signal()
        k_last, k_reload, k_step = countdown("k", self.output_groups, count, single=single_k)
        g_last, g_reload, g_step = countdown("g", self.groups, count, single=single_g)
        r_last, r_reload, r_step = countdown("r", block.size, count, single=block.single)
        x_last, x_reload, x_step = countdown("x", self.tile_cols, count, single=single_x)
        p_last, p_reload, p_step = Const(1), [], []
        if fold > 1:
            p_last, p_reload, p_step = countdown("p", fold, range(fold + 1))
        # Slots from this one to the end of the line buffer; the last one is followed by the first.
        slots_left, block_slots_left = Signal(count), Signal(count)
        slot_last, block_slot_last, single_slot = Signal(), Signal(), Signal()
        slot_base, block_base = Signal(16), Signal(16)
        group_offset = Signal(16)
        column = Signal(16)
        accumulator = Signal(range(self.max_tiles * fold))
        group_start, patch_start, g_first = Signal(), Signal(), Signal()

        m.d.sync += [
            single_k.eq(self.output_groups == 1),
            single_g.eq(self.groups == 1),
            single_x.eq(self.tile_cols == 1),
            single_slot.eq(self.slots == 1),
        ]
        next_slots_left, next_base, next_slot_last = Signal(count), Signal(16), Signal()
        m.d.comb += [
            next_slots_left.eq(Mux(slot_last, self.slots, slots_left - 1)),
            next_base.eq(Mux(slot_last, 0, slot_base + self.slot_pitch)),
            next_slot_last.eq(Mux(slot_last, single_slot, slots_left == 2)),
        ]
        to_next_row = [
            slots_left.eq(next_slots_left),
            slot_base.eq(next_base),
            slot_last.eq(next_slot_last),
            column.eq(0),
        ]
        to_block = [
            slots_left.eq(block_slots_left),
            slot_base.eq(block_base),
            slot_last.eq(block_slot_last),
            column.eq(0),
        ]

        # A late answer leaves some places of the queue unused.
        go, enter, room = Signal(), Signal(), Signal()
        waiting = Signal(range(_QUEUE + 1))
        m.d.sync += [
            waiting.eq(waiting + go - issued),
            room.eq(waiting <= _QUEUE - 4),
            go.eq(0),
            enter.eq(0),
        ]
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
        with m.If(enter):
            m.d.sync += k_reload + g_reload + r_reload + x_reload + p_reload + to_block
            m.d.sync += [
                group_start.eq(1),
                patch_start.eq(1),
                g_first.eq(1),
                group_offset.eq(0),
                accumulator.eq(0),
            ]

        places = (
            (block_slots_left, next_slots_left),
            (block_base, next_base),
            (block_slot_last, next_slot_last),
        )
        keep_for_next_block(m, go & p_last & x_last & r_last & g_last & k_last, places)

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += is_idle.eq(waiting == 0)
                m.d.sync += [
                    *block.reload,
                    block_slots_left.eq(self.slots),
                    block_base.eq(0),
                    block_slot_last.eq(single_slot),
                ]
                with m.If(self.start):
                    m.next = "BLOCK"
            with m.State("BLOCK"):
                m.d.sync += [*block.step, enter.eq(1)]
                m.next = "ENTER"
            with m.State("ENTER"):
                m.d.sync += go.eq(room)
                m.next = "RUN"
            with m.State("RUN"):
                m.d.sync += go.eq(room)
                with m.If(go & p_last & x_last & r_last & g_last & k_last):
                    m.d.sync += go.eq(0)
                    m.next = "BLOCK"
                    with m.If(block.last):
                        m.next = "IDLE"

        # The address takes three terms: two cycles for two additions.
        partial, last_term = Signal(16, reset_less=True), Signal(16, reset_less=True)
        early, late = (Signal(tokens.shape, name=name, reset_less=True) for name in ("early", "late"))
        early_verdict, late_verdict = (
            Signal(verdicts.shape, name=name, reset_less=True) for name in ("early_verdict", "late_verdict")
        )
        valid = Signal(2)
        m.d.sync += [
            valid.eq(valid << 1 | go),
            partial.eq(slot_base + group_offset),
            last_term.eq(column),
            early.accumulator.eq(accumulator),
            early.swap.eq(group_start),
            early.first.eq(g_first),
            early.last.eq(g_last),
            early.block_rows.eq(block.size),
            late.eq(early),
            late.line.eq(partial + last_term),
            early_verdict.swap.eq(group_start),
            early_verdict.needs_room.eq(g_last & patch_start),
            early_verdict.block_last.eq(p_last & x_last & r_last & g_last & k_last),
            late_verdict.eq(early_verdict),
        ]
        m.d.comb += [
            verdicts.i.valid.eq(valid[-1]),
            verdicts.i.payload.eq(late_verdict),
            tokens.i.valid.eq(valid[-1]),
            tokens.i.payload.eq(late),
        ]
