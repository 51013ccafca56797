"""Streams as plain signals, for components whose timing between streams is part of what they promise."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


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
        for name, member in component.signature.members.items():
            inner = getattr(component, name)
            parts = {name: inner}
            if member.is_signature:
                parts = {name: inner.payload, f"{name}_valid": inner.valid, f"{name}_ready": inner.ready}
            for outer, part in parts.items():
                flow = self.signature.members[outer].flow if outer in self.signature.members else None
                if flow is In:
                    m.d.comb += part.eq(getattr(self, outer))
                elif flow is Out:
                    m.d.comb += getattr(self, outer).eq(part)
        return m
