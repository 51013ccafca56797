"""From a board to its bitstream."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from winohw import __version__
from winohw.synth.board import Board
from winohw.synth.board_design import BoardDesign
from winohw.synth.cache import Cache, digest
from winohw.synth.flow import Placer, Progress, Steps, build_folder, timing_notes
from winohw.synth.netlist import WRAPPER, Resources
from winohw.synth.parts import Part
from winohw.synth.place import constraints_file, place_command, place_key, routed_file
from winohw.synth.report import Report, ToolRecord, to_json
from winohw.synth.synthesis import netlist_of, run_synthesis, synthesis_key, synthesis_script
from winohw.synth.toolchain import Tool, find_tool

__all__ = ["Bitstream", "build_bitstream", "prepare", "suffix_of"]

_TOP = "top"


@dataclass(frozen=True)
class _Packer:
    """How the routed design of a family becomes a bitstream."""

    tool: str
    suffix: str
    arguments: Callable[[Part, str, str], Sequence[str]]


_PACKERS = {
    "ecp5": _Packer("ecppack", "bit", lambda part, routed, out: ["--compress", "--input", routed, "--bit", out]),
    "ice40": _Packer("icepack", "bin", lambda part, routed, out: [routed, out]),
    "gowin": _Packer(
        "gowin_pack",
        "fs",
        lambda part, routed, out: ["-d", part.device[-1].removeprefix("family="), "-o", out, routed],
    ),
}


def suffix_of(part: Part) -> str:
    """How the names of a part's bitstreams end."""
    return _PACKERS[part.family.name].suffix


@dataclass(frozen=True)
class Bitstream:
    """What came of building a board.

    Attributes
    ----------
    board : Board
        With the configuration that was built.
    report : Report
        Resources, placements and times; its target is the board's clock.
    data : bytes
        The bitstream; empty if the engine does not fit or misses the clock.
    files : tuple[pathlib.Path, ...]
        What was written: bitstream, manifest and report; the report alone if there is no bitstream.
    """

    board: Board
    report: Report
    data: bytes
    files: tuple[Path, ...] = ()

    @property
    def verdict(self) -> str:
        """What came of it, in a line."""
        report, frequency = self.report, self.board.frequency
        if report.excess:
            return f"does not fit: {', '.join(report.excess)}"
        if report.best is None:
            failures = sorted({placement.failure for placement in report.placements})
            return f"no seed gave a result: {'; '.join(failures)}"
        word = "meets" if report.meets_target else "misses"
        seeds = len(report.placements)
        spread = f", spread {report.spread:.1f} MHz over {seeds} seeds" if seeds > 1 else ""
        return f"{report.frequency:.1f} MHz with seed {report.best.seed} {word} the board's {frequency:g} MHz{spread}"

    def manifest(self) -> dict[str, Any]:
        """What the bitstream is and what it was made with, for JSON."""
        report, board = self.report, self.board
        best = report.best
        assert best is not None
        return {
            "board": board.name,
            "title": board.title,
            "part": report.part,
            "package": report.package,
            "engine": board.config.describe(),
            "configuration": board.capabilities.record()["engine"],
            "clock": board.clock,
            "baud": board.baud,
            "seed": best.seed,
            "frequency": report.frequency,
            "spread": report.spread,
            "digest": report.digest,
            "sha256": hashlib.sha256(self.data).hexdigest(),
            "bytes": len(self.data),
            "winohw": __version__,
            "tools": [asdict(tool) for tool in report.tools],
        }


def prepare(board: Board) -> tuple[str, str]:
    """A board's design as Yosys reads it, and its pins and clocks as nextpnr reads them.

    Raises
    ------
    BoardError
        The platform has no clock, its part is unknown, or no PLL makes the frequency.
    """
    platform = board.platform()
    plan = platform.prepare(BoardDesign(board), _TOP)
    part = board.part

    def text(name: str) -> str:
        content = plan.files[name]
        return content.decode() if isinstance(content, bytes) else content

    return text(f"{_TOP}.il"), text(constraints_file(part))


