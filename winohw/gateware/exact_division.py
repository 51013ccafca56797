# amaranth: UnusedElaboratable=no
"""Exact division of sums by the constant factor of the Winograd matrices."""

import numpy as np
from amaranth.hdl import Module, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import ArrayLike, NDArray

from winohw.algorithm.addergraph import cheapest_inverse
from winohw.algorithm.modular import ExactDivision
from winohw.gateware.linear import LinearNetwork
from winohw.numerics.formats import signed_range

__all__ = ["ExactDivider"]


class ExactDivider(wiring.Component):
    """Computes ``o = i / divisor_squared`` where nothing remains, a number a cycle.

    With ``divisor_squared = 2**k * odd``, the k low bits, which are zero, are dropped, and the rest is multiplied by
    an inverse of ``odd`` modulo ``2**result_bits``, by shifts and adders. So the dividend need only be right modulo
    ``2**acc_bits``, with ``acc_bits = result_bits + k``. The pipeline never stalls: a parent that has to hold it wraps
    it in an ``EnableInserter``.

    Latency: ``latency``. Throughput: a number a cycle.

    Parameters
    ----------
    divisor_squared : int
        1 or more.
    result_bits : int
        Signed width of the quotient.

    Attributes
    ----------
    acc_bits : int
        Width of the dividend.
    latency : int
        Cycles from ``i`` to ``o``; 0 if the divisor is a power of two.

    Members
    -------
    i : In(signed(acc_bits))
    o : Out(signed(result_bits))

    Raises
    ------
    ValueError
        As :class:`ExactDivision`.

    Source: see :class:`ExactDivision`.
    """

    def __init__(self, divisor_squared: int, result_bits: int):
        self.division = ExactDivision(divisor_squared, result_bits)
        self.divisor_squared = divisor_squared
        self.result_bits = result_bits
        self.acc_bits = self.division.acc_bits
        self._multiplier = LinearNetwork([[cheapest_inverse(self.division)]], [signed_range(result_bits)], result_bits)
        self.latency = self._multiplier.latency
        super().__init__({"i": In(signed(self.acc_bits)), "o": Out(signed(result_bits))})

    def model(self, x: ArrayLike) -> NDArray[np.int64]:
        """What the component computes, for an array of dividends."""
        return self.division.divide(x)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.multiplier = multiplier = self._multiplier
        m.d.comb += [
            multiplier.i[0].eq(self.i >> self.division.k),
            self.o.eq(multiplier.o[0]),
        ]
        return m
