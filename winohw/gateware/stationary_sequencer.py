"""The sequencer of a stationary engine: the loops of a layer, input channels innermost."""

from __future__ import annotations

from typing import Any

import numpy as np
from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import NDArray

from winohw.gateware.countdown import countdown

__all__ = ["StationarySequencer"]


class StationarySequencer(wiring.Component):
    """Runs the loops of a layer and issues one patch chunk a cycle to the array.

    Loops, outermost first: block of tile rows, group of output channels, tile row, tile column, phase, input channel.
    While a block is computed, `hold` keeps the line buffer from being written. A group of output channels begins when
    all its kernels have arrived. The last input channel of a chunk waits until the sums of the chunk before have found
    their way out (`left`).

    Latency: `latency` cycles from the cycle that issues a chunk (`busy`) to its token at `o`. Throughput: a token a
    cycle, without a bubble between the loops; two cycles pass between blocks.

    Parameters
    ----------
    fold : int
        Phases a patch, 2 or more.
    line_words : int
        Words of the line buffer, 1 or more.
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
        Strobe, another tile row may be read.
    free : Out(dimension_bits)
        Tile rows that the line buffer may overwrite, for one cycle, else 0: those of a block, with its last chunk.
    hold : Out(1)
        From the first cycle in which a block's chunk may be issued to its last chunk; two cycles after the `row_done`
        that completes a block.
    weights_ready : In(1)
        Strobe, the kernels of one more group of output channels have arrived; at most 255 may wait.
    left : In(1)
        Strobe, the next chunk's sums will find room.
    o : Out(stream.Signature(StructLayout({line: …, first: 1, last: 1, release: 1, phase: …}), always_ready=True))
        Tokens: word of the line buffer, the first and the last input channel of a chunk, the last use of its kernels in
        this block, the phase.
    idle : Out(1)
        No chunk is left to issue.
    busy, wait_pixels, wait_weights, wait_drain : Out(1)
        What the current cycle was used for: issuing a chunk, or waiting for tile rows, for weights, or for sums to
        leave. None of them between blocks.

    Raises
    ------
    ValueError
        If a parameter is out of its range.
    """

    latency = 1

    def __init__(self, *, fold: int, line_words: int, dimension_bits: int = 12):
        for name, value, least in (
            ("fold", fold, 2),
            ("line_words", line_words, 1),
            ("dimension_bits", dimension_bits, 1),
        ):
            if value < least:
                raise ValueError(f"{name} must be {least} or more, not {value!r}")
        self.fold = fold
        self.line_words = line_words
        self.dimension_bits = count = dimension_bits
        token = data.StructLayout(
            {"line": range(line_words), "first": 1, "last": 1, "release": 1, "phase": range(fold)}
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
                "row_done": In(1),
                "free": Out(count),
                "hold": Out(1),
                "weights_ready": In(1),
                "left": In(1),
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
        """The chunks of a layer, a structured array with the fields of a token."""
        tokens = []
        for top in range(0, total_rows, block_rows):
            rows = range(top, min(top + block_rows, total_rows))
            for _ in range(output_groups):
                for row in rows:
                    for column in range(tile_cols * self.fold):
                        phase = column % self.fold
                        release = row == rows[-1] and column == tile_cols * self.fold - 1
                        base = row % slots * slot_pitch + column
                        tokens += [
                            (base + group * group_pitch, group == 0, group == groups - 1, release, phase)
                            for group in range(groups)
                        ]
        return np.array(tokens, [(name, np.int64) for name in ("line", "first", "last", "release", "phase")])

    def elaborate(self, platform: object) -> Module:
        m = Module()
        count, fold = self.dimension_bits, self.fold
        address = len(self.o.payload.line)

        block_size = Signal(count)
        rows_left = Signal(count)  # tile rows from this block's first to the layer's last
        block_last = Signal()
        k_last, k_reload, k_step = countdown("k", self.output_groups, count)
        r_last, r_reload, r_step = countdown("r", block_size, count)
        x_last, x_reload, x_step = countdown("x", self.tile_cols, count)
        g_last, g_reload, g_step = countdown("g", self.groups, count)
        phase = Signal(range(fold))
        p_last = phase == fold - 1

        rows_ready = Signal(count + 1)  # in the line buffer, from the block's first one on
        block_ready = Signal()
        passes_ready, pass_ready = Signal(8), Signal()
        claimed = Signal()  # the way out, by the sums of a chunk
        pass_start, g_first = Signal(), Signal()
        slots_left, block_slots_left = Signal(count), Signal(count)
        row_base, block_base = Signal(address), Signal(address)
        chunk_base, line = Signal(address), Signal(address)
        running, issue = Signal(), Signal()

        # --- what a chunk needs --------------------------------------------------------------------------------------
        ok_pixels, ok_weights, ok_drain = Signal(), Signal(), Signal()
        m.d.comb += [
            ok_pixels.eq(block_ready),
            ok_weights.eq(~pass_start | pass_ready),
            ok_drain.eq(~g_last | ~claimed),
            issue.eq(running & ok_pixels & ok_weights & ok_drain),
            self.busy.eq(issue),
            self.wait_pixels.eq(running & ~ok_pixels),
            self.wait_weights.eq(running & ok_pixels & ~ok_weights),
            self.wait_drain.eq(running & ok_pixels & ok_weights & ~ok_drain),
            self.hold.eq(running & block_ready),
        ]
        with m.If(issue & g_last):
            m.d.sync += claimed.eq(1)
        with m.Elif(self.left):
            m.d.sync += claimed.eq(0)

        # Where the next tile row is. After the last one of a pass comes the first one, of the next channels.
        next_slots_left, next_base = Signal(count), Signal(address)
        with m.If(slots_left == 1):
            m.d.comb += next_slots_left.eq(self.slots)
        with m.Else():
            m.d.comb += [next_slots_left.eq(slots_left - 1), next_base.eq(row_base + self.slot_pitch)]

        consumed = Signal(count)  # tile rows that the end of a block takes off `rows_ready`
        m.d.sync += rows_ready.eq(rows_ready + self.row_done - consumed)
        # Compared one cycle late; between two blocks pass the cycles that it takes to see the next one.
        m.d.sync += block_ready.eq(rows_ready >= block_size)
        m.d.comb += self.free.eq(consumed)

        # One cycle late as well: with two phases or more, no pass starts in the cycle after another one.
        m.d.sync += [
            passes_ready.eq(passes_ready + self.weights_ready - (issue & pass_start)),
            pass_ready.eq(passes_ready != 0),
        ]

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
                    pass_ready.eq(0),
                ]
                with m.If(self.start):
                    m.next = "BLOCK"
            with m.State("BLOCK"):
                m.d.sync += block_size.eq(Mux(rows_left > self.block_rows, self.block_rows, rows_left))
                m.d.sync += block_last.eq(rows_left <= self.block_rows)
                m.next = "ENTER"
            with m.State("ENTER"):
                m.d.sync += k_reload + r_reload + x_reload + g_reload
                m.d.sync += [
                    pass_start.eq(1),
                    g_first.eq(1),
                    phase.eq(0),
                    slots_left.eq(block_slots_left),
                    row_base.eq(block_base),
                    chunk_base.eq(block_base),
                    line.eq(block_base),
                ]
                m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += running.eq(1)
                with m.If(issue):
                    m.d.sync += [pass_start.eq(0), g_first.eq(g_last), line.eq(line + self.group_pitch), *g_step]
                    with m.If(g_last):
                        m.d.sync += g_reload
                        m.d.sync += [phase.eq(phase + 1), chunk_base.eq(chunk_base + 1), line.eq(chunk_base + 1)]
                    with m.If(g_last & p_last):
                        m.d.sync += [phase.eq(0), *x_step]
                    with m.If(g_last & p_last & x_last):
                        base = Mux(r_last, block_base, next_base)
                        m.d.sync += x_reload + r_step
                        m.d.sync += [
                            slots_left.eq(Mux(r_last, block_slots_left, next_slots_left)),
                            row_base.eq(base),
                            chunk_base.eq(base),
                            line.eq(base),
                        ]
                    with m.If(g_last & p_last & x_last & r_last):
                        m.d.sync += r_reload + k_step
                        m.d.sync += pass_start.eq(1)
                    with m.If(g_last & p_last & x_last & r_last & k_last):
                        m.d.sync += [block_slots_left.eq(next_slots_left), block_base.eq(next_base)]
                        m.d.sync += rows_left.eq(rows_left - block_size)
                        m.d.comb += consumed.eq(block_size)
                        m.next = "BLOCK"
                        with m.If(block_last):
                            m.next = "IDLE"

        m.d.sync += [
            self.o.valid.eq(issue),
            self.o.payload.line.eq(line),
            self.o.payload.first.eq(g_first),
            self.o.payload.last.eq(g_last),
            self.o.payload.release.eq(p_last & x_last & r_last),
            self.o.payload.phase.eq(phase),
        ]
        return m
