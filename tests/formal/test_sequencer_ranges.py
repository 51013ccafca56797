# amaranth: UnusedElaboratable=no
"""The sequencer's tokens are those of its loops, and what it counts stays in range, whatever it has to wait for."""

import pytest
from amaranth.asserts import AnySeq
from amaranth.hdl import Assert, Assume, Elaboratable, Module, Signal
from formal import check

from winohw.gateware.sequencer import Sequencer

#: Two blocks of a tile row with two tiles; two groups of input channels, two of output channels.
ROWS, COLS, GROUPS, OUTPUT_GROUPS, SLOTS, CAPACITY = 2, 2, 2, 2, 2, 3
LAYER = {
    "total_rows": ROWS,
    "block_rows": 1,
    "tile_cols": COLS,
    "groups": GROUPS,
    "output_groups": OUTPUT_GROUPS,
    "slots": SLOTS,
    "group_pitch": COLS,
    "slot_pitch": COLS * GROUPS,
    "group_interval": 2,
}


class SequencerRanges(Elaboratable):
    def __init__(self, capacity=CAPACITY):
        self.capacity = capacity

    def elaborate(self, platform):
        m = Module()
        m.submodules.dut = dut = Sequencer(
            fold=1, max_tiles=COLS, least_group=3, drain_capacity=self.capacity, dimension_bits=3
        )
        cycle = Signal(3)
        with m.If(cycle != 4):
            m.d.sync += cycle.eq(cycle + 1)
        m.d.comb += [dut.start.eq(cycle == 3)] + [getattr(dut, name).eq(value) for name, value in LAYER.items()]
        running = cycle == 4
        token = dut.o.payload

        # What the others do: rows while there are slots, weights as many as there are, and what has come leaves.
        rows, freed, weights, kept = Signal(4), Signal(4), Signal(5), Signal(4)
        strobes = [dut.row_done, dut.weights_ready, dut.drained]
        m.d.comb += [strobe.eq(AnySeq(1)) for strobe in strobes]
        m.d.comb += [Assume(running | ~strobe) for strobe in strobes]
        m.d.comb += [
            Assume(~dut.row_done | ((rows < ROWS) & (rows - freed < SLOTS))),
            Assume(~dut.weights_ready | (weights < GROUPS * OUTPUT_GROUPS * ROWS)),
            Assume(~dut.drained | (kept != 0)),
        ]
        leaves = dut.o.valid & token.last
        m.d.sync += [
            rows.eq(rows + dut.row_done),
            freed.eq(freed + dut.free),
            weights.eq(weights + dut.weights_ready),
            kept.eq(kept + leaves - dut.drained),
        ]

        # The loops once more.
        column, group, output_group, row, started = (Signal(4, name=f"loop{k}") for k in range(5))
        with m.If(dut.o.valid):
            m.d.comb += [
                Assert(row < rows),
                Assert(row >= freed),
                Assert(started + token.swap <= weights),
                Assert(token.line == row * COLS * GROUPS + group * COLS + column),
                Assert(token.accumulator == column),
                Assert(token.swap == (column == 0)),
                Assert(token.first == (group == 0)),
                Assert(token.last == (group == GROUPS - 1)),
            ]
            m.d.sync += [started.eq(started + token.swap), column.eq(column + 1)]
            with m.If(column == COLS - 1):
                m.d.sync += [column.eq(0), group.eq(group + 1)]
                with m.If(group == GROUPS - 1):
                    m.d.sync += [group.eq(0), output_group.eq(output_group + 1)]
                    with m.If(output_group == OUTPUT_GROUPS - 1):
                        m.d.sync += [output_group.eq(0), row.eq(row + 1)]
        m.d.comb += [
            Assert(kept <= CAPACITY),
            Assert(freed + dut.free <= rows),
            Assert(dut.busy + dut.wait_pixels + dut.wait_weights + dut.wait_drain <= 1),
        ]
        return m


@pytest.mark.slow
def test_tokens_and_ranges():
    assert check(SequencerRanges(), 33) == "PASS"


def test_too_much_behind_the_accumulators_is_seen():
    assert check(SequencerRanges(CAPACITY + 1), 27) == "FAIL"
