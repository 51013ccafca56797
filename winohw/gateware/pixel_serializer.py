"""The pixel serializer: cuts tiles at the edges of the image, a pixel a cycle."""

from __future__ import annotations

from typing import Any

import numpy as np
from amaranth import Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import NDArray

from winohw.gateware.constant_store import constants_signature
from winohw.gateware.weight_loader import constants_layout

__all__ = ["PixelSerializer"]


class PixelSerializer(wiring.Component):
    """Hands those sums of tiles that lie inside the image to the requantizer, with the constants of their channel.

    What `winohw.gateware.row_serializer` is for whole rows, for sums that come one by one, row by row of a tile, in
    each row output lane by output lane, in the order of the sequencer's loops: block of tile rows, group of Pk output
    channels, tile row, tile column. Sums of lanes without a channel are dropped.

    Latency: 0. Throughput: a sum a cycle; two cycles pass between groups, three between blocks. Backpressure: waits
    for `o.ready`, nothing is lost.

    Parameters
    ----------
    tile_size : int
        m, rows and columns of a tile, 1 or more.
    output_lanes : int
        Pk, 1 or more.
    dimension_bits : int
        Width of counts and sizes, 1 or more.

    Members
    -------
    i : In(stream.Signature(signed(32)))
    constants : In(constants_signature(output_lanes))
        Those of each group of channels of each block.
    start : In(1)
        Begins a layer whose values stand at the inputs below until `idle`.
    total_rows, block_rows, filters, output_height, output_width
        In(dimension_bits), fields of the layer descriptor.
    more : Out(1)
        Low from when the last constants of a layer have been taken to its end.
    o : Out(stream.Signature(StructLayout({"acc": signed(32), "constants": constants_layout(), "last": 1})))
        `last` ends the layer.
    idle : Out(1)
        All sums of the layer have been taken.

    Raises
    ------
    ValueError
        If a parameter is below 1.
    """

    def __init__(self, *, tile_size: int, output_lanes: int = 1, dimension_bits: int = 12):
        for name, value in (
            ("tile_size", tile_size),
            ("output_lanes", output_lanes),
            ("dimension_bits", dimension_bits),
        ):
            if value < 1:
                raise ValueError(f"{name} must be 1 or more, not {value!r}")
        self.tile_size = tile_size
        self.output_lanes = output_lanes
        self.dimension_bits = count = dimension_bits
        constants = constants_layout()
        super().__init__(
            {
                "i": In(stream.Signature(signed(32))),
                "constants": In(constants_signature(output_lanes)),
                "start": In(1),
                "total_rows": In(count),
                "block_rows": In(count),
                "filters": In(count),
                "output_height": In(count),
                "output_width": In(count),
                "more": Out(1, init=1),
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
        filters: int,
        output_height: int,
        output_width: int,
    ) -> dict[str, NDArray[Any]]:
        """The beats out: ``acc``, ``constants`` and ``last``, of all sums (one axis) and all constants of a layer.

        Constants are ``[group][lane]``.
        """
        size, lanes = self.tile_size, self.output_lanes
        tiles, scales = iter(np.asarray(sums).reshape(-1, size, lanes, size)), iter(constants)
        tile_rows, tile_cols = -(-output_height // size), -(-output_width // size)
        acc, given = [], []
        for first in range(0, total_rows, block_rows):
            for channel in range(0, filters, lanes):
                scale, used = next(scales), min(lanes, filters - channel)
                for tile_row in range(first, min(first + block_rows, total_rows)):
                    for tile_col in range(tile_cols):
                        rows = output_height - tile_row % tile_rows * size
                        inside = next(tiles)[: max(0, rows), :used, : output_width - tile_col * size]
                        acc += inside.ravel().tolist()
                        given += np.repeat(np.tile(scale[:used], len(inside)), inside.shape[2]).tolist()
        return {
            "acc": np.array(acc),
            "constants": np.array(given, constants.dtype),
            "last": np.arange(len(acc)) == len(acc) - 1,
        }

    def elaborate(self, platform: object) -> Module:
        m = Module()
        count, size, lanes = self.dimension_bits, self.tile_size, self.output_lanes

        # Positions that every channel of a block starts from again carry `block_`.
        rows_left, block_size = Signal(count), Signal(count)
        filters_left, r_left = Signal(count), Signal(count)
        height_left, block_height_left = Signal(count), Signal(count)
        width_left = Signal(count)
        row, lane, column = Signal(range(size)), Signal(range(lanes)), Signal(range(size))
        next_lane = Signal(range(lanes))

        running, inside, take = Signal(), Signal(), Signal()
        column_last, line_last, row_last, x_last, r_last, k_last, block_last = (Signal() for _ in range(7))
        m.d.comb += [
            inside.eq((row < height_left) & (lane < filters_left) & (column < width_left)),
            column_last.eq(column == size - 1),
            line_last.eq(column_last & (lane == lanes - 1)),
            row_last.eq(row == size - 1),
            x_last.eq(width_left <= size),
            r_last.eq(r_left == 1),
            k_last.eq(filters_left <= lanes),
            block_last.eq(rows_left <= self.block_rows),
            self.o.valid.eq(running & self.i.valid & inside),
            self.i.ready.eq(running & (self.o.ready | ~inside)),
            take.eq(self.i.valid & self.i.ready),
            self.o.payload.acc.eq(self.i.payload),
            self.o.payload.constants.eq(self.constants.o),
            self.constants.lane.eq(next_lane),
            self.o.payload.last.eq(
                (column_last | (column + 1 == width_left))
                & ((lane == lanes - 1) | (lane + 1 == filters_left))
                & (row_last | (row + 1 == height_left))
                & x_last
                & r_last
                & k_last
                & block_last
            ),
        ]
        m.d.sync += lane.eq(next_lane)
        next_height_left = Signal(count)
        m.d.comb += next_height_left.eq(Mux(height_left <= size, self.output_height, height_left - size))

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.idle.eq(1)
                m.d.sync += [rows_left.eq(self.total_rows), block_height_left.eq(self.output_height)]
                with m.If(self.start):
                    m.next = "BLOCK"
            with m.State("BLOCK"):
                m.d.sync += [block_size.eq(Mux(block_last, rows_left, self.block_rows)), filters_left.eq(self.filters)]
                m.next = "CONSTANTS"
            with m.State("CONSTANTS"):
                m.d.comb += self.constants.take.eq(self.constants.valid)
                m.d.sync += [
                    height_left.eq(block_height_left),
                    width_left.eq(self.output_width),
                    r_left.eq(block_size),
                    row.eq(0),
                    column.eq(0),
                ]
                with m.If(self.constants.valid):
                    m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += [running.eq(1), next_lane.eq(lane), self.more.eq(~(k_last & block_last))]
                with m.If(take):
                    m.d.sync += column.eq(column + 1)
                    with m.If(column_last):
                        m.d.sync += column.eq(0)
                        m.d.comb += next_lane.eq(lane + 1)
                    with m.If(line_last):
                        m.d.sync += row.eq(row + 1)
                        m.d.comb += next_lane.eq(0)
                    with m.If(line_last & row_last):
                        m.d.sync += [row.eq(0), width_left.eq(width_left - size)]
                    with m.If(line_last & row_last & x_last):
                        m.d.sync += [
                            width_left.eq(self.output_width),
                            r_left.eq(r_left - 1),
                            height_left.eq(next_height_left),
                        ]
                    with m.If(line_last & row_last & x_last & r_last):
                        m.d.sync += filters_left.eq(filters_left - lanes)
                        m.next = "CONSTANTS"
                    with m.If(line_last & row_last & x_last & r_last & k_last):
                        m.d.sync += [
                            rows_left.eq(rows_left - block_size),
                            block_height_left.eq(next_height_left),
                        ]
                        m.next = "BLOCK"
                        with m.If(block_last):
                            m.next = "IDLE"
        return m
