"""Which stage each cell of a flattened netlist belongs to, and what each stage takes."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from winohw.synth.parts import Family, Part
from winohw.synth.pins import COMPONENT, PINS

__all__ = ["HEADINGS", "OWN", "WRAPPER", "Resources", "StageMap", "count_stages", "read_netlist", "stage_of", "stem"]

#: Among stages, what the component holds beside its submodules, and the wrapper.
OWN, WRAPPER = "(own)", "(pins)"

#: Starts the ``src`` attribute that carries the module of a cell through synthesis.
TAG = "@"

_PACKED = re.compile(r"_(LC|DFFLC|DSP|RAM|SPRAM)$")
_MEMORY = re.compile(r"\.\d+\.\d+$")
_INDEX = re.compile(r"(?<=.)[_$]?\d+$")


#: The resources that are counted, and how tables call them.
HEADINGS = {
    "luts": "LUT",
    "flip_flops": "FF",
    "multipliers": "multiplier",
    "block_rams": "block RAM",
    "large_rams": "large RAM",
}


@dataclass
class Resources:
    """What a netlist, or a part of it, takes.

    Attributes
    ----------
    luts : float
        Four-input lookup tables, with those that make up carry chains and distributed memories.
    flip_flops, multipliers, block_rams, large_rams : float
        As in `Part`; a half is a multiplier of half the width.
    cells : dict[str, int]
        Cells by type, pads left out.
    instances : int
        Modules that share the name of the stage but for numbers at the end of its levels.
    """

    luts: float = 0
    flip_flops: float = 0
    multipliers: float = 0
    block_rams: float = 0
    large_rams: float = 0
    cells: dict[str, int] = field(default_factory=dict)
    instances: int = 1

    def __add__(self, other: "Resources") -> "Resources":
        sums = {name: getattr(self, name) + getattr(other, name) for name in HEADINGS}
        return Resources(**sums, cells=dict(sorted((Counter(self.cells) + Counter(other.cells)).items())))

    @classmethod
    def of(cls, cells: Mapping[str, int], family: Family, instances: int = 1) -> "Resources":
        """What cells of the given types and numbers take."""
        result = cls(cells=dict(sorted(cells.items())), instances=instances)
        for kind, number in cells.items():
            if kind in family.cells:
                name, weight = family.cells[kind]
                setattr(result, name, getattr(result, name) + weight * number)
        return result

    def words(self) -> str:
        """What there is, in a line."""
        return ", ".join(f"{getattr(self, name):g} {HEADINGS[name]}" for name in HEADINGS if getattr(self, name))

    def excess(self, part: Part) -> list[str]:
        """For each resource that the part has too little of, a few words."""
        return [
            f"{getattr(self, name):g} {HEADINGS[name]} of {number}"
            for name, number in part.capacity.items()
            if getattr(self, name) > number
        ]


_IGNORED = {"$scopeinfo", "TRELLIS_IO", "SB_IO", "SB_GB", "IBUF", "OBUF", "TBUF", "IOBUF", "GND", "VCC"}


@dataclass(frozen=True)
class StageMap:
    """Where each cell comes from.

    Attributes
    ----------
    cells : dict[str, str]
        Path of the module by name of cell: ``mac_array.multiplier_3``; `OWN` for the component itself, `WRAPPER`
        for the wrapper.
    signals : dict[str, str]
        For cells with one output, the signal that the cell, or the only cell that it feeds, drives, if that has a name
        in the source. Where all that synthesis left is its name in another module, the stage is added.
    """

    cells: dict[str, str]
    signals: dict[str, str] = field(default_factory=dict)

    def stage(self, cell: str) -> str:
        """Path of the module of a cell, by the name that nextpnr gives the cell."""
        known = self._known(cell)
        if known is None:
            return WRAPPER if cell.startswith(f"{PINS}.") else OWN
        return self.cells[known]

    def signal(self, cell: str) -> str:
        """The signal a cell drives or, if that has no name, the cell; by the name that nextpnr gives the cell."""
        known = self._known(cell)
        return self.signals.get(known, cell.removeprefix(f"{COMPONENT}."))

    def _known(self, cell: str) -> str | None:
        """A cell's name in the netlist. To those of cells that it packs, nextpnr appends: ``acc_CCU2C_S0$CCU2_COMB1``,
        ``acc_SB_LUT4_O_LC``.
        """
        names = (cell, cell.split("$", 1)[0], cell.rsplit("$", 1)[0], _PACKED.sub("", cell))
        return next((name for name in names if name in self.cells), None)


def read_netlist(netlist: Mapping[str, Any]) -> tuple[dict[str, str], StageMap]:
    """Types of all cells of a flattened netlist that Yosys wrote as JSON, and their stages.

    Registers, memories, multipliers and most adders carry the name of their module through synthesis. Lookup tables
    do not; they count to the stage whose register, memory or multiplier they feed (to most of them, if they feed
    several); those that feed none, only ports, to the stage that feeds them.
    """
    module = netlist["modules"]["top"]
    cells = {name: cell for name, cell in module["cells"].items() if cell["type"] not in _IGNORED}
    scopes = {
        name: stage_of(cell["attributes"]["module"])
        for name, cell in module["cells"].items()
        if cell["type"] == "$scopeinfo"
    }
    stages = {name: stage for name, cell in cells.items() if (stage := _known_stage(name, cell, scopes)) is not None}
    drivers: dict[int, str] = {}
    readers: dict[int, list[str]] = {}
    for name, cell in cells.items():
        for port, bits in cell["connections"].items():
            for bit in bits:
                if isinstance(bit, str):
                    continue
                if cell["port_directions"][port] == "output":
                    drivers[bit] = name
                else:
                    readers.setdefault(bit, []).append(name)
    feeds: dict[str, list[str]] = {name: [] for name in cells}
    fed: dict[str, list[str]] = {name: [] for name in cells}
    for bit, driver in drivers.items():
        for reader in readers.get(bit, ()):
            feeds[driver].append(reader)
            fed[reader].append(driver)
    # Registers that Yosys takes out of a read port of a memory have no tag.
    reads = {name: [other for other in fed[name] if _is_memory(other)] for name in cells if "FF" in cells[name]["type"]}
    _spread(stages, reads)
    _spread(stages, feeds)
    _spread(stages, fed)
    types = {name: cell["type"] for name, cell in cells.items()}
    stages = {name: stages.get(name, OWN) for name in cells}
    return types, StageMap(stages, _signals(module["netnames"], drivers, feeds, stages))


def _signals(
    nets: Mapping[str, Any], drivers: Mapping[int, str], feeds: Mapping[str, list[str]], stages: Mapping[str, str]
) -> dict[str, str]:
    """Names in the source of what cells with one output drive, or what the only cell does that they feed."""
    outputs = Counter(drivers.values())
    best: dict[str, tuple[bool, int, str]] = {}
    for name, net in nets.items():
        if "hdlname" not in net["attributes"]:
            continue
        for index, bit in enumerate(net["bits"]):
            cell = drivers.get(bit)
            if cell is None or outputs[cell] > 1:
                continue
            signal = name.removeprefix(f"{COMPONENT}.") + (f"[{index}]" if len(net["bits"]) > 1 else "")
            foreign = stages[cell] not in (OWN, WRAPPER) and not signal.startswith(f"{stages[cell]}.")
            best[cell] = min(best.get(cell, (True, len(signal), signal)), (foreign, len(signal), signal))
    signals = {
        cell: f"{signal} in {stages[cell]}" if foreign else signal for cell, (foreign, _, signal) in best.items()
    }
    for cell, readers in feeds.items():
        if cell not in signals and outputs[cell] == 1 and len(readers) == 1 and readers[0] in best:
            signals[cell] = signals[readers[0]]
    return signals


def _known_stage(name: str, cell: Mapping[str, Any], scopes: Mapping[str, str]) -> str | None:
    if name.startswith(f"{PINS}."):
        return WRAPPER
    tags = [tag[len(TAG) :] for tag in cell["attributes"].get("src", "").split("|") if tag.startswith(TAG)]
    if tags:
        return stage_of(max(tags, key=lambda tag: (len(tag), tag)))
    if _is_memory(name):
        scope = name
        while "." in scope:
            scope = scope.rpartition(".")[0]
            if scope in scopes:
                return scopes[scope]
    return None


def _is_memory(name: str) -> bool:
    """Memories lose their tag, but keep their name in the source, with two numbers for the place in the whole."""
    return _MEMORY.search(name) is not None


def stage_of(module: str) -> str:
    """Stage of a module by its name in RTLIL, which is its path from the top."""
    path = module.split(".")[1:]
    if path[:1] == [PINS]:
        return WRAPPER
    return ".".join(path[1:]) if path[:1] == [COMPONENT] and len(path) > 1 else OWN


def stem(level: str) -> str:
    """A level of a stage's path without the number at its end."""
    return _INDEX.sub("", level)


