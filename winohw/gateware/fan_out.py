"""Copies of a control signal, each for a part of a wide datapath."""

from amaranth.hdl import ClockSignal, Const, Instance, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["FanOut"]


class FanOut(wiring.Component):
    """Registers ``i`` once a copy, so that no net has to reach all of a wide datapath: ``o[k] = i`` a cycle later.

    Yosys merges equal registers into one. Those of kind ``ecp5`` are instances of TRELLIS_FF, which it leaves alone;
    ``generic`` ones are merged. There is no reset: copies follow ``i`` a cycle later also then.

    Latency: ``latency``.

    Parameters
    ----------
    width : int
        Bits of the signal.
    copies : int
        Copies, 1 or more.
    kind : str
        ``"generic"`` or ``"ecp5"``.

    Attributes
    ----------
    latency : int
        Cycles: 1.

    Members
    -------
    i : In(width)
    o : Out(ArrayLayout(width, copies))

    Raises
    ------
    ValueError
        If there is nothing to copy, no copy, or the kind is unknown.
    """

    latency = 1

    def __init__(self, width: int, copies: int, kind: str = "generic"):
        if width < 1:
            raise ValueError(f"FanOut width must be 1 or more, not {width!r}")
        if copies < 1:
            raise ValueError(f"FanOut copies must be 1 or more, not {copies!r}")
        if kind not in ("generic", "ecp5"):
            raise ValueError(f"FanOut kind must be 'generic' or 'ecp5', not {kind!r}")
        self.width = width
        self.copies = copies
        self.kind = kind
        super().__init__({"i": In(width), "o": Out(data.ArrayLayout(width, copies))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        if self.kind == "generic":
            held = Signal(self.width, reset_less=True)
            m.d.sync += held.eq(self.i)
            m.d.comb += [copy.eq(held) for copy in self.o]
            return m
        for k, copy in enumerate(self.o):
            for bit in range(self.width):
                m.submodules[f"copy{k}_{bit}"] = Instance(
                    "TRELLIS_FF",
                    p_GSR="AUTO",
                    p_CEMUX="1",
                    p_CLKMUX="CLK",
                    p_LSRMUX="LSR",
                    p_REGSET="RESET",
                    i_CLK=ClockSignal(),
                    i_LSR=Const(0),
                    i_DI=self.i[bit],
                    o_Q=copy[bit],
                )
        return m
