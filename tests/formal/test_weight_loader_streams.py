# amaranth: UnusedElaboratable=no
"""The weight loader hands on every beat once, in order, to the right side, and an offer stands until it is taken."""

import pytest
from amaranth.asserts import AnyConst, AnySeq
from amaranth.hdl import Assert, Cat, Elaboratable, Module, Signal
from formal import Overflowing, Stream, assert_offer_stands, check, count, quiet_for, recorded

from winohw.gateware import weight_loader
from winohw.gateware.weight_loader import WeightLoader

#: Two blocks of one group of output channels each, with two groups of input channels of two kernel rows.
LAYER = {"total_rows": 2, "block_rows": 1, "groups": 2, "output_groups": 1, "group_rows": 2}
CONSTANTS, ROWS, BLOCKS = 3, 4, 2  # beats of the constants, and rows, of a block
START = 2  # cycle


def loader():
    return WeightLoader(beat_bytes=3, output_lanes=1, fifo_rows=4, ready_delay=1, dimension_bits=3)


class WeightLoaderStreams(Elaboratable):
    """One bit of each byte is free."""

    def __init__(self, dut, *, order=True):
        self.dut = dut
        self.order = order

    def elaborate(self, platform):
        m = Module()
        m.submodules.dut = dut = self.dut
        i, rows, constants = Stream(dut.i), Stream(dut.rows), Stream(dut.constants)
        stood = Signal(range(START + 2))  # cycles that the values have stood, and more
        with m.If(stood <= START):
            m.d.sync += stood.eq(stood + 1)
        m.d.comb += [dut.start.eq(stood == START)] + [getattr(dut, name).eq(value) for name, value in LAYER.items()]
        m.d.comb += [byte.eq(AnySeq(1)) for byte in dut.i.payload]
        m.d.comb += [dut.i.valid.eq(AnySeq(1)), dut.rows.ready.eq(AnySeq(1)), dut.constants.ready.eq(AnySeq(1))]
        assert_offer_stands(m, "rows", rows)
        assert_offer_stands(m, "constants", constants)
        if not self.order:
            return m

        # Where the stream stands.
        place = Signal(range(CONSTANTS + ROWS))
        with m.If(i.moved):
            m.d.sync += place.eq(place + 1)
            with m.If(place == CONSTANTS + ROWS - 1):
                m.d.sync += place.eq(0)
        is_row = place >= CONSTANTS
        taken = count(m, "taken", i.moved, 4)
        with m.If(taken == BLOCKS * (CONSTANTS + ROWS)):
            m.d.comb += Assert(~i.ready)

        rows_in, rows_out = count(m, "rows_in", i.moved & is_row, 4), count(m, "rows_out", rows.moved, 4)
        which = AnyConst(3)
        seen, kept = recorded(m, "row", i.moved & is_row & (rows_in == which), i.payload)
        with m.If(rows.valid):
            m.d.comb += Assert(rows_out < rows_in)
            with m.If(rows_out == which):
                m.d.comb += Assert(seen & (rows.payload == kept))

        complete = i.moved & (place == CONSTANTS - 1)
        beats = Signal(2 * len(i.payload))
        with m.If(i.moved):
            m.d.sync += beats.eq(Cat(beats, i.payload)[len(i.payload) :])
        sets_in, sets_out = count(m, "sets_in", complete, 3), count(m, "sets_out", constants.moved, 3)
        which_set = AnyConst(1)
        set_seen, kept_set = recorded(m, "set", complete & (sets_in == which_set), Cat(beats, i.payload))
        with m.If(constants.valid):
            m.d.comb += Assert(sets_out < sets_in)
            with m.If(sets_out == which_set):
                m.d.comb += Assert(set_seen & (constants.payload == kept_set))

        # Nothing is lost on the way.
        with m.If(quiet_for(m, "i", i.moved, 3)):
            m.d.comb += [Assert(rows.valid | (rows_in == rows_out)), Assert(constants.valid | (sets_in == sets_out))]

        # A strobe for each group, as late as it shall be.
        late = Signal(dut.ready_delay + 1)
        m.d.sync += late.eq(Cat(i.moved & is_row & rows_in[0], late))
        m.d.comb += Assert(dut.weights_ready == late[-1])
        return m


@pytest.mark.slow
def test_every_beat_once():
    assert check(WeightLoaderStreams(loader()), 20 + START) == "PASS"


def test_offers_stand_for_ever():
    assert check(WeightLoaderStreams(loader(), order=False), 2, mode="prove") == "PASS"


def test_a_lost_row_is_seen(monkeypatch):
    monkeypatch.setattr(weight_loader, "SyncFIFOBuffered", Overflowing)
    assert check(WeightLoaderStreams(loader()), 14 + START) == "FAIL"
