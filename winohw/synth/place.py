"""Placement and routing with nextpnr, one run a seed, and what its report says."""

import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from winohw.synth.cache import digest
from winohw.synth.netlist import StageMap
from winohw.synth.parts import Part
from winohw.synth.pins import PinWrap
from winohw.synth.toolchain import LineListener, Tool, telling

__all__ = [
    "PLACERS",
    "ROUTERS",
    "CriticalPath",
    "PlaceOptions",
    "Placement",
    "Segment",
    "activity",
    "constraints_file",
    "place_command",
    "place_key",
    "read_report",
    "routed_file",
    "run_place",
    "write_inputs",
]

#: Routers to choose from.
ROUTERS = ("auto", "router1", "router2")

#: Placers to choose from.
PLACERS = ("auto", "heap", "static", "sa")

# Router 2 sets up the whole part first: 30 to 60 s on an LFE5U-85F for a design that router 1 routes in 3 s, and with
# a better clock. From some thousand cells on router 1 no longer finishes. HeAP crowds large designs into a corner of
# the part, where they cannot be routed, unless a floorplan holds them apart; the static placer spreads them.
_SMALL_CELLS = 4000

_CARRY_IN, _CARRY_OUT = {"FCI", "CIN"}, {"FCO", "COUT"}


@dataclass(frozen=True)
class PlaceOptions:
    """How nextpnr is called.

    Parameters
    ----------
    router : str
        One of `ROUTERS`; ``auto`` takes ``router1`` for small designs on ECP5, ``router2`` for large ones, and
        nextpnr's own choice for other families.
    placer : str
        One of `PLACERS`; ``auto`` takes ``static`` for large designs on ECP5 without a floorplan, and nextpnr's own
        choice for others.
    floorplan : bool
        Whether an engine's multipliers and memories get their places from `winohw.synth.floorplan`, if it has any.
    timeout : float, optional
        Seconds after which a seed is given up.
    flags : tuple[str, ...]
        More flags for nextpnr: ``("--placer-heap-timingweight", "20")``.

    Raises
    ------
    ValueError
        If router or placer are unknown, or the timeout is not positive.
    """

    router: str = "auto"
    placer: str = "auto"
    floorplan: bool = True
    timeout: float | None = None
    flags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.router not in ROUTERS:
            raise ValueError(f"router must be one of {', '.join(ROUTERS)}, not {self.router!r}")
        if self.placer not in PLACERS:
            raise ValueError(f"placer must be one of {', '.join(PLACERS)}, not {self.placer!r}")
        if self.timeout is not None and self.timeout <= 0:
            raise ValueError(f"timeout must be more than 0 seconds, not {self.timeout!r}")


@dataclass(frozen=True)
class Segment:
    """A piece of a path.

    Attributes
    ----------
    kind : str
        ``clock to output``, ``logic``, ``carry``, ``routing`` or ``setup``.
    delay : float
        Nanoseconds.
    cells : int
        Cells that it passes: more than 1 along a carry chain.
    source, sink : str
        Signals that the cells at its ends drive, or the cells if those have no name in the source.
    source_stage, sink_stage : str
        Their stages.
    start, end : tuple[int, int]
        Their columns and rows on the part.
    """

    kind: str
    delay: float
    cells: int
    source: str
    sink: str
    source_stage: str
    sink_stage: str
    start: tuple[int, int]
    end: tuple[int, int]


