# amaranth: UnusedElaboratable=no
"""The row serializer: rows of finished tiles become groups of pixels of one channel, edges cut off."""

from __future__ import annotations

from typing import Any

import numpy as np
from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import NDArray

from winohw.gateware.row_positions import RowPositions
from winohw.gateware.weight_loader import constants_layout

__all__ = ["RowSerializer"]


class RowSerializer(wiring.Component):
    """Cuts rows of tiles at the edges of the output image and hands them to the requantizer, a few pixels a beat.

    Rows come in the order of :class:`RowPositions`; each beat holds the row for all Pk channels. Out come, for each row
    that lies inside the image and each of the channels that exist, in this order, the ceil(columns inside / lanes)
    beats of its pixels, left to right, with that channel's constants.

    Latency: a cycle from a row to its first beat. Throughput: a beat a cycle, without a bubble; a row outside the
    image, and each channel of a row that does not exist, take a cycle without a beat. Backpressure: waits for
    `o.ready`, nothing is lost.

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
        self._positions = RowPositions(output_lanes=output_lanes, row_pixels=row_pixels, dimension_bits=dimension_bits)
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
        shape = {
            "tile_size": tile_size,
            "total_rows": total_rows,
            "block_rows": block_rows,
            "tile_rows": tile_rows,
            "tile_cols": tile_cols,
            "output_groups": output_groups,
            "filters": filters,
            "output_height": output_height,
            "output_width": output_width,
        }
        next_constants = iter(constants)
        beats: dict[str, list] = {"acc": [], "constants": [], "count": []}
        for position, values in zip(self._positions.model(**shape), rows, strict=True):
            if position["first"]:
                scales = next(next_constants)
            columns = int(position["columns"])
            for channel in range(position["channels"]):
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
        lanes, pixels, channels = self.lanes, self.row_pixels, self.output_lanes
        m.submodules.positions = positions = self._positions
        for name in positions.signature.members:
            if name not in ("o", "idle"):
                m.d.comb += getattr(positions, name).eq(getattr(self, name))
        position = positions.o.payload

        held = Signal(data.ArrayLayout(data.ArrayLayout(signed(32), pixels), channels), reset_less=True)
        constants = Signal(data.ArrayLayout(constants_layout(), channels), reset_less=True)
        emitting = Signal()
        columns, columns_left = Signal(range(pixels + 1)), Signal(range(pixels + 1))
        columns_last, row_columns_last = Signal(), Signal()  # no more than a beat is left, of so many in a row
        present = Signal(channels, init=1)  # of this channel and those after it
        channel = Signal(channels, init=1)  # one hot
        ending = Signal()  # this is the layer's last row inside the image

        # --- the held row leaves: every flag here is a register ------------------------------------------------------
        advance, row_done, next_channel = Signal(), Signal(), Signal()
        final = present[0] if channels == 1 else present[0] & ~present[1]
        m.d.comb += [
            self.o.valid.eq(emitting & present[0]),
            advance.eq(emitting & (~present[0] | self.o.ready)),
            next_channel.eq(columns_last | ~present[0]),
            row_done.eq(advance & next_channel & channel[-1]),
            self.o.p.constants.eq(constants[0]),
            self.o.p.count.eq(Mux(columns_last, columns_left, lanes)),
            self.o.p.last.eq(ending & columns_last & final),
        ]
        m.d.comb += [self.o.p.acc[lane].eq(held[0][lane]) for lane in range(lanes)]
        with m.If(advance):
            m.d.sync += [
                columns_left.eq(columns_left - lanes),
                columns_last.eq(columns_left <= 2 * lanes),
                held[0].as_value().eq(held[0].as_value() >> 32 * lanes),
            ]
            if channels > 1:
                with m.If(next_channel):
                    m.d.sync += [
                        columns_left.eq(columns),
                        columns_last.eq(row_columns_last),
                        channel.eq(channel << 1),
                        present.eq(present >> 1),
                    ]
                    m.d.sync += [held[k].eq(held[k + 1]) for k in range(channels - 1)]
                    # The constants of all lanes come round for the next row, absent channels included.
                    m.d.sync += [constants[k].eq(constants[(k + 1) % channels]) for k in range(channels)]
            with m.If(row_done):
                m.d.sync += emitting.eq(0)

        # --- the next row comes in, with its position, and the first one of a group with its constants ---------------
        there, take = Signal(), Signal()
        m.d.comb += [
            there.eq(positions.o.valid & (~position.first | self.constants.valid)),
            take.eq(self.i.valid & self.i.ready),
            self.i.ready.eq(there & (~emitting | row_done)),
            positions.o.ready.eq(take),
            self.constants.ready.eq(take & position.first),
            self.idle.eq(positions.idle & ~emitting),
        ]
        with m.If(take):
            m.d.sync += [
                held.eq(self.i.payload),
                emitting.eq(position.columns != 0),
                columns.eq(position.columns),
                columns_left.eq(position.columns),
                columns_last.eq(position.columns <= lanes),
                row_columns_last.eq(position.columns <= lanes),
                present.eq(Cat(k < position.channels for k in range(channels))),
                channel.eq(1),
                ending.eq(position.last),
            ]
            with m.If(position.first):
                m.d.sync += constants.eq(self.constants.payload)
        return m
