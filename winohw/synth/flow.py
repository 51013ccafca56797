"""Building a component for a part, step by step."""

import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from amaranth.lib import wiring

from winohw.gateware.config import EngineConfig
from winohw.synth.cache import Cache, digest
from winohw.synth.netlist import WRAPPER, Resources
from winohw.synth.parts import Part, find_part
from winohw.synth.pins import PinWrap
from winohw.synth.place import (
    Placement,
    PlaceOptions,
    place_command,
    place_key,
    read_report,
    run_place,
    write_inputs,
)
from winohw.synth.report import Report, StepTime, ToolRecord
from winohw.synth.synthesis import (
    Netlist,
    SynthesisOptions,
    netlist_of,
    rtlil_of,
    run_synthesis,
    synthesis_key,
    synthesis_script,
)
from winohw.synth.toolchain import Tool, ToolError, find_tool

__all__ = ["Placer", "Progress", "StepEvent", "Steps", "build_folder", "component_of", "synthesize", "timing_notes"]


@dataclass(frozen=True)
class StepEvent:
    """News of a step.

    Attributes
    ----------
    number, total : int
        Steps count from 1.
    title : str
    state : str
        ``start``, ``note`` (any number of them) or ``end``.
    text : str
        Of a note, or what came of the step.
    seconds : float
        At the end, the time the step took.
    cached : bool
        At the end, whether its result was there already.
    """

    number: int
    total: int
    title: str
    state: str
    text: str = ""
    seconds: float = 0.0
    cached: bool = False


#: Gets the news of a build; from several threads when several seeds run at a time, but never two at once.
Progress = Callable[[StepEvent], None]


class Steps:
    """Numbers the steps of a build, times them and tells the news."""

    def __init__(self, total: int, progress: Progress | None):
        self.total = total
        self.times: dict[int, StepTime] = {}
        self._progress = progress
        self._lock = threading.Lock()

    def tell(self, number: int, title: str, state: str, text: str = "", **end: float | bool) -> None:
        if self._progress is not None:
            with self._lock:
                self._progress(StepEvent(number, self.total, title, state, text, **end))

    @contextmanager
    def step(self, number: int, title: str) -> Iterator["Step"]:
        step = Step(self, number, title)
        self.tell(number, title, "start")
        began = time.monotonic()
        yield step
        seconds = time.monotonic() - began if step.seconds is None else step.seconds
        self.times[number] = StepTime(title, round(seconds, 2), step.cached)
        self.tell(number, title, "end", step.result, seconds=seconds, cached=step.cached)


@dataclass
class Step:
    """A step at work: what it has to say goes into `result`, and `note` tells what it is at."""

    steps: Steps
    number: int
    title: str
    result: str = ""
    seconds: float | None = None
    cached: bool = False

    def note(self, text: str) -> None:
        self.steps.tell(self.number, self.title, "note", text)


