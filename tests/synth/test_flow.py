# amaranth: UnusedElaboratable=no
"""Whole builds. The fast ones are for iCE40: two seconds of Yosys, one of nextpnr."""

import json
import sys
import time

import pytest
from rich.console import Console
from tiny_design import Tiny

from winohw.gateware.config import EngineConfig
from winohw.gateware.multiplier import Multiplier
from winohw.synth import flow
from winohw.synth.flow import synthesize
from winohw.synth.netlist import OWN, Resources
from winohw.synth.parts import find_part
from winohw.synth.place import PlaceOptions
from winohw.synth.progress import ConsoleProgress
from winohw.synth.report import from_json, print_report, to_json
from winohw.synth.synthesis import SynthesisOptions
from winohw.synth.toolchain import ToolError, ToolNotFoundError, find_tool


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """One cache for all tests of this file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WINOHW_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


def assert_tiny(report):
    """The registers of `Tiny` are known, each family has the same number of them."""
    registers = {name: stage.flip_flops for name, stage in report.stages.items()}
    assert registers == {"counter": 12, "total": 16, OWN: 8}
    assert report.stages["counter"].instances == 2
    # A bit of the total is a three-input exclusive or and an adder, of a counter an adder; the first few may be less.
    assert 12 <= report.stages["counter"].luts <= 18
    assert 20 <= report.stages["total"].luts <= 28
    assert report.stages[OWN].luts == 0
    # 9 bits in, 16 out, each of which is registered and folded; two registers for reset, one at the pin.
    assert (report.inputs, report.outputs) == (9, 16)
    assert (report.wrapper.flip_flops, report.wrapper.luts) == (9 + 2 * 16 + 3, 16)
    assert report.fits
    assert from_json(to_json(report)) == report


def test_tiny_design_on_ice40():
    events = []
    report = synthesize(Tiny(), "ice40up5k", seeds=(1, 2), frequency=30, progress=events.append)
    assert_tiny(report)
    assert (report.component, report.part, report.package, report.target) == ("Tiny", "iCE40UP5K", "sg48", 30)
    assert [tool.name for tool in report.tools] == ["yosys", "nextpnr-ice40"]
    assert all(tool.version[0].isdigit() for tool in report.tools)
    assert [step.name for step in report.steps] == ["tools", "elaboration", "synthesis", "seed 1", "seed 2"]
    assert [placement.seed for placement in report.placements] == [1, 2]
    # A 16-bit adder behind a lookup table.
    assert all(40 < placement.frequency < 150 for placement in report.placements)
    assert report.meets_target
    assert report.placements[0].critical_path != report.placements[1].critical_path
    assert report.best.critical_path.stages[-1] == "total"
    assert report.best.critical_path.delay == pytest.approx(1000 / report.frequency, abs=1e-3)
    # nextpnr sees all registers, and packs each table with one of them or has it alone.
    registers = report.total.flip_flops + report.wrapper.flip_flops
    assert registers <= report.best.utilization["ICESTORM_LC"][0] <= registers + report.total.luts
    assert not report.notes

    assert [(event.number, event.title) for event in events if event.state == "start"] == [
        (1, "tools"),
        (2, "elaboration"),
        (3, "synthesis"),
        (4, "seed 1"),
        (5, "seed 2"),
    ]
    ends = [event for event in events if event.state == "end"]
    assert [event.number for event in ends] == [1, 2, 3, 4, 5]
    assert {event.total for event in events} == {5}
    assert ends[2].text == report.total.words()
    assert ends[3].text == f"{report.placements[0].frequency:.1f} MHz"
    assert "pass flatten" in [event.text for event in events if event.number == 3]
    notes = [event.text for event in events if event.state == "note" and event.number == 4]
    assert notes[0] == "packing"
    assert "placing" in notes


def test_results_are_kept():
    first = synthesize(Tiny(), "ice40up5k", seeds=(1,), frequency=30)
    again = synthesize(Tiny(), "ice40up5k", seeds=(1,), frequency=30)
    assert [step.cached for step in again.steps] == [False, False, True, True]
    assert again.placements == first.placements
    assert (again.stages, again.digest) == (first.stages, first.digest)
    more = synthesize(Tiny(), "ice40up5k", seeds=(1, 3), frequency=30)
    assert [step.cached for step in more.steps[2:]] == [True, True, False]
    assert more.digest != first.digest
    assert synthesize(Tiny(), "ice40up5k", seeds=(1, 3), frequency=30).placements == more.placements
    other = synthesize(Tiny(), "ice40up5k", seeds=(1,), frequency=31)
    assert [step.cached for step in other.steps[2:]] == [True, False]
    anew = synthesize(Tiny(), "ice40up5k", seeds=(1,), frequency=30, cache=False)
    assert not any(step.cached for step in anew.steps)
    assert anew.placements[0].frequency == first.placements[0].frequency


def test_seeds_at_a_time_are_as_one_after_the_other(tmp_path):
    one = synthesize(Tiny(), "ice40up5k", seeds=(1, 2, 3), frequency=30)
    two = synthesize(Tiny(), "ice40up5k", seeds=(1, 2, 3), frequency=30, jobs=2, cache=False, folder=tmp_path / "b")
    figures = [(placement.seed, placement.frequency, placement.critical_path) for placement in two.placements]
    assert figures == [(placement.seed, placement.frequency, placement.critical_path) for placement in one.placements]
    names = {path.name for path in (tmp_path / "b").iterdir()}
    assert {"top.il", "top.ys", "yosys.log", "top.json", "nextpnr_3.log", "report_3.json"} <= names


def test_synthesis_alone_with_a_memory():
    plain = synthesize(Tiny(store=True), "ice40up5k", seeds=())
    assert [tool.name for tool in plain.tools] == ["yosys"]
    assert (plain.placements, plain.frequency, plain.meets_target) == ((), None, False)
    assert plain.stages["store"].block_rams == plain.total.block_rams == 1
    # Reads of what is being written must see the new value, which takes registers beside the address.
    assert plain.stages["store"].flip_flops > 8
    command = "setparam -set COLLISION_X_MASK 1'1 t:$memrd_v2"
    free = synthesize(Tiny(store=True), "ice40up5k", seeds=(), synthesis=SynthesisOptions(after_read=(command,)))
    assert free.stages["store"].flip_flops == 8
    assert free.stages["total"] == plain.stages["total"]


def test_what_does_not_fit_is_not_placed():
    part = find_part("ice40up5k")
    small = type(part)(**{**{name: getattr(part, name) for name in part.__dataclass_fields__}, "flip_flops": 70})
    report = synthesize(Tiny(), small)
    assert report.excess == ("80 FF of 70",)
    assert (report.placements, len(report.steps)) == ((), 3)


def test_seed_that_fails_is_reported(tmp_path):
    bad = PlaceOptions(flags=("--no-such-flag",))
    report = synthesize(Tiny(), "ice40up5k", place=bad, folder=tmp_path)
    assert report.best is None
    assert "no-such-flag" in report.placements[0].failure
    slow = synthesize(Tiny(), "ice40up5k", place=PlaceOptions(timeout=0.01), frequency=33)
    assert slow.placements[0].failure == "took too long"


def test_yosys_that_fails(tmp_path):
    with pytest.raises(ToolError, match=r"^yosys failed: ERROR: .*no_such_command.* \(log in "):
        synthesize(Tiny(), "ice40up5k", synthesis=SynthesisOptions(after_read=("no_such_command",)), folder=tmp_path)


def test_interruption_stops_all_seeds(monkeypatch, tmp_path):
    endless = tmp_path / "nextpnr"
    endless.write_text(
        f"#!{sys.executable}\nimport sys, time\nif '--seed' in sys.argv:\n"
        "    print('Info: Packing', flush=True)\n    time.sleep(120)\n"
    )
    endless.chmod(0o755)
    monkeypatch.setenv("NEXTPNR_ICE40", str(endless))
    running = set()

    def interrupt(event):
        if event.state == "note":
            running.add(event.title)
            if len(running) == 2:
                raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        synthesize(Tiny(), "ice40up5k", seeds=(1, 2, 3), jobs=2, progress=interrupt)
    assert {"seed 1", "seed 2"} <= running
    assert time.monotonic() - began < 60


def test_untimed_cells_are_noted():
    multiplier = Multiplier(8, 8, "ice40")
    report = synthesize(multiplier, "ice40up5k")
    assert report.stages[OWN].multipliers == 1
    assert report.notes[0] == (
        "nextpnr does not time paths through the SB_MAC16 of this family: the clock holds only if they are registered "
        "on both sides."
    )


def test_engine_of_a_configuration(monkeypatch):
    config = EngineConfig(tile_size=2, fold=4)
    monkeypatch.setattr(flow, "_engine", lambda given: Tiny() if given is config else None)
    report = synthesize(config, "ice40up5k", seeds=())
    assert report.description == config.describe()
    assert report.total == synthesize(Tiny(), "ice40up5k", seeds=()).total


def test_engine_of_another_family():
    with pytest.raises(ValueError, match=r"^An engine of family 'ecp5' cannot be built for iCE40UP5K$"):
        synthesize(EngineConfig(tile_size=2, fold=4, family="ecp5"), "ice40up5k", seeds=())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"design": 5}, TypeError, "^A component or an EngineConfig is needed, not 5$"),
        ({"part": "ice50"}, ValueError, "^Unknown part 'ice50'; known are "),
        ({"frequency": 0}, ValueError, "^frequency must be more than 0 MHz, not 0$"),
        ({"jobs": 0}, ValueError, "^jobs must be at least 1, not 0$"),
        ({"seeds": (1, 2, 1)}, ValueError, r"^seeds must differ from each other, not \[1, 2, 1\]$"),
    ],
)
def test_bad_arguments(arguments, error, message):
    arguments = {"design": None, "part": "ice40up5k", **arguments}
    design = Tiny() if arguments["design"] is None else arguments["design"]
    with pytest.raises(error, match=message):
        synthesize(design, arguments["part"], **{k: v for k, v in arguments.items() if k not in ("design", "part")})


def test_on_a_console(capsys):
    synthesize(Tiny(), "ice40up5k", seeds=(1,), frequency=30)
    console = Console(width=120)
    with ConsoleProgress(console) as progress:
        report = synthesize(Tiny(), "ice40up5k", seeds=(1,), frequency=30, progress=progress)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("[1/4] tools: yosys 0.")
    assert lines[2] == f"[3/4] synthesis: {report.total.words()} (cached)"
    assert lines[3] == f"[4/4] seed 1: {report.frequency:.1f} MHz (cached)"
    print_report(report, console)
    assert "Tiny on iCE40UP5K sg48" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("part", "least"),
    [
        ("LFE5U-12F", 150),
        pytest.param("LFE5U-85F", 150, marks=pytest.mark.slow),
        pytest.param("GW1NR-9", 100, marks=pytest.mark.slow),
        pytest.param("GW2A-18", 150, marks=pytest.mark.slow),
    ],
)
def test_tiny_design_on_other_families(part, least):
    try:
        find_tool(find_part(part).family.place_tool)
    except ToolNotFoundError as error:
        pytest.skip(str(error))
    report = synthesize(Tiny(), part)
    assert_tiny(report)
    assert report.frequency > least
    assert report.best.critical_path.stages[-1] == "total"
    assert json.loads(to_json(report))["derived"]["best_seed"] == 1


@pytest.mark.slow
def test_multiplier_on_ecp5_is_faster_than_its_surroundings():
    report = synthesize(Multiplier(15, 14, "ecp5"), "LFE5U-12F", frequency=200)
    assert report.total == Resources(multipliers=1, cells={"MULT18X18D": 1})
    assert report.frequency > 200
