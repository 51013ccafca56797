"""Memory with one port, which is read or written: the large memories of an iCE40UP."""

from __future__ import annotations

import numpy as np
from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Mux, Signal, Value
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import ArrayLike, NDArray

__all__ = ["KINDS", "LARGE_WORDS", "SinglePortMemory"]

#: The kinds of :class:`SinglePortMemory`.
KINDS = ("generic", "ice40")

#: Words of an SB_SPRAM256KA.
LARGE_WORDS = 16384
#: Bits of its words, and bits that share a write enable.
_BITS, _NIBBLE = 16, 4


class SinglePortMemory(wiring.Component):
    """A memory with the members of :class:`~winohw.gateware.memory.Memory` that does one thing at a time.

    In a cycle with `read_en` nothing may be written; what `read_data` shows ``latency`` cycles after one without is
    undefined. The contents are undefined at first (zero in simulation).

    ``ice40`` instantiates SB_SPRAM256KA, one for each 16 bits of a word; ``generic`` is its twin, which Yosys may make
    of anything. Address and data are registered in front of the memory.

    Latency: ``latency`` cycles from address to data. Throughput: a word written or a word read a cycle.

    Parameters
    ----------
    width : int
        Bits of a word, 1 or more.
    depth : int
        Words, 1 or more; for ``ice40`` at most 16384.
    kind : str
        One of :data:`KINDS`.
    lanes : int
        Equal parts of a word, each with a write enable of its own; for ``ice40`` of 4, 8 or 16 bits each, unless there
        is one.

    Attributes
    ----------
    latency : int
        Cycles: 2.

    Members
    -------
    write_en : In(lanes)
    write_addr : In(range(depth))
    write_data : In(width)
    read_en : In(1)
    read_addr : In(range(depth))
    read_data : Out(width)

    Raises
    ------
    ValueError
        If the kind is unknown, a size is out of its range, or the lanes do not divide the word.

    Source: Lattice FPGA-TN-02022 (iCE40 SPRAM).
    """

    latency = 2

    def __init__(self, width: int, depth: int, kind: str = "generic", lanes: int = 1):
        self.check_parameters(width, depth, kind)
        if lanes < 1 or width % lanes:
            raise ValueError(f"Memory lanes must divide the width {width}, not {lanes!r}")
        if kind == "ice40" and lanes > 1 and width // lanes not in (4, 8, 16):
            raise ValueError(f"Memory lanes must have 4, 8 or 16 bits for kind 'ice40', not {width // lanes}")
        self.width = width
        self.depth = depth
        self.kind = kind
        self.lanes = lanes
        super().__init__(
            {
                "write_en": In(lanes),
                "write_addr": In(range(depth)),
                "write_data": In(width),
                "read_en": In(1),
                "read_addr": In(range(depth)),
                "read_data": Out(width),
            }
        )

    @staticmethod
    def check_parameters(width: int, depth: int, kind: str) -> None:
        """Raises ``ValueError`` unless there is such a memory."""
        if kind not in KINDS:
            raise ValueError(f"Memory kind must be one of {', '.join(KINDS)}, not {kind!r}")
        if width < 1:
            raise ValueError(f"Memory width must be 1 or more, not {width!r}")
        if depth < 1:
            raise ValueError(f"Memory depth must be 1 or more, not {depth!r}")
        if kind == "ice40" and depth > LARGE_WORDS:
            raise ValueError(f"Memory depth must be at most {LARGE_WORDS} for kind 'ice40', not {depth!r}")

    def model(
        self,
        write_en: ArrayLike,
        write_addr: ArrayLike,
        write_data: ArrayLike,
        read_en: ArrayLike,
        read_addr: ArrayLike,
    ) -> NDArray[np.object_]:
        """``read_data`` in every cycle, from the inputs in every cycle; None where it is undefined."""
        words: list[int] = [0] * self.depth
        given: list[int | None] = [None] * self.latency
        size = self.width // self.lanes
        columns = (write_en, write_addr, write_data, read_en, read_addr)
        for enables, wa, wd, re, ra in zip(*(np.asarray(column).tolist() for column in columns), strict=True):
            mask = sum(((1 << size) - 1) << size * k for k in range(self.lanes) if enables >> k & 1)
            given.append(words[ra] if re else None)
            words[wa] = words[wa] & ~mask | wd & mask
        return np.array(given[: -self.latency], dtype=object)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        addr = Signal(range(self.depth), reset_less=True)
        written = Signal(self.width, reset_less=True)
        enables = Signal(self.lanes)
        m.d.sync += [
            addr.eq(Mux(self.read_en, self.read_addr, self.write_addr)),
            written.eq(self.write_data),
            enables.eq(self.write_en),
        ]
        if self.kind == "ice40":
            self._spram(m, addr, written, enables)
            return m
        m.submodules.array = array = memory.Memory(
            shape=data.ArrayLayout(self.width // self.lanes, self.lanes), depth=self.depth, init=[]
        )
        write, read = array.write_port(granularity=1), array.read_port()
        m.d.comb += [
            write.en.eq(enables),
            write.addr.eq(addr),
            Value.cast(write.data).eq(written),
            read.en.eq(1),
            read.addr.eq(addr),
            self.read_data.eq(Value.cast(read.data)),
        ]
        return m

    def _spram(self, m: Module, addr: Signal, written: Signal, enables: Signal) -> None:
        size = self.width // self.lanes
        for k, first in enumerate(range(0, self.width, _BITS)):
            bits = min(_BITS, self.width - first)
            read = Signal(_BITS, name=f"read{k}")
            mask = Cat(enables[min(first + nibble, self.width - 1) // size] for nibble in range(0, _BITS, _NIBBLE))
            m.submodules[f"block{k}"] = Instance(
                "SB_SPRAM256KA",
                i_ADDRESS=Cat(addr, Const(0, 14 - len(addr))),
                i_DATAIN=Cat(written[first:][:bits], Const(0, _BITS - bits)),
                i_MASKWREN=mask,
                i_WREN=enables.any(),
                i_CHIPSELECT=Const(1),
                i_CLOCK=ClockSignal(),
                i_STANDBY=Const(0),
                i_SLEEP=Const(0),
                i_POWEROFF=Const(1),
                o_DATAOUT=read,
            )
            m.d.comb += self.read_data[first:][:bits].eq(read)
