# amaranth: UnusedElaboratable=no
from amaranth.hdl import Cat, Instance, Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from winohw.synth.gates import Delays, gates_of

DELAYS = Delays(register=1.0, lut=0.5, chain=0.25, chain_bit=0.125, setup=2.0, wire=4.0)


class Small(wiring.Component):
    """Whatever a function makes of eight-bit inputs a and b and the bits c and d."""

    def __init__(self, build, width=8):
        self._build = build
        super().__init__({"a": In(8), "b": In(8), "c": In(1), "d": In(1), "o": Out(width)})

    def elaborate(self, platform):
        m = Module()
        self._build(self, m)
        return m


def cover(build, width=8, shortest_chain=3):
    return gates_of(Small(build, width), shortest_chain).cover(DELAYS)


def registered(value):
    def build(self, m):
        m.d.sync += self.o.eq(value(self))

    return build


def test_a_table_takes_four_inputs():
    def luts(value):
        return sum(cover(registered(value), 1).luts.values())

    assert luts(lambda s: s.a[:4].all()) == 1
    assert luts(lambda s: s.a[:5].all()) == 2
    assert luts(lambda s: s.a.all()) == 3
    assert luts(lambda s: Mux(s.c, s.a[0] ^ s.b[0], s.d)) == 1
    assert luts(lambda s: s.a[0]) == 0
    assert luts(lambda s: s.a == s.b) == 5
    assert luts(lambda s: s.a.any() & ~s.a.any()) == 0


def test_equal_gates_are_one():
    def build(self, m):
        m.d.sync += self.o.eq(Cat(self.a[0] ^ self.b[0], self.b[0] ^ self.a[0], self.c & self.d, ~(~self.c | ~self.d)))

    result = cover(build)
    assert sum(result.luts.values()) == 2
    assert sum(result.registers.values()) == 2


def test_registers():
    """Enables and resets take no logic in front of the data; equal and constant registers are none."""

    def build(self, m):
        twin, other, constant = Signal(8), Signal(8), Signal(8, reset_less=True)
        with m.If(self.c):
            m.d.sync += [twin.eq(self.b), other.eq(self.b), constant.eq(0)]
        with m.Elif(self.d):
            m.d.sync += [twin.eq(0), other.eq(0)]
        m.d.sync += self.o.eq(self.a & (twin ^ other ^ twin ^ constant))

    result = cover(build)
    assert sum(result.registers.values()) == 16
    # An AND for each bit; the enable of `twin` and its reset.
    assert sum(result.luts.values()) == 8 + 3


def test_chains():
    (chain,) = cover(registered(lambda s: s.a + s.b)).chains
    assert (chain.used, chain.sums, chain.carry) == (8, 8, False)
    (chain,) = cover(registered(lambda s: s.a + s.b), 5).chains
    assert (chain.used, chain.sums) == (5, 5)  # nothing depends on the upper bits
    (chain,) = cover(registered(lambda s: s.a + (s.b << 3)), 11).chains
    assert len(chain.a) == 9  # the lowest three pass
    (chain,) = cover(registered(lambda s: Cat(s.a < s.b, s.b <= s.a))).chains
    assert (chain.used, chain.sums, chain.carry) == (8, 0, True)  # one for both
    (chain,) = cover(registered(lambda s: s.a.as_signed() + s.b.as_signed()), 16).chains
    assert len(chain.a) == 9
    assert not cover(registered(lambda s: s.a < 64)).chains
    assert not cover(registered(lambda s: s.a[:2] + s.b[:2]), 3, shortest_chain=5).chains


def test_memories_and_instances():
    def build(self, m):
        m.submodules.array = array = memory.Memory(shape=8, depth=6, init=[])
        write, read = array.write_port(), array.read_port(domain="comb")
        m.d.comb += [write.addr.eq(self.b), write.data.eq(self.a), write.en.eq(self.c), read.addr.eq(self.b[3:])]
        fetched = Signal(8, reset_less=True)
        m.d.sync += fetched.eq(read.data)
        m.submodules.queue = queue = memory.Memory(shape=4, depth=8, init=[])
        first, second = queue.write_port(), queue.read_port()
        m.d.comb += [first.addr.eq(self.a), first.data.eq(self.b), first.en.eq(self.d), second.addr.eq(self.a)]
        used, unused = Signal(8), Signal(8)
        m.submodules += [Instance("CELL", i_a=second.data, o_b=b) for b in (used, unused)]
        m.d.comb += self.o.eq(fetched ^ used)

    result = cover(build)
    found = [(block.width, block.depth, block.sync, len(block.fused)) for block in result.memories]
    assert found == [(8, 6, False, 8), (4, 8, True, 0)]
    assert sum(result.registers.values()) == 0
    assert result.instances == {("", "CELL"): 1}


def test_stages_are_submodules():
    def build(self, m):
        for name in ("first", "second"):
            m.submodules[name] = inner = Module()
            half = self.o[:4] if name == "first" else self.o[4:]
            inner.d.sync += half.eq(self.a[:4] & self.b[:4] if name == "first" else self.a[4:] | self.b[4:])

    result = cover(build)
    assert result.luts == result.registers == {"first": 4, "second": 4}


def test_delay():
    """From a register through the wires and cells of the longest path to the next."""
    assert cover(registered(lambda s: s.a)).delay == 1 + 4 + 2
    assert cover(registered(lambda s: s.a & s.b)).delay == 1 + 4 + 0.5 + 4 + 2
    assert cover(registered(lambda s: s.a + s.b)).delay == 1 + 4 + 0.25 + 7 * 0.125 + 4 + 2