@dataclass(frozen=True)
class CriticalPath:
    """The path that limits the clock, from register to register."""

    segments: tuple[Segment, ...]

    @property
    def delay(self) -> float:
        """Nanoseconds."""
        return sum(segment.delay for segment in self.segments)

    def delay_of(self, *kinds: str) -> float:
        """Nanoseconds in segments of these kinds."""
        return sum(segment.delay for segment in self.segments if segment.kind in kinds)

    @property
    def routing(self) -> float:
        """Nanoseconds in wires."""
        return self.delay_of("routing")

    @property
    def logic(self) -> float:
        """Nanoseconds in cells."""
        return self.delay - self.routing

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages it passes, in their order."""
        passed: list[str] = []
        for segment in self.segments:
            for stage in (segment.source_stage, segment.sink_stage):
                if passed[-1:] != [stage]:
                    passed.append(stage)
        return tuple(passed)

    def words(self) -> str:
        """The path in a sentence or two."""
        first, last = self.segments[0], self.segments[-1]
        levels = sum(segment.kind == "logic" for segment in self.segments)
        carry = sum(segment.cells for segment in self.segments if segment.kind == "carry")
        nets = [segment for segment in self.segments if segment.kind == "routing"]
        pieces = [f"clock to output {self.delay_of('clock to output'):.2f}"]
        if levels:
            pieces.append(f"logic {self.delay_of('logic'):.2f} in {_count(levels, 'level')}")
        if carry:
            pieces.append(f"carry {self.delay_of('carry'):.2f} over {_count(carry, 'cell')}")
        pieces += [f"routing {self.routing:.2f} in {_count(len(nets), 'net')}", f"setup {self.delay_of('setup'):.2f}"]
        text = (
            f"{' → '.join(self.stages)}: {self.delay:.2f} ns from {first.source} to {last.sink} ({', '.join(pieces)})."
        )
        if nets:
            longest = max(nets, key=lambda segment: segment.delay)
            text += f" Longest net: {longest.source}, {longest.delay:.2f} ns from {longest.start} to {longest.end}."
        return text


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


@dataclass(frozen=True)
class Placement:
    """What came of one seed.

    Attributes
    ----------
    seed : int
    frequency : float or None
        MHz that the slowest clock reaches after routing; None if there was no result.
    critical_path : CriticalPath or None
    utilization : dict[str, tuple[int, int]]
        Cells in use and on the part, by nextpnr's type.
    seconds : float
        Wall time of the run.
    failure : str
        Why there was no result.
    """

    seed: int
    frequency: float | None = None
    critical_path: CriticalPath | None = None
    utilization: dict[str, tuple[int, int]] = field(default_factory=dict)
    seconds: float = 0.0
    failure: str = ""


@dataclass(frozen=True)
class _Files:
    """Flags of a family: for the pins of a board, for those of a part, of which nextpnr may choose some, and for the
    routed design; and how a pin is written."""

    constraints: tuple[str, ...]
    free: tuple[str, ...]
    routed: tuple[str, ...]
    pin: str = ""


_FILES = {
    "ecp5": _Files(
        ("--lpf", "top.lpf"),
        ("--lpf", "top.lpf", "--lpf-allow-unconstrained"),
        ("--textcfg", "routed_{seed}.config"),
        'LOCATE COMP "{name}" SITE "{pin}";\n',
    ),
    "ice40": _Files(("--pcf", "top.pcf"), ("--pcf-allow-unconstrained",), ("--asc", "routed_{seed}.asc")),
    "gowin": _Files(
        ("--vopt", "cst=top.cst"),
        ("--vopt", "cst=top.cst"),
        ("--write", "routed_{seed}.json"),
        'IO_LOC "{name}" {pin};\n',
    ),
}


def routed_file(part: Part, seed: int) -> str:
    """Name of the file with the routed design of a seed."""
    return _FILES[part.family.name].routed[1].format(seed=seed)


def constraints_file(part: Part) -> str:
    """Name of the file with a board's pins and clocks."""
    return _FILES[part.family.name].constraints[1].removeprefix("cst=")


def place_command(
    part: Part,
    seed: int,
    frequency: float,
    cells: int,
    options: PlaceOptions,
    *,
    planned: bool = False,
    board: bool = False,
) -> list[str]:
    """Arguments for nextpnr; it reads ``top.json`` and writes ``report_<seed>.json``.

    Parameters
    ----------
    part : Part
    seed : int
    frequency : float
        MHz to aim for; missing them is no failure.
    cells : int
        Size of the netlist, for the choice of placer and router.
    options : PlaceOptions
    planned : bool
        The netlist has a floorplan.
    board : bool
        The pins are those of a board, in `constraints_file`, and the routed design goes to `routed_file`.
    """
    router, placer = options.router, options.placer
    small = cells < _SMALL_CELLS
    if part.family.name == "ecp5" and router == "auto":
        router = "router1" if small else "router2"
    if part.family.name == "ecp5" and placer == "auto" and not small and not planned:
        placer = "static"
    files = _FILES[part.family.name]
    return [
        *part.place_flags,
        *((*files.constraints, files.routed[0], routed_file(part, seed)) if board else files.free),
        *("--json", "top.json", "--seed", str(seed), "--freq", f"{frequency:g}", "--timing-allow-fail"),
        *("--report", f"report_{seed}.json"),
        *(() if router == "auto" else ("--router", router)),
        *(() if placer == "auto" else ("--placer", placer)),
        *options.flags,
    ]


def place_key(netlist: str, command: Sequence[str], nextpnr: Tool) -> str:
    """Digest of everything that a placement depends on."""
    return digest(["placement", netlist, *command, nextpnr.version])


