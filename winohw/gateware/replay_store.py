# amaranth: UnusedElaboratable=no
"""Transformed weights of whole output channels, given again for each tile."""

from __future__ import annotations

import numpy as np
from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import ArrayLike, NDArray

from winohw.algorithm.modular import wrap
from winohw.gateware.kernel_writer import KernelWriter
from winohw.gateware.memory import Memory

__all__ = ["ReplayStore"]


class ReplayStore(wiring.Component):
    """Keeps kernels in the Winograd domain, and gives those of one group of output channels again and again.

    A place holds the kernels of one input channel and of a group of Pk output channels, which come lane by lane, and
    weight by weight: all phases of the first multiplier, then those of the next. `control` asks for the weights of a
    chunk, `lead` cycles before they are given: with ``first`` from the first place that has not been given up, else
    from the next one, of the phase that is told; with ``release`` the place is given up. All weights of a place must
    have come before it is asked for.

    Latency: ``lead`` cycles from `control` to `o`. Throughput: a weight in and the weights of a chunk out a cycle.
    Backpressure: `i` waits while all places are taken.

    Parameters
    ----------
    input_tile : int
        n.
    fold : int
        Phases a kernel; divides n.
    lanes : int
        Pk, 1 or more.
    u_bits : int
        Width of a weight, 1 … 8.
    places : int
        A power of two, 2 or more: most input channels.
    memory : str
        Kind of :class:`Memory`.

    Attributes
    ----------
    columns : int
        Q = n / fold.
    lead : int
        Cycles: 2.

    Members
    -------
    i : In(stream.Signature(ArrayLayout(signed(8), 1)))
        Weights; the ``u_bits`` lowest bits count.
    control : In(StructLayout({valid: 1, first: 1, release: 1, phase: range(fold)}))
    o : Out([Pk][n][Q] signed(u_bits))

    Raises
    ------
    ValueError
        If a parameter is out of its range.
    """

    lead = Memory.latency

    def __init__(
        self, *, input_tile: int, fold: int, lanes: int, u_bits: int, places: int = 128, memory: str = "generic"
    ):
        for name, value in (("input_tile", input_tile), ("lanes", lanes)):
            if value < 1:
                raise ValueError(f"{name} must be 1 or more, not {value!r}")
        if fold < 1 or input_tile % fold:
            raise ValueError(f"fold must divide the input tile {input_tile}, not {fold!r}")
        if not 1 <= u_bits <= 8:
            raise ValueError(f"u_bits must be within 1 ... 8, not {u_bits!r}")
        if places < 2 or places & (places - 1):
            raise ValueError(f"places must be a power of two, 2 or more, not {places!r}")
        self.input_tile = input_tile
        self.fold = fold
        self.lanes = lanes
        self.u_bits = u_bits
        self.places = places
        self.memory = memory
        self.columns = input_tile // fold
        self._writer = KernelWriter(lanes=lanes * input_tile * self.columns, fold=fold, places=places)
        Memory.check_parameters(u_bits, places << self._writer.phase_bits, memory)
        taps = data.ArrayLayout(data.ArrayLayout(signed(u_bits), self.columns), input_tile)
        super().__init__(
            {
                "i": In(stream.Signature(data.ArrayLayout(signed(8), 1))),
                "control": In(data.StructLayout({"valid": 1, "first": 1, "release": 1, "phase": range(fold)})),
                "o": Out(data.ArrayLayout(taps, lanes)),
            }
        )

    def model(self, beats: ArrayLike) -> NDArray[np.int64]:
        """Weights ``[place, phase, lane, i, a]`` of the beats ``[place * Pk * n * n][0]``."""
        weights = wrap(np.asarray(beats, np.int64), self.u_bits)
        weights = weights.reshape(-1, self.lanes, self.input_tile, self.columns, self.fold)
        return np.moveaxis(weights, 4, 1)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.writer = writer = self._writer
        lanes, control = writer.lanes, self.control
        m.submodules.memory = memory = Memory(lanes * self.u_bits, self.places << writer.phase_bits, self.memory, lanes)
        first, following = Signal(writer.place_bits), Signal(writer.place_bits)
        place = Signal(writer.place_bits)
        m.d.comb += [
            writer.valid.eq(self.i.valid),
            self.i.ready.eq(writer.ready),
            writer.freed.eq(control.valid & control.release),
            memory.write_en.eq(writer.lane),
            memory.write_addr.eq(writer.word),
            memory.write_data.eq(self.i.payload.as_value()[: self.u_bits].replicate(lanes)),
            place.eq(Mux(control.first, first, following)),
            memory.read_addr.eq(Cat(control.phase[: writer.phase_bits], place)),
            self.o.eq(memory.read_data),
        ]
        with m.If(control.valid):
            m.d.sync += following.eq(place + 1)
            with m.If(control.release):
                m.d.sync += first.eq(place + 1)
        return m
