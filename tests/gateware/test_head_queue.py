# amaranth: UnusedElaboratable=no
import numpy as np
import pytest
from amaranth.hdl import Module, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from winohw.gateware.head_queue import HeadQueue
from winohw.sim.stalls import Stalls
from winohw.sim.testbench import run_stream

SHAPE = data.ArrayLayout(signed(11), 3)


class Ends(wiring.Component):
    """A writer that counts the room, and a reader that takes what is at the head."""

    def __init__(self, depth: int):
        self.depth = depth
        super().__init__({"i": In(stream.Signature(SHAPE)), "o": Out(stream.Signature(SHAPE))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.queue = queue = HeadQueue(SHAPE, self.depth)
        waiting = Signal(range(self.depth + 1))
        m.d.comb += [
            self.i.ready.eq(waiting != self.depth),
            queue.i.valid.eq(self.i.valid & self.i.ready),
            queue.i.payload.eq(self.i.payload),
            self.o.valid.eq(queue.filled),
            self.o.payload.eq(queue.head),
            queue.pop.eq(self.o.valid & self.o.ready),
        ]
        m.d.sync += waiting.eq(waiting + queue.i.valid - queue.pop)
        return m


@pytest.mark.parametrize("stalls", [(0, 0), (0, 0.7), (0.7, 0), (0.4, 0.4)], ids=str)
@pytest.mark.parametrize("depth", [4, 16])
def test_keeps_order_and_loses_nothing(depth, stalls):
    x = np.random.default_rng(1).integers(-1024, 1024, (150, 3))
    result = run_stream(Ends(depth), {"i": x}, {"o": len(x)}, stalls=Stalls(2, i=stalls[0], o=stalls[1]))
    np.testing.assert_array_equal(result.outputs["o"], x)


def test_full_speed():
    x = np.arange(300).reshape(100, 3)
    result = run_stream(Ends(4), {"i": x}, {"o": len(x)})
    assert result.streams["o"].first - result.streams["i"].first == HeadQueue.latency
    assert result.streams["o"].last - result.streams["o"].first == len(x) - 1


@pytest.mark.parametrize("depth", [0, 2, 12])
def test_refuses_bad_depth(depth):
    with pytest.raises(ValueError, match=rf"^Queue depth must be a power of two, 4 or more, not {depth}$"):
        HeadQueue(SHAPE, depth)
