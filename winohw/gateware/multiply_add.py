"""Multipliers with an adder behind them, which is that of the DSP block where it has one that is wide enough."""

from __future__ import annotations

import numpy as np
from amaranth.hdl import Cat, Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import ArrayLike, NDArray

from winohw.algorithm.modular import wrap
from winohw.gateware.multiplier import (
    Multiplier,
    check_parameters,
    multiplier_latency,
    products_per_cell,
    sb_mac16,
)

__all__ = ["MultiplyAdd"]

_SB_MAC16_ADDER = 32


class MultiplyAdd(wiring.Component):
    """Computes ``p[k] = a[k] * b[k] + c[k]`` modulo ``2**width``, one or two independent sums a cell.

    For multipliers of kind ``ice40`` and up to 32 bits, all of it is one SB_MAC16; its product is registered in front
    of its adder. For others a :class:`Multiplier` and adders of logic do the same, cycle for cycle.

    Latency: ``latency``, from ``a`` and ``b`` to ``p``; from ``c`` one cycle. Throughput: ``products`` a cycle.

    Parameters
    ----------
    a_width, b_width : int
        Bits of the operands, as those of :class:`Multiplier`.
    width : int
        Bits of ``c`` and ``p``, 1 or more.
    kind : str
        Of the :class:`Multiplier`.

    Attributes
    ----------
    latency : int
        Cycles: one more than the multiplier's.
    products : int
        Products a cell computes.

    Members
    -------
    a : In(ArrayLayout(signed(a_width), products))
    b : In(ArrayLayout(signed(b_width), products))
    c : In(ArrayLayout(signed(width), products))
    p : Out(ArrayLayout(signed(width), products))

    Raises
    ------
    ValueError
        As :class:`Multiplier`, or if the width is below 1.

    Source: Lattice FPGA-TN-02007 (iCE40 DSP).
    """

    def __init__(self, a_width: int, b_width: int, width: int, kind: str = "generic"):
        if width < 1:
            raise ValueError(f"MultiplyAdd width must be 1 or more, not {width!r}")
        check_parameters(a_width, b_width, kind)
        self.a_width = a_width
        self.b_width = b_width
        self.width = width
        self.kind = kind
        self.products = products_per_cell(kind)
        self.latency = multiplier_latency(b_width, kind) + 1
        sums = data.ArrayLayout(signed(width), self.products)
        super().__init__(
            {
                "a": In(data.ArrayLayout(signed(a_width), self.products)),
                "b": In(data.ArrayLayout(signed(b_width), self.products)),
                "c": In(sums),
                "p": Out(sums),
            }
        )

    def model(self, a: ArrayLike, b: ArrayLike, c: ArrayLike) -> NDArray[np.int64]:
        """The sum of a product and the `c` that comes ``latency - 1`` cycles after its operands; up to 63 bits."""
        return wrap(np.asarray(a, np.int64) * np.asarray(b, np.int64) + np.asarray(c, np.int64), self.width)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        if self.kind == "ice40" and self.width <= _SB_MAC16_ADDER:
            # Both halves add the product ("2") to C and D ("1"); the lower one's carry goes to the upper one ("2").
            # What leaves is the register behind the adders ("1").
            addend = Cat(self.c[0], self.c[0][-1].replicate(_SB_MAC16_ADDER - self.width))
            m.submodules.cell, result = sb_mac16(
                self.a,
                self.b,
                16,
                p_PIPELINE_16x16_MULT_REG2=1,
                p_TOPADDSUB_LOWERINPUT=2,
                p_TOPADDSUB_UPPERINPUT=1,
                p_TOPADDSUB_CARRYSELECT=2,
                p_BOTADDSUB_LOWERINPUT=2,
                p_BOTADDSUB_UPPERINPUT=1,
                p_TOPOUTPUT_SELECT=1,
                p_BOTOUTPUT_SELECT=1,
                i_C=addend[16:],
                i_D=addend[:16],
            )
            m.d.comb += self.p[0].eq(result)
            return m
        m.submodules.multiplier = multiplier = Multiplier(self.a_width, self.b_width, self.kind)
        m.d.comb += [multiplier.a.eq(self.a), multiplier.b.eq(self.b), multiplier.b_en.eq(1)]
        for k in range(self.products):
            total = Signal(signed(self.width), name=f"total{k}", reset_less=True)
            m.d.sync += total.eq(multiplier.p[k] + self.c[k])
            m.d.comb += self.p[k].eq(total)
        return m
