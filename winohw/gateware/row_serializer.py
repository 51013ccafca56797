"""The row serializer: rows of finished tiles become groups of pixels of one channel, edges cut off."""

from __future__ import annotations

from typing import Any

import numpy as np
from amaranth import Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import NDArray

from winohw.gateware.weight_loader import constants_layout

__all__ = ["RowSerializer"]


class RowSerializer(wiring.Component):
    """Cuts rows of tiles at the edges of the output image and hands them to the requantizer, a few pixels a beat.

    Rows come in the order of the sequencer's loops: block of tile rows, group of Pk output channels, tile row, tile
    column, row of the tile; each beat holds the row for all Pk channels. Out come, for each row that lies inside the
    image and each of the channels that exist, in this order, the ceil(columns inside / lanes) beats of its pixels, left
    to right, with that channel's constants.

    Latency: a cycle from a row to its first beat. Throughput: a beat a cycle, without a bubble between rows; a row
    outside the image, and each channel of a row that does not exist, take a cycle without a beat, and two cycles pass
    between groups. Backpressure: waits for `o.ready`, nothing is lost.

    Parameters
    ----------
    output_lanes : int
        Pk, 1 or more.
    row_pixels : int
        Pixels a row at the input, the largest tile size, 1 or more.
    lanes : int
        Pixels a beat at the output, 1 … row_pixels.
    dimension_bits : int
        Width of counts and sizes, 1 or more.

    Members
    -------
    i : In(stream.Signature(ArrayLayout(ArrayLayout(signed(32), row_pixels), output_lanes)))
        Rows, `[Pk][column]`; columns beyond the tile size are ignored.
    constants : In(stream.Signature(ArrayLayout(constants_layout(), output_lanes)))
        Requantization constants of the Pk channels of a group, a beat for each group of each block.
    start : In(1)
        Begins a layer whose values stand at the inputs below until `idle`.
    tile_size : In(range(row_pixels + 1))
        m, rows and columns of a tile, 1 … row_pixels.
    total_rows, block_rows, tile_rows, tile_cols, output_groups, filters, output_height, output_width
        In(dimension_bits), fields of the layer descriptor.
    o : Out(stream.Signature(StructLayout({"acc": …, "constants": constants_layout(), "count": …, "last": 1})))
        `acc` holds `lanes` int32, of which the first `count` are pixels and the others undefined; `last` ends the
        layer.
    idle : Out(1)
        Everything of the layer has left; goes low the cycle after `start`.

    Raises
    ------
    ValueError
        If a size is below 1, or the output has more lanes than a row has pixels.
    """

    def __init__(self, *, output_lanes: int, row_pixels: int, lanes: int, dimension_bits: int = 12):
        for name, value in (
            ("output_lanes", output_lanes),
            ("row_pixels", row_pixels),
            ("dimension_bits", dimension_bits),
        ):
            if value < 1:
                raise ValueError(f"{name} must be 1 or more, not {value!r}")
        if not 1 <= lanes <= row_pixels:
            raise ValueError(f"lanes must be within 1 … {row_pixels}, not {lanes!r}")
        self.output_lanes = output_lanes
        self.row_pixels = row_pixels
        self.lanes = lanes
        self.dimension_bits = count = dimension_bits
        constants = constants_layout()
        super().__init__(
            {
                "i": In(stream.Signature(data.ArrayLayout(data.ArrayLayout(signed(32), row_pixels), output_lanes))),
                "constants": In(stream.Signature(data.ArrayLayout(constants, output_lanes))),
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
                "o": Out(
                    stream.Signature(
                        data.StructLayout(
                            {
                                "acc": data.ArrayLayout(signed(32), lanes),
                                "constants": constants,
                                "count": range(lanes + 1),
                                "last": 1,
                            }
                        )
                    )
                ),
                "idle": Out(1),
            }
        )

    def model(
        self,
        rows: NDArray[np.integer],
        constants: NDArray[Any],
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
    ) -> dict[str, NDArray[Any]]:
        """The beats out.

        Parameters
        ----------
        rows : array, (beats, Pk, row_pixels)
            Of the whole layer.
        constants : array, (beats, Pk)
            Structured as `constants_layout`, or anything else that stands for a channel's constants.

        Returns
        -------
        dict of arrays
            ``acc`` (beats, lanes), 0 beyond ``count``; ``constants``; ``count``; ``last``.
        """
        next_row, next_constants = iter(rows), iter(constants)
        beats: dict[str, list] = {"acc": [], "constants": [], "count": []}
        for first in range(0, total_rows, block_rows):
            for group in range(output_groups):
                channels = min(self.output_lanes, filters - group * self.output_lanes)
                scales = next(next_constants)
                for tile_row in range(first, min(first + block_rows, total_rows)):
                    for tile_col in range(tile_cols):
                        columns = min(tile_size, output_width - tile_col * tile_size)
                        for row in range(tile_size):
                            values = next(next_row)
                            if tile_row % tile_rows * tile_size + row >= output_height:
                                continue
                            for channel in range(channels):
                                for left in range(0, columns, self.lanes):
                                    count = min(self.lanes, columns - left)
                                    acc = np.zeros(self.lanes, np.int64)
                                    acc[:count] = values[channel, left : left + count]
                                    beats["acc"].append(acc)
                                    beats["constants"].append(scales[channel])
                                    beats["count"].append(count)
        result = {name: np.array(values) for name, values in beats.items()}
        result["last"] = np.arange(len(result["count"])) == len(result["count"]) - 1
        return result

    def elaborate(self, platform: object) -> Module:
        m = Module()
        count, lanes, pixels = self.dimension_bits, self.lanes, self.row_pixels

        # Loop state; positions that every group of output channels of a block starts from again carry `block_`.
        rows_left = Signal(count)
        block_size = Signal(count)
        k_left, r_left, x_left = Signal(count), Signal(count), Signal(count)
        filters_left = Signal(count)
        image_row, block_image_row = Signal(count), Signal(count)  # tile rows left in this image
        height_left, block_height_left = Signal(count), Signal(count)
        width_left = Signal(count)
        row = Signal(range(pixels))
        held = Signal(data.ArrayLayout(data.ArrayLayout(signed(32), pixels), self.output_lanes), reset_less=True)
        constants = Signal(data.ArrayLayout(constants_layout(), self.output_lanes), reset_less=True)
        channel = Signal(range(self.output_lanes))
        channels = Signal(range(self.output_lanes + 1))  # of this group of output channels
        columns, columns_left = Signal(range(pixels + 1)), Signal(range(pixels + 1))
        emitting, ending = Signal(), Signal()  # `ending`: the held row is the layer's last one inside the image

        # --- the held row leaves ---------------------------------------------------------------------------------
        present, columns_last, channel_last, advance, row_done = (Signal() for _ in range(5))
        m.d.comb += [
            present.eq(channel < channels),
            columns_last.eq((columns_left <= lanes) | ~present),
            channel_last.eq(channel == self.output_lanes - 1),
            self.o.valid.eq(emitting & present),
            advance.eq(emitting & (~present | self.o.ready)),
            row_done.eq(advance & columns_last & channel_last),
            self.o.p.constants.eq(constants[0]),
            self.o.p.count.eq(Mux(columns_last, columns_left, lanes)),
            self.o.p.last.eq(ending & columns_last & (channel == channels - 1)),
        ]
        m.d.comb += [self.o.p.acc[lane].eq(held[0][lane]) for lane in range(lanes)]
        with m.If(advance):
            m.d.sync += [
                columns_left.eq(columns_left - lanes),
                held[0].as_value().eq(held[0].as_value() >> 32 * lanes),
            ]
            with m.If(columns_last):
                m.d.sync += [columns_left.eq(columns), channel.eq(channel + 1)]
                m.d.sync += [held[k].eq(held[k + 1]) for k in range(self.output_lanes - 1)]
                # The constants of all lanes come round for the next row, absent channels included.
                m.d.sync += [constants[k].eq(constants[(k + 1) % self.output_lanes]) for k in range(self.output_lanes)]
            with m.If(row_done):
                m.d.sync += emitting.eq(0)

        # --- rows come in ----------------------------------------------------------------------------------------
        tile_columns = Signal(range(pixels + 1))
        row_last, x_last, r_last, k_last, block_last, inside, image_last = (Signal() for _ in range(7))
        m.d.comb += [
            tile_columns.eq(Mux(width_left > self.tile_size, self.tile_size, width_left)),
            row_last.eq(row == self.tile_size - 1),
            x_last.eq(x_left == 1),
            r_last.eq(r_left == 1),
            k_last.eq(k_left == 1),
            block_last.eq(rows_left <= self.block_rows),
            inside.eq(row < height_left),
            image_last.eq(row_last | (row + 1 == height_left)),
        ]
        next_image_row, next_height_left = Signal(count), Signal(count)
        with m.If(image_row == 1):
            m.d.comb += [next_image_row.eq(self.tile_rows), next_height_left.eq(self.output_height)]
        with m.Else():
            m.d.comb += [next_image_row.eq(image_row - 1), next_height_left.eq(height_left - self.tile_size)]

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.idle.eq(~emitting)
                m.d.sync += [
                    rows_left.eq(self.total_rows),
                    block_image_row.eq(self.tile_rows),
                    block_height_left.eq(self.output_height),
                ]
                with m.If(self.start):
                    m.next = "BLOCK"
            with m.State("BLOCK"):
                m.d.sync += [
                    block_size.eq(Mux(block_last, rows_left, self.block_rows)),
                    k_left.eq(self.output_groups),
                    filters_left.eq(self.filters),
                ]
                m.next = "CHANNELS"
            with m.State("CHANNELS"):
                m.d.comb += self.constants.ready.eq(~emitting)
                m.d.sync += [
                    image_row.eq(block_image_row),
                    height_left.eq(block_height_left),
                    width_left.eq(self.output_width),
                    r_left.eq(block_size),
                    x_left.eq(self.tile_cols),
                    row.eq(0),
                ]
                # What the last row of the group before still needs must stay until it has left.
                with m.If(self.constants.valid & ~emitting):
                    m.d.sync += [
                        constants.eq(self.constants.payload),
                        channels.eq(Mux(filters_left > self.output_lanes, self.output_lanes, filters_left)),
                    ]
                    m.next = "ROWS"
            with m.State("ROWS"):
                m.d.comb += self.i.ready.eq(~emitting | row_done)
                with m.If(self.i.valid & self.i.ready):
                    m.d.sync += [
                        held.eq(self.i.payload),
                        columns.eq(tile_columns),
                        columns_left.eq(tile_columns),
                        channel.eq(0),
                        emitting.eq(inside),
                        ending.eq(inside & image_last & x_last & r_last & k_last & block_last),
                        row.eq(row + 1),
                    ]
                    with m.If(row_last):
                        m.d.sync += [row.eq(0), x_left.eq(x_left - 1), width_left.eq(width_left - self.tile_size)]
                    with m.If(row_last & x_last):
                        m.d.sync += [
                            x_left.eq(self.tile_cols),
                            width_left.eq(self.output_width),
                            r_left.eq(r_left - 1),
                            image_row.eq(next_image_row),
                            height_left.eq(next_height_left),
                        ]
                    with m.If(row_last & x_last & r_last):
                        m.d.sync += [k_left.eq(k_left - 1), filters_left.eq(filters_left - self.output_lanes)]
                        m.next = "CHANNELS"
                    with m.If(row_last & x_last & r_last & k_last):
                        m.d.sync += [
                            rows_left.eq(rows_left - block_size),
                            block_image_row.eq(next_image_row),
                            block_height_left.eq(next_height_left),
                        ]
                        m.next = "BLOCK"
                        with m.If(block_last):
                            m.next = "IDLE"
        return m
