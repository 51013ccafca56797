# amaranth: UnusedElaboratable=no
import pytest
from amaranth.hdl import Elaboratable, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator
from tiny_design import Tiny

from winohw.synth.pins import PinWrap


def test_bits_without_constants():
    wrapped = PinWrap(Tiny())
    # 8 bits and valid go in, ready is constant; 16 bits come out, valid and ready are constant.
    assert (wrapped.inputs, wrapped.outputs) == (9, 16)
    assert [pin.name for pin in wrapped.pins] == ["clk", "rst", "scan_in", "scan_out"]


class Invert(wiring.Component):
    """Two bits in, two out, so that the wrapper's registers are all that takes time."""

    def __init__(self):
        super().__init__({"i": In(2), "o": Out(2)})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.o.eq(~self.i)
        return m


def test_every_input_is_driven_and_every_output_seen():
    dut = PinWrap(Invert())
    seen = []

    async def bench(ctx):
        for bit in (1, 0, 1, 1, 0, 0, 0, 1, 0, 0, 0, 0):
            ctx.set(dut.scan_in, bit)
            ctx.set(dut.clk, 1)
            await ctx.delay(1e-6)
            ctx.set(dut.clk, 0)
            await ctx.delay(1e-6)
            seen.append((ctx.get(dut.component.i), ctx.get(dut.scan_out)))

    simulator = Simulator(dut)
    simulator.add_testbench(bench)
    simulator.run()
    chain, outputs, fold, scan_out, expected = [0, 0], [0, 0], [0, 0], 0, []
    for bit in (1, 0, 1, 1, 0, 0, 0, 1, 0, 0, 0, 0):
        scan_out = fold[1]
        fold = [bit ^ outputs[0], fold[0] ^ outputs[1]]
        outputs = [1 - value for value in chain]
        chain = [bit, chain[0]]
        expected.append((chain[0] + 2 * chain[1], scan_out))
    assert seen == expected
    assert {value for value, _ in seen} == {0, 1, 2, 3}


def test_not_a_component():
    class Plain(Elaboratable):
        pass

    with pytest.raises(TypeError, match=r"^A component is needed, whose signature names its ports, not <"):
        PinWrap(Plain())


def test_no_outputs():
    class Sink(wiring.Component):
        i: In(8)

    with pytest.raises(ValueError, match=r"^Sink has no outputs: nothing of it would be left$"):
        PinWrap(Sink())
