"""Reproducible stall patterns, the same in both simulators."""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b

_MASK = 2**64 - 1
_STEP = 0x9E3779B97F4A7C15
_THRESHOLD_BITS = 53


def mix(x: int) -> int:
    """The finalizer of splitmix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014)."""
    x &= _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


@dataclass(frozen=True)
class StallPattern:
    """When one stream stalls: a function of the cycle number alone, so that it needs no state.

    Parameters
    ----------
    seed : int
        0 … 2⁶⁴ − 1.
    threshold : int
        Stall when the upper 53 bits of the cycle's hash are below it; 0 never stalls, 2⁵³ always does.
    """

    seed: int
    threshold: int

    def hash(self, cycle: int) -> int:
        """64 pseudo-random bits of a cycle."""
        return mix(self.seed + (cycle + 1) * _STEP)

    def stalled(self, cycle: int) -> bool:
        """Whether the stream's own end (the sender of an input, the receiver of an output) pauses in this cycle."""
        return self.hash(cycle) >> (64 - _THRESHOLD_BITS) < self.threshold

    def junk(self, cycle: int, word: int) -> int:
        """64-bit word driven on an input payload in a cycle without ``valid``."""
        return mix(self.hash(cycle) + (word + 1) * _STEP)


class Stalls:
    """Random stalls at the streams of a component.

    Parameters
    ----------
    seed : int
        Any integer. The pattern of a stream depends on the seed and on the name of the stream.
    default : float
        Probability of a stall, in any cycle, of the streams that are not named; 0 (never) … 1 (always).
    **streams : float
        Probability by name of stream. An input that stalls keeps ``valid`` low (only between transfers: a payload once
        offered stays until it is accepted); an output that stalls keeps ``ready`` low.

    Raises
    ------
    ValueError
        If a probability lies outside 0 … 1.
    """

    def __init__(self, seed: int = 0, default: float = 0.0, **streams: float):
        for name, probability in {"default": default, **streams}.items():
            if not 0 <= probability <= 1:
                raise ValueError(f"The stall probability must be within 0 … 1, but {name} has {probability!r}")
        self.seed = seed
        self.default = default
        self.streams = streams

    def __repr__(self) -> str:
        named = "".join(f", {name}={probability}" for name, probability in self.streams.items())
        return f"Stalls({self.seed}, {self.default}{named})"

    def pattern(self, name: str, *, can_stall: bool = True) -> StallPattern:
        """The pattern of one stream; one that ``can_stall`` not never does, whatever the default.

        Raises
        ------
        ValueError
            If the stream was given a probability above zero by name and cannot stall.
        """
        if not can_stall and self.streams.get(name, 0):
            raise ValueError(f"Stream {name!r} was given stalls, but it has no handshake at that end")
        probability = self.streams.get(name, self.default) if can_stall else 0
        seed = int.from_bytes(blake2b(f"{self.seed}/{name}".encode(), digest_size=8).digest(), "little")
        return StallPattern(seed, round(probability * 2**_THRESHOLD_BITS))

    def check_names(self, known: Iterable[str]) -> None:
        """Raises ``ValueError`` if stalls are given for a stream that takes no part in the run."""
        known = sorted(known)
        if unknown := sorted(set(self.streams) - set(known)):
            raise ValueError(f"Stalls are given for unknown stream {unknown[0]!r}; the streams are {', '.join(known)}")
