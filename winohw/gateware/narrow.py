"""Rounding right shift by a run-time amount, then reduction to fewer bits."""

import numpy as np
from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import ArrayLike, NDArray

from winohw.numerics.formats import Rounding, rounding_shift, saturate, wrap

__all__ = ["Narrow"]

#: Shift bits resolved between two registers: two levels of 2:1 multiplexers.
_SHIFT_BITS_A_STAGE = 2


class Narrow(wiring.Component):
    """Computes ``o = saturate(round(i / 2**shift), out_bits)``, one number a cycle.

    With half-up rounding the shifted number keeps one guard bit, which is then added; a number that the addition would
    carry beyond ``out_bits`` keeps its guard bit off instead, so the adder is only ``out_bits`` wide. The pipeline
    never stalls: a parent that has to hold it wraps it in an ``EnableInserter``.

    Latency: ``latency``. Throughput: a number a cycle.

    Parameters
    ----------
    in_width : int
        Bits of the input, 2 or more.
    out_bits : int
        Bits of the output, 2 or more.
    max_shift : int
        Greatest shift, 0 or more.
    rounding : Rounding
        What becomes of the dropped bits.
    saturate : bool
        Whether numbers that do not fit go to the nearest one that does (True) or lose their high bits (False).
    static_shift : bool
        True: ``shift`` only changes while no number is in flight, which saves its pipeline registers. False: every
        number is shifted by the ``shift`` it came with.

    Attributes
    ----------
    latency : int
        Cycles from ``i`` to ``o``; 0 if nothing has to be done.

    Members
    -------
    i : In(signed(in_width))
    shift : In(range(max_shift + 1))
    o : Out(signed(out_bits))

    Raises
    ------
    TypeError
        If ``rounding`` is not a :class:`Rounding`.
    ValueError
        If a width or ``max_shift`` is out of its range.
    """

    def __init__(
        self,
        in_width: int,
        out_bits: int,
        max_shift: int,
        rounding: Rounding = Rounding.HALF_UP,
        *,
        saturate: bool = True,
        static_shift: bool = False,
    ):
        for name, value, least in (("in_width", in_width, 2), ("out_bits", out_bits, 2), ("max_shift", max_shift, 0)):
            if value < least:
                raise ValueError(f"Narrow {name} must be {least} or more, not {value!r}")
        if not isinstance(rounding, Rounding):
            raise TypeError(f"Narrow rounding must be a Rounding, not {rounding!r}")
        self.in_width = in_width
        self.out_bits = out_bits
        self.max_shift = max_shift
        self.rounding = rounding
        self.saturate = saturate
        self.static_shift = static_shift
        self._shift_bits = max_shift.bit_length()
        self._has_guard = rounding is Rounding.HALF_UP and max_shift > 0
        self._has_clamp = saturate and out_bits < in_width
        self.latency = (
            -(-self._shift_bits // _SHIFT_BITS_A_STAGE) + self._has_clamp + (self._has_clamp or self._has_guard)
        )
        super().__init__(
            {
                "i": In(signed(in_width)),
                "shift": In(range(max_shift + 1)),
                "o": Out(signed(out_bits)),
            }
        )

    def model(self, x: ArrayLike, shift: ArrayLike) -> NDArray[np.int64]:
        """What the component computes, for arrays that broadcast against each other."""
        shifted = rounding_shift(x, shift, self.rounding)
        return saturate(shifted, self.out_bits) if self.saturate else wrap(shifted, self.out_bits)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        shifted = self._shifter(m)
        guard = shifted[0] if self._has_guard else None
        number = shifted[1:].as_signed() if self._has_guard else shifted
        if self._has_clamp:
            number, guard, clamp = self._clamp_detector(m, number, guard)
            rounded = number if guard is None else (number + guard)[: self.out_bits].as_signed()
            low = -(1 << (self.out_bits - 1))
            number = Mux(clamp, Mux(number[-1], low, -low - 1), rounded)
        elif guard is not None:
            number = number + guard
        if self._has_clamp or self._has_guard:
            narrowed = Signal(signed(self.out_bits), reset_less=True)
            m.d.sync += narrowed.eq(number)
            number = narrowed
        m.d.comb += self.o.eq(number)
        return m

    def _shifter(self, m: Module) -> Value:
        """The shifted input, registered; with half-up rounding the guard bit is its lowest one."""
        number = Cat(0, self.i).as_signed() if self._has_guard else self.i
        shift = self.shift
        for start in range(0, self._shift_bits, _SHIFT_BITS_A_STAGE):
            level = start // _SHIFT_BITS_A_STAGE
            step = Signal(signed(len(number)), name=f"shifted{level}", reset_less=True)
            digit = shift[:_SHIFT_BITS_A_STAGE]
            m.d.sync += step.eq(number >> (digit << start))
            shift = shift[_SHIFT_BITS_A_STAGE:]
            if not self.static_shift and len(shift):
                later = Signal(len(shift), name=f"shift{level}", reset_less=True)
                m.d.sync += later.eq(shift)
                shift = later
            number = step
        return number

    def _clamp_detector(self, m: Module, number: Value, guard: Value | None) -> tuple[Value, Value | None, Value]:
        """The number's sign and low bits, the guard bit to add, and whether the number is out of range."""
        high = number[self.out_bits - 1 :]
        short = Signal(signed(self.out_bits), reset_less=True)
        clamp = Signal(reset_less=True)
        m.d.sync += [
            short.eq(Cat(number[: self.out_bits - 1], number[-1])),
            clamp.eq(high.any() & ~high.all()),
        ]
        if guard is None:
            return short, None, clamp
        greatest = number[: self.out_bits - 1].all() & ~number[-1]
        safe_guard = Signal(reset_less=True)
        m.d.sync += safe_guard.eq(guard & ~greatest)
        return short, safe_guard, clamp
