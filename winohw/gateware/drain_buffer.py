"""The drain buffer: takes whole chunks of finished sums as they come, hands them on column by column."""

from __future__ import annotations

import numpy as np
from amaranth import Module, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from winohw.gateware.memory import Memory

__all__ = ["DrainBuffer"]


class DrainBuffer(wiring.Component):
    """Decouples the array, which finishes a chunk of Q columns a cycle, from the output transform, which takes one.

    The array's next group of output channels accumulates while the buffer is emptied. The writer must keep count of
    the room: it starts with `depth` chunks and gets one back with each `drained`.

    Latency: `memory latency + 3` cycles from a chunk in to its first column out. Throughput: a column a cycle within a
    chunk; a chunk takes at least `memory latency + 1` cycles. Columns wait for `o.ready`, nothing is lost.

    Parameters
    ----------
    output_lanes: Pk.
    input_tile: n.
    columns: Q, columns a chunk.
    bits: width of a sum.
    depth: chunks.
    memory: kind of the memory, see `winohw.gateware.memory`.

    Members
    -------
    i : always-ready stream of chunks, [Pk][n][Q].
    o : stream of columns, [Pk][n].
    drained : strobe, room for one more chunk.
    """

    def __init__(
        self, *, output_lanes: int, input_tile: int, columns: int, bits: int, depth: int, memory: str = "generic"
    ):
        if depth < 2:
            raise ValueError(f"depth must be at least 2 chunks, not {depth}")
        self.output_lanes = output_lanes
        self.input_tile = input_tile
        self.columns = columns
        self.bits = bits
        self.depth = depth
        self.memory = memory
        sums = data.ArrayLayout(data.ArrayLayout(data.ArrayLayout(signed(bits), columns), input_tile), output_lanes)
        self._bank = Memory(width=sums.size, depth=depth, kind=memory)
        super().__init__(
            {
                "i": In(stream.Signature(sums, always_ready=True)),
                "o": Out(stream.Signature(data.ArrayLayout(data.ArrayLayout(signed(bits), input_tile), output_lanes))),
                "drained": Out(1),
            }
        )

    def model(self, chunks: np.ndarray) -> np.ndarray:
        """Chunks (count, Pk, n, Q) to columns (count * Q, Pk, n)."""
        return np.moveaxis(chunks, 3, 1).reshape(-1, self.output_lanes, self.input_tile)

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.bank = bank = self._bank
        depth, columns = self.depth, self.columns

        def advance(pointer):
            m.d.sync += pointer.eq(pointer + 1)
            if depth & (depth - 1):
                with m.If(pointer == depth - 1):
                    m.d.sync += pointer.eq(0)

        level = Signal(range(depth + 1))
        write_at, read_at = Signal(range(depth)), Signal(range(depth))
        m.d.comb += [
            bank.write_en.eq(self.i.valid),
            bank.write_addr.eq(write_at),
            bank.write_data.eq(self.i.payload.as_value()),
            bank.read_addr.eq(read_at),
        ]
        with m.If(self.i.valid):
            advance(write_at)

        # The memory's output register keeps a chunk until the columns before it have left.
        coming = Signal(bank.latency)
        landed, load, fetch = Signal(), Signal(), Signal()
        left = Signal(range(columns + 1))
        held = Signal(
            data.ArrayLayout(
                data.ArrayLayout(data.ArrayLayout(signed(self.bits), columns), self.input_tile), self.output_lanes
            ),
            reset_less=True,
        )
        taken = Signal()
        m.d.comb += [
            taken.eq(self.o.valid & self.o.ready),
            self.o.valid.eq(left != 0),
            load.eq(landed & ((left == 0) | ((left == 1) & taken))),
            fetch.eq((level != 0) & ~coming.any() & (~landed | load)),
            bank.read_en.eq(fetch),
            self.drained.eq(fetch),
        ]
        m.d.sync += [
            level.eq(level + self.i.valid - fetch),
            coming.eq(coming << 1 | fetch),
        ]
        with m.If(fetch):
            advance(read_at)
        with m.If(coming[-1]):
            m.d.sync += landed.eq(1)
        with m.Elif(load):
            m.d.sync += landed.eq(0)

        stored = data.View(held.shape(), bank.read_data)
        for lane in range(self.output_lanes):
            for i in range(self.input_tile):
                m.d.comb += self.o.payload[lane][i].eq(held[lane][i][0])
                with m.If(load):
                    m.d.sync += held[lane][i].eq(stored[lane][i])
                with m.Elif(taken):
                    m.d.sync += held[lane][i].as_value().eq(held[lane][i].as_value() >> self.bits)
        with m.If(load):
            m.d.sync += left.eq(columns)
        with m.Elif(taken):
            m.d.sync += left.eq(left - 1)
        return m
