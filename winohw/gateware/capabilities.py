"""What a board says about itself, as compressed JSON, so that a host needs to know nothing but the port."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, fields
from typing import Any

from winohw import __version__
from winohw.algorithm.toomcook import Winograd, format_points, parse_points
from winohw.gateware.config import EngineConfig
from winohw.numerics.formats import Exact, Narrowing, Quantized, Rounding

__all__ = ["PAGE", "PROTOCOL", "Capabilities"]

#: Version of the protocol, of what `winohw.gateware.frame` and `winohw.gateware.command` say.
PROTOCOL = 1
#: Bytes a page.
PAGE = 192


@dataclass(frozen=True)
class Capabilities:
    """What a board can do.

    Parameters
    ----------
    config : the engine.
    board : name of the board.
    clock : Hz.
    protocol : version of the protocol.
    winohw : version of the package that made the bitstream.
    """

    config: EngineConfig
    board: str = ""
    clock: int = 0
    protocol: int = PROTOCOL
    winohw: str = __version__

    def encode(self) -> bytes:
        """Whole pages; the unused end is zero."""
        packed = zlib.compress(json.dumps(self.record()).encode(), 9)
        return packed + bytes(-len(packed) % PAGE)

    def record(self) -> dict[str, Any]:
        """All of it, for JSON; of the configuration, what differs from the defaults."""
        record = {name: getattr(self, name) for name in ("board", "clock", "protocol", "winohw")}
        return {**record, "engine": _to_json(self.config)}

    @classmethod
    def decode(cls, pages: bytes) -> Capabilities:
        """From whole pages.

        Raises
        ------
        ValueError
            They are not complete, or this version of winohw cannot read them.
        """
        try:
            record: dict[str, Any] = json.loads(zlib.decompressobj().decompress(pages))
            if record["protocol"] != PROTOCOL:
                raise ValueError(f"protocol {record['protocol']}, this host has {PROTOCOL}")
            return cls(_from_json(record.pop("engine")), **record)
        except (zlib.error, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"The board's description of itself cannot be read: {error}") from error


def _to_json(config: EngineConfig) -> dict[str, Any]:
    """Parameters that differ from their defaults."""
    plain = EngineConfig()
    changed = {
        field.name: getattr(config, field.name)
        for field in fields(config)
        if getattr(config, field.name) != getattr(plain, field.name)
    }
    if config.points is not None:
        changed["points"] = format_points(config.points)
    if config.matrices is not None:
        matrices = config.matrices
        parts = zip(("bt", "g", "at"), matrices.shifts, strict=True)
        changed["matrices"] = {name: (getattr(matrices, name) / (1 << shift)).tolist() for name, shift in parts}
        changed["matrices"]["divisor"] = matrices.divisor >> sum(matrices.shifts)
    profile = config.profile
    if isinstance(profile, Quantized):
        steps = [getattr(profile, name) for name in ("input", "weight", "product")]
        changed["profile"] = [[step.bits, step.shift, step.rounding.value, step.saturate] for step in steps]
    else:
        changed["profile"] = profile.result_bits
    return changed


def _from_json(changed: dict[str, Any]) -> EngineConfig:
    values = dict(changed)
    values["kernels"] = tuple(values.get("kernels", ()))
    if "points" in values:
        values["points"] = parse_points(values["points"].split(", "))
    if "matrices" in values:
        values["matrices"] = Winograd.from_matrices(**values["matrices"])
    profile = values.pop("profile")
    if isinstance(profile, int):
        values["profile"] = Exact(profile)
    else:
        values["profile"] = Quantized(
            *(Narrowing(bits, shift, Rounding(how), saturate) for bits, shift, how, saturate in profile)
        )
    return EngineConfig(**values)