def build_bitstream(
    board: Board,
    *,
    seeds: Sequence[int] = (),
    jobs: int = 1,
    progress: Progress | None = None,
    cache: bool = True,
    folder: Path | None = None,
    work: Path | None = None,
) -> Bitstream:
    """Build a board's bitstream.

    All results are kept in the cache by the digest of what they depend on. Nothing is written to `folder` until all of
    it is there, and no bitstream that misses the board's clock.

    Parameters
    ----------
    board : Board
    seeds : sequence of int
        Placements to try; the fastest is taken. None: the one that the board names.
    jobs : int
        Seeds to place at a time.
    progress : callable, optional
        Gets a `StepEvent` whenever something happens.
    cache : bool
        Whether to take results from the cache; they are put there in any case.
    folder : pathlib.Path, optional
        Where bitstream, manifest and report go; default: nowhere.
    work : pathlib.Path, optional
        Where to work, for a look at the logs; default: a temporary folder.

    Raises
    ------
    BoardError
        The platform cannot be used.
    ValueError
        If the seeds are not different, or the engine is for another family.
    ToolNotFoundError
        If a tool is missing; the message says how to install it.
    ToolError
        If a tool fails.
    """
    seeds = tuple(seeds) or (board.seed,)
    if len(set(seeds)) != len(seeds):
        raise ValueError(f"seeds must differ from each other, not {list(seeds)!r}")
    if jobs < 1:
        raise ValueError(f"jobs must be at least 1, not {jobs!r}")
    part = board.part
    if board.config.family not in ("generic", part.family.gateware):
        raise ValueError(f"An engine of family {board.config.family!r} cannot be built for {part.name}")
    packer = _PACKERS[part.family.name]
    store = Cache()
    steps = Steps(4 + len(seeds), progress)

    with build_folder(work) as build:
        with steps.step(1, "tools") as step:
            tools = [find_tool(name) for name in ("yosys", part.family.place_tool, packer.tool)]
            for tool in tools:
                tool.warm_up(step.note)
            step.result = ", ".join(f"{tool.name} {tool.version} ({tool.origin})" for tool in tools)

        with steps.step(2, "elaboration") as step:
            text, constraints = prepare(board)
            step.result = f"{len(text)} bytes of RTLIL"

        with steps.step(3, "synthesis") as step:
            script = synthesis_script(text, part, board.synthesis, pads=True)
            key = synthesis_key(text, script, tools[0])
            found = store.get(key) if cache else None
            if found is None:
                found = run_synthesis(text, script, tools[0], build, step.note)
                store.put(key, found)
            else:
                step.cached = True
            netlist = netlist_of(found, part, board.config if board.placement.floorplan else None)
            total = sum(netlist.stages.values(), Resources())
            step.result = total.words()

        cells, planned = len(netlist.stage_map.cells), netlist.is_planned
        commands = {
            seed: place_command(part, seed, board.frequency, cells, board.placement, planned=planned, board=True)
            for seed in seeds
        }
        excess, placements, data = total.excess(part), [], b""
        placer = Placer(netlist, commands, tools[1], build, board.placement.timeout, steps, store, cache)
        placer.routed, placer.constraints = lambda seed: routed_file(part, seed), constraints
        if not excess:
            (build / f"{_TOP}.json").write_text(netlist.text, encoding="utf-8")
            (build / constraints_file(part)).write_text(constraints, encoding="utf-8")
            placements = placer.place(jobs)

        stages = dict(netlist.stages)
        report = Report(
            component=board.title,
            description=board.config.describe(),
            part=part.name,
            package=part.package,
            speed=part.speed,
            target=board.frequency,
            digest=digest(
                [
                    *(key, constraints, str(board.placement.timeout), tools[2].version),
                    *(place_key(netlist.text, commands[seed], tools[1]) for seed in seeds),
                ]
            ),
            tools=tuple(ToolRecord(tool.name, tool.version, tool.origin) for tool in tools),
            inputs=0,
            outputs=0,
            stages={name: item for name, item in stages.items() if name != WRAPPER},
            wrapper=Resources(),
            capacity=part.capacity,
            placements=tuple(placements),
            excess=tuple(excess),
            notes=tuple(timing_notes(part, total, placements)),
        )
        if report.best is not None and report.meets_target:
            with steps.step(4 + len(seeds), "bitstream") as step:
                data, step.cached = _pack(placer.routed_design(report.best.seed), part, packer, tools[2], build, cache)
                step.result = f"{len(data)} bytes"
    times = tuple(steps.times[number] for number in sorted(steps.times))
    result = Bitstream(board, Report(**{**vars(report), "steps": times}), data)
    return result if folder is None else Bitstream(board, result.report, data, _write(result, folder, packer.suffix))


def _pack(routed: str, part: Part, packer: _Packer, tool: Tool, folder: Path, cache: bool) -> tuple[bytes, bool]:
    """The bitstream of a routed design, and whether it was in the cache."""
    name, out = "routed.json" if part.family.name == "gowin" else "routed.txt", f"{_TOP}.{packer.suffix}"
    arguments = packer.arguments(part, name, out)
    store, key = Cache(), digest(["bitstream", routed, *arguments, tool.version])
    found = store.get(key) if cache else None
    if found is not None:
        return base64.b64decode(found), True
    (folder / name).write_text(routed, encoding="utf-8")
    tool.run(arguments, folder, "pack.log")
    data = (folder / out).read_bytes()
    store.put(key, base64.b64encode(data).decode())
    return data, False


def _write(result: Bitstream, folder: Path, suffix: str) -> tuple[Path, ...]:
    """Write what there is to a folder: each file appears whole, the bitstream last; an old one does not stay."""
    name = result.board.name or "board"
    bitstream, manifest = folder / f"{name}.{suffix}", folder / "manifest.json"
    contents: Mapping[Path, bytes] = {folder / "report.json": to_json(result.report).encode()}
    if result.data:
        contents = {
            **contents,
            manifest: (json.dumps(result.manifest(), indent=2) + "\n").encode(),
            bitstream: result.data,
        }
    folder.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=folder, prefix=".part-"))
    try:
        for path, content in contents.items():
            (scratch / path.name).write_bytes(content)
        for old in (bitstream, manifest):
            old.unlink(missing_ok=True)
        for path in contents:
            os.replace(scratch / path.name, path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return tuple(contents)
