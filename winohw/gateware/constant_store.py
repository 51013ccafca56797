# amaranth: UnusedElaboratable=no
"""Where requantization constants wait until their output channels come: in registers, or in block memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from amaranth import Cat, Module, Signal, Value, signed
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import NDArray

from winohw.gateware.memory import MEMORY_OUTPUT
from winohw.gateware.weight_loader import CONSTANT_BYTES, constants_layout

__all__ = ["ConstantMemory", "ConstantRegisters", "constants_signature"]


def constants_signature(output_lanes: int) -> wiring.Signature:
    """How constants are fetched, as who has them sees it.

    Members
    -------
    valid : Out(1)
        Those of another group of output channels have come.
    take : In(1)
        Go on to them, and forget those before; only with `valid`.
    lane : In(range(output_lanes))
        Whose constants are wanted in the next cycle.
    o : Out(constants_layout())
        The constants of the output lane that was told a cycle before.
    """
    return wiring.Signature(
        {"valid": Out(1), "take": In(1), "lane": In(range(output_lanes)), "o": Out(constants_layout())}
    )


class _ConstantStore(wiring.Component):
    """Takes constants in beats, those of each lane filled up to whole beats.

    Constants of two groups are kept: those in use, and those that come.

    Latency: 1 cycle from a group's last beat to `valid`. Throughput: a beat a cycle. Backpressure: `i` waits from a
    group's last beat on until it is taken.

    Parameters
    ----------
    beat_bytes : int
        Bytes a beat, 1 or more.
    output_lanes : int
        Pk, 1 or more.

    Members
    -------
    i : In(stream.Signature(ArrayLayout(signed(8), beat_bytes)))
    constants : Out(constants_signature(output_lanes))

    Raises
    ------
    ValueError
        If a parameter is out of its range.
    """

    def __init__(self, *, beat_bytes: int = 1, output_lanes: int = 1):
        for name, value in (("beat_bytes", beat_bytes), ("output_lanes", output_lanes)):
            if value < 1:
                raise ValueError(f"{name} must be 1 or more, not {value!r}")
        self.beat_bytes = beat_bytes
        self.output_lanes = output_lanes
        #: Beats of the constants of one lane.
        self.lane_beats = -(-CONSTANT_BYTES // beat_bytes)
        super().__init__(
            {
                "i": In(stream.Signature(data.ArrayLayout(signed(8), beat_bytes))),
                "constants": Out(constants_signature(output_lanes)),
            }
        )

    def model(self, beats: NDArray[np.integer]) -> NDArray[Any]:
        """Constants ``[group][lane]``, as `constants_layout` has them, of whole groups."""
        fields = np.dtype([("bias", "<i4"), ("multiplier", "<i4"), ("shift", "i1")])
        table = np.ascontiguousarray(beats, np.int8).reshape(-1, self.output_lanes, self.lane_beats * self.beat_bytes)
        return np.ascontiguousarray(table[:, :, :CONSTANT_BYTES]).view(fields)[:, :, 0]

    def _count(self, m: Module) -> tuple[Signal, Signal, Signal]:
        """Which beat of which lane comes, and whether it is taken."""
        beat, lane = Signal(range(self.lane_beats)), Signal(range(self.output_lanes))
        taken, port = Signal(), self.constants
        m.d.comb += [self.i.ready.eq(~port.valid), taken.eq(self.i.valid & self.i.ready)]
        with m.If(port.take):
            m.d.sync += port.valid.eq(0)
        with m.If(taken):
            m.d.sync += beat.eq(beat + 1)
            with m.If(beat == self.lane_beats - 1):
                m.d.sync += [beat.eq(0), lane.eq(lane + 1)]
                with m.If(lane == self.output_lanes - 1):
                    m.d.sync += [lane.eq(0), port.valid.eq(1)]
        return beat, lane, taken


class ConstantRegisters(_ConstantStore):
    __doc__ = _ConstantStore.__doc__

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits, port = 8 * self.beat_bytes, self.constants
        beat, lane, taken = self._count(m)
        coming = [Signal(bits * self.lane_beats, name=f"coming{k}", reset_less=True) for k in range(self.output_lanes)]
        in_use = Signal(data.ArrayLayout(constants_layout(), self.output_lanes), reset_less=True)
        wanted = Signal.like(port.lane)
        for k, constants in enumerate(coming):
            for number in range(self.lane_beats):
                with m.If(taken & (lane == k) & (beat == number)):
                    m.d.sync += constants[number * bits :][:bits].eq(self.i.payload.as_value())
        with m.If(port.take):
            m.d.sync += [
                entry.as_value().eq(constants[: 8 * CONSTANT_BYTES])
                for entry, constants in zip(in_use, coming, strict=True)
            ]
        m.d.sync += wanted.eq(port.lane)
        m.d.comb += port.o.eq(in_use[wanted])
        return m


class ConstantMemory(_ConstantStore):
    __doc__ = _ConstantStore.__doc__

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits, port = 8 * self.beat_bytes, self.constants
        beat, lane, taken = self._count(m)
        # Too small for Yosys to think of block memory by itself.
        m.submodules.words = words = memory.Memory(
            shape=data.ArrayLayout(bits, self.lane_beats),
            depth=2 << (self.output_lanes - 1).bit_length(),
            init=[],
            attrs={"ram_style": "block", "no_rw_check": 1},
        )
        write, read = words.write_port(granularity=1), words.read_port(domain="comb")
        half, lane_bits = Signal(), (self.output_lanes - 1).bit_length()  # the half in use
        now = Signal()
        given = Signal(len(Value.cast(read.data)), name=MEMORY_OUTPUT, reset_less=True)
        m.d.comb += [
            now.eq(half ^ port.take),
            write.en.eq(taken << beat),
            write.addr.eq(Cat(lane[:lane_bits], ~half)),
            Value.cast(write.data).eq(self.i.payload.as_value().replicate(self.lane_beats)),
            read.addr.eq(Cat(port.lane[:lane_bits], now)),
            port.o.as_value().eq(given[: 8 * CONSTANT_BYTES]),
        ]
        m.d.sync += [half.eq(now), given.eq(Value.cast(read.data))]
        return m
