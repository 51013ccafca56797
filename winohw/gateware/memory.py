"""Simple dual-port block memory with a registered output."""

from __future__ import annotations

import numpy as np
from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Signal, Value
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import ArrayLike, NDArray

__all__ = ["KINDS", "MEMORY_OUTPUT", "Memory"]

#: The kinds of :class:`Memory`.
KINDS = ("generic", "ecp5", "ice40")

#: Name of registers that are those of a block memory, and undefined at first.
MEMORY_OUTPUT = "memory_output"

# DP16KD: 16 kbit, and every ninth bit on top where a word has nine bits or more. Depth and width of a word.
_ECP5_SHAPES = ((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1))


class Memory(wiring.Component):
    """Block memory with one port to write and one to read, both in the domain ``sync``.

    A read that collides with a write of the same word in the same or in the next cycle gives either the old or the new
    word, or a mixture. The contents are undefined at first (zero in simulation).

    ``generic`` and ``ice40`` are left to Yosys to infer, without the logic that would settle collisions; the output
    register of ``generic`` is in the fabric, while ``ice40``, where registers are scarce, registers the address
    instead. ``ecp5`` instantiates DP16KD with its own output register, which Yosys never uses: 0.96 ns from clock to
    data instead of 5.83 ns (speed grade 6).

    Latency: ``latency`` cycles from address to data. Throughput: a word written and a word read a cycle.

    Parameters
    ----------
    width : int
        Bits of a word, 1 or more.
    depth : int
        Words, 1 or more; for ``ecp5`` at most 16384.
    kind : str
        One of :data:`KINDS`.
    lanes : int
        Equal parts of a word, each with a write enable of its own.

    Attributes
    ----------
    latency : int
        Cycles: 2.
    blocks : int
        Block memories that an ``ecp5`` takes.

    Members
    -------
    write_en : In(lanes)
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
        If the kind is unknown, a size is out of its range, or the lanes do not divide the word.

    Source: Lattice FPGA-TN-02204 (ECP5 memory).
    """

    latency = 2

    def __init__(self, width: int, depth: int, kind: str = "generic", lanes: int = 1):
        self.check_parameters(width, depth, kind)
        if lanes < 1 or width % lanes:
            raise ValueError(f"Memory lanes must divide the width {width}, not {lanes!r}")
        self.width = width
        self.depth = depth
        self.kind = kind
        self.lanes = lanes
        super().__init__(
            {
                "write_en": In(lanes),
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
        together = self._ecp5_lanes()
        return -(-self.lanes // together) * (1 if together > 1 else self._ecp5_lane_blocks())

    @staticmethod
    def lanes_a_block(width: int, depth: int, kind: str) -> int:
        """Lanes of ``width`` bits that can share a block of such a memory, each with a write enable of its own."""
        if kind == "ice40":
            return max(1, 16 // width) if depth <= 256 else 1
        if kind == "ecp5":
            bits = next((bits for words, bits in _ECP5_SHAPES if depth <= words), 1)
            return max(1, bits // (9 * -(-width // 9))) if bits >= 18 else 1
        return 1

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
        last_read_en, last_read_addr = False, 0
        columns = (write_en, write_addr, write_data, read_en, read_addr)
        for cycle, beat in enumerate(zip(*(np.asarray(column).tolist() for column in columns), strict=True)):
            we, wa, wd, re, ra = beat
            if we and re and wa == ra:
                raise ValueError(f"Word {ra} is read and written in cycle {cycle}")
            if we and last_read_en and wa == last_read_addr:
                raise ValueError(f"Word {wa} is read in cycle {cycle - 1} and written in cycle {cycle}")
            given.append(read_data)
            if last_read_en:
                read_data = fetched
            fetched, last_read_en, last_read_addr = words[ra], re, ra
            size = self.width // self.lanes
            mask = sum(((1 << size) - 1) << size * k for k in range(self.lanes) if we >> k & 1)
            words[wa] = words[wa] & ~mask | wd & mask
        return np.array(given, dtype=object)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # A word read without read_en is thrown away at the output register, so that the address needs no register.
        output_en = Signal(init=1, reset_less=True)
        m.d.sync += output_en.eq(self.read_en)
        if self.kind == "ecp5":
            self._ecp5(m, output_en)
            return m
        # Yosys merges a register into an asynchronous read port, and heeds the attribute only then.
        m.submodules.array = array = memory.Memory(
            shape=data.ArrayLayout(self.width // self.lanes, self.lanes) if self.lanes > 1 else self.width,
            depth=self.depth,
            init=[],
            attrs={"no_rw_check": 1},
        )
        write = array.write_port(granularity=1 if self.lanes > 1 else None)
        read = array.read_port(domain="comb")
        m.d.comb += [
            write.en.eq(self.write_en),
            write.addr.eq(self.write_addr),
            Value.cast(write.data).eq(self.write_data),
        ]
        fetched = Signal(self.width, name=MEMORY_OUTPUT, reset_less=True)
        if self.kind == "ice40":
            read_addr = Signal.like(self.read_addr, reset_less=True)
            m.d.sync += read_addr.eq(self.read_addr)
            m.d.comb += [read.addr.eq(read_addr), self.read_data.eq(fetched)]
            with m.If(output_en):
                m.d.sync += fetched.eq(Value.cast(read.data))
        else:
            output = Signal(self.width, reset_less=True)
            m.d.comb += [read.addr.eq(self.read_addr), self.read_data.eq(output)]
            m.d.sync += fetched.eq(Value.cast(read.data))
            with m.If(output_en):
                m.d.sync += output.eq(fetched)
        return m

    def _ecp5(self, m: Module, output_en: Signal) -> None:
        bits, size, together = self._ecp5_word_bits(), self.width // self.lanes, self._ecp5_lanes()
        if together > 1:
            # Every lane takes whole bytes of nine bits.
            pieces = [range(first, min(first + together, self.lanes)) for first in range(0, self.lanes, together)]
            bytes_ = -(-size // 9)
            for k, lanes in enumerate(pieces):
                read = Signal(bits, name=f"read{k}")
                padded = Cat(Cat(self.write_data[size * lane :][:size], Const(0, 9 * bytes_ - size)) for lane in lanes)
                enables = Cat(self.write_en[lane].replicate(bytes_) for lane in lanes)
                m.submodules[f"block{k}"] = self._dp16kd(padded, read, output_en, Const(1), enables)
                for place, lane in enumerate(lanes):
                    m.d.comb += self.read_data[size * lane :][:size].eq(read[9 * bytes_ * place :][:size])
            return
        for lane in range(self.lanes):
            for k in range(self._ecp5_lane_blocks()):
                place = slice(size * lane + bits * k, min(size * lane + bits * (k + 1), size * (lane + 1)))
                read = Signal(bits, name=f"read{lane}_{k}")
                write_en = self.write_en[lane]
                m.submodules[f"block{lane}_{k}"] = self._dp16kd(self.write_data[place], read, output_en, write_en)
                m.d.comb += self.read_data[place].eq(read)

    def _ecp5_lanes(self) -> int:
        return 1 if self.lanes == 1 else self.lanes_a_block(self.width // self.lanes, self.depth, "ecp5")

    def _ecp5_lane_blocks(self) -> int:
        return -(-(self.width // self.lanes) // self._ecp5_word_bits())

    def _ecp5_word_bits(self) -> int:
        return next(bits for words, bits in _ECP5_SHAPES if self.depth <= words)

    def _dp16kd(
        self, written: Value, read: Signal, output_en: Signal, write_en: Value, enables: Value | None = None
    ) -> Instance:
        # As DP16KD and not PDPW16KD, whose halves of the read data are swapped against those of the written data. Port
        # A writes and port B reads; with words of 36 bits both ports' data pins serve together. Every control input
        # in use is tied: nextpnr makes an open one zero.
        bits = len(read)
        lowest = {36: 5, 18: 4, 9: 3, 4: 2, 2: 1, 1: 0}[bits]
        byte_enables = bits // 9 if bits >= 18 else 0
        if enables is None:
            enables = Const((1 << byte_enables) - 1, byte_enables)
        enables = Cat(enables, Const(0, byte_enables - len(enables)))
        below = Cat(enables, Const(0, lowest - byte_enables))
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
            i_CEA=write_en,
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
