"""A queue with its first entry in a register, for loops that run ahead of those who follow them."""

from amaranth.hdl import Module, Mux, ShapeLike, Signal, Value
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["HeadQueue", "check_depth"]


def check_depth(depth: int) -> None:
    """Raises ``ValueError`` unless there is such a queue."""
    if depth < 4 or depth & (depth - 1):
        raise ValueError(f"Queue depth must be a power of two, 4 or more, not {depth!r}")


class HeadQueue(wiring.Component):
    """First in, first out; the writer keeps count of the room, and the reader decides from the first entry.

    Few entries lie in LUT RAM (flip-flops where the family has none), many in block memory. Between ``pop`` and what
    changes by it there are two gates: no count of the entries, but two comparisons of addresses that are made before it
    is known.

    Latency: 2 cycles from ``i`` to ``head``. Throughput: an entry a cycle. Under backpressure entries wait here.

    Parameters
    ----------
    shape : ShapeLike
        Of an entry.
    depth : int
        Entries that the writer may count on; a power of two, 4 or more.

    Members
    -------
    i : In(stream.Signature(shape, always_ready=True))
        Entries that come without room overwrite others.
    filled : Out(1)
        There is an entry at ``head``.
    head : Out(shape)
        The first entry.
    pop : In(1)
        Only while ``filled``: the next cycle has the entry's successor at ``head``, if there is one.

    Raises
    ------
    ValueError
        If ``depth`` is no power of two, or below 4.
    """

    latency = 2

    def __init__(self, shape: ShapeLike, depth: int):
        check_depth(depth)
        self.shape = shape
        self.depth = depth
        super().__init__(
            {
                "i": In(stream.Signature(shape, always_ready=True)),
                "filled": Out(1),
                "head": Out(shape),
                "pop": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        payload = Value.cast(self.i.payload)
        m.submodules.entries = entries = memory.Memory(
            # An entry is not read before the cycle after it was written.
            shape=len(payload),
            depth=self.depth,
            init=[],
            attrs={"no_rw_check": 1},
        )
        write, read = entries.write_port(), entries.read_port(domain="comb")
        head = Signal(len(payload), reset_less=True)
        following = Signal.like(read.addr, init=1)  # the address after that of `read`
        more, load = Signal(), Signal()  # something is in the memory; it moves to the head
        m.d.comb += [
            write.en.eq(self.i.valid),
            write.data.eq(payload),
            Value.cast(self.head).eq(head),
            load.eq(more & (~self.filled | self.pop)),
        ]
        m.d.sync += [
            more.eq(self.i.valid | Mux(load, following != write.addr, read.addr != write.addr)),
            self.filled.eq(more | (self.filled & ~self.pop)),
        ]
        with m.If(self.i.valid):
            m.d.sync += write.addr.eq(write.addr + 1)
        with m.If(load):
            m.d.sync += [head.eq(read.data), read.addr.eq(following), following.eq(following + 1)]
        return m
