"""A queue behind a pipeline that cannot stall."""

from amaranth.hdl import Module, ShapeLike, Signal, Value
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["CreditQueue"]


class CreditQueue(wiring.Component):
    """First in, first out; the writer keeps count of the room.

    The writer starts with ``depth`` credits, spends one on each entry that it sends on its way, and gets it back with
    ``freed``. So nothing that is in flight ever has to wait. The entries lie in LUT RAM (a few flip-flops each where
    the family has none), with a register behind it that counts for nothing.

    Latency: 2 cycles from ``i`` to ``o``. Throughput: an entry a cycle. Under backpressure entries wait here.

    Parameters
    ----------
    shape : ShapeLike
        Of an entry.
    depth : int
        Entries that the writer may count on; a power of two, 2 or more.

    Members
    -------
    i : In(stream.Signature(shape, always_ready=True))
        Entries that come without credit overwrite others.
    o : Out(stream.Signature(shape))
    freed : Out(1)
        One credit goes back: 2 cycles after the entry came in, or later under backpressure.

    Raises
    ------
    ValueError
        If ``depth`` is no power of two, or below 2.
    """

    latency = 2

    def __init__(self, shape: ShapeLike, depth: int):
        if depth < 2 or depth & (depth - 1):
            raise ValueError(f"Queue depth must be a power of two, 2 or more, not {depth!r}")
        self.shape = shape
        self.depth = depth
        super().__init__(
            {
                "i": In(stream.Signature(shape, always_ready=True)),
                "o": Out(stream.Signature(shape)),
                "freed": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        payload = Value.cast(self.i.payload)
        m.submodules.entries = entries = memory.Memory(shape=len(payload), depth=self.depth, init=[])
        write, read = entries.write_port(), entries.read_port(domain="comb")
        level = Signal(range(self.depth + 1))
        filled = Signal()  # level is not zero
        leaves = Signal()
        front = Signal(len(payload), reset_less=True)

        m.d.comb += [
            leaves.eq(filled & (~self.o.valid | self.o.ready)),
            write.en.eq(self.i.valid),
            write.data.eq(payload),
            Value.cast(self.o.payload).eq(front),
        ]
        m.d.sync += [
            level.eq(level + self.i.valid - leaves),
            filled.eq(self.i.valid | (level > 1) | (filled & ~leaves)),
            self.freed.eq(leaves),
        ]
        with m.If(self.i.valid):
            m.d.sync += write.addr.eq(write.addr + 1)
        with m.If(leaves):
            m.d.sync += [read.addr.eq(read.addr + 1), front.eq(read.data), self.o.valid.eq(1)]
        with m.Elif(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        return m
