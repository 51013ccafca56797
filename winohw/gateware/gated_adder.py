"""An adder that can leave its second operand out, in the cells of the adder alone."""

import numpy as np
from amaranth.hdl import Cat, Const, Instance, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import ArrayLike, NDArray

__all__ = ["GatedAdder"]

# LUT4 of a CCU2C with D = 1: A ^ (B & ~C), what is added in a bit. With C = D = 0: A, its carry if that is zero.
_CCU2C_INIT = Const(0xA6AA, 16)


class GatedAdder(wiring.Component):
    """Computes ``o = a if alone else a + b``, modulo ``2**width``, without a register.

    Yosys puts the gate before the adder: a LUT more a bit, and its delay. ``ecp5`` has the gate in the LUTs of the
    adder itself (CCU2C).

    Parameters
    ----------
    width : int
        Bits, 1 or more.
    kind : str
        ``"generic"``, ``"ecp5"`` or ``"ice40"``.

    Members
    -------
    a, b : In(width)
    alone : In(1)
    o : Out(width)

    Raises
    ------
    ValueError
        If the width or the kind is none of these.
    """

    def __init__(self, width: int, kind: str = "generic"):
        if width < 1:
            raise ValueError(f"GatedAdder width must be 1 or more, not {width!r}")
        if kind not in ("generic", "ecp5", "ice40"):
            raise ValueError(f"GatedAdder kind must be 'generic', 'ecp5' or 'ice40', not {kind!r}")
        self.width = width
        self.kind = kind
        super().__init__({"a": In(width), "b": In(width), "alone": In(1), "o": Out(width)})

    def model(self, a: ArrayLike, b: ArrayLike, alone: ArrayLike) -> NDArray[np.int64]:
        """What the component computes; for widths of up to 62 bits."""
        return (np.asarray(a, np.int64) + np.where(alone, 0, b)) % (1 << self.width)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        if self.kind != "ecp5":
            m.d.comb += self.o.eq(self.a + Mux(self.alone, 0, self.b))
            return m
        a, b = Cat(self.a, Const(0, 1)), Cat(self.b, Const(0, 1))
        carry = Const(0)
        for low in range(0, self.width, 2):
            total = Signal(2, name=f"sum{low}")
            carry_out = Signal(name=f"carry{low}")
            halves = {
                name: value
                for k in range(2)
                for name, value in {
                    f"p_INIT{k}": _CCU2C_INIT,
                    f"p_INJECT1_{k}": "NO",
                    f"i_A{k}": a[low + k],
                    f"i_B{k}": b[low + k],
                    f"i_C{k}": self.alone,
                    f"i_D{k}": Const(1),
                    f"o_S{k}": total[k],
                }.items()
            }
            m.submodules[f"cell{low}"] = Instance("CCU2C", **halves, i_CIN=carry, o_COUT=carry_out)
            m.d.comb += self.o[low : low + 2].eq(total)
            carry = carry_out
        return m
