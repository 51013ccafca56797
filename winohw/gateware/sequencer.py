"""The sequencer: the loops of a layer, one patch chunk a cycle."""

from __future__ import annotations

from amaranth import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Sequencer"]


class Sequencer(wiring.Component):
    """Runs the loops of a layer and issues one patch chunk a cycle to the array.

    Loops, outermost first: block of tile rows, group of Pk output channels, group of Pc input channels, tile row,
    tile column, phase. A chunk is issued only when nothing behind it can stall: the block's tile rows are in the line
    buffer, the weights of the group will have reached the shadow registers by the time the chunk meets them, and
    there is room for what leaves the accumulators. The datapath behind needs no backpressure therefore.

    Latency: a token stands at `o` one cycle after its conditions held. Throughput: a token a cycle, without a bubble
    between tile rows, groups and blocks; a group takes at least `least_group` cycles.

    Parameters
    ----------
    fold: phases a patch.
    max_tiles: most tiles a block.
    least_group: least cycles from the start of a group to the start of the next, for a recurring accumulator address.
    drain_capacity: chunks that fit behind the accumulators.
    dimension_bits: width of counts and sizes.

    Members
    -------
    start : begins a layer whose values stand at the inputs below until `idle`.
    group_interval : least cycles from the start of a group to the start of the next, for loading its weights.
    row_done : the line buffer has completed a tile row.
    free : tile rows that the line buffer may overwrite, for one cycle, else 0.
    weights_ready : strobe, all weights of one more group have arrived.
    drained : strobe, a chunk has left the buffer behind the accumulators.
    o : always-ready stream of tokens {line: word address, accumulator: address, swap, first, last}.
    started : strobe, a group's first chunk is issued.
    idle : no chunk is left to issue.
    busy, wait_pixels, wait_weights, wait_drain : what the current cycle was used for.
    """

    #: Cycles from the decision to issue a chunk to its token.
    latency = 2

    def __init__(self, *, fold: int, max_tiles: int, least_group: int, drain_capacity: int, dimension_bits: int = 12):
        if drain_capacity < fold:
            raise ValueError(f"drain_capacity must be at least the fold {fold}, not {drain_capacity}")
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
                "group_interval": In(8),
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

    def elaborate(self, platform) -> Module:
        m = Module()
        count, fold = self.dimension_bits, self.fold

        # Every loop counts down; a flag beside it says that this is its last turn, so that no comparison stands
        # between a counter and the enables of the others.
        def loop(name: str, size, width: int = count):
            left = Signal(width, name=f"{name}_left")
            last = Signal(name=f"{name}_last")
            reload = [left.eq(size - 1), last.eq(size == 1)]
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
        groups_ready = Signal(4)
        group_ready = Signal()
        interval = Signal(max(self.least_group.bit_length(), 8))
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
        # Compared one cycle late: it may only become true late, and is cleared at the end of a block.
        m.d.sync += block_ready.eq((rows_ready >= block_size) & (consumed == 0))
        m.d.comb += self.free.eq(consumed)

        take_group = Signal()
        m.d.comb += [take_group.eq(issue & group_start), self.started.eq(take_group)]
        m.d.sync += groups_ready.eq(groups_ready + self.weights_ready - take_group)
        # `group_ready` looks at a count one cycle old; a group never starts twice within two cycles.
        m.d.sync += group_ready.eq((groups_ready != 0) & ~take_group)
        with m.If(take_group):
            m.d.sync += [
                interval.eq(Mux(self.group_interval > self.least_group, self.group_interval, self.least_group)),
                interval_over.eq(0),
            ]
        with m.Elif(~interval_over):
            m.d.sync += [interval.eq(interval - 1), interval_over.eq(interval <= 2)]

        spend = Signal()
        m.d.comb += spend.eq(issue & g_last)
        m.d.sync += credits.eq(credits + self.drained - spend)
        # One cycle old: keep the chunk that may have been spent since in reserve.
        m.d.sync += room.eq(credits > fold if self.drain_capacity > fold else (credits == fold) & ~spend)

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
