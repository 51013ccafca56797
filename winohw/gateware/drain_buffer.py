"""The drain buffer: takes whole chunks of finished sums as they come, hands them on a few columns at a time."""

from __future__ import annotations

import numpy as np
from amaranth import Cat, Module, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import NDArray

from winohw.gateware.memory import Memory

__all__ = ["DrainBuffer"]


class DrainBuffer(wiring.Component):
    """Decouples the array, which finishes a chunk of Q columns a cycle, from the output transform, which takes fewer.

    The array's next group of output channels accumulates while the buffer is emptied. The writer must keep count of
    the room: it starts with `depth` chunks and gets one back with each `drained`.

    Latency: `latency` cycles from a chunk to its first columns, if nothing is before it. Throughput: a chunk in and a
    beat out a cycle, but a chunk takes two cycles at least. Backpressure: columns wait for `o.ready`,
    nothing is lost.

    Parameters
    ----------
    output_lanes : int
        Pk, 1 or more.
    input_tile : int
        n, 1 or more.
    columns : int
        Q, columns a chunk, 1 or more.
    bits : int
        Width of a sum, 1 or more.
    depth : int
        Chunks, 2 or more.
    output_columns : int
        Columns a beat out; divides Q.
    memory : str
        Kind of the memory, see `winohw.gateware.memory`.

    Attributes
    ----------
    latency : int
        Cycles: 4.

    Members
    -------
    i : In(stream.Signature(ArrayLayout(ArrayLayout(ArrayLayout(signed(bits), Q), n), Pk), always_ready=True))
        Chunks, ``[lane][row][column in chunk]``, first columns first.
    o : Out(stream.Signature(ArrayLayout(ArrayLayout(ArrayLayout(signed(bits), output_columns), n), Pk)))
        Columns, ``[lane][row][column in beat]``.
    drained : Out(1)
        Strobe, room for one more chunk.

    Raises
    ------
    ValueError
        If a size is out of its range, or the memory cannot be built.
    """

    def __init__(
        self,
        *,
        output_lanes: int,
        input_tile: int,
        columns: int,
        bits: int,
        depth: int,
        output_columns: int = 1,
        memory: str = "generic",
    ):
        for name, value, least in (
            ("output_lanes", output_lanes, 1),
            ("input_tile", input_tile, 1),
            ("columns", columns, 1),
            ("bits", bits, 1),
            ("depth", depth, 2),
        ):
            if value < least:
                raise ValueError(f"{name} must be {least} or more, not {value!r}")
        if output_columns < 1 or columns % output_columns:
            raise ValueError(f"output_columns must divide the {columns} columns of a chunk, not {output_columns!r}")
        self.output_lanes = output_lanes
        self.output_columns = output_columns
        self.input_tile = input_tile
        self.columns = columns
        self.bits = bits
        self.depth = depth
        self.memory = memory
        sums = self._layout(columns)
        Memory.check_parameters(sums.size, depth, memory)
        self.latency = Memory.latency + 2
        super().__init__(
            {
                "i": In(stream.Signature(sums, always_ready=True)),
                "o": Out(stream.Signature(self._layout(output_columns))),
                "drained": Out(1),
            }
        )

    def _layout(self, columns: int) -> data.ArrayLayout:
        row = data.ArrayLayout(signed(self.bits), columns)
        return data.ArrayLayout(data.ArrayLayout(row, self.input_tile), self.output_lanes)

    def model(self, chunks: NDArray[np.integer]) -> NDArray[np.integer]:
        """All beats out, ``[k · Q / output_columns][lane][row][column]``, of ``[k][lane][row][column in chunk]``."""
        split = chunks.reshape(*chunks.shape[:3], -1, self.output_columns)
        return np.moveaxis(split, 3, 1).reshape(-1, self.output_lanes, self.input_tile, self.output_columns)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        depth, columns = self.depth, self.columns
        # On an ECP5 every row has a memory of its own, with pointers of its own: no address has to cross the part.
        banks = self.output_lanes * self.input_tile if self.memory == "ecp5" else 1
        width = self.i.payload.shape().size // banks

        def advance(pointer: Signal) -> None:
            m.d.sync += pointer.eq(pointer + 1)
            if depth & (depth - 1):
                with m.If(pointer == depth - 1):
                    m.d.sync += pointer.eq(0)

        level = Signal(range(depth + 1))
        fetch = Signal()
        words = []
        for k in range(banks):
            m.submodules[f"bank{k}"] = bank = Memory(width, depth, self.memory)
            write_at, read_at = (Signal(range(depth), name=f"{name}_at{k}") for name in ("write", "read"))
            m.d.comb += [
                bank.write_en.eq(self.i.valid),
                bank.write_addr.eq(write_at),
                bank.write_data.eq(self.i.payload.as_value()[k * width :][:width]),
                bank.read_en.eq(fetch),
                bank.read_addr.eq(read_at),
            ]
            words.append(bank.read_data)
            with m.If(self.i.valid):
                advance(write_at)
            with m.If(fetch):
                advance(read_at)

        # The memory's output register keeps a chunk until the columns before it have left.
        coming = Signal(Memory.latency - 1)
        landed, load = Signal(), Signal()
        beats = columns // self.output_columns
        left = Signal(range(beats + 1))
        held = Signal(self.i.payload.shape(), reset_less=True)
        taken = Signal()
        m.d.comb += [
            taken.eq(self.o.valid & self.o.ready),
            self.o.valid.eq(left != 0),
            load.eq(landed & ((left == 0) | ((left == 1) & taken))),
            fetch.eq((level != 0) & ~coming.any() & (~landed | load)),
            self.drained.eq(fetch),
        ]
        m.d.sync += [
            level.eq(level + self.i.valid - fetch),
            coming.eq(coming << 1 | fetch),
        ]
        with m.If(coming[-1]):
            m.d.sync += landed.eq(1)
        with m.Elif(load):
            m.d.sync += landed.eq(0)

        stored = data.View(held.shape(), Cat(words))
        for lane in range(self.output_lanes):
            for i in range(self.input_tile):
                m.d.comb += [self.o.payload[lane][i][a].eq(held[lane][i][a]) for a in range(self.output_columns)]
                with m.If(load):
                    m.d.sync += held[lane][i].eq(stored[lane][i])
                with m.Elif(taken):
                    m.d.sync += held[lane][i].as_value().eq(held[lane][i].as_value() >> self.bits * self.output_columns)
        with m.If(load):
            m.d.sync += left.eq(beats)
        with m.Elif(taken):
            m.d.sync += left.eq(left - 1)
        return m
