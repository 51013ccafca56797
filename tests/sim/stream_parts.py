"""Small components, good and bad, that the simulators are tried on."""

import numpy as np
from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

LANES = data.ArrayLayout(data.ArrayLayout(signed(15), 6), 5)
SUM = data.StructLayout({"sum": signed(40), "lanes": LANES})


class Sum(wiring.Component):
    """Adds lanes of 450 bits and a constant; counts beats in the status ``beats``. Latency 1."""

    i: In(stream.Signature(LANES))
    o: Out(stream.Signature(SUM))
    offset: In(signed(36))
    beats: Out(16)

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.i.ready.eq(~self.o.valid | self.o.ready)
        lanes = [self.i.payload[row][column] for row in range(5) for column in range(6)]
        with m.If(self.i.ready):
            m.d.sync += self.o.valid.eq(self.i.valid)
            with m.If(self.i.valid):
                m.d.sync += [
                    self.o.payload.lanes.eq(self.i.payload),
                    self.o.payload.sum.eq(sum(lanes, self.offset)),
                    self.beats.eq(self.beats + 1),
                ]
        return m

    @staticmethod
    def beats_in(rng: np.random.Generator, count: int) -> np.ndarray:
        """Extremes first, then random beats."""
        low, high = -(2**14), 2**14 - 1
        values = rng.integers(low, high + 1, (count, 5, 6))
        for index, value in enumerate((low, high, -1, 0, 1)):
            values[index] = value
        return values

    @staticmethod
    def model(values: np.ndarray, offset: int) -> np.ndarray:
        return values.sum(axis=(1, 2)) + offset


class Gather(wiring.Component):
    """Joins ``left`` and the always-ready ``lanes.0``, ``lanes.1`` through queues of 64; gives the sum on the nested
    ``out.total``, each beat of ``lanes.1`` at once on the always-ready ``seen``, and counts on the always-valid
    ``clock``."""

    def __init__(self):
        lane = stream.Signature(8, always_ready=True)
        super().__init__(
            {
                "left": In(stream.Signature(8)),
                "lanes": In(lane).array(2),
                "out": Out(wiring.Signature({"total": Out(stream.Signature(10)), "scale_by_two": In(1)})),
                "seen": Out(lane),
                "clock": Out(stream.Signature(16, always_valid=True)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        queues = []
        for index, lane in enumerate(self.lanes):
            m.submodules[f"queue{index}"] = queue = memory.Memory(shape=8, depth=64, init=[])
            write, read = queue.write_port(), queue.read_port(domain="comb")
            level, head, tail = Signal(range(65)), Signal(range(64)), Signal(range(64))
            m.d.comb += [
                write.addr.eq(tail),
                write.data.eq(lane.payload),
                write.en.eq(lane.valid),
                read.addr.eq(head),
            ]
            m.d.sync += tail.eq(tail + lane.valid)
            queues.append((level, head, read, lane.valid))
        total = self.out.total
        m.d.comb += total.valid.eq(self.left.valid & (queues[0][0] > 0) & (queues[1][0] > 0))
        taken = total.valid & total.ready
        for level, head, _, arrived in queues:
            m.d.sync += [head.eq(head + taken), level.eq(level + arrived - taken)]
        plain = self.left.payload + queues[0][2].data + queues[1][2].data
        m.d.comb += [
            self.left.ready.eq(taken),
            total.payload.eq(Mux(self.out.scale_by_two, plain << 1, plain)),
            self.seen.valid.eq(self.lanes[1].valid),
            self.seen.payload.eq(self.lanes[1].payload),
        ]
        with m.If(self.clock.ready):
            m.d.sync += self.clock.payload.eq(self.clock.payload + 1)
        return m


class Ripple(wiring.Component):
    """Running exclusive or over the bits of a vector that is fed back on itself bit by bit: no real loop, but it takes
    CXXRTL several rounds. Combinational."""

    i: In(stream.Signature(16))
    o: Out(stream.Signature(16))

    def elaborate(self, platform):
        m = Module()
        chain = Signal(16)
        odd, even = Signal(8), Signal(8)
        for bit in range(8):
            before = odd[bit - 1] if bit else 0
            m.d.comb += [
                even[bit].eq(self.i.payload[2 * bit] ^ before),
                odd[bit].eq(self.i.payload[2 * bit + 1] ^ even[bit]),
            ]
        m.d.comb += chain.eq(Cat(bit for pair in zip(even, odd, strict=True) for bit in pair))
        m.d.comb += [
            self.o.valid.eq(self.i.valid),
            self.i.ready.eq(self.o.ready),
            self.o.payload.eq(chain),
        ]
        return m

    @staticmethod
    def model(values: np.ndarray) -> np.ndarray:
        bits = values[:, np.newaxis] >> np.arange(16) & 1
        return (np.bitwise_xor.accumulate(bits, axis=1) << np.arange(16)).sum(axis=1)


class Adder(wiring.Component):
    """Plain signals only, no clock."""

    a: In(signed(8))
    b: In(signed(8))
    o: Out(signed(9))

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.o.eq(self.a + self.b)
        return m


class Snoop(wiring.Component):
    """Shows the payload of its input in every cycle, whether valid or not; the status ``age`` counts cycles."""

    i: In(stream.Signature(100))
    o: Out(stream.Signature(100, always_ready=True, always_valid=True))
    age: Out(16)

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.age.eq(self.age + 1)
        m.d.comb += [self.i.ready.eq(1), self.o.payload.eq(self.i.payload)]
        return m


class Faulty(wiring.Component):
    """Passes beats on, with a fault.

    ``drop``: withdraws a payload that waits. ``change``: changes it. ``repeat``: gives the last beat twice.
    ``block``: stops after 5 beats.
    """

    def __init__(self, fault: str):
        self.fault = fault
        super().__init__({"i": In(stream.Signature(8)), "o": Out(stream.Signature(8))})

    def elaborate(self, platform):
        m = Module()
        count = Signal(8)
        waiting = Signal()
        taken = self.i.valid & self.i.ready
        m.d.sync += [count.eq(count + taken), waiting.eq(self.o.valid & ~self.o.ready)]
        m.d.comb += [
            self.o.valid.eq(self.i.valid),
            self.i.ready.eq(self.o.ready),
            self.o.payload.eq(self.i.payload),
        ]
        match self.fault:
            case "drop":
                m.d.comb += self.o.valid.eq(self.i.valid & ~waiting)
            case "change":
                m.d.comb += self.o.payload.eq(self.i.payload ^ waiting)
            case "repeat":
                m.d.comb += self.o.valid.eq(self.i.valid | (count == 10))
                m.d.sync += count.eq(count + taken + (count == 10))
            case "block":
                m.d.comb += [self.o.valid.eq(self.i.valid & (count < 5)), self.i.ready.eq(self.o.ready & (count < 5))]
        return m
