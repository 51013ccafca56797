"""The weight splitter: takes constants out of the weight stream and lets the kernels pass."""

from __future__ import annotations

from typing import Any

import numpy as np
from amaranth import Cat, Module, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import NDArray

from winohw.gateware.weight_loader import CONSTANT_BYTES, constants_layout

__all__ = ["WeightSplitter"]


class WeightSplitter(wiring.Component):
    """Takes the weight stream of a compact engine apart.

    The stream repeats, for each block and each output channel: its constants (`CONSTANT_BYTES`, filled up to whole
    beats), then the kernels of all input channels. What `winohw.gateware.weight_loader` is for several lanes, without
    queues.

    Latency: 1 cycle from the last beat of the constants to `constants`, 0 for kernels. Throughput: a beat a cycle.
    Backpressure: kernels wait for `kernels.ready`, the constants of a channel until those before have been taken.

    Parameters
    ----------
    beat_bytes : int
        Bytes a beat, 1 or more.
    kernel_beats : int
        Beats of a kernel, 1 or more.
    dimension_bits : int
        Width of counts and sizes, 1 or more.

    Attributes
    ----------
    constant_beats : int
        Beats of the constants of a channel.

    Members
    -------
    i : In(stream.Signature(ArrayLayout(signed(8), beat_bytes)))
    start : In(1)
        Begins a layer whose values stand at the inputs below until its last beat.
    total_rows, block_rows, groups, output_groups : In(dimension_bits)
        Fields of the layer descriptor.
    kernels : Out(stream.Signature(ArrayLayout(signed(8), beat_bytes)))
    constants : Out(stream.Signature(constants_layout()))

    Raises
    ------
    ValueError
        If a parameter is below 1.
    """

    def __init__(self, *, beat_bytes: int, kernel_beats: int, dimension_bits: int = 12):
        for name, value in (
            ("beat_bytes", beat_bytes),
            ("kernel_beats", kernel_beats),
            ("dimension_bits", dimension_bits),
        ):
            if value < 1:
                raise ValueError(f"{name} must be 1 or more, not {value!r}")
        self.beat_bytes = beat_bytes
        self.kernel_beats = kernel_beats
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
                "kernels": Out(stream.Signature(beat)),
                "constants": Out(stream.Signature(constants_layout())),
            }
        )

    def model(
        self, beats: NDArray[np.integer], *, total_rows: int, block_rows: int, groups: int, output_groups: int
    ) -> tuple[NDArray[np.int8], NDArray[Any]]:
        """Beats of the kernels, and constants, structured as `constants_layout`, of a layer's whole stream."""
        channels = -(-total_rows // block_rows) * output_groups
        parts = np.asarray(beats, np.int8).reshape(channels, -1, self.beat_bytes)
        fields = np.dtype([("bias", "<i4"), ("multiplier", "<i4"), ("shift", "i1")])
        table = np.ascontiguousarray(parts[:, : self.constant_beats]).reshape(channels, -1)
        constants = np.ascontiguousarray(table[:, :CONSTANT_BYTES]).view(fields)[:, 0]
        return parts[:, self.constant_beats :].reshape(-1, self.beat_bytes), constants

    def elaborate(self, platform: object) -> Module:
        m = Module()
        count, bits = self.dimension_bits, 8 * self.beat_bytes
        rows_left, k_left, g_left = Signal(count + 1), Signal(count), Signal(count)
        beats_left = Signal(range(max(self.kernel_beats, self.constant_beats)))
        collected = [Signal(bits, name=f"collected{k}", reset_less=True) for k in range(self.constant_beats)]
        m.d.comb += [
            self.constants.payload.eq(Cat(collected)[: 8 * CONSTANT_BYTES]),
            self.kernels.payload.eq(self.i.payload),
        ]
        with m.If(self.constants.ready):
            m.d.sync += self.constants.valid.eq(0)
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [
                    rows_left.eq(self.total_rows),
                    k_left.eq(self.output_groups),
                    beats_left.eq(self.constant_beats - 1),
                ]
                with m.If(self.start):
                    m.next = "CONSTANTS"
            with m.State("CONSTANTS"):
                m.d.comb += self.i.ready.eq(~self.constants.valid)
                m.d.sync += g_left.eq(self.groups)
                with m.If(self.i.valid & self.i.ready):
                    m.d.sync += beats_left.eq(beats_left - 1)
                    for k, beat in enumerate(reversed(collected)):
                        with m.If(beats_left == k):
                            m.d.sync += beat.eq(self.i.payload.as_value())
                    with m.If(beats_left == 0):
                        m.d.sync += [self.constants.valid.eq(1), beats_left.eq(self.kernel_beats - 1)]
                        m.next = "KERNELS"
            with m.State("KERNELS"):
                m.d.comb += [self.kernels.valid.eq(self.i.valid), self.i.ready.eq(self.kernels.ready)]
                with m.If(self.i.valid & self.i.ready):
                    m.d.sync += beats_left.eq(beats_left - 1)
                    with m.If(beats_left == 0):
                        m.d.sync += [beats_left.eq(self.kernel_beats - 1), g_left.eq(g_left - 1)]
                        with m.If(g_left == 1):
                            m.d.sync += [beats_left.eq(self.constant_beats - 1), k_left.eq(k_left - 1)]
                            m.next = "CONSTANTS"
                            with m.If(k_left == 1):
                                m.d.sync += [k_left.eq(self.output_groups), rows_left.eq(rows_left - self.block_rows)]
                                with m.If(rows_left <= self.block_rows):
                                    m.next = "IDLE"
        return m
