"""The design of a board: its engine behind its serial port, in a clock of the wanted frequency."""

from __future__ import annotations

from fractions import Fraction

from amaranth.build.plat import TemplatedPlatform
from amaranth.build.res import ResourceError
from amaranth.hdl import ClockDomain, ClockSignal, Const, Elaboratable, Module, ResetSignal, Signal
from amaranth.lib import io
from amaranth.lib.cdc import FFSynchronizer

from winohw.gateware.board_top import BoardTop
from winohw.synth.board import Board, BoardError, part_of
from winohw.synth.pins import COMPONENT
from winohw.synth.pll import PLLS, Ecp5Pll, GowinPll, Ice40Pll, PllError

__all__ = ["BoardDesign", "Clocking", "pll_for"]


def pll_for(platform: TemplatedPlatform, frequency: float) -> Ecp5Pll | Ice40Pll | GowinPll | None:
    """The PLL that makes a frequency in MHz of a platform's clock; None if that is the clock.

    Raises
    ------
    BoardError
        The platform has no clock, or no PLL makes the frequency.
    """
    if platform.default_clk is None:
        raise BoardError(f"{type(platform).__name__} has no default_clk")
    source = Fraction(platform.default_clk_frequency).limit_denominator(1000) / 1_000_000
    if source == Fraction(str(frequency)):
        return None
    try:
        return PLLS[part_of(platform).family.name].of(source, frequency)
    except PllError as error:
        raise BoardError(str(error)) from None


class Clocking(Elaboratable):
    """Clock and reset of the domain ``sync`` out of a platform's clock: through a PLL where the frequency differs.

    The domain is held in reset until the PLL has locked and 256 cycles have passed, and by the platform's
    ``default_rst`` if it has one. Nothing runs in the platform's own clock.

    Parameters
    ----------
    pll : Ecp5Pll, Ice40Pll, GowinPll or None
        Settings of the PLL, see `pll_for`; None where the platform's clock is used as it is.
    """

    def __init__(self, pll: Ecp5Pll | Ice40Pll | GowinPll | None):
        self.pll = pll

    def elaborate(self, platform: TemplatedPlatform) -> Module:
        m = Module()
        port = platform.request(platform.default_clk, dir="-")
        clock, locked, waiting = Signal(), Signal(), Signal(9)
        m.domains.start = ClockDomain(reset_less=True, local=True)
        m.d.comb += [ClockSignal().eq(clock), ClockSignal("start").eq(clock)]
        if self.pll is None:
            m.submodules.clock_buffer = buffer = io.Buffer("i", port)
            m.d.comb += [clock.eq(buffer.i), locked.eq(1)]
        else:
            lock = Signal()
            if isinstance(self.pll, Ice40Pll):
                pad = port.io
            else:
                m.submodules.clock_buffer = buffer = io.Buffer("i", port)
                pad = buffer.i
            m.submodules.pll = self.pll.instance(pad, clock, lock)
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

    Raises
    ------
    BoardError
        When it is elaborated: the platform has no such serial port or no clock, or no PLL makes the frequency.
    """

    def __init__(self, board: Board):
        self.board = board

    def elaborate(self, platform: TemplatedPlatform) -> Module:
        board = self.board
        try:
            uart = platform.request(*board.uart, dir="-")
        except ResourceError as error:
            raise BoardError(str(error)) from None
        pll = pll_for(platform, board.frequency)
        m = Module()
        m.domains.sync = ClockDomain()
        m.submodules.clocking = Clocking(pll)
        component = BoardTop(board.capabilities, divisor=board.divisor)
        setattr(m.submodules, COMPONENT, component)
        m.submodules.rx = rx = io.Buffer("i", uart.rx)
        m.submodules.tx = tx = io.Buffer("o", uart.tx)
        m.d.comb += [component.rx.eq(rx.i), tx.o.eq(component.tx)]
        return m