def synthesize(
    design: wiring.Component | EngineConfig,
    part: Part | str,
    *,
    seeds: Sequence[int] = (1,),
    frequency: float | None = None,
    jobs: int = 1,
    synthesis: SynthesisOptions | None = None,
    place: PlaceOptions | None = None,
    progress: Progress | None = None,
    cache: bool = True,
    folder: Path | None = None,
) -> Report:
    """Synthesise a component, place and route it for each seed, and report.

    The component is placed without a board: its ports are registered and shifted through four pins (`PinWrap`).
    Results are kept in the cache by the digest of what they depend on, so that more seeds, or the same call again,
    cost only what is new.

    Parameters
    ----------
    design : Component or EngineConfig
        What to build; for a configuration, its engine.
    part : Part or str
        What to build it for, or its name.
    seeds : sequence of int
        Seeds for placement, each tried once; none leaves it at synthesis.
    frequency : float, optional
        MHz to aim for; default: that of the part.
    jobs : int
        Seeds to place at a time, each in a process of its own.
    synthesis : SynthesisOptions, optional
    place : PlaceOptions, optional
    progress : callable, optional
        Gets a `StepEvent` whenever something happens.
    cache : bool
        Whether to take results from the cache; they are put there in any case.
    folder : pathlib.Path, optional
        Where to work, for a look at the logs of the steps that ran; default: a temporary folder.

    Returns
    -------
    Report
        A seed that did not route has a `Placement.failure`; a component that does not fit, an `excess`.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or out of range.
    ToolNotFoundError
        If a tool is missing; the message says how to install it.
    ToolError
        If Yosys fails.
    """
    part = find_part(part) if isinstance(part, str) else part
    frequency = part.frequency if frequency is None else frequency
    synthesis, place = synthesis or SynthesisOptions(), place or PlaceOptions()
    if frequency <= 0:
        raise ValueError(f"frequency must be more than 0 MHz, not {frequency!r}")
    if jobs < 1:
        raise ValueError(f"jobs must be at least 1, not {jobs!r}")
    if len(set(seeds)) != len(seeds):
        raise ValueError(f"seeds must differ from each other, not {list(seeds)!r}")
    component, description = component_of(design, part)
    store = Cache()
    steps = Steps(3 + len(seeds), progress)

    with build_folder(folder) as build:
        with steps.step(1, "tools") as step:
            tools = [find_tool("yosys"), *([find_tool(part.family.place_tool)] if seeds else [])]
            for tool in tools:
                tool.warm_up(step.note)
            step.result = ", ".join(f"{tool.name} {tool.version} ({tool.origin})" for tool in tools)

        with steps.step(2, "elaboration") as step:
            wrapped = PinWrap(component)
            text = rtlil_of(wrapped)
            step.result = f"{len(text)} bytes of RTLIL"

        with steps.step(3, "synthesis") as step:
            script = synthesis_script(text, part, synthesis)
            key = synthesis_key(text, script, tools[0])
            found = store.get(key) if cache else None
            if found is None:
                found = run_synthesis(text, script, tools[0], build, step.note)
                store.put(key, found)
            else:
                step.cached = True
            config = design if isinstance(design, EngineConfig) else getattr(design, "config", None)
            netlist = netlist_of(found, part, config if place.floorplan else None)
            stages = dict(netlist.stages)
            wrapper = stages.pop(WRAPPER, Resources())
            total = sum(stages.values(), Resources())
            step.result = total.words()

        excess = (total + wrapper).excess(part)
        cells, planned = len(netlist.stage_map.cells), netlist.is_planned
        commands = {seed: place_command(part, seed, frequency, cells, place, planned=planned) for seed in seeds}
        placements = []
        if not excess:
            write_inputs(netlist.text, part, build)
            placer = Placer(netlist, commands, tools[-1], build, place.timeout, steps, store, cache)
            placements = placer.place(jobs)

    return Report(
        component=type(component).__name__,
        description=description,
        part=part.name,
        package=part.package,
        speed=part.speed,
        target=frequency,
        digest=digest(
            [key, str(place.timeout), *(place_key(netlist.text, commands[seed], tools[-1]) for seed in seeds)]
        ),
        tools=tuple(ToolRecord(tool.name, tool.version, tool.origin) for tool in tools),
        inputs=wrapped.inputs,
        outputs=wrapped.outputs,
        stages=stages,
        wrapper=wrapper,
        capacity=part.capacity,
        placements=tuple(placements),
        steps=tuple(steps.times[number] for number in sorted(steps.times)),
        excess=tuple(excess),
        notes=tuple(timing_notes(part, total, placements)),
    )


def component_of(design: wiring.Component | EngineConfig, part: Part) -> tuple[wiring.Component, str]:
    """The component to build, and its configuration in words."""
    if isinstance(design, EngineConfig):
        if design.family not in ("generic", part.family.gateware):
            raise ValueError(f"An engine of family {design.family!r} cannot be built for {part.name}")
        return _engine(design), design.describe()
    if not isinstance(design, wiring.Component):
        raise TypeError(f"A component or an EngineConfig is needed, not {design!r}")
    return design, ""


