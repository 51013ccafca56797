# amaranth: UnusedElaboratable=no
"""The requantizer gives for each beat taken exactly one beat, in order, and an offer stands until it is taken."""

import pytest
from amaranth.asserts import AnyConst, AnySeq
from amaranth.hdl import Assert, Cat, Const, Elaboratable, Module
from formal import Stream, assert_offer_stands, check, count, quiet_for, recorded

from winohw.gateware import requantizer
from winohw.gateware.head_queue import HeadQueue
from winohw.gateware.requantizer import Requantizer


class RequantizerStreams(Elaboratable):
    """With a scale of one, a pixel is the sum that it comes from, so that every beat carries three bits through."""

    def __init__(self, dut, *, order=True):
        self.dut = dut
        self.order = order

    def elaborate(self, platform):
        m = Module()
        m.submodules.dut = dut = self.dut
        i, o = Stream(dut.i), Stream(dut.o)
        acc = AnySeq(1)
        m.d.comb += [
            dut.i.valid.eq(AnySeq(1)),
            dut.i.payload.acc[0].eq(acc),
            dut.i.payload.count.eq(AnySeq(1)),
            dut.i.payload.last.eq(AnySeq(1)),
            dut.o.ready.eq(AnySeq(1)),
            dut.act_min.eq(-128),
            dut.act_max.eq(127),
        ]
        assert_offer_stands(m, "o", o)
        if not self.order:
            return m
        taken, given = count(m, "taken", i.moved, 5), count(m, "given", o.moved, 5)
        which = AnyConst(5)
        beat = Cat(acc, Const(0, 7), dut.i.payload.count, dut.i.payload.last)
        seen, kept = recorded(m, "beat", i.moved & (taken == which), beat)
        with m.If(o.valid):
            m.d.comb += Assert(given < taken)
            with m.If(given == which):
                m.d.comb += Assert(seen & (o.payload == kept))
        # Nothing is lost on the way: after the latency, something is offered as long as something is owed.
        with m.If(quiet_for(m, "i", i.moved, dut.latency)):
            m.d.comb += Assert(o.valid | (taken == given))
        return m


def properties(order=True):
    return RequantizerStreams(Requantizer(1, "shift"), order=order)


@pytest.mark.slow
def test_beats_in_order():
    assert check(properties(), 24) == "PASS"


def test_offers_stand_for_ever():
    assert check(properties(order=False), 2, mode="prove") == "PASS"


@pytest.mark.slow
def test_a_lost_beat_is_seen(monkeypatch):
    class Shallow(HeadQueue):
        """Too few entries."""

        def __init__(self, shape, depth):
            super().__init__(shape, 4)

    monkeypatch.setattr(requantizer, "HeadQueue", Shallow)
    assert check(properties(), 16) == "FAIL"
