"""A design of a few stages whose registers can be counted by hand."""

from amaranth.hdl import Module, Signal
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out


class Counter(wiring.Component):
    """6 registers."""

    en: In(1)
    count: Out(6)

    def elaborate(self, platform):
        m = Module()
        with m.If(self.en):
            m.d.sync += self.count.eq(self.count + 1)
        return m


class Total(wiring.Component):
    """16 registers and a carry chain."""

    a: In(8)
    b: In(6)
    c: In(6)
    o: Out(16)

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.o.eq(self.o + (self.a ^ self.b ^ self.c))
        return m


class Store(wiring.Component):
    """A memory of 256 words of 16 bits, read one cycle after it is written at the same address."""

    i: In(16)
    o: Out(16)

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = storage = memory.Memory(shape=16, depth=256, init=[])
        write, read = storage.write_port(), storage.read_port()
        address = Signal(8)
        m.d.sync += address.eq(address + 1)
        m.d.comb += [write.addr.eq(address), write.data.eq(self.i), write.en.eq(1), read.en.eq(1)]
        m.d.comb += [read.addr.eq(address - 1), self.o.eq(read.data)]
        return m


class Tiny(wiring.Component):
    """Two counters (6 registers each), a total (16), 8 registers of its own; with `store`, a memory behind it."""

    def __init__(self, store=False):
        self.store = store
        super().__init__(
            {
                "i": In(stream.Signature(8, always_ready=True)),
                "o": Out(stream.Signature(16, always_ready=True, always_valid=True)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        counters = [Counter(), Counter()]
        for index, counter in enumerate(counters):
            m.submodules[f"counter_{index}"] = counter
        m.submodules.total = total = Total()
        held = Signal(8)
        m.d.sync += held.eq(self.i.payload)
        m.d.comb += [counters[0].en.eq(self.i.valid), counters[1].en.eq(counters[0].count[0])]
        m.d.comb += [total.a.eq(held), total.b.eq(counters[0].count), total.c.eq(counters[1].count)]
        if self.store:
            m.submodules.store = store = Store()
            m.d.comb += [store.i.eq(total.o), self.o.payload.eq(store.o)]
        else:
            m.d.comb += self.o.payload.eq(total.o)
        return m
