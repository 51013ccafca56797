"""Picks the shifts of the columns that are at work out of a table with a shift per tap."""

import numpy as np
from amaranth.hdl import Array, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import ArrayLike, NDArray

from winohw.gateware.pipeline import matrix_layout

__all__ = ["ShiftSelector"]


class ShiftSelector(wiring.Component):
    """Gives chunk after chunk of the table's columns, the first one again after the last.

    The chunk after the present one waits in a register, so that ``advance`` passes one multiplexer only.

    Parameters
    ----------
    taps : int
        n: the table has n×n entries.
    chunk : int
        Columns a chunk; divides n.
    max_shift : int
        Greatest entry.

    Members
    -------
    table : In(ArrayLayout(ArrayLayout(range(max_shift + 1), taps), taps))
        ``[row][column]``. It may change only between rounds, and must stand in the cycle before a round begins.
    advance : In(1)
        The present chunk is used in this cycle: go on to the next one.
    o : Out(ArrayLayout(ArrayLayout(range(max_shift + 1), chunk), taps))
        ``[row][column in chunk]`` of the present chunk.

    Raises
    ------
    ValueError
        If ``chunk`` does not divide n.
    """

    def __init__(self, taps: int, chunk: int, max_shift: int):
        if chunk < 1 or taps % chunk:
            raise ValueError(f"Chunks of shifts must divide the {taps} columns, but have {chunk!r}")
        self.taps = taps
        self.chunk = chunk
        self.max_shift = max_shift
        super().__init__(
            {
                "table": In(matrix_layout(range(max_shift + 1), taps, taps)),
                "advance": In(1),
                "o": Out(matrix_layout(range(max_shift + 1), taps, chunk)),
            }
        )

    def model(self, table: ArrayLike) -> NDArray[np.int64]:
        """The chunks of one round, ``[chunk][row][column in chunk]``."""
        return np.asarray(table).reshape(self.taps, -1, self.chunk).swapaxes(0, 1)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        chunks = []
        for start in range(0, self.taps, self.chunk):
            chunks.append(Signal(self.o.shape(), name=f"chunk{start}"))
            m.d.comb += [
                chunks[-1][i][a].eq(self.table[i][start + a]) for i in range(self.taps) for a in range(self.chunk)
            ]
        count = len(chunks)
        if count == 1:
            m.d.comb += self.o.eq(chunks[0])
            return m

        at_start = Signal(init=1)
        after_next = Signal(range(count), init=2 % count)
        present, coming = (Signal(self.o.shape(), name=name, reset_less=True) for name in ("present", "coming"))
        m.d.comb += self.o.eq(present)
        with m.If(self.advance):
            m.d.sync += [
                at_start.eq(after_next == 1 % count),
                after_next.eq(Mux(after_next == count - 1, 0, after_next + 1)),
                Value.cast(present).eq(Value.cast(coming)),
                Value.cast(coming).eq(Array(map(Value.cast, chunks))[after_next]),
            ]
        with m.Elif(at_start):
            m.d.sync += [Value.cast(present).eq(Value.cast(chunks[0])), Value.cast(coming).eq(Value.cast(chunks[1]))]
        return m
