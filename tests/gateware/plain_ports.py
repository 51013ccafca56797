"""Streams as plain signals, for components whose timing between streams is part of what they promise."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In


class PlainPorts(wiring.Component):
    """A component with each stream ``s`` replaced by the signals ``s`` (its payload), ``s_valid`` and ``s_ready``."""

    def __init__(self, component: wiring.Component):
        self.component = component
        members = {}
        for name, member in component.signature.members.items():
            if member.is_port:
                members[name] = member
                continue
            inner = member.signature.members
            members[name] = member.flow(inner["payload"].shape)
            members[f"{name}_valid"] = member.flow(1)
            if not member.signature.always_ready:
                members[f"{name}_ready"] = member.flow.flip()(1)
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.component = component = self.component
        for name, member in self.signature.members.items():
            stream, _, part = name.rpartition("_")
            if stream in component.signature.members:
                inner = getattr(getattr(component, stream), part)
            elif component.signature.members[name].is_port:
                inner = getattr(component, name)
            else:
                inner = getattr(component, name).payload
            outer = getattr(self, name)
            m.d.comb += inner.eq(outer) if member.flow is In else outer.eq(inner)
        return m