def _spread(stages: dict[str, str], neighbours: Mapping[str, Iterable[str]]) -> None:
    """Give cells without a stage the one that most of their neighbours in the component have, nearest first."""
    waiting = [name for name in neighbours if name not in stages]
    while waiting:
        found = {}
        for name in waiting:
            votes = Counter(stages[other] for other in neighbours[name] if stages.get(other, WRAPPER) != WRAPPER)
            if votes:
                found[name] = min(votes, key=lambda stage: (-votes[stage], stage))
        if not found:
            return
        stages.update(found)
        waiting = [name for name in waiting if name not in found]


def count_stages(types: Mapping[str, str], stages: StageMap, family: Family) -> dict[str, Resources]:
    """What each stage takes, without the stages inside it, which have entries of their own.

    Stages whose names differ by a number at the end only, at any level, count together.
    """
    cells: dict[str, Counter[str]] = {}
    members: dict[str, set[str]] = {}
    for name, kind in types.items():
        levels = stages.cells[name].split(".")
        stems = [stem(level) for level in levels]
        for depth in range(1, len(levels) + 1):
            stage = ".".join(stems[:depth])
            cells.setdefault(stage, Counter())
            members.setdefault(stage, set()).add(".".join(levels[:depth]))
        cells[".".join(stems)][kind] += 1
    return {stage: Resources.of(cells[stage], family, len(members[stage])) for stage in sorted(cells)}
