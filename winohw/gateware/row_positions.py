"""The positions of tiles' rows in the output image, in the order in which they leave the output transform."""

from __future__ import annotations

from typing import Any

import numpy as np
from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import NDArray

from winohw.gateware.blocks import blocks, keep_for_next_block
from winohw.gateware.countdown import countdown
from winohw.gateware.head_queue import HeadQueue

__all__ = ["RowPositions"]

#: Positions that wait for their rows.
_QUEUE = 16


class RowPositions(wiring.Component):
    """Runs through the rows of a layer's tiles and tells of each how much of it lies inside the output image.

    Rows come in the order of the sequencer's loops: block of tile rows, group of Pk output channels, tile row, tile
    column, row of the tile. The positions run ahead of the rows and wait for them in a short queue.

    Latency: some cycles from `start` to the first position. Throughput: a position a cycle; two cycles pass between
    blocks. Backpressure: waits for `o.ready`, nothing is lost.

    Parameters
    ----------
    output_lanes : int
        Pk, 1 or more.
    row_pixels : int
        Largest tile size, 1 or more.
    dimension_bits : int
        Width of counts and sizes, 1 or more.

    Members
    -------
    start : In(1)
        Begins a layer whose values have stood at the inputs below for three cycles, and stand until all positions have
        left.
    tile_size : In(range(row_pixels + 1))
        m, rows and columns of a tile, 1 … row_pixels.
    total_rows, block_rows, tile_rows, tile_cols, output_groups, filters, output_height, output_width
        In(dimension_bits), fields of the layer descriptor.
    o : Out(stream.Signature(StructLayout({"columns": …, "channels": …, "first": 1, "last": 1})))
        ``columns`` of the row inside the image, 0 for a row below it; ``channels`` of the group that exist; ``first``
        row of a group in its block; ``last`` row of the layer inside the image.
    idle : Out(1)
        All positions have left, for a cycle; goes low the cycle after `start`.
    """

    def __init__(self, *, output_lanes: int, row_pixels: int, dimension_bits: int = 12):
        self.output_lanes = output_lanes
        self.row_pixels = row_pixels
        self.dimension_bits = count = dimension_bits
        position = data.StructLayout(
            {"columns": range(row_pixels + 1), "channels": range(output_lanes + 1), "first": 1, "last": 1}
        )
        super().__init__(
            {
                "start": In(1),
                "tile_size": In(range(row_pixels + 1)),
                "total_rows": In(count),
                "block_rows": In(count),
                "tile_rows": In(count),
                "tile_cols": In(count),
                "output_groups": In(count),
                "filters": In(count),
                "output_height": In(count),
                "output_width": In(count),
                "o": Out(stream.Signature(position)),
                "idle": Out(1),
            }
        )

    def model(
        self,
        *,
        tile_size: int,
        total_rows: int,
        block_rows: int,
        tile_rows: int,
        tile_cols: int,
        output_groups: int,
        filters: int,
        output_height: int,
        output_width: int,
    ) -> NDArray[Any]:
        """The positions of a layer, a structured array with the fields of `o`."""
        positions = []
        for top in range(0, total_rows, block_rows):
            for group in range(output_groups):
                channels = min(self.output_lanes, filters - group * self.output_lanes)
                first = True
                for tile_row in range(top, min(top + block_rows, total_rows)):
                    height = output_height - tile_row % tile_rows * tile_size
                    for tile_col in range(tile_cols):
                        columns = min(tile_size, output_width - tile_col * tile_size)
                        for row in range(tile_size):
                            positions.append((columns if row < height else 0, channels, first, False))
                            first = False
        result = np.array(positions, np.dtype([(name, np.int64) for name in self.o.payload.shape().members]))
        result["last"][np.flatnonzero(result["columns"])[-1]] = 1
        return result

    def elaborate(self, platform: object) -> Module:
        m = Module()
        count, pixels, lanes = self.dimension_bits, self.row_pixels, self.output_lanes
        m.submodules.queue = queue = HeadQueue(self.o.payload.shape(), _QUEUE)

        block = blocks(m, self.total_rows, self.block_rows, count)
        # Of the layer: whether a loop has one turn only.
        single_y, single_x, single_k = Signal(), Signal(), Signal()
        y_last, y_reload, y_step = countdown("y", self.tile_size, range(pixels + 1), single=single_y)
        x_last, x_reload, x_step = countdown("x", self.tile_cols, count, single=single_x)
        r_last, r_reload, r_step = countdown("r", block.size, count, single=block.single)
        k_last, k_reload, k_step = countdown("k", self.output_groups, count, single=single_k)
        y = Signal(range(pixels))
        width, height = Signal(count), Signal(count)  # from this tile's first column and row to the image's last
        filters_left = Signal(count)
        # Tile rows left in this image; every group of output channels of a block starts from the same ones.
        image_rows, block_image_rows, block_height = Signal(count), Signal(count), Signal(count)
        image_last, block_image_last, single_row = Signal(), Signal(), Signal()
        first = Signal()

        m.d.sync += [
            single_y.eq(self.tile_size == 1),
            single_x.eq(self.tile_cols == 1),
            single_k.eq(self.output_groups == 1),
            single_row.eq(self.tile_rows == 1),
        ]
        next_image_rows, next_height, next_image_last = Signal(count), Signal(count), Signal()
        m.d.comb += [
            next_image_rows.eq(Mux(image_last, self.tile_rows, image_rows - 1)),
            next_height.eq(Mux(image_last, self.output_height, height - self.tile_size)),
            next_image_last.eq(Mux(image_last, single_row, image_rows == 2)),
        ]

        # Positions that were begun and have not left yet; a late answer leaves some places of the queue unused.
        go, enter, room, left = Signal(), Signal(), Signal(), Signal()
        waiting = Signal(range(_QUEUE + 1))
        m.d.sync += [
            left.eq(self.o.valid & self.o.ready),
            waiting.eq(waiting + go - left),
            room.eq(waiting <= _QUEUE - 4),
            go.eq(0),
            enter.eq(0),
        ]

        with m.If(go):
            m.d.sync += y_step + [y.eq(y + 1), first.eq(0)]
            with m.If(y_last):
                m.d.sync += y_reload + x_step
                m.d.sync += [y.eq(0), width.eq(width - self.tile_size)]
            with m.If(y_last & x_last):
                m.d.sync += x_reload + r_step
                m.d.sync += [
                    width.eq(self.output_width),
                    image_rows.eq(next_image_rows),
                    image_last.eq(next_image_last),
                    height.eq(next_height),
                ]
            with m.If(y_last & x_last & r_last):
                m.d.sync += r_reload + k_step
                m.d.sync += [
                    image_rows.eq(block_image_rows),
                    image_last.eq(block_image_last),
                    height.eq(block_height),
                    first.eq(1),
                ]
        with m.If(enter):
            m.d.sync += y_reload + x_reload + r_reload + k_reload
            m.d.sync += [
                y.eq(0),
                width.eq(self.output_width),
                height.eq(block_height),
                image_rows.eq(block_image_rows),
                image_last.eq(block_image_last),
                first.eq(1),
            ]

        places = (
            (block_image_rows, next_image_rows),
            (block_image_last, next_image_last),
            (block_height, next_height),
        )
        keep_for_next_block(m, go & y_last & x_last & r_last & k_last, places)

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.idle.eq(waiting == 0)
                m.d.sync += [
                    *block.reload,
                    block_image_rows.eq(self.tile_rows),
                    block_image_last.eq(single_row),
                    block_height.eq(self.output_height),
                ]
                with m.If(self.start):
                    m.next = "BLOCK"
            with m.State("BLOCK"):
                m.d.sync += [*block.step, enter.eq(1)]
                m.next = "ENTER"
            with m.State("ENTER"):
                m.d.sync += go.eq(room)
                m.next = "RUN"
            with m.State("RUN"):
                m.d.sync += go.eq(room)
                with m.If(go & y_last & x_last & r_last & k_last):
                    m.d.sync += go.eq(0)
                    m.next = "BLOCK"
                    with m.If(block.last):
                        m.next = "IDLE"

        # What follows from the loops' state takes two cycles more; the filters follow it after one.
        group_over, entered = Signal(), Signal()
        m.d.sync += [group_over.eq(go & y_last & x_last & r_last), entered.eq(enter)]
        with m.If(group_over):
            m.d.sync += filters_left.eq(filters_left - lanes)
        with m.If(entered):
            m.d.sync += filters_left.eq(self.filters)
        inside, row_last, first_1 = Signal(), Signal(), Signal()
        tile_columns = Signal(range(pixels + 1))
        loops_last = Signal()
        valid = Signal(2)
        position = Signal(self.o.payload.shape(), reset_less=True)
        m.d.sync += [
            valid.eq(valid << 1 | go),
            inside.eq(y < height),
            # The tile's last row, or the image's.
            row_last.eq(y_last | (y + 1 == height)),
            loops_last.eq(x_last & r_last & k_last & block.last),
            tile_columns.eq(Mux(width > self.tile_size, self.tile_size, width)),
            first_1.eq(first),
            position.columns.eq(Mux(inside, tile_columns, 0)),
            position.channels.eq(Mux(filters_left > lanes, lanes, filters_left)),
            position.first.eq(first_1),
            position.last.eq(inside & row_last & loops_last),
        ]
        m.d.comb += [
            queue.i.valid.eq(valid[-1]),
            queue.i.payload.eq(position),
            self.o.valid.eq(queue.filled),
            self.o.payload.eq(queue.head),
            queue.pop.eq(queue.filled & self.o.ready),
        ]
        return m
