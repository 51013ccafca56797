# amaranth: UnusedElaboratable=no
import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from winohw.gateware.uart import UartReceiver, UartTransmitter
from winohw.sim.stalls import Stalls
from winohw.sim.testbench import run_stream


class Line(wiring.Component):
    """A transmitter and a receiver at the ends of a wire."""

    def __init__(self, divisor):
        self.divisor = divisor
        super().__init__({"i": In(stream.Signature(8)), "o": Out(stream.Signature(8, always_ready=True))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.transmitter = transmitter = UartTransmitter(self.divisor)
        m.submodules.receiver = receiver = UartReceiver(self.divisor)
        m.d.comb += receiver.rx.eq(transmitter.tx)
        wiring.connect(m, wiring.flipped(self.i), transmitter.i)
        wiring.connect(m, receiver.o, wiring.flipped(self.o))
        return m


def line_levels(data, divisor):
    """The line, a level a cycle, with no pause between the bytes."""
    bits = [[0, *(byte >> bit & 1 for bit in range(8)), 1] for byte in data]
    return np.repeat(np.array(bits, int).ravel(), divisor)


@pytest.mark.parametrize("divisor", [2, 3, 4, 17])
def test_bytes_pass_unchanged(divisor):
    x = np.concatenate([[0, 255, 1, 128, 0x55, 0xAA], np.random.default_rng(1).integers(0, 256, 60)])
    full = run_stream(Line(divisor), {"i": x}, {"o": len(x)})
    np.testing.assert_array_equal(full.outputs["o"], x)
    assert full.streams["i"].last - full.streams["i"].first == (len(x) - 1) * (10 * divisor + 1)
    # The start bit comes a cycle after the byte was accepted.
    assert full.streams["o"].first == 1 + 9 * divisor + divisor // 2 + 3
    stalled = run_stream(Line(divisor), {"i": x}, {"o": len(x)}, stalls=Stalls(1, 0.9))
    np.testing.assert_array_equal(stalled.outputs["o"], x)


@pytest.mark.parametrize("divisor", [2, 5])
def test_levels_of_the_line(divisor):
    x = np.array([0x00, 0xFF, 0x35])
    result = run_stream(UartTransmitter(divisor), {"i": x}, {"tx": 1 + 3 * (10 * divisor + 1)})
    levels = [np.append(line_levels([byte], divisor), 1) for byte in x]
    np.testing.assert_array_equal(result.outputs["tx"], np.concatenate([[1], *levels]))


def test_no_pause_between_bytes():
    x = np.random.default_rng(2).integers(0, 256, 50)
    for divisor in (2, 7):
        levels = np.append(line_levels(x, divisor), np.ones(2 * divisor + 8, int))
        result = run_stream(UartReceiver(divisor), {"rx": levels}, {"o": len(x)})
        np.testing.assert_array_equal(result.outputs["o"], x)


def test_clocks_may_differ_by_three_percent():
    x = np.random.default_rng(3).integers(0, 256, 15)
    for cycles in (31, 33):
        levels = np.append(line_levels(x, cycles), np.ones(100, int))
        result = run_stream(UartReceiver(32), {"rx": levels}, {"o": len(x)})
        np.testing.assert_array_equal(result.outputs["o"], x)


def test_disturbances_are_no_bytes():
    """A glitch shorter than half a bit, and a byte whose stop bit is missing, with a long break after it."""
    divisor = 8
    broken = line_levels([0x5A], divisor)
    broken[-divisor:] = 0
    idle = np.ones(12 * divisor, int)
    levels = [idle, [0, 0, 0], idle, broken, np.zeros(30 * divisor, int), idle, line_levels([0xC3], divisor), idle]
    result = run_stream(UartReceiver(divisor), {"rx": np.concatenate(levels)}, {"o": None})
    np.testing.assert_array_equal(result.outputs["o"], [0xC3])


@pytest.mark.parametrize("component", [UartReceiver, UartTransmitter])
def test_refuses_bad_divisors(component):
    for divisor in (1, 0, -4, 65537):
        with pytest.raises(ValueError, match=rf"^divisor must be within 2 ... 65536, not {divisor}$"):
            component(divisor)
    with pytest.raises(TypeError, match=r"^divisor must be an integer, not 2\.5$"):
        component(2.5)


def test_line_is_high_before_the_first_byte():
    dut = UartTransmitter(4)
    seen = []

    async def watch(ctx):
        seen.extend([await ctx.tick().sample(dut.tx) for _ in range(20)])

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(watch)
    simulator.run()
    assert all(sample[-1] == 1 for sample in seen)
