"""The design of a board: its engine behind its serial port, in a clock of the wanted frequency."""

from __future__ import annotations

from fractions import Fraction

from amaranth.build.plat import TemplatedPlatform
from amaranth.hdl import ClockDomain, ClockSignal, Const, Elaboratable, Module, ResetSignal, Signal
from amaranth.lib import io
from amaranth.lib.cdc import FFSynchronizer

from winohw.gateware.board_top import BoardTop
from winohw.synth.board import Board, BoardError, part_of
from winohw.synth.pins import COMPONENT
from winohw.synth.pll import PLLS, PllError

__all__ = ["BoardDesign", "Clocking"]


class Clocking(Elaboratable):
    """Clock and reset of the domain ``sync`` out of a platform's clock: through a PLL where the frequency differs.

    The domain is held in reset until the PLL has locked and 256 cycles have passed, and by the platform's
    ``default_rst`` if it has one. Nothing runs in the platform's own clock.

    Parameters
    ----------
    frequency : float
        MHz.

    Raises
    ------
    BoardError
        When it is elaborated: the platform has no clock, or no PLL makes the frequency.
    """

    def __init__(self, frequency: float):
        self.frequency = Fraction(str(frequency))

    def elaborate(self, platform: TemplatedPlatform) -> Module:
        m = Module()
        family = part_of(platform).family.name
        if platform.default_clk is None:
            raise BoardError(f"{type(platform).__name__} has no default_clk")
        source = Fraction(platform.default_clk_frequency).limit_denominator(1000) / 1_000_000
        port = platform.request(platform.default_clk, dir="-")
        clock, locked, waiting = Signal(), Signal(), Signal(9)
        m.domains.start = ClockDomain(reset_less=True, local=True)
        m.d.comb += [ClockSignal().eq(clock), ClockSignal("start").eq(clock)]
        if source == self.frequency:
            m.submodules.clock_buffer = buffer = io.Buffer("i", port)
            m.d.comb += [clock.eq(buffer.i), locked.eq(1)]
        else:
            try:
                pll = PLLS[family].of(source, self.frequency)
            except PllError as error:
                raise BoardError(str(error)) from None
            lock = Signal()
            if family == "ice40":
                pad = port.io
            else:
                m.submodules.clock_buffer = buffer = io.Buffer("i", port)
                pad = buffer.i
            m.submodules.pll = pll.instance(pad, clock, lock)
            m.submodules.lock = FFSynchronizer(lock, locked, o_domain="start")
        button = Const(0)
        if platform.default_rst is not None:
            pressed = Signal()
            m.submodules.reset_buffer = reset = io.Buffer("i", platform.request(platform.default_rst, dir="-"))
            m.submodules.reset = FFSynchronizer(reset.i, pressed, o_domain="start")
            button = pressed
        with m.If(~locked | button):
            m.d.start += waiting.eq(0)
        with m.Elif(~waiting[-1]):
            m.d.start += waiting.eq(waiting + 1)
        held = Signal(init=1)
        m.d.start += held.eq(~waiting[-1])
        m.d.comb += ResetSignal().eq(held)
        return m


class BoardDesign(Elaboratable):
    """All that goes onto a board, for its platform.

    Parameters
    ----------
    board : Board
    """

    def __init__(self, board: Board):
        self.board = board
        self.component = BoardTop(board.capabilities, divisor=board.divisor)

    def elaborate(self, platform: TemplatedPlatform) -> Module:
        m = Module()
        m.domains.sync = ClockDomain()
        m.submodules.clocking = Clocking(self.board.frequency)
        setattr(m.submodules, COMPONENT, self.component)
        uart = platform.request(*self.board.uart, dir="-")
        m.submodules.rx = rx = io.Buffer("i", uart.rx)
        m.submodules.tx = tx = io.Buffer("o", uart.tx)
        m.d.comb += [self.component.rx.eq(rx.i), tx.o.eq(self.component.tx)]
        return m
