# amaranth: UnusedElaboratable=no
import numpy as np
import pytest
from amaranth.hdl import Module, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from winohw.gateware.credit_queue import CreditQueue
from winohw.sim.stalls import Stalls
from winohw.sim.testbench import run_stream

SHAPE = data.ArrayLayout(signed(11), 3)


class Writer(wiring.Component):
    """Spends the queue's credits as fast as it gets them, on entries that arrive ``flight`` cycles later."""

    def __init__(self, depth: int, flight: int):
        self.depth = depth
        self.flight = flight
        super().__init__({"i": In(stream.Signature(SHAPE)), "o": Out(stream.Signature(SHAPE))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.queue = queue = CreditQueue(SHAPE, self.depth)
        credits = Signal(range(self.depth + 1), init=self.depth)
        sent = Signal()
        m.d.comb += [self.i.ready.eq(credits != 0), sent.eq(self.i.valid & self.i.ready)]
        m.d.sync += credits.eq(credits - sent + queue.freed)
        valid, payload = sent, self.i.payload
        for cycle in range(self.flight):
            later_valid, later_payload = Signal(name=f"valid{cycle}"), Signal(SHAPE, name=f"payload{cycle}")
            m.d.sync += [later_valid.eq(valid), later_payload.eq(payload)]
            valid, payload = later_valid, later_payload
        m.d.comb += [queue.i.valid.eq(valid), queue.i.payload.eq(payload)]
        # The reader: an entry is offered as long as one likes, but not in the cycle in which it is not there yet.
        there = Signal()
        m.d.sync += there.eq(queue.filled & ~queue.pop)
        m.d.comb += [
            self.o.valid.eq(there),
            self.o.payload.eq(queue.o),
            queue.pop.eq(self.o.valid & self.o.ready),
        ]
        return m


@pytest.mark.parametrize("stalls", [(0, 0), (0, 0.7), (0.7, 0), (0.4, 0.4)], ids=str)
@pytest.mark.parametrize(("depth", "flight"), [(2, 0), (4, 5), (16, 3)])
def test_keeps_order_and_loses_nothing(depth, flight, stalls):
    x = np.random.default_rng(1).integers(-1024, 1024, (150, 3))
    result = run_stream(Writer(depth, flight), {"i": x}, {"o": len(x)}, stalls=Stalls(2, i=stalls[0], o=stalls[1]))
    np.testing.assert_array_equal(result.outputs["o"], x)


def test_full_speed():
    """A credit is away for the flight, one cycle in the memory and two on the way back.

    This reader takes an entry every other cycle.
    """
    x = np.arange(300).reshape(100, 3)
    result = run_stream(Writer(8, 5), {"i": x}, {"o": len(x)})
    assert result.streams["o"].first == 5 + CreditQueue.latency
    assert result.streams["o"].last == result.streams["o"].first + 2 * (len(x) - 1)


@pytest.mark.parametrize("depth", [0, 1, 12])
def test_refuses_bad_depth(depth):
    with pytest.raises(ValueError, match=rf"^Queue depth must be a power of two, 2 or more, not {depth}$"):
        CreditQueue(SHAPE, depth)
