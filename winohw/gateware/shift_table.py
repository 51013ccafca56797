# amaranth: UnusedElaboratable=no
"""Where the shift table of a layer descriptor is kept: in registers, or in block memory."""

from __future__ import annotations

import numpy as np
from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import ArrayLike, NDArray

from winohw.gateware.memory import MEMORY_OUTPUT

__all__ = ["ShiftMemory", "ShiftTable", "shift_layout"]


def shift_layout() -> data.StructLayout:
    """The shifts of V, U and M of a tap."""
    return data.StructLayout({"v": 5, "u": 5, "m": 5})


class ShiftTable(wiring.Component):
    """Keeps the shifts of all taps in registers, each within everybody's reach.

    Latency: 1 cycle from a table's last tap to the table. Throughput: a tap a cycle.

    Parameters
    ----------
    taps : int
        Of a table.

    Members
    -------
    i : In(stream.Signature(shift_layout(), always_ready=True))
        Tables, row by row.
    o : Out(ArrayLayout(shift_layout(), taps))
        The last `taps` taps.
    """

    def __init__(self, taps: int):
        self.taps = taps
        super().__init__(
            {
                "i": In(stream.Signature(shift_layout(), always_ready=True)),
                "o": Out(data.ArrayLayout(shift_layout(), taps)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        tap, table = Value.cast(self.i.payload), Value.cast(self.o)
        with m.If(self.i.valid):
            m.d.sync += table.eq(Cat(table[len(tap) :], tap))
        return m


class ShiftMemory(wiring.Component):
    """Keeps the shifts of V and M in block memory: those of V for a column at a time, those of M for a tap.

    Latency: 1 cycle from an address to its shifts. Throughput: a tap a cycle in, and both shifts out.

    Parameters
    ----------
    input_tile : int
        n, 2 or more.
    max_v, max_m : int
        Greatest shifts.

    Members
    -------
    i : In(stream.Signature(shift_layout(), always_ready=True))
        Tables, row by row.
    clear : In(1)
        The next tap is a table's first one, whatever came before.
    column : In(range(n))
    v : Out(ArrayLayout(range(max_v + 1), n))
        The shifts of the column's taps.
    row, tap_column : In(range(n))
    m : Out(range(max_m + 1))
        The shift of the tap.
    """

    def __init__(self, input_tile: int, max_v: int, max_m: int):
        self.input_tile = input_tile
        self.max_v = max_v
        self.max_m = max_m
        places = range(input_tile)
        super().__init__(
            {
                "i": In(stream.Signature(shift_layout(), always_ready=True)),
                "clear": In(1),
                "column": In(places),
                "v": Out(data.ArrayLayout(range(max_v + 1), input_tile)),
                "row": In(places),
                "tap_column": In(places),
                "m": Out(range(max_m + 1)),
            }
        )

    def model(self, table: ArrayLike, axis: str) -> NDArray[np.int64]:
        """What the table ``[row][column]`` of V gives for each column, or that of M for each tap."""
        table = np.asarray(table)
        return table.T if axis == "v" else table.ravel()

    def elaborate(self, platform: object) -> Module:
        m = Module()
        n = self.input_tile
        bits = (n - 1).bit_length()
        row, column = Signal(n, init=1), Signal(bits)  # the row is one-hot
        number = Signal(bits)
        with m.If(self.i.valid):
            m.d.sync += column.eq(Mux(column == n - 1, 0, column + 1))
            with m.If(column == n - 1):
                m.d.sync += [row.eq(Cat(row[-1], row[:-1])), number.eq(Mux(number == n - 1, 0, number + 1))]
        with m.If(self.clear):
            m.d.sync += [row.eq(1), column.eq(0), number.eq(0)]

        # Too small for Yosys to think of block memory by itself.
        attributes = {"ram_style": "block", "no_rw_check": 1}
        v = Signal(len(Value.cast(self.v)), name=MEMORY_OUTPUT, reset_less=True)
        of_tap = Signal(len(self.m), name=MEMORY_OUTPUT, reset_less=True)
        v_shift, m_shift = self.i.payload.v[: len(self.v[0])], self.i.payload.m[: len(self.m)]
        m.submodules.columns = columns = memory.Memory(
            shape=data.ArrayLayout(len(v_shift), n), depth=1 << bits, init=[], attrs=attributes
        )
        write, read = columns.write_port(granularity=1), columns.read_port(domain="comb")
        m.d.comb += [
            write.en.eq(Mux(self.i.valid, row, 0)),
            write.addr.eq(column),
            Value.cast(write.data).eq(v_shift.replicate(n)),
            read.addr.eq(self.column),
            Value.cast(self.v).eq(v),
        ]
        m.d.sync += v.eq(Value.cast(read.data))
        m.submodules.taps = taps = memory.Memory(shape=len(m_shift), depth=1 << 2 * bits, init=[], attrs=attributes)
        write, read = taps.write_port(), taps.read_port(domain="comb")
        m.d.comb += [
            write.en.eq(self.i.valid),
            write.addr.eq(Cat(column, number)),
            write.data.eq(m_shift),
            read.addr.eq(Cat(self.tap_column, self.row)),
            self.m.eq(of_tap),
        ]
        m.d.sync += of_tap.eq(read.data)
        return m
