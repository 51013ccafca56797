"""Simple dual-port block memory with a registered output."""

from __future__ import annotations

import numpy as np
from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Signal, Value
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import ArrayLike, NDArray

__all__ = ["KINDS", "Memory"]

#: The kinds of :class:`Memory`.
KINDS = ("generic", "ecp5", "ice40")

# DP16KD: 16 kbit, and every ninth bit on top where a word has nine bits or more. Depth and width of a word.
_ECP5_SHAPES = ((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1))


class Memory(wiring.Component):
    """Block memory with one port to write and one to read, both in the domain ``sync``.

    A read that collides with a write of the same word in the same cycle gives either the old or the new word, or a
    mixture. The contents are undefined at first (zero in simulation).

    ``generic`` and ``ice40`` are left to Yosys to infer, without the logic that would settle collisions; the output
    register is in the fabric. ``ecp5`` instantiates DP16KD with its own output register, which Yosys never uses:
    0.96 ns from clock to data instead of 5.83 ns (speed grade 6).

    Latency: ``latency`` cycles from address to data. Throughput: a word written and a word read a cycle.

    Parameters
    ----------
    width : int
        Bits of a word, 1 or more.
    depth : int
        Words, 1 or more; for ``ecp5`` at most 16384.
    kind : str
        One of :data:`KINDS`.

    Attributes
    ----------
    latency : int
        Cycles: 2.
    blocks : int
        Block memories that an ``ecp5`` takes.

    Members
    -------
    write_en : In(1)
    write_addr : In(range(depth))
    write_data : In(width)
    read_en : In(1, init=1)
        Whether this cycle's address is read.
    read_addr : In(range(depth))
    read_data : Out(width)
        The word read last; it stays until ``latency`` cycles after the next ``read_en``.

    Raises
    ------
    ValueError
        If the kind is unknown, or a size is out of its range.

    Source: Lattice FPGA-TN-02204 (ECP5 memory).
    """

    latency = 2

    def __init__(self, width: int, depth: int, kind: str = "generic"):
        self.check_parameters(width, depth, kind)
        self.width = width
        self.depth = depth
        self.kind = kind
        super().__init__(
            {
                "write_en": In(1),
                "write_addr": In(range(depth)),
                "write_data": In(width),
                "read_en": In(1, init=1),
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
        deepest = _ECP5_SHAPES[-1][0]
        if kind == "ecp5" and depth > deepest:
            raise ValueError(f"Memory depth must be at most {deepest} for kind 'ecp5', not {depth!r}")

    @property
    def blocks(self) -> int:
        """Block memories that an ``ecp5`` takes."""
        return -(-self.width // self._ecp5_word_bits())

    def model(
        self,
        write_en: ArrayLike,
        write_addr: ArrayLike,
        write_data: ArrayLike,
        read_en: ArrayLike,
        read_addr: ArrayLike,
    ) -> NDArray[np.object_]:
        """``read_data`` in every cycle, from the inputs in every cycle (one axis each).

        Raises
        ------
        ValueError
            If a read collides with a write.
        """
        words: list[int] = [0] * self.depth
        fetched, read_data, given = 0, 0, []
        last_read_en = True
        columns = (write_en, write_addr, write_data, read_en, read_addr)
        for cycle, beat in enumerate(zip(*(np.asarray(column).tolist() for column in columns), strict=True)):
            we, wa, wd, re, ra = beat
            if we and re and wa == ra:
                raise ValueError(f"Word {ra} is read and written in cycle {cycle}")
            given.append(read_data)
            if last_read_en:
                read_data = fetched
            fetched, last_read_en = words[ra], re
            if we:
                words[wa] = wd
        return np.array(given, dtype=object)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # A word read without read_en is thrown away at the output register, so that the address needs no register.
        output_en = Signal(init=1, reset_less=True)
        m.d.sync += output_en.eq(self.read_en)
        if self.kind == "ecp5":
            self._ecp5(m, output_en)
        else:
            self._inferred(m, output_en)
        return m

    def _inferred(self, m: Module, output_en: Signal) -> None:
        # Yosys merges a register into an asynchronous read port, and heeds the attribute only then.
        m.submodules.array = array = memory.Memory(
            shape=self.width, depth=self.depth, init=[], attrs={"no_rw_check": 1}
        )
        write, read = array.write_port(), array.read_port(domain="comb")
        fetched = Signal(self.width, reset_less=True)
        output = Signal(self.width, reset_less=True)
        m.d.comb += [
            write.en.eq(self.write_en),
            write.addr.eq(self.write_addr),
            write.data.eq(self.write_data),
            read.addr.eq(self.read_addr),
            self.read_data.eq(output),
        ]
        m.d.sync += fetched.eq(read.data)
        with m.If(output_en):
            m.d.sync += output.eq(fetched)

    def _ecp5(self, m: Module, output_en: Signal) -> None:
        bits = self._ecp5_word_bits()
        for k in range(self.blocks):
            written = self.write_data[bits * k :][:bits]
            read = Signal(bits, name=f"read{k}")
            m.submodules[f"block{k}"] = self._dp16kd(written, read, output_en)
            m.d.comb += self.read_data[bits * k :][:bits].eq(read)

    def _ecp5_word_bits(self) -> int:
        return next(bits for words, bits in _ECP5_SHAPES if self.depth <= words)

    def _dp16kd(self, written: Value, read: Signal, output_en: Signal) -> Instance:
        # As DP16KD and not PDPW16KD, whose halves of the read data are swapped against those of the written data. Port
        # A writes and port B reads; with words of 36 bits both ports' data pins serve together. Every control input
        # in use is tied: nextpnr makes an open one zero.
        bits = len(read)
        lowest = {36: 5, 18: 4, 9: 3, 4: 2, 2: 1, 1: 0}[bits]
        byte_enables = bits // 9 if bits >= 18 else 0
        below = Cat(Const((1 << byte_enables) - 1, byte_enables), Const(0, lowest - byte_enables))
        write_addr = Cat(below, self.write_addr, Const(0, 14))
        read_addr = Cat(Const(0, lowest), self.read_addr, Const(0, 14))
        written = Cat(written, Const(0, bits))
        outputs = {f"o_DO{'BA'[bits == 36 and k < 18]}{k % 18}": read[k] for k in range(bits)}
        return Instance(
            "DP16KD",
            p_DATA_WIDTH_A=bits,
            p_DATA_WIDTH_B=bits,
            p_REGMODE_A="OUTREG",
            p_REGMODE_B="OUTREG",
            p_GSR="DISABLED",
            i_CLKA=ClockSignal(),
            i_CLKB=ClockSignal(),
            i_CEA=self.write_en,
            i_WEA=Const(1),
            i_CEB=Const(1),
            i_WEB=Const(0),
            i_OCEA=output_en,
            i_OCEB=output_en,
            i_RSTA=Const(0),
            i_RSTB=Const(0),
            **{f"i_CS{port}{k}": Const(0) for port in "AB" for k in range(3)},
            **{f"i_ADA{k}": write_addr[k] for k in range(14)},
            **{f"i_ADB{k}": read_addr[k] for k in range(14)},
            **{f"i_DI{'AB'[k // 18]}{k % 18}": written[k] for k in range(bits)},
            **outputs,
        )