def _engine(config: EngineConfig) -> wiring.Component:
    from winohw.gateware.engine import Engine

    return Engine(config)


@contextmanager
def build_folder(folder: Path | None) -> Iterator[Path]:
    """A folder to work in: a temporary one unless told."""
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="winohw-synth-") as name:
            yield Path(name)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder


@dataclass
class Placer:
    """Places and routes a netlist with one seed or several.

    With `routed`, which gives the file of a seed's routed design, that is kept as well; `constraints` are those of the
    board that it is for.
    """

    netlist: Netlist
    commands: Mapping[int, Sequence[str]]
    nextpnr: Tool
    folder: Path
    timeout: float | None
    steps: Steps
    store: Cache
    cache: bool
    routed: Callable[[int], str] | None = None
    constraints: str = ""
    stop: threading.Event = field(default_factory=threading.Event)

    def place(self, jobs: int) -> list[Placement]:
        """Results of all seeds, `jobs` at a time."""
        with ThreadPoolExecutor(max_workers=jobs) as pool:
            futures = [pool.submit(self.place_seed, number, seed) for number, seed in enumerate(self.commands, start=4)]
            try:
                for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                    future.result()
                return [future.result() for future in futures]
            except BaseException:
                self.stop.set()
                pool.shutdown(cancel_futures=True)
                raise

    def place_seed(self, number: int, seed: int) -> Placement:
        """Step `number`: the result of one seed, from the cache if it is there."""
        with self.steps.step(number, f"seed {seed}") as step:
            key = self.key(seed)
            found = self.store.get(key) if self.cache else None
            if found is None or (self.routed is not None and self.store.get(_routed_key(key)) is None):
                placement = self.run(key, seed, step)
            else:
                entry = json.loads(found)
                placement = read_report(entry["report"], self.netlist.stage_map, seed, entry["seconds"])
                step.cached, step.seconds = True, placement.seconds
            step.result = placement.failure or f"{placement.frequency:.1f} MHz"
        return placement

    def key(self, seed: int) -> str:
        """Digest of everything that the result of a seed depends on."""
        return place_key(self.netlist.text, [*self.commands[seed], self.constraints], self.nextpnr)

    def routed_design(self, seed: int) -> str:
        """The routed design of a seed that gave a result, as nextpnr wrote it."""
        text = self.store.get(_routed_key(self.key(seed)))
        assert text is not None
        return text

    def run(self, key: str, seed: int, step: Step) -> Placement:
        """The result of running nextpnr."""
        began, command = time.monotonic(), self.commands[seed]
        try:
            report = run_place(
                seed, command, self.nextpnr, self.folder, timeout=self.timeout, notify=step.note, stop=self.stop
            )
        except ToolError as error:
            seconds = round(time.monotonic() - began, 2)
            return Placement(seed, seconds=seconds, failure=error.reason)
        seconds = round(time.monotonic() - began, 2)
        if self.routed is not None:
            self.store.put(_routed_key(key), (self.folder / self.routed(seed)).read_text(encoding="utf-8"))
        self.store.put(key, json.dumps({"report": report, "seconds": seconds}))
        return read_report(report, self.netlist.stage_map, seed, seconds)


def _routed_key(key: str) -> str:
    return digest(["routed", key])


def timing_notes(part: Part, total: Resources, placements: Sequence[Placement]) -> Iterator[str]:
    """What a reader of the figures must know."""
    if placements and part.family.untimed and total.multipliers:
        yield (
            f"nextpnr does not time paths through the {part.family.untimed} of this family: the clock holds only if "
            "they are registered on both sides."
        )
    reached = [placement for placement in placements if placement.critical_path is not None]
    best = max(reached, key=lambda placement: placement.frequency or 0.0, default=None)
    if best is not None and best.critical_path is not None and set(best.critical_path.stages) == {WRAPPER}:
        yield "The registers at the ports limit the clock, not the component."
