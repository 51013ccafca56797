"""Where the weights of a transformed kernel go in the memory of a weight store."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["KernelWriter"]


class KernelWriter(wiring.Component):
    """Counts the weights of one kernel after another: all phases of the first multiplier, then those of the next.

    A word of the memory holds the weights of all multipliers for one phase of one place; places are used circularly.

    Latency: 0; 1 cycle from the last weight of a place to `loaded`. Throughput: a weight a cycle. `ready` is low while
    all places are taken.

    Parameters
    ----------
    lanes : int
        Weights a word, 1 or more.
    fold : int
        Phases, 1 or more: words a place.
    places : int
        A power of two, 2 or more.
    kept : int
        Places that are never free, because they are being read.

    Members
    -------
    valid : In(1)
        A weight is there.
    ready : Out(1)
        It is taken.
    lane : Out(lanes)
        One-hot, the weight's part of the word; 0 unless it is taken.
    word : Out(places * phases, rounded up to powers of two)
        Phase, and above it the place.
    freed : In(1)
        Strobe, a place is given up.
    loaded : Out(1)
        Strobe, a place is complete.
    """

    def __init__(self, *, lanes: int, fold: int, places: int, kept: int = 0):
        self.lanes = lanes
        self.fold = fold
        self.places = places
        self.kept = kept
        self.phase_bits = (fold - 1).bit_length()
        self.place_bits = (places - 1).bit_length()
        super().__init__(
            {
                "valid": In(1),
                "ready": Out(1),
                "lane": Out(lanes),
                "word": Out(self.place_bits + self.phase_bits),
                "freed": In(1),
                "loaded": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        free = Signal(range(self.places + 1), init=self.places - self.kept)
        lane, phase = Signal(self.lanes, init=1), Signal(range(self.fold))
        place = Signal(self.place_bits)
        taken, complete = Signal(), Signal()
        m.d.comb += [
            self.ready.eq(free != 0),
            taken.eq(self.valid & self.ready),
            complete.eq(taken & lane[-1] & (phase == self.fold - 1)),
            self.word.eq(Cat(phase[: self.phase_bits], place)),
        ]
        with m.If(taken):
            m.d.comb += self.lane.eq(lane)
            m.d.sync += phase.eq(phase + 1)
            with m.If(phase == self.fold - 1):
                m.d.sync += [phase.eq(0), lane.eq(Cat(lane[-1], lane[:-1]))]
        with m.If(complete):
            m.d.sync += place.eq(place + 1)
        m.d.sync += [self.loaded.eq(complete), free.eq(free + self.freed - complete)]
        return m
