"""The ports of a component as a simulation sees them: streams, constants, status."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Value
from amaranth.lib import stream, wiring

from .payload import PayloadCodec


@dataclass(frozen=True)
class Port:
    """A stream, or a plain signal, at the boundary of a component.

    A plain signal counts as a stream that transfers in every cycle.

    Attributes
    ----------
    name : str
        Dotted for members of nested interfaces and arrays: ``bus.o``, ``lanes.0``.
    is_input : bool
        Seen from the component.
    is_stream : bool
        False for a plain signal.
    has_valid, has_ready : bool
        False where the signature declares ``always_valid`` or ``always_ready``, and for plain signals.
    codec : PayloadCodec
        Of the payload.
    payload, valid, ready : Value
        Signals; constants where the signature says always.
    """

    name: str
    is_input: bool
    is_stream: bool
    has_valid: bool
    has_ready: bool
    codec: PayloadCodec
    payload: Value
    valid: Value | None = None
    ready: Value | None = None

    @property
    def can_stall(self) -> bool:
        """Whether the outer end of the stream can refuse a transfer."""
        return self.has_valid if self.is_input else self.has_ready


def component_ports(component: wiring.Component) -> dict[str, Port]:
    """All ports of a component by dotted name.

    Raises
    ------
    TypeError
        If it is not an ``amaranth.lib.wiring.Component``.
    """
    if not isinstance(component, wiring.Component):
        raise TypeError(f"A component is needed, not {component!r}")
    return {port.name: port for port in _ports(component, component.signature, "")}


def _ports(interface: Any, signature: wiring.Signature, prefix: str) -> Iterator[Port]:
    for name, member in signature.members.items():
        is_input = member.flow is wiring.In
        for path, item in _items(f"{prefix}{name}", getattr(interface, name), member.dimensions):
            if member.is_port:
                yield Port(path, is_input, False, False, False, PayloadCodec(member.shape), Value.cast(item))
            elif isinstance(inner := member.signature, stream.Signature):
                yield Port(
                    path,
                    is_input,
                    True,
                    not inner.always_valid,
                    not inner.always_ready,
                    PayloadCodec(inner.members["payload"].shape),
                    Value.cast(item.payload),
                    item.valid,
                    item.ready,
                )
            else:
                yield from _ports(item, inner, f"{path}.")


def _items(path: str, item: Any, dimensions: tuple[int, ...]) -> Iterator[tuple[str, Any]]:
    if not dimensions:
        yield path, item
        return
    for index in range(dimensions[0]):
        yield from _items(f"{path}.{index}", item[index], dimensions[1:])


def select_ports(ports: Mapping[str, Port], names: Iterable[str], *, inputs: bool) -> dict[str, Port]:
    """The named ports, all of one direction.

    Raises
    ------
    ValueError
        If there is no such port in that direction; the message lists those there are.
    """
    offered = {name: port for name, port in ports.items() if port.is_input is inputs}
    for name in names:
        if name not in offered:
            direction = "input" if inputs else "output"
            known = ", ".join(offered) or "none"
            raise ValueError(f"The component has no {direction} {name!r}; its {direction}s are: {known}")
    return {name: offered[name] for name in names}
