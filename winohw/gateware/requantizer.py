# amaranth: UnusedElaboratable=no
"""From int32 sums to int8 pixels, as TFLite's reference kernels do it, or by a shift alone."""

import numpy as np
from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import ArrayLike, NDArray

from winohw.gateware.head_queue import HeadQueue
from winohw.gateware.multiplier import KINDS as MULTIPLIERS
from winohw.gateware.multiplier import Multiplier
from winohw.numerics.requantize import Requantization, ShiftRequantization

__all__ = ["KINDS", "Requantizer"]

#: The kinds of :class:`Requantizer`.
KINDS = ("tflite", "shift")

#: What the 18-bit pieces of the product are made of. The few DSP blocks of an iCE40 are worth more in the array.
_PIECES = {"generic": "generic", "ecp5": "ecp5", "ice40": "lut", "ice40_dual": "lut", "lut": "lut"}
#: Operands are cut here, so that the lower pieces are 17 bits unsigned, which 18-bit signed multipliers take.
_CUT = 17
#: Cycles of each step, in order; the product of kind ``tflite`` takes its multipliers' latency besides.
_ADD_BIAS, _SHIFT_LEFT, _ADD_PIECES, _SHIFT_RIGHT, _ADD_ZERO_POINT, _CLAMP = 1, 2, 4, 2, 1, 3
#: Cycles from the end of the pipeline to the output, through an empty queue.
_QUEUE = 2


