"""The report of a build: a record that becomes JSON and a table."""

import json
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from winohw.synth.netlist import HEADINGS, OWN, WRAPPER, Resources
from winohw.synth.place import Placement

__all__ = ["Report", "StepTime", "ToolRecord", "from_json", "print_report", "resource_table", "to_json"]


@dataclass(frozen=True)
class ToolRecord:
    """A tool that took part: what it is, its version, and where it was found."""

    name: str
    version: str
    origin: str


@dataclass(frozen=True)
class StepTime:
    """A step of the build. `cached` says that its result was there already; `seconds` is then what it took before."""

    name: str
    seconds: float
    cached: bool = False


@dataclass(frozen=True)
class Report:
    """What came of building one component for one part.

    Attributes
    ----------
    component : str
        Its class.
    description : str
        Its configuration in words, if it has one.
    part, package, speed : str
    target : float
        MHz that placement aimed for.
    digest : str
        Of the component, the part, the options and the tools: equal digests, equal results.
    tools : tuple[ToolRecord, ...]
    inputs, outputs : int
        Port bits of the component, each of which is registered in the wrapper.
    stages : dict[str, Resources]
        What each stage takes by itself, without those inside it; `OWN` is what stands in none.
    wrapper : Resources
        What the registers at the ports take, on top of the component.
    capacity : dict[str, int]
        What the part has.
    placements : tuple[Placement, ...]
        In the order of the seeds; none if placement was not asked for.
    steps : tuple[StepTime, ...]
    excess : tuple[str, ...]
        What the part has too little of; nothing is placed then.
    notes : tuple[str, ...]
        What a reader of the figures must know.
    """

    component: str
    part: str
    package: str
    speed: str
    target: float
    digest: str
    tools: tuple[ToolRecord, ...]
    inputs: int
    outputs: int
    stages: dict[str, Resources]
    wrapper: Resources
    capacity: dict[str, int]
    description: str = ""
    placements: tuple[Placement, ...] = ()
    steps: tuple[StepTime, ...] = ()
    excess: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def total(self) -> Resources:
        """What the component takes, without the wrapper."""
        return sum(self.stages.values(), Resources())

    def by_stage(self, depth: int = 1) -> dict[str, Resources]:
        """What the stages down to a level take, each with all that is deeper inside it."""
        result: dict[str, Resources] = {}
        for path, resources in self.stages.items():
            name = ".".join(path.split(".")[:depth])
            result[name] = result.get(name, Resources()) + resources
        for name, resources in result.items():
            resources.instances = self.stages[name].instances
        return result

    @property
    def best(self) -> Placement | None:
        """The placement with the fastest clock, or None."""
        done = [placement for placement in self.placements if placement.frequency is not None]
        return max(done, key=lambda placement: placement.frequency or 0.0, default=None)

    @property
    def frequency(self) -> float | None:
        """MHz of the best seed."""
        return None if self.best is None else self.best.frequency

    @property
    def spread(self) -> float | None:
        """MHz between the best seed and the worst that gave a result."""
        reached = [placement.frequency for placement in self.placements if placement.frequency is not None]
        return max(reached) - min(reached) if reached else None

    @property
    def fits(self) -> bool:
        """Whether the part has enough of everything."""
        return not self.excess

    @property
    def meets_target(self) -> bool:
        """Whether the best seed reaches the target."""
        return self.frequency is not None and self.frequency >= self.target


def to_json(report: Report) -> str:
    """The report as JSON, with the figures that follow from others (best seed, totals) beside them."""
    data = asdict(report)
    derived = {
        "total": asdict(report.total),
        "frequency": report.frequency,
        "spread": report.spread,
        "best_seed": None if report.best is None else report.best.seed,
        "critical_path": None
        if report.best is None or report.best.critical_path is None
        else report.best.critical_path.words(),
    }
    return json.dumps({**data, "derived": derived}, indent=1)


def from_json(text: str) -> Report:
    """The report that `to_json` wrote.

    Raises
    ------
    ValueError
        If the text is not such a report.
    """
    data = json.loads(text)
    if isinstance(data, dict):
        data.pop("derived", None)
    return rebuild(Report, data)


