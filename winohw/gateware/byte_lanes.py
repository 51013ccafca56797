"""Between bytes and beats of several pixels."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["BytesToLanes", "LanesToBytes"]


def _check_lanes(lanes: int) -> None:
    if isinstance(lanes, bool) or not isinstance(lanes, int):
        raise TypeError(f"lanes must be an integer, not {lanes!r}")
    if lanes < 1:
        raise ValueError(f"lanes must be at least 1, not {lanes}")


class BytesToLanes(wiring.Component):
    """Gathers `lanes` bytes to a beat, the first one in lane 0.

    Latency: 1 cycle from the last byte of a beat. Throughput: a byte a cycle, but one cycle less for each beat.
    Backpressure: `i.ready` is low while a beat waits.

    Parameters
    ----------
    lanes : int
        1 or more.

    Members
    -------
    i : In(stream.Signature(8))
    o : Out(stream.Signature(ArrayLayout(signed(8), lanes)))
    empty : Out(1), no byte is kept.

    Raises
    ------
    TypeError, ValueError
        `lanes` is not an integer or less than 1.
    """

    def __init__(self, lanes: int):
        _check_lanes(lanes)
        self.lanes = lanes
        super().__init__(
            {
                "i": In(stream.Signature(8)),
                "o": Out(stream.Signature(data.ArrayLayout(signed(8), lanes))),
                "empty": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        kept = Signal(8 * self.lanes, reset_less=True)
        count = Signal(range(self.lanes + 1))
        m.d.comb += [
            self.o.valid.eq(count == self.lanes),
            self.o.payload.as_value().eq(kept),
            self.i.ready.eq(count != self.lanes),
            self.empty.eq(count == 0),
        ]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [kept.eq(Cat(kept, self.i.payload)[8:]), count.eq(count + 1)]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += count.eq(0)
        return m


class LanesToBytes(wiring.Component):
    """Gives the first `count` pixels of each beat one after the other, lane 0 first.

    Latency: 1 cycle. Throughput: a byte a cycle, but one cycle less for each beat. Backpressure: `i.ready` is low until
    the beat before has gone.

    Parameters
    ----------
    lanes : int
        1 or more.

    Members
    -------
    i : In(stream.Signature(StructLayout({"pixels": ArrayLayout(signed(8), lanes), "count": range(lanes + 1),
        "last": 1}))), as the engine gives it; `last` is not used.
    o : Out(stream.Signature(8))
    empty : Out(1), no byte is kept.

    Raises
    ------
    TypeError, ValueError
        `lanes` is not an integer or less than 1.
    """

    def __init__(self, lanes: int):
        _check_lanes(lanes)
        self.lanes = lanes
        layout = data.StructLayout({"pixels": data.ArrayLayout(signed(8), lanes), "count": range(lanes + 1), "last": 1})
        super().__init__({"i": In(stream.Signature(layout)), "o": Out(stream.Signature(8)), "empty": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        kept = Signal(8 * self.lanes, reset_less=True)
        count = Signal(range(self.lanes + 1))
        m.d.comb += [
            self.o.valid.eq(count != 0),
            self.o.payload.eq(kept[:8]),
            self.i.ready.eq(count == 0),
            self.empty.eq(count == 0),
        ]
        with m.If(count == 0):
            m.d.sync += [
                kept.eq(self.i.payload.pixels.as_value()),
                count.eq(Mux(self.i.valid, self.i.payload.count, 0)),
            ]
        with m.Elif(self.o.ready):
            m.d.sync += [kept.eq(kept >> 8), count.eq(count - 1)]
        return m
