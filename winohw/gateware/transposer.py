"""Turns a matrix that arrives row by row into one that leaves column by column."""

import numpy as np
from amaranth.hdl import Cat, Module, Mux, ShapeLike, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import ArrayLike, NDArray

from winohw.gateware.fan_out import FanOut
from winohw.gateware.pipeline import matrix_layout

__all__ = ["Transposer"]


class Transposer(wiring.Component):
    """Collects a matrix in chunks of rows and gives it in chunks of columns, with a double buffer.

    All chunks but the last wait in a shift register; with the last one the whole matrix moves into a second shift
    register, which gives a chunk of columns a cycle while the next matrix comes in. It never stalls. The chunks of a
    matrix come, and leave, without a pause.

    Latency: 1 cycle from the last chunk in to the first chunk out. Throughput: a chunk in and a chunk out a cycle.
    Where more chunks leave than arrive, the sender must leave time for them between the last chunks of two matrices.

    Parameters
    ----------
    shape : ShapeLike
        Of an entry.
    rows, columns : int
        Of the matrix, 1 or more.
    chunk_rows : int
        Rows a chunk in; divides ``rows``.
    chunk_columns : int
        Columns a chunk out; divides ``columns``.
    kind : str
        Of the copies of the signal that moves a matrix, see :class:`FanOut`: one for each entry.
    variable : bool
        Whether only some of the columns leave, as many chunks as ``count`` tells.

    Attributes
    ----------
    latency : int
        1.
    chunks_in, chunks_out : int
        A matrix.

    Members
    -------
    i : In(stream.Signature(ArrayLayout(ArrayLayout(shape, columns), chunk_rows), always_ready=True))
        ``[row in chunk][column]``, first rows first.
    o : Out(stream.Signature(ArrayLayout(ArrayLayout(shape, chunk_columns), rows), always_ready=True))
        ``[row][column in chunk]``, first columns first.
    count : In(range(chunks_out + 1))
        Only if ``variable``: chunks out of a matrix; read in the cycle before its last chunk comes in.

    Raises
    ------
    ValueError
        If a size is below 1, or a chunk does not divide its side.
    """

    def __init__(
        self,
        shape: ShapeLike,
        rows: int,
        columns: int,
        chunk_rows: int = 1,
        chunk_columns: int = 1,
        *,
        kind: str = "generic",
        variable: bool = False,
    ):
        for side, size, chunk in (("rows", rows, chunk_rows), ("columns", columns, chunk_columns)):
            if size < 1:
                raise ValueError(f"Transposer {side} must be 1 or more, not {size!r}")
            if chunk < 1 or size % chunk:
                raise ValueError(f"Transposer chunks must divide the {size} {side}, but have {chunk!r}")
        self.shape = shape
        self.rows = rows
        self.columns = columns
        self.chunk_rows = chunk_rows
        self.chunk_columns = chunk_columns
        self.kind = kind
        self.variable = variable
        self.chunks_in = rows // chunk_rows
        self.chunks_out = columns // chunk_columns
        self.latency = 1
        members = {
            "i": In(stream.Signature(matrix_layout(shape, chunk_rows, columns), always_ready=True)),
            "o": Out(stream.Signature(matrix_layout(shape, rows, chunk_columns), always_ready=True)),
        }
        if variable:
            members["count"] = In(range(self.chunks_out + 1))
        super().__init__(members)

    def model(self, x: ArrayLike) -> NDArray[np.int64]:
        """All chunks out, ``[k * chunks_out][row][column in chunk]``, of ``[k * chunks_in][row in chunk][column]``."""
        matrices = np.asarray(x).reshape(-1, self.rows, self.chunks_out, self.chunk_columns)
        return matrices.swapaxes(1, 2).reshape(-1, self.rows, self.chunk_columns)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        waiting = [
            Signal(self.i.payload.shape(), name=f"waiting{k}", reset_less=True) for k in range(self.chunks_in - 1)
        ]
        leaving = [Signal(self.o.payload.shape(), name=f"leaving{k}", reset_less=True) for k in range(self.chunks_out)]
        valid = Signal(self.chunks_out)
        later = [*waiting, self.i.payload][1:]
        m.d.sync += [Value.cast(a).eq(Value.cast(b)) for a, b in zip(waiting, later, strict=True)]

        # The last chunk is known a cycle ahead, as the one before comes: each entry has a copy of the signal.
        last = Signal()
        loads = [last] * self.rows * self.chunks_out
        if self.chunks_in == 1:
            m.d.comb += last.eq(self.i.valid)
        else:
            chunk = Signal(range(self.chunks_in))
            next_last = Signal()
            m.d.comb += next_last.eq(self.i.valid & (chunk == self.chunks_in - 2))
            m.d.sync += [last.eq(next_last), chunk.eq(Mux(self.i.valid & ~last, chunk + 1, 0))]
            m.submodules.copies = copies = FanOut(1, len(loads), self.kind)
            m.d.comb += copies.i.eq(next_last)
            loads = list(copies.o)

        leaves = Signal(self.chunks_out, init=-1, reset_less=True)
        if self.variable:
            m.d.sync += [leaves[k].eq(k < self.count) for k in range(self.chunks_out)]

        matrix = [row for part in [*waiting, self.i.payload] for row in part]
        for k, part in enumerate(leaving):
            following = leaving[k + 1] if k + 1 < self.chunks_out else None
            for row in range(self.rows):
                loaded = Value.cast(part[row])
                fresh = Cat(matrix[row][k * self.chunk_columns + column] for column in range(self.chunk_columns))
                if following is not None:
                    fresh = Mux(loads[row * self.chunks_out + k], fresh, Value.cast(following[row]))
                m.d.sync += loaded.eq(fresh)
            after = 0 if following is None else valid[k + 1]
            m.d.sync += valid[k].eq(Mux(last, leaves[k], after))
        m.d.comb += [self.o.payload.eq(leaving[0]), self.o.valid.eq(valid[0])]
        return m
