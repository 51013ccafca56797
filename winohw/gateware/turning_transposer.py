"""Turns square matrices row by row into ones column by column, with one register an entry."""

import numpy as np
from amaranth.hdl import Module, Mux, ShapeLike, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import ArrayLike, NDArray

from winohw.gateware.fan_out import FanOut
from winohw.gateware.pipeline import matrix_layout

__all__ = ["TurningTransposer"]


class TurningTransposer(wiring.Component):
    """Does what a :class:`~winohw.gateware.transposer.Transposer` does for a square matrix, with half the registers.

    The registers form a square, and everything in it moves on in every cycle. One matrix moves downward; when the last
    of its rows has come in at the top, all turn to the right, and its columns leave there while the rows of the next
    matrix come in at the left, and leave at the bottom. A register takes a multiplexer, and so does each output: with
    two chunks a matrix nothing is gained.

    Latency: 1 cycle from the last chunk in to the first chunk out. Throughput: a chunk in and a chunk out a cycle. It
    never stalls. The chunks of a matrix come, and leave, without a pause.

    Parameters
    ----------
    shape : ShapeLike
        Of an entry.
    size : int
        Rows and columns, 1 or more.
    chunk : int
        Rows a chunk in and columns a chunk out; divides ``size``, and is less.
    kind : str
        Of the copies of the direction, see :class:`FanOut`: one for each row of registers.

    Attributes
    ----------
    latency : int
        1.
    chunks : int
        A matrix.

    Members
    -------
    i : In(stream.Signature(ArrayLayout(ArrayLayout(shape, size), chunk), always_ready=True))
        ``[row in chunk][column]``, first rows first.
    o : Out(stream.Signature(ArrayLayout(ArrayLayout(shape, chunk), size), always_ready=True))
        ``[row][column in chunk]``, first columns first.

    Raises
    ------
    ValueError
        If the chunk is below 1, or not a part of the size.
    """

    latency = 1

    def __init__(self, shape: ShapeLike, size: int, chunk: int = 1, *, kind: str = "generic"):
        if chunk < 1 or size <= chunk or size % chunk:
            raise ValueError(f"TurningTransposer chunks must be a part of the {size} rows, not {chunk!r} of them")
        self.size = size
        self.chunk = chunk
        self.kind = kind
        self.chunks = size // chunk
        super().__init__(
            {
                "i": In(stream.Signature(matrix_layout(shape, chunk, size), always_ready=True)),
                "o": Out(stream.Signature(matrix_layout(shape, size, chunk), always_ready=True)),
            }
        )

    def model(self, x: ArrayLike) -> NDArray[np.int64]:
        """All chunks out, ``[k * chunks][row][column in chunk]``, of ``[k * chunks][row in chunk][column]``."""
        matrices = np.asarray(x).reshape(-1, self.size, self.chunks, self.chunk)
        return matrices.swapaxes(1, 2).reshape(-1, self.size, self.chunk)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        size, chunk = self.size, self.chunk
        entry = len(Value.cast(self.i.payload[0][0]))
        place = [
            [Signal(entry, name=f"place{row}_{column}", reset_less=True) for column in range(size)]
            for row in range(size)
        ]

        # The last chunk is known a cycle ahead, as the one before comes; with it all turn.
        number = Signal(range(self.chunks))
        last, right = Signal(), Signal()
        m.d.sync += [
            last.eq(self.i.valid & (number == self.chunks - 2)),
            number.eq(Mux(self.i.valid & ~last, number + 1, 0)),
            right.eq(right ^ last),
        ]
        m.submodules.copies = copies = FanOut(1, size, self.kind)
        m.d.comb += copies.i.eq(right ^ last)

        # Chunks pile up from the far end: the first one is to leave first, of the columns as of the rows.
        across = [(self.chunks - 1 - k // chunk) * chunk + k % chunk for k in range(size)]
        incoming = [[Value.cast(self.i.payload[a][column]) for column in across] for a in range(chunk)]
        for row in range(size):
            for column in range(size):
                above = incoming[row][column] if row < chunk else place[row - chunk][column]
                before = incoming[column][row] if column < chunk else place[row][column - chunk]
                m.d.sync += place[row][column].eq(Mux(copies.o[row], before, above))

        leaving = Signal(self.chunks)
        m.d.sync += leaving.eq(Mux(last, (1 << self.chunks) - 1, leaving >> 1))
        for row in range(size):
            for b in range(chunk):
                at_right, at_bottom = place[across[row]][size - chunk + b], place[size - chunk + b][across[row]]
                m.d.comb += Value.cast(self.o.payload[row][b]).eq(Mux(right, at_right, at_bottom))
        m.d.comb += self.o.valid.eq(leaving[0])
        return m