def write_inputs(netlist: str, part: Part, folder: Path) -> None:
    """Write what all seeds read: the netlist, and pins where nextpnr does not choose them."""
    (folder / "top.json").write_text(netlist, encoding="utf-8")
    files = _FILES[part.family.name]
    if files.pin:
        lines = [files.pin.format(name=name, pin=pin) for name, pin in zip(PinWrap.pin_names, part.pins, strict=False)]
        (folder / constraints_file(part)).write_text("".join(lines), encoding="utf-8")


def run_place(
    seed: int,
    command: Sequence[str],
    nextpnr: Tool,
    folder: Path,
    *,
    timeout: float | None = None,
    notify: LineListener | None = None,
    stop: threading.Event | None = None,
) -> str:
    """Run nextpnr in `folder`, where `write_inputs` was; its report as JSON. `notify` gets a few words on what it is
    at, whenever that changes.

    Raises
    ------
    ToolError
        If nextpnr fails, takes longer than `timeout` seconds, or `stop` is set.
    """
    nextpnr.run(command, folder, f"nextpnr_{seed}.log", telling(activity, notify), timeout, stop)
    return (folder / f"report_{seed}.json").read_text(encoding="utf-8")


_ITERATION = re.compile(r"iter=(\d+) .*overused=(\d+)")
_ARCS = re.compile(r"Info: +\d+ \|.*\| +(\d+)\|")
_PHASES = {
    "Info: Packing": "packing",
    "Info: Running main analytical placer": "placing",
    "Info: Running simulated annealing placer": "refining the placement",
    "Info: Setting up routing": "routing",
}


def activity(line: str) -> str | None:
    """What nextpnr is at, in a few words, if a line of its output tells."""
    if match := _ITERATION.search(line):
        return f"routing, iteration {match[1]}: {match[2]} wires in use twice"
    if match := _ARCS.match(line):
        return f"routing, {match[1]} connections left"
    return next((words for start, words in _PHASES.items() if line.startswith(start)), None)


def read_report(text: str, stages: StageMap, seed: int, seconds: float = 0.0) -> Placement:
    """What nextpnr's report says.

    Parameters
    ----------
    text : str
        JSON that nextpnr wrote at ``--report``.
    stages : StageMap
        Of the netlist.
    seed : int
    seconds : float
        Wall time of the run.
    """
    report = json.loads(text)
    clocks = {name: clock["achieved"] for name, clock in report["fmax"].items()}
    utilization = {name: (row["used"], row["available"]) for name, row in report["utilization"].items() if row["used"]}
    if not clocks:
        failure = "the design has no path from register to register"
        return Placement(seed, utilization=utilization, seconds=seconds, failure=failure)
    slowest = min(clocks, key=clocks.__getitem__)
    edges = {f"posedge {slowest}", f"negedge {slowest}"}
    paths = [path["path"] for path in report["critical_paths"] if path["from"] in edges and path["to"] in edges]
    critical = max(paths, key=lambda path: sum(piece["delay"] for piece in path), default=None)
    return Placement(
        seed=seed,
        frequency=clocks[slowest],
        critical_path=None if critical is None else CriticalPath(tuple(_segments(critical, stages))),
        utilization=utilization,
        seconds=seconds,
    )


_KINDS = {"clk-to-q": "clock to output", "source": "clock to output"}


def _segments(path: Sequence[Mapping[str, Any]], stages: StageMap) -> Iterator[Segment]:
    """Pieces of a path, those along one carry chain taken together, wires inside a cell left out."""
    chain: list[Mapping[str, Any]] = []
    for piece in path:
        along_carry = piece["from"]["port"] in _CARRY_IN | _CARRY_OUT and piece["to"]["port"] in _CARRY_IN | _CARRY_OUT
        if along_carry and piece["type"] in ("logic", "routing"):
            chain.append(piece)
            continue
        if chain:
            yield _segment("carry", chain, stages)
            chain = []
        if piece["delay"] or piece["type"] != "routing":
            yield _segment(_KINDS.get(piece["type"], piece["type"]), [piece], stages)
    if chain:
        yield _segment("carry", chain, stages)


def _segment(kind: str, pieces: Sequence[Mapping[str, Any]], stages: StageMap) -> Segment:
    source, sink = pieces[0]["from"], pieces[-1]["to"]
    return Segment(
        kind=kind,
        delay=sum(piece["delay"] for piece in pieces),
        cells=max(1, sum(piece["type"] == "logic" for piece in pieces)),
        source=stages.signal(source["cell"]),
        sink=stages.signal(sink["cell"]),
        source_stage=stages.stage(source["cell"]),
        sink_stage=stages.stage(sink["cell"]),
        start=tuple(source["loc"]),
        end=tuple(sink["loc"]),
    )
