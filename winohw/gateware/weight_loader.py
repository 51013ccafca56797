"""The weight loader: splits the weight stream into requantization constants and kernels, and paces the kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
from amaranth import Cat, Module, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out
from numpy.typing import NDArray

from winohw.gateware.countdown import countdown

__all__ = ["CONSTANT_BYTES", "WeightLoader", "constants_layout"]

#: Bytes of one output channel's constants, little-endian: bias (4), multiplier (4), exponent (1).
CONSTANT_BYTES = 9


def constants_layout() -> data.StructLayout:
    """Requantization constants of one output channel: TFLite's fixed-point multiplier and exponent (positive: left)."""
    return data.StructLayout({"bias": signed(32), "multiplier": signed(32), "shift": signed(8)})


class WeightLoader(wiring.Component):
    """Takes the weight stream apart.

    The stream repeats, for each block and each group of Pk output channels: the constants of the Pk channels
    (`CONSTANT_BYTES` each, filled up to whole beats), then for each group of Pc input channels the kernels of all
    Pk · Pc lanes (output channel outer), a kernel row a beat.

    `weights_ready` tells, for each group, when its last row has been taken from `i`; the delay covers the way through
    the weight transform as far as the datapath's own latency does not.

    Latency: 4 cycles from the last beat of the constants to `constants`, 2 cycles from a row to `rows`,
    `ready_delay` + 1 cycles from a group's last row to `weights_ready`. Throughput: a beat a cycle, and a cycle more
    after the constants. Backpressure: `rows` and `constants` wait in queues of `fifo_rows` rows and of the constants
    of 5 groups; when one of them is full the stream waits.

    Parameters
    ----------
    beat_bytes : int
        Bytes a beat, 1 or more.
    output_lanes : int
        Pk, 1 or more.
    fifo_rows : int
        Kernel rows that fit before the weight transform, 2 or more (2 pass a row every other cycle only); two groups
        keep the array busy.
    ready_delay : int
        Cycles, 0 or more.
    dimension_bits : int
        Width of counts and sizes, 1 or more.

    Attributes
    ----------
    constant_beats : int
        Beats of one output channel's constants.

    Members
    -------
    i : In(stream.Signature(ArrayLayout(signed(8), beat_bytes)))
    start : In(1)
        Begins a layer whose values have stood at the inputs below for two cycles, and stand until its last beat.
    total_rows, block_rows, groups, output_groups : In(dimension_bits)
        Fields of the layer descriptor.
    group_rows : In(range(fifo_rows + 1))
        Kernel rows of one group, all lanes, 1 or more.
    rows : Out(stream.Signature(ArrayLayout(signed(8), beat_bytes)))
        Kernel rows to the weight transform.
    constants : Out(stream.Signature(ArrayLayout(constants_layout(), output_lanes)))
        A beat a group of output channels.
    weights_ready : Out(1)
        Strobe, a group's kernels are complete.

    Raises
    ------
    ValueError
        If a parameter is out of its range.
    """

    def __init__(
        self, *, beat_bytes: int, output_lanes: int, fifo_rows: int, ready_delay: int = 0, dimension_bits: int = 12
    ):
        for name, value, least in (
            ("beat_bytes", beat_bytes, 1),
            ("output_lanes", output_lanes, 1),
            ("fifo_rows", fifo_rows, 2),
            ("ready_delay", ready_delay, 0),
            ("dimension_bits", dimension_bits, 1),
        ):
            if value < least:
                raise ValueError(f"{name} must be {least} or more, not {value!r}")
        self.beat_bytes = beat_bytes
        self.output_lanes = output_lanes
        self.fifo_rows = fifo_rows
        self.ready_delay = ready_delay
        self.dimension_bits = count = dimension_bits
        self.constant_beats = -(-CONSTANT_BYTES // beat_bytes)
        beat = data.ArrayLayout(signed(8), beat_bytes)
        super().__init__(
            {
                "i": In(stream.Signature(beat)),
                "start": In(1),
                "total_rows": In(count),
                "block_rows": In(count),
                "groups": In(count),
                "output_groups": In(count),
                "group_rows": In(range(fifo_rows + 1)),
                "rows": Out(stream.Signature(beat)),
                "constants": Out(stream.Signature(data.ArrayLayout(constants_layout(), output_lanes))),
                "weights_ready": Out(1),
            }
        )

    def model(
        self,
        beats: NDArray[np.integer],
        *,
        total_rows: int,
        block_rows: int,
        groups: int,
        output_groups: int,
        group_rows: int,
    ) -> tuple[NDArray[np.int8], NDArray[Any]]:
        """Kernel rows and constants of a layer.

        Parameters
        ----------
        beats : array, (beats, beat_bytes) int8
            The layer's whole stream.

        Returns
        -------
        rows : array, (rows, beat_bytes) int8
        constants : array, (groups of output channels, Pk)
            Structured as `constants_layout`.
        """
        blocks = -(-total_rows // block_rows)
        first = self.output_lanes * self.constant_beats
        parts = np.asarray(beats, np.int8).reshape(blocks * output_groups, first + groups * group_rows, self.beat_bytes)
        fields = np.dtype([("bias", "<i4"), ("multiplier", "<i4"), ("shift", "i1")])
        table = np.ascontiguousarray(parts[:, :first]).reshape(len(parts), self.output_lanes, -1)
        constants = np.ascontiguousarray(table[..., :CONSTANT_BYTES]).view(fields)[..., 0]
        return parts[:, first:].reshape(-1, self.beat_bytes), constants

    def elaborate(self, platform: object) -> Module:
        m = Module()
        count = self.dimension_bits
        beat_bits = 8 * self.beat_bytes
        channel_bits = self.constant_beats * beat_bits

        m.submodules.fifo = fifo = SyncFIFOBuffered(width=beat_bits, depth=self.fifo_rows)
        m.d.comb += [
            fifo.w_data.eq(self.i.payload.as_value()),
            self.rows.payload.eq(fifo.r_data),
            self.rows.valid.eq(fifo.r_rdy),
            fifo.r_en.eq(self.rows.ready),
        ]
        width = len(self.constants.payload.as_value())
        m.submodules.constants_fifo = constants_fifo = SyncFIFOBuffered(width=width, depth=4)
        m.d.comb += [
            self.constants.payload.eq(constants_fifo.r_data),
            self.constants.valid.eq(constants_fifo.r_rdy),
            constants_fifo.r_en.eq(self.constants.ready),
        ]

        rows_left, block_last = Signal(count), Signal()
        group_over = Signal()
        beats = self.output_lanes * self.constant_beats
        beat_last, beat_reload, beat_step = countdown("beat", beats, range(beats + 1))
        # Of the layer: whether a loop has one turn only.
        single_row, single_g, single_k = Signal(), Signal(), Signal()
        m.d.sync += [
            single_row.eq(self.group_rows == 1),
            single_g.eq(self.groups == 1),
            single_k.eq(self.output_groups == 1),
        ]
        row_last, row_reload, row_step = countdown("row", self.group_rows, range(self.fifo_rows + 1), single=single_row)
        g_last, g_reload, g_step = countdown("g", self.groups, count, single=single_g)
        k_last, k_reload, k_step = countdown("k", self.output_groups, count, single=single_k)
        collected = Signal(self.output_lanes * channel_bits, reset_less=True)
        for lane in range(self.output_lanes):
            channel = collected[lane * channel_bits :][: 8 * CONSTANT_BYTES]
            m.d.comb += constants_fifo.w_data[72 * lane :][:72].eq(channel)

        # Constants stand for two cycles at least: the queue, which is near the requantizer, takes them in the second.
        push = Signal()
        m.d.comb += constants_fifo.w_en.eq(push)
        m.d.sync += push.eq(0)

        arrived = Signal()
        delayed = Signal(self.ready_delay + 1)
        m.d.sync += delayed.eq(Cat(arrived, delayed))
        m.d.comb += self.weights_ready.eq(delayed[-1])

        m.d.sync += [block_last.eq(rows_left <= self.block_rows), group_over.eq(0)]
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [rows_left.eq(self.total_rows), *k_reload, *beat_reload]
                with m.If(self.start):
                    m.next = "CONSTANTS"
            with m.State("CONSTANTS"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += g_reload + row_reload
                with m.If(self.i.valid):
                    m.d.sync += [collected.eq(Cat(collected, self.i.payload.as_value())[beat_bits:]), *beat_step]
                    with m.If(beat_last):
                        m.next = "PUSH"
            with m.State("PUSH"):
                m.d.sync += beat_reload
                with m.If(constants_fifo.w_rdy):
                    m.d.sync += push.eq(1)
                    m.next = "KERNELS"
            with m.State("KERNELS"):
                m.d.comb += [self.i.ready.eq(fifo.w_rdy), fifo.w_en.eq(self.i.valid)]
                with m.If(self.i.valid & fifo.w_rdy):
                    m.d.sync += row_step
                    with m.If(row_last):
                        m.d.comb += arrived.eq(1)
                        m.d.sync += row_reload + g_step
                    with m.If(row_last & g_last):
                        m.d.sync += group_over.eq(1)
                        m.next = "CONSTANTS"
                    with m.If(row_last & g_last & k_last & block_last):
                        m.next = "IDLE"
        # A cycle later; constants come first, so nobody has asked for it yet.
        with m.If(group_over):
            m.d.sync += k_step
            with m.If(k_last):
                m.d.sync += [*k_reload, rows_left.eq(rows_left - self.block_rows)]
        return m
