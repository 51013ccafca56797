# amaranth: UnusedElaboratable=no
"""The row serializer: rows of finished tiles become groups of pixels of one channel, edges cut off."""

from __future__ import annotations

from typing import Any

import numpy as np
from amaranth import Cat, Const, Module, Mux, Signal, signed
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

    Latency: two cycles from the start of a row to its first beat. Throughput: a beat a cycle, without a bubble; a row
    outside the image, and each channel of a row that does not exist, take a cycle without a beat. Backpressure: a row
    is started only while `o.ready`, nothing is lost; but then its beats come without a pause, and the receiver must
    have room for `slack` more when it is not ready any more.

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

    Attributes
    ----------
    slack : int
        Beats.

    Members
    -------
    filled : In(1)
        There is a row; the next cycle has it at `i`.
    i : In(ArrayLayout(ArrayLayout(signed(32), row_pixels), output_lanes))
        The row, `[Pk][column]`, until two cycles after `pop`; columns beyond the tile size are ignored.
    pop : Out(1)
        Strobe, the row may go.
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
        self.dimension_bits = dimension_bits
        # Three beats are on their way to the receiver when a row starts that it has not counted yet.
        self.slack = 3 + output_lanes * -(-row_pixels // lanes)
        self._positions = RowPositions(output_lanes=output_lanes, row_pixels=row_pixels, dimension_bits=dimension_bits)
        # Start and values of a layer are what the positions need.
        members = self._positions.signature.members
        self._layer = {name: members[name] for name in members if name not in ("o", "idle")}
        constants = constants_layout()
        super().__init__(
            {
                "filled": In(1),
                "i": In(data.ArrayLayout(data.ArrayLayout(signed(32), row_pixels), output_lanes)),
                "pop": Out(1),
                "constants": In(stream.Signature(data.ArrayLayout(constants, output_lanes))),
                **self._layer,
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
        **shape: int,
    ) -> dict[str, NDArray[Any]]:
        """The beats out.

        Parameters
        ----------
        rows : array, (beats, Pk, row_pixels)
            Of the whole layer.
        constants : array, (beats, Pk)
            Structured as `constants_layout`, or anything else that stands for a channel's constants.
        **shape : int
            `tile_size` and the fields of the layer, as `RowPositions.model` takes them.

        Returns
        -------
        dict of arrays
            ``acc`` (beats, lanes), 0 beyond ``count``; ``constants``; ``count``; ``last``.
        """
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
        m.d.comb += [getattr(positions, name).eq(getattr(self, name)) for name in self._layer]
        position = positions.o.payload

        beats = -(-pixels // lanes)  # most of a channel

        # The beat at work, from the cycle after the start of its row on.
        running, last = Signal(), Signal()  # the row's last beat
        beat, more = Signal(range(beats)), Signal(range(beats))  # number, and those of this channel that follow
        beat_last = Signal()
        channel = Signal(channels, init=1)  # one hot
        present = Signal(channels)  # of this channel and those after it
        row_more = Signal(range(beats))  # of each channel of this row
        columns, columns_left = Signal(range(pixels + 1)), Signal(range(pixels + 1))
        ending = Signal()  # this is the layer's last row inside the image

        # --- a row starts, with its position, and the first one of a group with its constants ------------------------
        start, there, constants_there = Signal(), Signal(), Signal()
        first = Signal()  # this row is the first of its group: its constants are taken now
        position_more = Signal(range(beats))
        for k in range(1, beats):
            with m.If(position.columns > k * lanes):
                m.d.comb += position_more.eq(k)
        m.d.comb += [
            there.eq(positions.o.valid & (~position.first | constants_there)),
            start.eq(self.filled & there & self.o.ready & (~running | last)),
            positions.o.ready.eq(start),
            self.constants.ready.eq(first),
            self.idle.eq(positions.idle & ~running & ~self.o.valid),
        ]
        m.d.sync += [
            first.eq(start & position.first),
            constants_there.eq(self.constants.valid & ~first & ~(start & position.first)),
        ]

        # --- its beats: what comes next ------------------------------------------------------------------------------
        next_more, next_channel, next_present = Signal.like(more), Signal.like(channel), Signal.like(present)
        next_running, next_last = Signal(), Signal()
        with m.If(start):
            m.d.comb += [
                next_running.eq(1),
                next_more.eq(position_more),
                next_channel.eq(1),
                next_present.eq(Cat((position.columns != 0) & (k < position.channels) for k in range(channels))),
            ]
            m.d.sync += [
                beat.eq(0),
                row_more.eq(position_more),
                columns.eq(position.columns),
                columns_left.eq(position.columns),
                ending.eq(position.last),
            ]
        with m.Elif(beat_last):
            m.d.comb += [
                next_running.eq(running & ~last),
                next_more.eq(Mux(next_present[0], row_more, 0)),
                next_channel.eq(channel << 1),
                next_present.eq(present >> 1),
            ]
            m.d.sync += [beat.eq(0), columns_left.eq(columns)]
        with m.Else():
            m.d.comb += [
                next_running.eq(running),
                next_more.eq(more - 1),
                next_channel.eq(channel),
                next_present.eq(present),
            ]
            m.d.sync += [beat.eq(beat + 1), columns_left.eq(columns_left - lanes)]
        outside = start & (position.columns == 0)
        is_outside = Signal()
        m.d.comb += [
            next_last.eq(outside | ((next_more == 0) & next_channel[-1])),
            # The row stays for one more cycle.
            self.pop.eq(next_running & next_last),
        ]
        m.d.sync += [
            running.eq(next_running),
            is_outside.eq(outside),
            last.eq(next_last),
            more.eq(next_more),
            beat_last.eq(next_more == 0),
            channel.eq(next_channel),
            present.eq(next_present),
        ]

        # --- and out of registers ------------------------------------------------------------------------------------
        acc = Signal(data.ArrayLayout(signed(32), lanes))
        constants = Signal(data.ArrayLayout(constants_layout(), channels), reset_less=True)
        turn = Signal()
        with m.Switch(Cat(beat, channel)):
            for k in range(channels):
                for b in range(beats):
                    with m.Case(Cat(Const(b, len(beat)), Const(1 << k, channels))):
                        m.d.comb += [
                            acc[lane].eq(self.i[k][b * lanes + lane]) for lane in range(min(lanes, pixels - b * lanes))
                        ]
        final = present[0] if channels == 1 else present[0] & ~present[1]
        count, last_out = Signal(range(lanes + 1)), Signal()
        held = Signal(acc.shape(), reset_less=True)
        valid = Signal()
        m.d.sync += [
            held.eq(acc),
            valid.eq(running & present[0]),
            count.eq(Mux(beat_last, columns_left, lanes)),
            last_out.eq(ending & beat_last & final),
            turn.eq(running & beat_last & ~is_outside),
        ]
        m.d.comb += [
            self.o.valid.eq(valid),
            self.o.p.acc.eq(held),
            self.o.p.constants.eq(constants[0]),
            self.o.p.count.eq(count),
            self.o.p.last.eq(last_out),
        ]
        with m.If(first):
            m.d.sync += constants.eq(self.constants.payload)
        if channels > 1:
            # The constants of all lanes come round for the next row, absent channels included.
            with m.Elif(turn):
                m.d.sync += [constants[k].eq(constants[(k + 1) % channels]) for k in range(channels)]
        return m
