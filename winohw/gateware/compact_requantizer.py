"""The requantizer of a compact engine: a shift, for one sum a beat."""

from __future__ import annotations

import numpy as np
from amaranth.hdl import Array, Cat, Const, EnableInserter, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import ArrayLike, NDArray

from winohw.gateware.pipeline import delayed
from winohw.numerics.requantize import ShiftRequantization

__all__ = ["CompactRequantizer"]


#: Bits of a value and its guard bit, beyond which no zero point brings it back into the range of a pixel.
_ENOUGH = 10


def _unfit(x: Value, bits: int) -> Value:
    """Whether a signed number needs more bits."""
    return x[bits - 1 :].any() & ~x[bits - 1 :].all()


class CompactRequantizer(wiring.Component):
    """Computes ``clamp(round((acc + bias) / 2**-shift) + output_zero_point)``, rounded half up.

    What `winohw.gateware.requantizer.Requantizer` of kind ``shift`` does, for a single lane and without a queue.

    Latency: ``latency`` cycles. Throughput: a beat a cycle. Backpressure: a waiting beat stops the whole pipeline, and
    ``i.ready`` depends on ``o.ready`` in the same cycle.

    Parameters
    ----------
    sum_bits : int
        Bits that any sum fits together with its bias, 10 to 32; sums wrap at that width.

    Attributes
    ----------
    latency : int
        Cycles: 7.

    Members
    -------
    i : In(stream.Signature(StructLayout({acc: signed(32), bias: signed(32), shift: signed(6), last: 1})))
        ``shift`` is within -31 … 0.
    o : Out(stream.Signature(StructLayout({pixel: signed(8), last: 1})))
    output_zero_point, act_min, act_max : In(signed(8))
        Constant while beats are under way.
    """

    latency = 7

    def __init__(self, sum_bits: int = 32) -> None:
        if not 10 <= sum_bits <= 32:
            raise ValueError(f"sum_bits must be within 10 ... 32, not {sum_bits!r}")
        self.sum_bits = sum_bits
        super().__init__(
            {
                "i": In(
                    stream.Signature(
                        data.StructLayout({"acc": signed(32), "bias": signed(32), "shift": signed(6), "last": 1})
                    )
                ),
                "o": Out(stream.Signature(data.StructLayout({"pixel": signed(8), "last": 1}))),
                "output_zero_point": In(signed(8)),
                "act_min": In(signed(8)),
                "act_max": In(signed(8)),
            }
        )

    def model(
        self,
        acc: ArrayLike,
        bias: ArrayLike,
        shift: ArrayLike,
        output_zero_point: int,
        act_min: int,
        act_max: int,
    ) -> NDArray[np.int8]:
        """Pixels of sums, bias and shift, one axis each."""
        return ShiftRequantization(bias, shift, output_zero_point, act_min, act_max).apply(acc)

    def elaborate(self, platform: object) -> Module:
        m, stages = Module(), Module()
        enable = Signal()
        m.d.comb += [enable.eq(~self.o.valid | self.o.ready), self.i.ready.eq(enable)]
        m.submodules.stages = EnableInserter(enable)(stages)

        def registered(value: Value, name: str) -> Signal:
            register = Signal(value.shape(), name=name, reset_less=True)
            stages.d.sync += register.eq(value)
            return register

        i = self.i.payload
        exponent = registered((-i.shift)[:5], "exponent")
        # The lowest bit is the guard bit: half a unit.
        x = Cat(0, registered((i.acc + i.bias)[: self.sum_bits], "biased")).as_signed()
        outside, negative = Const(0, 1), x[-1]
        for first in (3, 1, 0):
            amounts = [k << first for k in range(1 << len(exponent[first:]))]
            # What no longer fits stays too large for a pixel, by whatever it is yet to be shifted.
            bits = _ENOUGH + (1 << first) - 1
            amount = Array(amounts)[exponent[first:]]
            unfit = Array([_unfit(x >> amount, bits) for amount in amounts])[exponent[first:]]
            outside, negative = registered(outside | unfit, "outside"), registered(negative, "negative")
            x = registered((x >> amount)[:bits].as_signed(), "shifted")
            if first:
                exponent = registered(exponent[:first], "exponent")
        # A one in front of the guard bit makes it the carry into the adder of the others.
        zero_point = Cat(x[0], self.output_zero_point, self.output_zero_point[-1].replicate(len(x) - 8))
        x = registered((Cat(1, x[1:], x[-1]) + zero_point)[1 : len(x) + 1].as_signed(), "offset")
        outside, negative = registered(outside, "outside"), registered(negative, "negative")
        outside |= _unfit(x, 8)
        pixel = registered(Mux(outside, Mux(negative, -128, 127), x[:8].as_signed()), "pixel")
        clamped = Mux(pixel < self.act_min, self.act_min, Mux(pixel > self.act_max, self.act_max, pixel))
        stages.d.sync += self.o.payload.pixel.eq(clamped)
        m.d.comb += [
            self.o.valid.eq(delayed(stages, self.i.valid, self.latency, name="valid")),
            self.o.payload.last.eq(delayed(stages, i.last, self.latency, name="last", reset_less=True)),
        ]
        return m
