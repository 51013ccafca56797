"""The weight splitter: takes constants out of the weight stream and lets the kernels pass."""

from __future__ import annotations

import numpy as np
from amaranth import Module, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import NDArray

from winohw.gateware.countdown import countdown
from winohw.gateware.weight_loader import CONSTANT_BYTES

__all__ = ["WeightSplitter"]


class WeightSplitter(wiring.Component):
    """Takes the weight stream of an engine for small parts apart.

    The stream repeats, for each block and each group of Pk output channels: the constants of each (`CONSTANT_BYTES`,
    filled up to whole beats), then for each input channel the kernels of all lanes. What
    `winohw.gateware.weight_loader` is for wide engines, without queues.

    Latency: 0. Throughput: a beat a cycle. Backpressure: that of the two outputs.

    Parameters
    ----------
    beat_bytes : int
        Bytes a beat, 1 or more.
    kernel_beats : int
        Beats of a kernel, 1 or more.
    output_lanes : int
        Pk, 1 or more.
    dimension_bits : int
        Width of counts and sizes, 1 or more.

    Attributes
    ----------
    constant_beats : int
        Beats of the constants of a group.

    Members
    -------
    i : In(stream.Signature(ArrayLayout(signed(8), beat_bytes)))
    start : In(1)
        Begins a layer whose values stand at the inputs below until its last beat.
    groups : In(dimension_bits)
        Field of the layer descriptor.
    more : In(1)
        Constants are wanted, or will be: low for a cycle or more after the last ones of a layer have been taken.
    passed : Out(1)
        Strobe, the last beat of a group's kernels was taken a cycle ago.
    kernels : Out(stream.Signature(ArrayLayout(signed(8), beat_bytes)))
    constants : Out(stream.Signature(ArrayLayout(signed(8), beat_bytes)))
        For `winohw.gateware.constant_store`.

    Raises
    ------
    ValueError
        If a parameter is below 1.
    """

    def __init__(self, *, beat_bytes: int, kernel_beats: int, output_lanes: int = 1, dimension_bits: int = 12):
        for name, value in (
            ("beat_bytes", beat_bytes),
            ("kernel_beats", kernel_beats),
            ("output_lanes", output_lanes),
            ("dimension_bits", dimension_bits),
        ):
            if value < 1:
                raise ValueError(f"{name} must be 1 or more, not {value!r}")
        self.beat_bytes = beat_bytes
        self.kernel_beats = kernel_beats
        self.output_lanes = output_lanes
        self.dimension_bits = count = dimension_bits
        self.constant_beats = -(-CONSTANT_BYTES // beat_bytes) * output_lanes
        beat = data.ArrayLayout(signed(8), beat_bytes)
        super().__init__(
            {
                "i": In(stream.Signature(beat)),
                "start": In(1),
                "groups": In(count),
                "more": In(1),
                "passed": Out(1),
                "kernels": Out(stream.Signature(beat)),
                "constants": Out(stream.Signature(beat)),
            }
        )

    def model(self, beats: NDArray[np.integer], *, groups: int) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
        """Beats of the kernels, and of the constants, of a whole stream."""
        kernel_beats = groups * self.kernel_beats * self.output_lanes
        parts = np.asarray(beats, np.int8).reshape(-1, self.constant_beats + kernel_beats, self.beat_bytes)
        constants, kernels = parts[:, : self.constant_beats], parts[:, self.constant_beats :]
        return kernels.reshape(-1, self.beat_bytes), constants.reshape(-1, self.beat_bytes)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        kernel_beats = self.kernel_beats * self.output_lanes
        g_last, g_reload, g_step = countdown("g", self.groups, self.dimension_bits)
        beats_left = Signal(range(max(kernel_beats, self.constant_beats)))
        last = Signal()
        m.d.comb += [
            last.eq(self.i.valid & self.i.ready & (beats_left == 0)),
            self.constants.payload.eq(self.i.payload),
            self.kernels.payload.eq(self.i.payload),
        ]
        m.d.sync += self.passed.eq(0)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += beats_left.eq(beats_left - 1)
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += beats_left.eq(self.constant_beats - 1)
                with m.If(self.start):
                    m.next = "CONSTANTS"
            with m.State("CONSTANTS"):
                m.d.comb += [
                    self.constants.valid.eq(self.i.valid & self.more),
                    self.i.ready.eq(self.constants.ready & self.more),
                ]
                m.d.sync += g_reload
                with m.If(~self.more):
                    m.next = "IDLE"
                with m.Elif(last):
                    m.d.sync += beats_left.eq(kernel_beats - 1)
                    m.next = "KERNELS"
            with m.State("KERNELS"):
                m.d.comb += [self.kernels.valid.eq(self.i.valid), self.i.ready.eq(self.kernels.ready)]
                with m.If(last):
                    m.d.sync += [beats_left.eq(kernel_beats - 1), *g_step]
                    with m.If(g_last):
                        m.d.sync += [beats_left.eq(self.constant_beats - 1), self.passed.eq(1)]
                        m.next = "CONSTANTS"
        return m
