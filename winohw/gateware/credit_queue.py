"""A queue behind a pipeline that cannot stall."""

from amaranth.hdl import Module, ShapeLike, Signal, Value
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from winohw.gateware.fill_level import fill_level

__all__ = ["CreditQueue"]


class CreditQueue(wiring.Component):
    """First in, first out; the writer keeps count of the room, and the reader may look at the first entry for long.

    The writer starts with ``depth`` credits, spends one on each entry that it sends on its way, and gets it back with
    ``freed``. So nothing that is in flight ever has to wait. The entries lie in LUT RAM (a few flip-flops each where
    the family has none), with a register behind it that follows the read address in every cycle: ``pop`` reaches a
    few counters and none of the data.

    Latency: 2 cycles from ``i`` to ``o``, one to ``filled``. Throughput: an entry a cycle. Under backpressure entries
    wait here.

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
    filled : Out(1)
        There is an entry; the next cycle has it at ``o``.
    o : Out(shape)
        What was the first entry in the cycle before.
    pop : In(1)
        While ``filled``: drops the first entry, of which ``o`` gives the successor two cycles later.
    freed : Out(1)
        One credit goes back: a cycle after ``pop``.

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
                "filled": Out(1),
                "o": Out(shape),
                "pop": In(1),
                "freed": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        payload = Value.cast(self.i.payload)
        m.submodules.entries = entries = memory.Memory(shape=len(payload), depth=self.depth, init=[])
        write, read = entries.write_port(), entries.read_port(domain="comb")
        filled, freed = fill_level(m, self.depth, self.i.valid, self.pop)
        front = Signal(len(payload), reset_less=True)
        m.d.comb += [
            write.en.eq(self.i.valid),
            write.data.eq(payload),
            Value.cast(self.o).eq(front),
            self.filled.eq(filled),
            self.freed.eq(freed),
        ]
        m.d.sync += front.eq(read.data)
        with m.If(self.i.valid):
            m.d.sync += write.addr.eq(write.addr + 1)
        with m.If(self.pop):
            m.d.sync += read.addr.eq(read.addr + 1)
        return m
