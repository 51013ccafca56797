"""FPGA parts: what they hold, and how Yosys and nextpnr call them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

__all__ = ["PARTS", "Family", "Part", "find_part"]

_ECP5_CELLS = {
    "LUT4": ("luts", 1),
    "CCU2C": ("luts", 2),
    "TRELLIS_DPR16X4": ("luts", 6),
    "TRELLIS_FF": ("flip_flops", 1),
    "MULT18X18D": ("multipliers", 1),
    "DP16KD": ("block_rams", 1),
    "PDPW16KD": ("block_rams", 1),
}
_ICE40_CELLS = {
    "SB_LUT4": ("luts", 1),
    **{f"SB_DFF{edge}{kind}": ("flip_flops", 1) for edge in ("", "N") for kind in ("", "S", "R", "SS", "SR")},
    **{f"SB_DFF{edge}E{kind}": ("flip_flops", 1) for edge in ("", "N") for kind in ("", "S", "R", "SS", "SR")},
    "SB_MAC16": ("multipliers", 1),
    "SB_RAM40_4K": ("block_rams", 1),
    "SB_SPRAM256KA": ("large_rams", 1),
}
_GOWIN_CELLS = {
    **{f"LUT{inputs}": ("luts", 1) for inputs in range(1, 5)},
    "ALU": ("luts", 1),
    "RAM16SDP4": ("luts", 4),
    **{f"DFF{edge}{kind}": ("flip_flops", 1) for edge in ("", "N") for kind in ("", "S", "R", "P", "C")},
    **{f"DFF{edge}{kind}E": ("flip_flops", 1) for edge in ("", "N") for kind in ("", "S", "R", "P", "C")},
    "MULT9X9": ("multipliers", 0.5),
    "MULT18X18": ("multipliers", 1),
    "MULT36X36": ("multipliers", 4),
    **{f"{ports}{kind}": ("block_rams", 1) for ports in ("SP", "SDP", "DP", "pROM") for kind in ("", "B", "X9", "X9B")},
}


@dataclass(frozen=True)
class Family:
    """What all parts of a family share.

    Attributes
    ----------
    name : str
        ``ecp5``, ``ice40`` or ``gowin``: Yosys has a ``synth_`` command of that name.
    place_tool : str
        nextpnr of the family, as `winohw.synth.toolchain.find_tool` calls it.
    gateware : str
        What the ``family`` of an `EngineConfig` is for such parts.
    cells : Mapping[str, tuple[str, float]]
        For a cell of the mapped netlist, the resource it takes and how many of that; a LUT's worth of carry or
        distributed memory counts as a LUT.
    untimed : str
        Cells that nextpnr does not time paths through; empty if there are none.
    """

    name: str
    place_tool: str
    gateware: str
    cells: Mapping[str, tuple[str, float]] = field(repr=False)
    untimed: str = ""


_ECP5 = Family("ecp5", "nextpnr-ecp5", "ecp5", MappingProxyType(_ECP5_CELLS))
_ICE40 = Family("ice40", "nextpnr-ice40", "ice40", MappingProxyType(_ICE40_CELLS), "SB_MAC16")
_GOWIN = Family("gowin", "nextpnr-himbaechel-gowin", "generic", MappingProxyType(_GOWIN_CELLS), "multipliers")


@dataclass(frozen=True)
class Part:
    """One FPGA, in a package and of a speed grade.

    Attributes
    ----------
    name : str
        As in ``PARTS``.
    family : Family
    package : str
        As nextpnr calls it; for Gowin it is part of `device`.
    speed : str
        Speed grade; empty where there is but one.
    luts, flip_flops : int
        Four-input lookup tables and registers.
    multipliers : int
        18×18 (ECP5, Gowin) or 16×16 (iCE40).
    block_rams : int
        Of `block_ram_bits` bits each.
    block_ram_bits : int
    large_rams : int
        Single-port memories of 256 kbit.
    frequency : float
        MHz; the aim of placement when none is given.
    device : tuple[str, ...]
        Flags that name the device to nextpnr, without package and speed.
    synthesis : tuple[str, ...]
        Flags for Yosys's ``synth_`` command.
    pins : tuple[str, ...]
        Pins for clk, rst, scan_in, scan_out, or the first of them, where nextpnr shall not choose them by itself: on
        ECP5 a clock from any pin does not always find its way to the clock network.
    """

    name: str
    family: Family
    package: str
    speed: str
    luts: int
    flip_flops: int
    multipliers: int
    block_rams: int
    block_ram_bits: int
    frequency: float
    device: tuple[str, ...]
    large_rams: int = 0
    synthesis: tuple[str, ...] = ()
    pins: tuple[str, ...] = ()

    def variant(self, *, package: str | None = None, speed: str | int | None = None) -> "Part":
        """The part in another package or of another speed grade.

        Raises
        ------
        ValueError
            If the family does not tell them apart; for Gowin, they are parts of their own.
        """
        if speed is not None and self.family is not _ECP5:
            raise ValueError(f"{self.name} has no speed grades to choose from, so not {speed!r} either")
        if package is not None and self.family is _GOWIN:
            raise ValueError(f"The package of {self.name} is fixed to {self.package}, so not {package!r}")
        return replace(
            self,
            package=self.package if package is None else package,
            pins=self.pins if package in (None, self.package) else (),
            speed=self.speed if speed is None else str(speed),
        )

    @property
    def place_flags(self) -> tuple[str, ...]:
        """Flags that name the device, package and speed to nextpnr."""
        if self.family is _GOWIN:
            return self.device
        speed = ("--speed", self.speed) if self.speed else ()
        return (*self.device, "--package", self.package, *speed)

    @property
    def capacity(self) -> dict[str, int]:
        """Number of each resource that `Family.cells` counts."""
        return {
            "luts": self.luts,
            "flip_flops": self.flip_flops,
            "multipliers": self.multipliers,
            "block_rams": self.block_rams,
            "large_rams": self.large_rams,
        }


def _ecp5(name: str, flag: str, cells: int, multipliers: int, block_rams: int, speed: str = "6") -> Part:
    return Part(
        name=name,
        family=_ECP5,
        package="CABGA381",
        speed=speed,
        luts=cells,
        flip_flops=cells,
        multipliers=multipliers,
        block_rams=block_rams,
        block_ram_bits=18 * 1024,
        frequency=150.0,
        device=(flag,),
        pins=("G2",),
    )


#: The parts that are known, by name.
PARTS: Mapping[str, Part] = MappingProxyType(
    {
        part.name: part
        for part in (
            _ecp5("LFE5U-85F", "--85k", 83640, 156, 208),
            _ecp5("LFE5U-45F", "--45k", 43848, 72, 108),
            _ecp5("LFE5U-25F", "--25k", 24288, 28, 56),
            _ecp5("LFE5U-12F", "--12k", 24288, 28, 56),
            _ecp5("LFE5UM5G-85F", "--um5g-85k", 83640, 156, 208, speed="8"),
            _ecp5("LFE5UM5G-45F", "--um5g-45k", 43848, 72, 108, speed="8"),
            Part(
                name="iCE40UP5K",
                family=_ICE40,
                package="sg48",
                speed="",
                luts=5280,
                flip_flops=5280,
                multipliers=8,
                block_rams=30,
                block_ram_bits=4 * 1024,
                frequency=40.0,
                device=("--up5k",),
                large_rams=4,
            ),
            Part(
                name="GW1NR-9",
                family=_GOWIN,
                package="QN88P",
                speed="",
                luts=8640,
                flip_flops=6480,
                multipliers=20,
                block_rams=26,
                block_ram_bits=18 * 1024,
                frequency=60.0,
                device=("--device", "GW1NR-LV9QN88PC6/I5", "--vopt", "family=GW1N-9C"),
                synthesis=("-family", "gw1n"),
                pins=("52", "25", "26", "27"),
            ),
            Part(
                name="GW2A-18",
                family=_GOWIN,
                package="PG256C",
                speed="",
                luts=20736,
                flip_flops=15552,
                multipliers=48,
                block_rams=46,
                block_ram_bits=18 * 1024,
                frequency=100.0,
                device=("--device", "GW2A-LV18PG256C8/I7", "--vopt", "family=GW2A-18"),
                synthesis=("-family", "gw2a"),
                pins=("H11", "L12", "J16", "J14"),
            ),
        )
    }
)


def find_part(name: str) -> Part:
    """The part of that name, in upper or lower case.

    Raises
    ------
    ValueError
        If it is unknown; the message lists those that are known.
    """
    for part in PARTS.values():
        if part.name.lower() == name.lower():
            return part
    raise ValueError(f"Unknown part {name!r}; known are {', '.join(PARTS)}")
