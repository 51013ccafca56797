"""Streams as plain signals, for components whose timing between streams is part of what they promise."""

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In


class PlainPorts(wiring.Component):
    """A component with each always-ready stream ``s`` replaced by the signals ``s`` (its payload) and ``s_valid``."""

    def __init__(self, component: wiring.Component):
        self.component = component
        members = {}
        for name, member in component.signature.members.items():
            if member.is_signature:
                assert isinstance(member.signature, stream.Signature)
                assert member.signature.always_ready
                members[name] = member.flow(member.signature.members["payload"].shape)
                members[f"{name}_valid"] = member.flow(1)
            else:
                members[name] = member
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.component = component = self.component
        for name, member in component.signature.members.items():
            inner = getattr(component, name)
            pairs = [(getattr(self, name), inner)]
            if member.is_signature:
                pairs = [(getattr(self, name), inner.payload), (getattr(self, f"{name}_valid"), inner.valid)]
            for outside, inside in pairs:
                m.d.comb += inside.eq(outside) if member.flow is In else outside.eq(inside)
        return m
