"""Copies of a control signal, each for a part of a wide datapath."""

from amaranth.hdl import ClockSignal, Const, Instance, Module, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["FanOut"]

#: Kinds of memories and multipliers. Only registers of ``ecp5`` stay apart.
_KINDS = ("generic", "ecp5", "ice40", "ice40_dual", "lut")


class FanOut(wiring.Component):
    """Registers ``i`` once a copy, so that no net has to reach all of a wide datapath: ``o[k] = i`` some cycles later.

    Yosys merges equal registers into one. Those of kind ``ecp5`` are instances of TRELLIS_FF, which it leaves alone;
    all others are merged. There is no reset: copies follow ``i`` also then. With two levels, a few registers feed
    the copies of a part of the datapath each.

    Latency: ``latency``.

    Parameters
    ----------
    width : int
        Bits of the signal.
    copies : int
        Copies, 1 or more.
    kind : str
        Of the memories or multipliers that are fed: ``"generic"``, ``"ecp5"``, ``"ice40"``, ``"ice40_dual"`` or
        ``"lut"``.
    levels : int
        1 or 2.

    Attributes
    ----------
    latency : int
        Cycles: ``levels``.

    Members
    -------
    i : In(width)
    o : Out(ArrayLayout(width, copies))

    Raises
    ------
    ValueError
        If there is nothing to copy, no copy, or the kind or the number of levels is unknown.
    """

    def __init__(self, width: int, copies: int, kind: str = "generic", levels: int = 1):
        if width < 1:
            raise ValueError(f"FanOut width must be 1 or more, not {width!r}")
        if copies < 1:
            raise ValueError(f"FanOut copies must be 1 or more, not {copies!r}")
        if kind not in _KINDS:
            raise ValueError(f"FanOut kind must be one of {', '.join(_KINDS)}, not {kind!r}")
        if levels not in (1, 2):
            raise ValueError(f"FanOut levels must be 1 or 2, not {levels!r}")
        self.levels = self.latency = levels
        self.width = width
        self.copies = copies
        self.kind = kind
        super().__init__({"i": In(width), "o": Out(data.ArrayLayout(width, copies))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        sources = [self.i]
        if self.levels == 2:
            roots = round(self.copies**0.5)
            first = [Signal(self.width, name=f"first{k}", reset_less=True) for k in range(roots)]
            self._register(m, "first", [self.i] * roots, first)
            sources = first
        self._register(m, "copy", [sources[k * len(sources) // self.copies] for k in range(self.copies)], list(self.o))
        return m

    def _register(self, m: Module, name: str, sources: list[Value], copies: list[Value]) -> None:
        """Each copy is its source a cycle later."""
        if self.kind != "ecp5":
            held: dict[int, Signal] = {}
            for source, copy in zip(sources, copies, strict=True):
                if id(source) not in held:
                    held[id(source)] = register = Signal(self.width, name=f"{name}_held{len(held)}", reset_less=True)
                    m.d.sync += register.eq(source)
                m.d.comb += copy.eq(held[id(source)])
            return
        for k, (source, copy) in enumerate(zip(sources, copies, strict=True)):
            for bit in range(self.width):
                m.submodules[f"{name}{k}_{bit}"] = Instance(
                    "TRELLIS_FF",
                    p_GSR="AUTO",
                    p_CEMUX="1",
                    p_CLKMUX="CLK",
                    p_LSRMUX="LSR",
                    p_REGSET="RESET",
                    i_CLK=ClockSignal(),
                    i_LSR=Const(0),
                    i_DI=source[bit],
                    o_Q=copy[bit],
                )
