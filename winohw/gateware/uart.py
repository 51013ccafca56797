"""A serial port: 8 data bits, no parity, one stop bit."""

from __future__ import annotations

from amaranth import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

__all__ = ["UartReceiver", "UartTransmitter", "check_divisor"]

#: Bits of a byte on the line: start, eight of data from the least significant on, stop.
FRAME_BITS = 10


def check_divisor(divisor: int) -> None:
    """Raise TypeError or ValueError unless a bit can last so many cycles."""
    if isinstance(divisor, bool) or not isinstance(divisor, int):
        raise TypeError(f"divisor must be an integer, not {divisor!r}")
    if not 2 <= divisor <= 1 << 16:
        raise ValueError(f"divisor must be within 2 ... {1 << 16}, not {divisor}")


class UartReceiver(wiring.Component):
    """Bytes from a serial line.

    A start bit that is gone by its middle is taken for a disturbance. A byte without a stop bit is dropped, and so is
    everything until the line is high again.

    Latency: `9 * divisor + divisor // 2 + 3` cycles from the edge of the start bit. Throughput: that of the line; bytes
    may follow each other without a pause. Backpressure: none.

    Parameters
    ----------
    divisor : int
        Clock cycles a bit, 2 ... 65536; below 4 only where sender and receiver share their clock.

    Members
    -------
    rx : In(1), the line; may change at any time.
    o : Out(stream.Signature(8, always_ready=True))

    Raises
    ------
    TypeError, ValueError
        The divisor is not an integer or out of range.
    """

    def __init__(self, divisor: int):
        check_divisor(divisor)
        self.divisor = divisor
        super().__init__({"rx": In(1, init=1), "o": Out(stream.Signature(8, always_ready=True))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        line = Signal(init=1)
        m.submodules.synchronizer = FFSynchronizer(self.rx, line, init=1)
        timer = Signal(range(self.divisor))
        bit = Signal(range(FRAME_BITS))
        shifted = Signal(8, reset_less=True)
        m.d.comb += self.o.payload.eq(shifted)
        m.d.sync += self.o.valid.eq(0)
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [timer.eq(self.divisor // 2 - 1), bit.eq(0)]
                with m.If(~line):
                    m.next = "SAMPLE"
            with m.State("SAMPLE"):
                with m.If(timer != 0):
                    m.d.sync += timer.eq(timer - 1)
                with m.Else():
                    m.d.sync += [timer.eq(self.divisor - 1), bit.eq(bit + 1)]
                    with m.If(bit == 0), m.If(line):
                        m.next = "IDLE"
                    with m.Elif(bit == FRAME_BITS - 1):
                        m.d.sync += self.o.valid.eq(line)
                        m.next = "IDLE"
                        with m.If(~line):
                            m.next = "BREAK"
                    with m.Else():
                        m.d.sync += shifted.eq(Cat(shifted[1:], line))
            with m.State("BREAK"), m.If(line):
                m.next = "IDLE"
        return m


class UartTransmitter(wiring.Component):
    """Bytes to a serial line.

    Latency: 1 cycle from an accepted byte to its start bit. Throughput: a byte each `10 * divisor + 1` cycles.
    Backpressure: `i.ready` is low while a byte is on the line.

    Parameters
    ----------
    divisor : int
        Clock cycles a bit, 2 ... 65536.

    Members
    -------
    i : In(stream.Signature(8))
    tx : Out(1), the line; high while there is nothing to send.

    Raises
    ------
    TypeError, ValueError
        The divisor is not an integer or out of range.
    """

    def __init__(self, divisor: int):
        check_divisor(divisor)
        self.divisor = divisor
        super().__init__({"i": In(stream.Signature(8)), "tx": Out(1, init=1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        timer = Signal(range(self.divisor))
        bits = Signal(range(FRAME_BITS + 1))
        rest = Signal(FRAME_BITS - 1, init=-1)
        m.d.comb += self.i.ready.eq(bits == 0)
        with m.If(bits == 0), m.If(self.i.valid):
            m.d.sync += [
                self.tx.eq(0),
                rest.eq(Cat(self.i.payload, 1)),
                bits.eq(FRAME_BITS),
                timer.eq(self.divisor - 1),
            ]
        with m.Elif(timer != 0):
            m.d.sync += timer.eq(timer - 1)
        with m.Else():
            m.d.sync += [
                Cat(self.tx, rest).eq(Cat(rest, 1)),
                bits.eq(bits - 1),
                timer.eq(self.divisor - 1),
            ]
        return m
