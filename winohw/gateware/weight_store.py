"""Transformed weights that wait in memory until their turn comes."""

from __future__ import annotations

import numpy as np
from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import ArrayLike, NDArray

from winohw.algorithm.modular import wrap
from winohw.gateware.kernel_writer import KernelWriter
from winohw.gateware.memory import Memory

__all__ = ["WeightStore"]


class WeightStore(wiring.Component):
    """Keeps some kernels in the Winograd domain and gives the weights of one phase after another.

    A kernel comes weight by weight: all phases of the first multiplier, then those of the next. `control` asks for the
    weights of a chunk, `lead` cycles before they are given: those of the next phase, modulo ``fold``, with ``start`` of
    the next kernel, which comes with phase 0 only. A kernel must be complete (`loaded`) before it is asked for; the one
    before it is given up then.

    Latency: ``lead`` cycles from `control` to `o`; 1 cycle from a kernel's last weight to `loaded`. Throughput: a
    weight in and the weights of a chunk out a cycle. Backpressure: `i` waits while all places are taken.

    Parameters
    ----------
    input_tile : int
        n.
    fold : int
        Phases a kernel; divides n.
    u_bits : int
        Width of a weight, 1 … 32.
    kernels : int
        Places; a power of two, 2 or more.
    memory : str
        Kind of :class:`Memory`.

    Attributes
    ----------
    columns : int
        Q = n / fold.
    u_bytes : int
        Bytes of a weight: 1, 2 or 4.
    lead : int
        Cycles: 2.

    Members
    -------
    i : In(stream.Signature(ArrayLayout(signed(8), u_bytes)))
        Weights, little-endian; the ``u_bits`` lowest bits count.
    control : In(StructLayout({valid: 1, start: 1}))
    o : Out([n][Q] signed(u_bits))
    loaded : Out(1)
        Strobe, a kernel is complete.

    Raises
    ------
    ValueError
        If a parameter is out of its range.
    """

    lead = Memory.latency

    def __init__(self, *, input_tile: int, fold: int, u_bits: int, kernels: int = 16, memory: str = "generic"):
        if input_tile < 1:
            raise ValueError(f"input_tile must be 1 or more, not {input_tile!r}")
        if fold < 1 or input_tile % fold:
            raise ValueError(f"fold must divide the input tile {input_tile}, not {fold!r}")
        if not 1 <= u_bits <= 32:
            raise ValueError(f"u_bits must be within 1 ... 32, not {u_bits!r}")
        if kernels < 2 or kernels & (kernels - 1):
            raise ValueError(f"kernels must be a power of two, 2 or more, not {kernels!r}")
        self.input_tile = input_tile
        self.fold = fold
        self.u_bits = u_bits
        self.kernels = kernels
        self.memory = memory
        self.columns = input_tile // fold
        self.u_bytes = next(size for size in (1, 2, 4) if u_bits <= 8 * size)
        self._phase_bits = (fold - 1).bit_length()
        Memory.check_parameters(u_bits, kernels << self._phase_bits, memory)
        super().__init__(
            {
                "i": In(stream.Signature(data.ArrayLayout(signed(8), self.u_bytes))),
                "control": In(data.StructLayout({"valid": 1, "start": 1})),
                "o": Out(data.ArrayLayout(data.ArrayLayout(signed(u_bits), self.columns), input_tile)),
                "loaded": Out(1),
            }
        )

    def model(self, beats: ArrayLike) -> NDArray[np.int64]:
        """Weights ``[kernel, phase, i, a]`` of the beats ``[kernel * n * n][byte]``."""
        weights = np.ascontiguousarray(beats, dtype=np.int8).view(f"<i{self.u_bytes}").astype(np.int64)
        weights = wrap(weights, self.u_bits).reshape(-1, self.input_tile, self.columns, self.fold)
        return np.moveaxis(weights, 3, 1)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        lanes = self.input_tile * self.columns
        slot_bits = (self.kernels - 1).bit_length()
        m.submodules.memory = memory = Memory(lanes * self.u_bits, self.kernels << self._phase_bits, self.memory, lanes)

        # --- in ------------------------------------------------------------------------------------------------------
        # One place is always being read.
        m.submodules.writer = writer = KernelWriter(lanes=lanes, fold=self.fold, places=self.kernels, kept=1)
        begin = self.control.valid & self.control.start
        m.d.comb += [
            writer.valid.eq(self.i.valid),
            self.i.ready.eq(writer.ready),
            writer.freed.eq(begin),
            self.loaded.eq(writer.loaded),
            memory.write_en.eq(writer.lane),
            memory.write_addr.eq(writer.word),
            memory.write_data.eq(self.i.payload.as_value()[: self.u_bits].replicate(lanes)),
        ]

        # --- out -----------------------------------------------------------------------------------------------------
        reading, this_slot = Signal(slot_bits, init=-1), Signal(slot_bits)
        read_phase = Signal(range(self.fold))  # 0 when a kernel is begun: chunks come in whole patches
        m.d.comb += [
            this_slot.eq(reading + self.control.start),
            memory.read_addr.eq(Cat(read_phase[: self._phase_bits], this_slot)),
            self.o.eq(memory.read_data),
        ]
        with m.If(self.control.valid):
            m.d.sync += [
                reading.eq(this_slot),
                read_phase.eq(Mux(read_phase == self.fold - 1, 0, read_phase + 1)),
            ]
        return m
