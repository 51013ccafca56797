"""The pixel serializer: cuts tiles at the edges of the image, a pixel a cycle."""

from __future__ import annotations

from typing import Any

import numpy as np
from amaranth import Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import NDArray

from winohw.gateware.weight_loader import constants_layout

__all__ = ["PixelSerializer"]


class PixelSerializer(wiring.Component):
    """Hands those sums of tiles that lie inside the image to the requantizer, with the constants of their channel.

    What `winohw.gateware.row_serializer` is for rows of several channels, for sums of one channel that come one by one,
    row by row of a tile, in the order of the sequencer's loops: block of tile rows, output channel, tile row, tile
    column.

    Latency: 0. Throughput: a sum a cycle; two cycles pass between channels, three between blocks. Backpressure: waits
    for `o.ready`, nothing is lost.

    Parameters
    ----------
    tile_size : int
        m, rows and columns of a tile, 1 or more.
    dimension_bits : int
        Width of counts and sizes, 1 or more.

    Members
    -------
    i : In(stream.Signature(signed(32)))
    constants : In(stream.Signature(constants_layout()))
        A beat for each channel of each block.
    start : In(1)
        Begins a layer whose values stand at the inputs below until `idle`.
    total_rows, block_rows, output_groups, output_height, output_width
        In(dimension_bits), fields of the layer descriptor.
    o : Out(stream.Signature(StructLayout({"acc": signed(32), "constants": constants_layout(), "last": 1})))
        `last` ends the layer.
    idle : Out(1)
        All sums of the layer have been taken.

    Raises
    ------
    ValueError
        If a parameter is below 1.
    """

    def __init__(self, *, tile_size: int, dimension_bits: int = 12):
        for name, value in (("tile_size", tile_size), ("dimension_bits", dimension_bits)):
            if value < 1:
                raise ValueError(f"{name} must be 1 or more, not {value!r}")
        self.tile_size = tile_size
        self.dimension_bits = count = dimension_bits
        constants = constants_layout()
        super().__init__(
            {
                "i": In(stream.Signature(signed(32))),
                "constants": In(stream.Signature(constants)),
                "start": In(1),
                "total_rows": In(count),
                "block_rows": In(count),
                "output_groups": In(count),
                "output_height": In(count),
                "output_width": In(count),
                "o": Out(stream.Signature(data.StructLayout({"acc": signed(32), "constants": constants, "last": 1}))),
                "idle": Out(1),
            }
        )

    def model(
        self,
        sums: NDArray[np.integer],
        constants: NDArray[Any],
        *,
        total_rows: int,
        block_rows: int,
        output_groups: int,
        output_height: int,
        output_width: int,
    ) -> dict[str, NDArray[Any]]:
        """The beats out: ``acc``, ``constants`` and ``last``, of all sums (one axis) and all constants of a layer."""
        size = self.tile_size
        tiles, scales = iter(np.asarray(sums).reshape(-1, size, size)), iter(constants)
        tile_rows, tile_cols = -(-output_height // size), -(-output_width // size)
        acc, given = [], []
        for first in range(0, total_rows, block_rows):
            for _ in range(output_groups):
                scale = next(scales)
                for tile_row in range(first, min(first + block_rows, total_rows)):
                    for tile_col in range(tile_cols):
                        rows = output_height - tile_row % tile_rows * size
                        inside = next(tiles)[: max(0, rows), : output_width - tile_col * size].ravel()
                        acc += inside.tolist()
                        given += [scale] * inside.size
        return {"acc": np.array(acc), "constants": np.array(given), "last": np.arange(len(acc)) == len(acc) - 1}

    def elaborate(self, platform: object) -> Module:
        m = Module()
        count, size = self.dimension_bits, self.tile_size

        # Positions that every channel of a block starts from again carry `block_`.
        rows_left, block_size = Signal(count), Signal(count)
        k_left, r_left = Signal(count), Signal(count)
        height_left, block_height_left = Signal(count), Signal(count)
        width_left = Signal(count)
        row, column = Signal(range(size)), Signal(range(size))
        constants = Signal(constants_layout(), reset_less=True)

        running, inside, take = Signal(), Signal(), Signal()
        column_last, row_last, x_last, r_last, k_last, block_last = (Signal() for _ in range(6))
        m.d.comb += [
            inside.eq((row < height_left) & (column < width_left)),
            column_last.eq(column == size - 1),
            row_last.eq(row == size - 1),
            x_last.eq(width_left <= size),
            r_last.eq(r_left == 1),
            k_last.eq(k_left == 1),
            block_last.eq(rows_left <= self.block_rows),
            self.o.valid.eq(running & self.i.valid & inside),
            self.i.ready.eq(running & (self.o.ready | ~inside)),
            take.eq(self.i.valid & self.i.ready),
            self.o.payload.acc.eq(self.i.payload),
            self.o.payload.constants.eq(constants),
            self.o.payload.last.eq(
                (column_last | (column + 1 == width_left))
                & (row_last | (row + 1 == height_left))
                & x_last
                & r_last
                & k_last
                & block_last
            ),
        ]
        next_height_left = Signal(count)
        m.d.comb += next_height_left.eq(Mux(height_left <= size, self.output_height, height_left - size))

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.idle.eq(1)
                m.d.sync += [rows_left.eq(self.total_rows), block_height_left.eq(self.output_height)]
                with m.If(self.start):
                    m.next = "BLOCK"
            with m.State("BLOCK"):
                m.d.sync += [block_size.eq(Mux(block_last, rows_left, self.block_rows)), k_left.eq(self.output_groups)]
                m.next = "CONSTANTS"
            with m.State("CONSTANTS"):
                m.d.comb += self.constants.ready.eq(1)
                m.d.sync += [
                    constants.eq(self.constants.payload),
                    height_left.eq(block_height_left),
                    width_left.eq(self.output_width),
                    r_left.eq(block_size),
                    row.eq(0),
                    column.eq(0),
                ]
                with m.If(self.constants.valid):
                    m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += running.eq(1)
                with m.If(take):
                    m.d.sync += column.eq(column + 1)
                    with m.If(column_last):
                        m.d.sync += [column.eq(0), row.eq(row + 1)]
                    with m.If(column_last & row_last):
                        m.d.sync += [row.eq(0), width_left.eq(width_left - size)]
                    with m.If(column_last & row_last & x_last):
                        m.d.sync += [
                            width_left.eq(self.output_width),
                            r_left.eq(r_left - 1),
                            height_left.eq(next_height_left),
                        ]
                    with m.If(column_last & row_last & x_last & r_last):
                        m.d.sync += k_left.eq(k_left - 1)
                        m.next = "CONSTANTS"
                    with m.If(column_last & row_last & x_last & r_last & k_last):
                        m.d.sync += [
                            rows_left.eq(rows_left - block_size),
                            block_height_left.eq(next_height_left),
                        ]
                        m.next = "BLOCK"
                        with m.If(block_last):
                            m.next = "IDLE"
        return m
