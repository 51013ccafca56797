"""A buffer for bytes that says how many wait in it."""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from winohw.gateware.head_queue import HeadQueue, check_depth

__all__ = ["ByteBuffer"]


class ByteBuffer(wiring.Component):
    """First in, first out, in block memory.

    Latency: 2 cycles. Throughput: a byte a cycle. Backpressure: bytes wait here, and `i` when there is no more room.

    Parameters
    ----------
    depth : int
        Bytes; a power of two, 4 or more.

    Members
    -------
    i : In(stream.Signature(8))
    o : Out(stream.Signature(8))
    level : Out(range(depth + 1))
        Bytes that have come and not gone.

    Raises
    ------
    ValueError
        If ``depth`` is no power of two, or below 4.
    """

    def __init__(self, depth: int):
        check_depth(depth)
        self.depth = depth
        super().__init__({"i": In(stream.Signature(8)), "o": Out(stream.Signature(8)), "level": Out(range(depth + 1))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.queue = queue = HeadQueue(8, self.depth)
        m.d.comb += [
            self.i.ready.eq(self.level != self.depth),
            queue.i.payload.eq(self.i.payload),
            queue.i.valid.eq(self.i.valid & self.i.ready),
            self.o.payload.eq(queue.head),
            self.o.valid.eq(queue.filled),
            queue.pop.eq(self.o.valid & self.o.ready),
        ]
        with m.If(queue.i.valid & ~queue.pop):
            m.d.sync += self.level.eq(self.level + 1)
        with m.Elif(queue.pop & ~queue.i.valid):
            m.d.sync += self.level.eq(self.level - 1)
        return m
