"""The sequencer of a compact engine: the loops of a layer, with gaps in which finished sums are fetched."""

from __future__ import annotations

from typing import Any

import numpy as np
from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import NDArray

from winohw.gateware.countdown import countdown

__all__ = ["RECURRENCE", "CompactSequencer"]

#: Cycles from a chunk to the one that is added to it, or fetches it, at least.
RECURRENCE = 4


class CompactSequencer(wiring.Component):
    """Runs the loops of a layer and issues one patch chunk a cycle to the array.

    Loops, outermost first: block of tile rows, output channel, input channel, tile row, tile column, phase. What
    `winohw.gateware.sequencer` does for engines of several lanes, with two differences. The sums of an output channel
    rest in the accumulators and are fetched chunk by chunk while the next one is computed: a fetch takes the place of a
    chunk between two patches, whenever the output transform has room. And while a block is computed, `hold` keeps the
    line buffer from being written.

    The last patch of an output channel is issued when the sums of the one before have been fetched.

    Latency: `latency` cycles from the cycle that issues a chunk (`busy`) to its token at `o`. Throughput: a token a
    cycle, without a bubble between tile rows, passes and phases; two cycles pass between blocks.

    Parameters
    ----------
    fold : int
        Phases a patch, 1 or more.
    max_tiles : int
        Most tiles a block, 1 or more.
    line_words : int
        Words of the line buffer, 1 or more.
    room : int
        Chunks that the output transform takes; a multiple of `fold`, 1 or more tiles.
    apart : int
        Least cycles between two fetches, 2 or more.
    dimension_bits : int
        Width of counts and sizes, 1 or more.

    Attributes
    ----------
    latency : int
        Cycles: 1.

    Members
    -------
    start : In(1)
        Begins a layer whose values stand at the inputs below until `idle`.
    total_rows, block_rows, tile_cols, groups, output_groups, slots : In(dimension_bits)
        Fields of the layer descriptor, as are the pitches.
    group_pitch, slot_pitch : In(16)
        Words of the line buffer.
    row_done : In(1)
        Strobe, the line buffer has completed a tile row.
    free : Out(dimension_bits)
        Tile rows that the line buffer may overwrite, for one cycle, else 0: those of a block, with its last chunk.
    hold : Out(1)
        From the first cycle in which a block's chunk may be issued to its last chunk.
    weights_ready : In(1)
        Strobe, the weights of one more pass have arrived; at most 255 may wait.
    drained : In(1)
        Strobe, the output transform has room for one more tile.
    o : Out(stream.Signature(StructLayout({"line": …, "start": 1, "first": 1, "fetch": 1}), always_ready=True))
        Tokens: word of the line buffer, the first chunk of a pass, a chunk of the first input channel. `fetch` comes
        without `valid`, and with `start` for the first chunk of an output channel.
    idle : Out(1)
        No chunk is left to issue.
    busy, wait_pixels, wait_weights, wait_drain : Out(1)
        What the current cycle was used for: issuing a chunk, or waiting for tile rows, for weights, or for sums to be
        fetched. None of them between blocks.

    Raises
    ------
    ValueError
        If a parameter is out of its range.
    """

    latency = 1

    def __init__(self, *, fold: int, max_tiles: int, line_words: int, room: int, apart: int, dimension_bits: int = 12):
        for name, value, least in (
            ("fold", fold, 1),
            ("max_tiles", max_tiles, 1),
            ("line_words", line_words, 1),
            ("apart", apart, 2),
            ("dimension_bits", dimension_bits, 1),
        ):
            if value < least:
                raise ValueError(f"{name} must be {least} or more, not {value!r}")
        if room < fold or room % fold:
            raise ValueError(f"room must be a multiple of the fold {fold}, not {room!r}")
        self.fold = fold
        self.max_tiles = max_tiles
        self.line_words = line_words
        self.room = room
        self.apart = apart
        self.dimension_bits = count = dimension_bits
        token = data.StructLayout({"line": range(line_words), "start": 1, "first": 1, "fetch": 1})
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
                "row_done": In(1),
                "free": Out(count),
                "hold": Out(1),
                "weights_ready": In(1),
                "drained": In(1),
                "o": Out(stream.Signature(token, always_ready=True)),
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
        """The chunks of a layer, a structured array with the fields `line`, `start` and `first`."""
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
                    tokens += [(line, number == 0, group == 0) for number, line in enumerate(chunks)]
        return np.array(tokens, [(name, np.int64) for name in ("line", "start", "first")])

    def elaborate(self, platform: object) -> Module:
        m = Module()
        count, fold = self.dimension_bits, self.fold
        address = len(self.o.payload.line)

        block_size = Signal(count)
        rows_left = Signal(count)  # tile rows from this block's first to the layer's last
        block_last = Signal()
        k_last, k_reload, k_step = countdown("k", self.output_groups, count)
        g_last, g_reload, g_step = countdown("g", self.groups, count)
        r_last, r_reload, r_step = countdown("r", block_size, count)
        x_last, x_reload, x_step = countdown("x", self.tile_cols, count)
        p_last, p_reload, p_step = countdown("p", fold, range(fold + 1))

        rows_ready = Signal(count + 1)  # in the line buffer, from the block's first one on
        block_ready = Signal()
        passes_ready = Signal(8)
        pass_ready = Signal()
        recent = Signal(range(RECURRENCE))  # cycles in which no pass may start
        pass_start, patch_start, g_first = Signal(), Signal(), Signal()
        slots_left, block_slots_left = Signal(count), Signal(count)
        row_base, block_base = Signal(address), Signal(address)
        group_offset, line = Signal(address), Signal(address)
        chunks = Signal(range(self.max_tiles * fold + 1))  # of the pass, up to this one

        # --- fetches -------------------------------------------------------------------------------------------------
        running, issue, fetch, round_ends = (Signal() for _ in range(4))
        fetch_left = Signal(range(self.max_tiles * fold + 1))
        fetch_ready, fetch_first = Signal(), Signal()
        settling = Signal(range(RECURRENCE))
        spacing = Signal(range(self.apart))
        credits = Signal(range(self.room + 1), init=self.room)
        m.d.comb += fetch.eq(fetch_ready & (~running | patch_start))
        m.d.sync += [
            fetch_ready.eq((fetch_left != 0) & (settling == 0) & (spacing == 0) & (credits != 0) & ~fetch),
            credits.eq(credits + Mux(self.drained, fold, 0) - fetch),
        ]
        with m.If(settling != 0):
            m.d.sync += settling.eq(settling - 1)
        with m.If(spacing != 0):
            m.d.sync += spacing.eq(spacing - 1)
        with m.If(fetch):
            m.d.sync += [fetch_left.eq(fetch_left - 1), fetch_first.eq(0), spacing.eq(self.apart - 2)]
        with m.If(round_ends):
            m.d.sync += [fetch_left.eq(chunks), fetch_first.eq(1), settling.eq(RECURRENCE - 1)]

        # --- what a chunk needs --------------------------------------------------------------------------------------
        ok_pixels, ok_weights, ok_drain = Signal(), Signal(), Signal()
        m.d.comb += [
            ok_pixels.eq(block_ready),
            ok_weights.eq(~pass_start | (pass_ready & (recent == 0))),
            ok_drain.eq(~fetch & (~(patch_start & x_last & r_last & g_last) | (fetch_left == 0))),
            issue.eq(running & ok_pixels & ok_weights & ok_drain),
            self.busy.eq(issue),
            self.wait_pixels.eq(running & ~ok_pixels),
            self.wait_weights.eq(running & ok_pixels & ~ok_weights),
            self.wait_drain.eq(running & ok_pixels & ok_weights & ~ok_drain),
            self.hold.eq(running & block_ready),
        ]

        # Where the next tile row is. After the last one of a pass comes the first one, of the next channel.
        next_slots_left, next_base, next_offset = Signal(count), Signal(address), Signal(address)
        with m.If(slots_left == 1):
            m.d.comb += next_slots_left.eq(self.slots)
        with m.Else():
            m.d.comb += [next_slots_left.eq(slots_left - 1), next_base.eq(row_base + self.slot_pitch)]
        with m.If(~r_last):
            m.d.comb += next_offset.eq(group_offset)
        with m.Elif(~g_last):
            m.d.comb += next_offset.eq(group_offset + self.group_pitch)

        consumed = Signal(count)  # tile rows that the end of a block takes off `rows_ready`
        m.d.sync += rows_ready.eq(rows_ready + self.row_done - consumed)
        # Compared one cycle late; between two blocks pass the cycles that it takes to see the next one.
        m.d.sync += block_ready.eq(rows_ready >= block_size)
        m.d.comb += self.free.eq(consumed)

        take_pass = issue & pass_start
        m.d.sync += passes_ready.eq(passes_ready + self.weights_ready - take_pass)
        # One cycle late: right in time, as `recent` is not 0 in the cycle after a pass has started.
        m.d.sync += pass_ready.eq(passes_ready != 0)
        with m.If(take_pass):
            m.d.sync += recent.eq(RECURRENCE - 1)
        with m.Elif(recent != 0):
            m.d.sync += recent.eq(recent - 1)

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.idle.eq(1)
                m.d.sync += [
                    rows_left.eq(self.total_rows),
                    block_slots_left.eq(self.slots),
                    block_base.eq(0),
                    rows_ready.eq(0),
                    block_ready.eq(0),
                    passes_ready.eq(0),
                ]
                with m.If(self.start):
                    m.next = "BLOCK"
            with m.State("BLOCK"):
                m.d.sync += block_size.eq(Mux(rows_left > self.block_rows, self.block_rows, rows_left))
                m.d.sync += block_last.eq(rows_left <= self.block_rows)
                m.next = "ENTER"
            with m.State("ENTER"):
                m.d.sync += k_reload + g_reload + r_reload + x_reload + p_reload
                m.d.sync += [
                    pass_start.eq(1),
                    patch_start.eq(1),
                    g_first.eq(1),
                    slots_left.eq(block_slots_left),
                    row_base.eq(block_base),
                    group_offset.eq(0),
                    line.eq(block_base),
                    chunks.eq(1),
                ]
                m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += running.eq(1)
                with m.If(issue):
                    m.d.sync += [
                        pass_start.eq(0),
                        patch_start.eq(p_last),
                        line.eq(line + 1),
                        chunks.eq(chunks + 1),
                        *p_step,
                    ]
                    with m.If(p_last):
                        m.d.sync += p_reload + x_step
                    with m.If(p_last & x_last):
                        m.d.sync += x_reload + r_step
                        m.d.sync += [
                            slots_left.eq(Mux(r_last, block_slots_left, next_slots_left)),
                            row_base.eq(Mux(r_last, block_base, next_base)),
                            group_offset.eq(next_offset),
                            line.eq(Mux(r_last, block_base, next_base) + next_offset),
                        ]
                    with m.If(p_last & x_last & r_last):
                        m.d.sync += r_reload + g_step
                        m.d.sync += [
                            pass_start.eq(1),
                            g_first.eq(0),
                            chunks.eq(1),
                        ]
                    with m.If(p_last & x_last & r_last & g_last):
                        m.d.comb += round_ends.eq(1)
                        m.d.sync += g_reload + k_step
                        m.d.sync += g_first.eq(1)
                    with m.If(p_last & x_last & r_last & g_last & k_last):
                        m.d.sync += [block_slots_left.eq(next_slots_left), block_base.eq(next_base)]
                        m.d.sync += rows_left.eq(rows_left - block_size)
                        m.d.comb += consumed.eq(block_size)
                        m.next = "BLOCK"
                        with m.If(block_last):
                            m.next = "IDLE"

        m.d.sync += [
            self.o.valid.eq(issue),
            self.o.payload.fetch.eq(fetch),
            self.o.payload.start.eq(Mux(fetch, fetch_first, pass_start)),
            self.o.payload.first.eq(g_first),
            self.o.payload.line.eq(line),
        ]
        return m