def rebuild(kind: Any, data: Any) -> Any:
    """The value of an annotated type, of dataclasses and the usual containers, from what ``asdict`` and JSON left.

    Raises
    ------
    ValueError
        If a field is missing or unknown, or a value is of another type.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if is_dataclass(kind):
        if not isinstance(data, dict):
            raise ValueError(f"A {kind.__name__} is needed, not {data!r}")
        hints = typing.get_type_hints(kind)
        unknown = set(data) - {item.name for item in fields(kind)}
        if unknown:
            raise ValueError(f"{kind.__name__} has no {', '.join(sorted(unknown))}")
        try:
            return kind(**{name: rebuild(hints[name], value) for name, value in data.items()})
        except TypeError as error:
            raise ValueError(f"{kind.__name__} is incomplete: {error}") from error
    if origin is types.UnionType:
        return None if data is None else rebuild(next(item for item in arguments if item is not type(None)), data)
    if origin is tuple:
        if not isinstance(data, list | tuple):
            raise ValueError(f"A list is needed, not {data!r}")
        inner = arguments[:1] * len(data) if arguments[1:] == (...,) else arguments
        return tuple(rebuild(item, value) for item, value in zip(inner, data, strict=True))
    if origin is dict:
        if not isinstance(data, dict):
            raise ValueError(f"A mapping is needed, not {data!r}")
        return {name: rebuild(arguments[1], value) for name, value in data.items()}
    if kind is float and type(data) is int:
        return data
    if type(data) is not kind:
        raise ValueError(f"A value of type {kind.__name__} is needed, not {data!r}")
    return data


def print_report(report: Report, console: Console | None = None, depth: int = 1) -> None:
    """Print the report as tables: resources by stage down to `depth`, the seeds, the critical path, tools and times."""
    console = console or Console()
    for item in _tables(report, depth):
        console.print(item)


def _tables(report: Report, depth: int) -> Iterable[RenderableType]:
    device = " ".join([report.part, report.package, *([f"speed {report.speed}"] if report.speed else [])])
    yield Text(f"{report.component} on {device}", style="bold")
    if report.description:
        yield Text(report.description)
    yield resource_table(report.by_stage(depth), report.total, report.capacity, report.wrapper)
    if report.placements:
        yield _seed_table(report)
    best = report.best
    if best is not None:
        verdict = "meets" if report.meets_target else "misses"
        yield Text(
            f"{best.frequency:.1f} MHz with seed {best.seed} {verdict} the target of {report.target:g} MHz; "
            f"spread over the seeds {report.spread:.1f} MHz"
        )
        if best.critical_path is not None:
            yield Text(f"Critical path: {best.critical_path.words()}")
    if report.excess:
        yield Text(f"Does not fit: {', '.join(report.excess)}", style="bold red")
    for note in report.notes:
        yield Text(f"Note: {note}")
    yield Text(
        "Steps: " + ", ".join(f"{s.name} {s.seconds:.1f} s{' (cached)' if s.cached else ''}" for s in report.steps)
    )
    yield Text("Tools: " + ", ".join(f"{tool.name} {tool.version} ({tool.origin})" for tool in report.tools))
    yield Text(f"Digest: {report.digest}")


def resource_table(
    stages: Mapping[str, Resources], total: Resources, part: Mapping[str, int], wrapper: Resources | None = None
) -> Table:
    """A table of what each stage takes, of the total, and of its share of what the part has."""
    shown = [name for name in HEADINGS if part.get(name)]
    table = Table("stage", *(HEADINGS[name] for name in shown))
    for column in table.columns[1:]:
        column.justify = "right"

    def row(name: str, resources: Resources, **style: Any) -> None:
        times = f" ×{resources.instances}" if resources.instances > 1 else ""
        table.add_row(f"{name}{times}", *(f"{getattr(resources, item):g}" for item in shown), **style)

    for name in sorted(stages, key=lambda name: (name == OWN, name)):
        row(name, stages[name])
    table.add_section()
    row("total", total, style="bold")
    table.add_row("of the part", *(f"{100 * getattr(total, item) / part[item]:.1f} %" for item in shown))
    if wrapper is not None:
        row(f"{WRAPPER}, on top", wrapper)
    return table


def _seed_table(report: Report) -> Table:
    table = Table("seed", "MHz", "critical path", "logic ns", "routing ns", "seconds")
    for placement in report.placements:
        path = placement.critical_path
        if placement.frequency is None:
            cells = ["", placement.failure, "", ""]
        elif path is None:
            cells = [f"{placement.frequency:.1f}", "", "", ""]
        else:
            stages = " → ".join(path.stages)
            cells = [f"{placement.frequency:.1f}", stages, f"{path.logic:.2f}", f"{path.routing:.2f}"]
        table.add_row(str(placement.seed), *cells, f"{placement.seconds:.1f}")
    return table