class Requantizer(wiring.Component):
    """Computes ``clamp(scale(acc + bias) + output_zero_point)`` for a few sums of one channel a beat.

    Kind ``tflite`` scales by ``multiplier · 2**(shift - 31)`` as TFLite's reference int8 kernels do: a shift to the
    left if ``shift`` is positive, the high half of the doubled product rounded half up, then, if ``shift`` is negative,
    a division by ``2**-shift`` rounded half away from zero. Kind ``shift`` divides by ``2**-shift`` alone, rounded half
    up, and has no multiplier. Additions and the shift to the left wrap at 32 bits; only the zero point's of ``shift``
    does not.

    Constants come with each beat and may differ from beat to beat. Lanes beyond ``count`` are computed like the others.

    Latency: ``latency`` cycles from a beat in to the beat out. Throughput: a beat a cycle. The pipeline never stalls:
    what a stalled output leaves in it collects in a queue, and ``i`` is ready as long as there is room. ``i.ready``
    comes from a register.

    Parameters
    ----------
    lanes : int
        Sums a beat, 1 or more.
    kind : str
        One of :data:`KINDS`.
    multiplier : str
        Kind of the four 18-bit multipliers a lane, see :class:`~winohw.gateware.multiplier.Multiplier`. With
        ``ice40`` and ``ice40_dual`` they are made of LUTs. Not used by kind ``shift``.
    slack : int
        Beats for which there is still room when ``i.ready`` has gone low. A sender with so much slack need not look at
        ``i.ready`` with every beat: what comes is taken.

    Attributes
    ----------
    latency : int
        Cycles from an accepted beat to its output, if nothing waits.
    depth : int
        Beats that the queue holds.

    Members
    -------
    i : stream of {acc: [lanes] signed(32), bias: signed(32), multiplier: unsigned(31), shift: signed(6), count, last}
        ``shift`` is between -31 and 30, with kind ``shift`` at most 0. ``count`` (0 to ``lanes``) and ``last`` are
        handed on.
    o : stream of {pixels: [lanes] signed(8), count, last}
    output_zero_point, act_min, act_max : In(signed(8))
        Constant while beats are under way.

    Raises
    ------
    ValueError
        If ``lanes`` is below 1 or a kind unknown.

    Source: see :mod:`winohw.numerics.requantize`.
    """

    def __init__(self, lanes: int, kind: str = "tflite", multiplier: str = "generic", slack: int = 0):
        if lanes < 1:
            raise ValueError(f"Requantizer lanes must be 1 or more, not {lanes!r}")
        if kind not in KINDS:
            raise ValueError(f"Requantizer kind must be one of {', '.join(KINDS)}, not {kind!r}")
        if multiplier not in MULTIPLIERS:
            raise ValueError(f"Requantizer multiplier must be one of {', '.join(MULTIPLIERS)}, not {multiplier!r}")
        if slack < 0:
            raise ValueError(f"Requantizer slack must be 0 or more, not {slack!r}")
        self.lanes = lanes
        self.kind = kind
        self.multiplier = multiplier
        self.slack = slack
        self._scaling = 0
        if kind == "tflite":
            self._scaling = _SHIFT_LEFT + Multiplier(18, 18, _PIECES[multiplier]).latency + _ADD_PIECES
        self._pipeline = _ADD_BIAS + self._scaling + _SHIFT_RIGHT + _ADD_ZERO_POINT + _CLAMP
        self.latency = self._pipeline + _QUEUE
        # The room of a beat is free again two cycles after it left; the queue takes a power of two.
        self.depth = 1 << (self.latency + slack + 2).bit_length()
        count = range(lanes + 1)
        super().__init__(
            {
                "i": In(
                    stream.Signature(
                        data.StructLayout(
                            {
                                "acc": data.ArrayLayout(signed(32), lanes),
                                "bias": signed(32),
                                "multiplier": unsigned(31),
                                "shift": signed(6),
                                "count": count,
                                "last": 1,
                            }
                        )
                    )
                ),
                "o": Out(
                    stream.Signature(
                        data.StructLayout({"pixels": data.ArrayLayout(signed(8), lanes), "count": count, "last": 1})
                    )
                ),
                "output_zero_point": In(signed(8)),
                "act_min": In(signed(8)),
                "act_max": In(signed(8)),
            }
        )

    def model(
        self,
        acc: ArrayLike,
        bias: ArrayLike,
        multiplier: ArrayLike,
        shift: ArrayLike,
        output_zero_point: int,
        act_min: int,
        act_max: int,
    ) -> NDArray[np.int8]:
        """Pixels ``[beats, lanes]`` of sums ``acc`` of that shape; bias, multiplier and shift have an entry a beat."""
        clamp = (output_zero_point, act_min, act_max)
        if self.kind == "shift":
            constants = ShiftRequantization(bias, shift, *clamp)
        else:
            constants = Requantization(bias, multiplier, shift, *clamp)
        return constants.apply(np.asarray(acc).T).T

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.queue = queue = HeadQueue(self.o.payload.shape(), self.depth)
        i = self.i.payload

        # Every beat under way has a place in the queue, so that the pipeline never has to wait.
        taken = Signal(range(self.depth + 1))
        accepted = self.i.valid if self.slack else self.i.valid & self.i.ready
        left = self.o.valid & self.o.ready
        has_room = Signal(init=1)  # one cycle old: the beat that is accepted now may not be counted yet
        m.d.comb += self.i.ready.eq(has_room)
        m.d.sync += [taken.eq(taken + accepted - left), has_room.eq(taken < self.depth - 1 - self.slack)]
        valid = Signal(self._pipeline)
        m.d.sync += valid.eq(Cat(accepted, valid))

        right = _delayed(m, Mux(i.shift < 0, -i.shift, 0)[:5], _ADD_BIAS + self._scaling, "right")
        sums = [_registered(m, (acc + i.bias)[:32].as_signed(), "biased") for acc in i.acc]
        if self.kind == "tflite":
            left_shift = _registered(m, Mux(i.shift < 0, 0, i.shift)[:5], "left")
            factor = _delayed(m, i.multiplier, _ADD_BIAS + _SHIFT_LEFT, "factor")
            sums = [self._product(m, _shifted_left(m, x, left_shift), factor) for x in sums]
        beat = Signal(self.o.payload.shape())
        m.d.comb += [
            beat.count.eq(_delayed(m, i.count, self._pipeline, "count")),
            beat.last.eq(_delayed(m, i.last, self._pipeline, "last")),
        ]
        for lane, x in enumerate(sums):
            m.d.comb += beat.pixels[lane].eq(self._clamped(m, self._divided(m, x, right)))
        m.d.comb += [
            queue.i.payload.eq(beat),
            queue.i.valid.eq(valid[-1]),
            self.o.payload.eq(queue.head),
            self.o.valid.eq(queue.filled),
            queue.pop.eq(left),
        ]
        return m

    def _product(self, m: Module, x: Value, factor: Value) -> Value:
        """``round(x · factor / 2**31)``, half up, of 32 bits signed and 31 unsigned."""
        low_x, high_x = Cat(x[:_CUT], 0).as_signed(), x[_CUT:].as_signed()
        low_factor, high_factor = Cat(factor[:_CUT], 0).as_signed(), Cat(factor[_CUT:], 0).as_signed()

        def piece(a: Value, b: Value) -> Value:
            # As wide for all at `b`, which is what the latency of the kind `lut` depends on.
            m.submodules += (cell := Multiplier(len(a), _CUT + 1, _PIECES[self.multiplier]))
            m.d.comb += [cell.a[0].eq(a), cell.b[0].eq(b), cell.b_en.eq(1)]
            return cell.p[0]

        # Outer pieces stand side by side, 34 bits and 29; the inner ones are added across them, 17 bits up. No adder
        # is wider than 33 bits.
        outer = Cat(piece(low_x, low_factor)[: 2 * _CUT], piece(high_x, high_factor)[:29])
        inner = _registered(m, (piece(low_x, high_factor) + piece(high_x, low_factor))[:33].as_signed(), "inner")
        outer = _registered(m, outer[_CUT:], "outer")
        half = len(outer) // 2
        low = _registered(m, outer[:half] + inner[:half], "product_low")
        high_outer = _registered(m, outer[half:].as_signed(), "outer_high")
        high_inner = _registered(m, inner[half:].as_signed(), "inner_high")
        high = _registered(m, (high_outer + high_inner + low[half])[:half].as_signed(), "product_high")
        product = Cat(_registered(m, low[:half], "product_low"), high)
        fraction = 31 - _CUT
        return _registered(m, (product[fraction:].as_signed() + product[fraction - 1])[:32].as_signed(), "product")

    def _divided(self, m: Module, x: Value, exponent: Value) -> Value:
        """``round(x / 2**exponent) + output_zero_point``; ties, and what becomes of the sum, as the kind has them."""
        x, sticky = Cat(0, x).as_signed(), Const(0, 1)  # the lowest bit is the guard bit: half a unit
        for first, bits in ((0, 3), (3, 2)):
            dropped = Signal()
            with m.Switch(exponent[:bits]):
                for digit in range(1, 1 << bits):
                    with m.Case(digit):
                        m.d.comb += dropped.eq(x[: digit << first].any())
            x = _registered(m, x >> (exponent[:bits] << first), "divided")
            sticky = _registered(m, sticky | dropped, "sticky")
            exponent = _registered(m, exponent[bits:], "exponent")
        carry = x[0]
        if self.kind == "tflite":
            carry = x[0] & (~x[-1] | sticky)  # a tie below zero goes down
        # A one in front of the carry makes it the carry into the adder of the others.
        # TFLite's sum wraps at 32 bits, the other does not.
        bits = 32 + (self.kind == "shift")
        x = Cat(x[1:], x[-1])[:bits]
        zero_point = Cat(self.output_zero_point, self.output_zero_point[-1].replicate(bits - 8))
        return _registered(m, (Cat(1, x) + Cat(carry, zero_point))[1 : bits + 1].as_signed(), "offset")

    def _clamped(self, m: Module, x: Value) -> Value:
        """``x`` between ``act_min`` and ``act_max``; first between the limits of 8 bits, for narrow comparisons."""
        outside = x[7:].any() & ~x[7:].all()
        pixel = _registered(m, Mux(outside, Mux(x[-1], -128, 127), x[:8].as_signed()), "pixel")
        # Signs of differences: a comparison would put logic behind the carry chain.
        below = _registered(m, (pixel - self.act_min)[-1], "below")
        above = _registered(m, (self.act_max - pixel)[-1], "above")
        pixel = _registered(m, pixel, "pixel")
        return _registered(m, Mux(below, self.act_min, Mux(above, self.act_max, pixel)), "pixel")


def _shifted_left(m: Module, x: Value, shift: Value) -> Value:
    """``x << shift``, of 32 bits."""
    x = _registered(m, (x << shift[:3])[:32], "shifted")
    return _registered(m, (x << (_registered(m, shift[3:], "left") << 3))[:32].as_signed(), "shifted")


def _registered(m: Module, value: Value, name: str) -> Signal:
    register = Signal(value.shape(), name=name, reset_less=True)
    m.d.sync += register.eq(value)
    return register


def _delayed(m: Module, value: Value, cycles: int, name: str) -> Value:
    for _ in range(cycles):
        value = _registered(m, value, name)
    return value
