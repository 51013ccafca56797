"""A component with any number of port bits, on four pins."""

from typing import Any

from amaranth.hdl import Cat, ClockDomain, ClockSignal, Const, Elaboratable, Module, ResetSignal, Signal, Value
from amaranth.lib import wiring

__all__ = ["COMPONENT", "PINS", "PinWrap"]

#: Names of the wrapped component and of the wrapper's own registers in the netlist.
COMPONENT, PINS = "component", "pins"


class PinWrap(Elaboratable):
    """Puts a component between two registers for each port bit, so that a part's pins do not limit what can be
    placed, nor its pads the clock.

    Inputs come from a shift register, one stage a bit. Each output is registered, then folded into a second shift
    register by exclusive or. Every input can take any value and every output is seen, so synthesis removes nothing
    of the component. The component's domain ``sync`` is reset from a register, as on a board.

    Parameters
    ----------
    component : amaranth.lib.wiring.Component
        In one clock domain, ``sync``.

    Attributes
    ----------
    clk, rst, scan_in, scan_out : Signal
        The pins.
    inputs, outputs : int
        Port bits of the component. The wrapper has ``inputs + 2 * outputs + 3`` registers.

    Raises
    ------
    TypeError
        If it is not a component.
    ValueError
        If it has no outputs.
    """

    def __init__(self, component: wiring.Component):
        if not isinstance(component, wiring.Component):
            raise TypeError(f"A component is needed, whose signature names its ports, not {component!r}")
        self.component = component
        self.clk, self.rst, self.scan_in, self.scan_out = (Signal(name=name) for name in self.pin_names)
        # A stream that is always ready or valid has a constant in that place.
        leaves = component.signature.flatten(component)
        ports = [(member.flow, value) for _, member, item in leaves if not isinstance(value := Value.cast(item), Const)]
        self._inputs = Cat(value for flow, value in ports if flow is wiring.In)
        self._outputs = Cat(value for flow, value in ports if flow is wiring.Out)
        self.inputs, self.outputs = len(self._inputs), len(self._outputs)
        if not self.outputs:
            raise ValueError(f"{type(component).__name__} has no outputs: nothing of it would be left")

    #: Names of the pins, in the order of `pins`.
    pin_names = ("clk", "rst", "scan_in", "scan_out")

    @property
    def pins(self) -> list[Signal]:
        """All pins."""
        return [self.clk, self.rst, self.scan_in, self.scan_out]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.domains.sync = ClockDomain()
        m.domains.scan = ClockDomain(reset_less=True)
        m.d.comb += [ClockSignal("sync").eq(self.clk), ClockSignal("scan").eq(self.clk)]
        setattr(m.submodules, COMPONENT, self.component)
        pins = Module()
        setattr(m.submodules, PINS, pins)

        chain = Signal(self.inputs, reset_less=True)
        pins.d.scan += chain.eq(Cat(self.scan_in, chain))
        m.d.comb += self._inputs.eq(chain)

        outputs = Signal(self.outputs, name="outputs", reset_less=True)
        fold = Signal(self.outputs, name="fold", reset_less=True)
        pins.d.scan += [
            outputs.eq(self._outputs),
            fold.eq(Cat(self.scan_in, fold) ^ outputs),
            self.scan_out.eq(fold[-1:]),
        ]

        reset = Signal(2)
        pins.d.scan += reset.eq(Cat(self.rst, reset))
        m.d.comb += ResetSignal("sync").eq(reset[-1])
        return m
