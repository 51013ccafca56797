import json
from pathlib import Path

import pytest

from winohw.synth.netlist import OWN, StageMap
from winohw.synth.parts import find_part
from winohw.synth.place import (
    CriticalPath,
    PlaceOptions,
    Segment,
    activity,
    constraints_file,
    place_command,
    place_key,
    read_report,
    routed_file,
    write_inputs,
)
from winohw.synth.toolchain import Tool

# nextpnr's reports on `tiny_design.Tiny`: LFE5U-12F, iCE40UP5K, GW1NR-9.
RECORDED = Path(__file__).parent / "recorded"


class Stages(StageMap):
    """Cells of `Tiny` by their names, without the netlist."""

    def stage(self, cell):
        return OWN if ".held" in cell and "LUT4" not in cell else "total"

    def signal(self, cell):
        return cell.split("_")[0].removeprefix("component.")


def read(name, seed=1, seconds=0.0):
    return read_report((RECORDED / f"{name}.json").read_text(), Stages({}), seed, seconds)


def test_ecp5_report():
    placement = read("ecp5", seed=7, seconds=1.5)
    assert (placement.seed, placement.seconds, placement.failure) == (7, 1.5, "")
    assert placement.frequency == pytest.approx(243.78350830078125, abs=0)
    assert placement.utilization == {"TRELLIS_COMB": (66, 24288), "TRELLIS_FF": (80, 24288)}
    path = placement.critical_path
    assert [(segment.kind, segment.cells) for segment in path.segments] == [
        ("clock to output", 1),
        ("routing", 1),
        ("logic", 1),
        ("routing", 1),
        ("logic", 1),
        ("carry", 12),
        ("logic", 1),
        ("routing", 1),
        ("setup", 1),
    ]
    assert path.words() == (
        "(own) → total: 4.10 ns from held[2] to o[15] (clock to output 0.52, logic 1.09 in 3 levels, carry 0.43 over "
        "12 cells, routing 2.06 in 3 nets, setup 0.00). Longest net: held[2], 1.11 ns from (68, 30) to (68, 28)."
    )


def test_ice40_report():
    placement = read("ice40")
    assert placement.utilization == {"ICESTORM_LC": (94, 5280)}
    path = placement.critical_path
    # The hop of the carry from a column of cells into the next is part of the chain.
    assert [(segment.kind, segment.cells) for segment in path.segments if segment.kind == "carry"] == [("carry", 14)]
    assert path.segments[-1].kind == "setup"
    assert path.stages == (OWN, "total")


def test_gowin_report():
    path = read("gowin").critical_path
    assert path.stages == ("total",)
    assert [segment.kind for segment in path.segments] == [
        "clock to output",
        "routing",
        "logic",
        "carry",
        "logic",
        "setup",
    ]


@pytest.mark.parametrize("name", ["ecp5", "ice40", "gowin"])
def test_path_takes_a_period(name):
    placement = read(name)
    path = placement.critical_path
    assert path.delay == pytest.approx(1000 / placement.frequency, abs=1e-3)
    assert path.logic + path.routing == pytest.approx(path.delay)
    assert path.logic == pytest.approx(path.delay_of("clock to output", "logic", "carry", "setup"))


def test_slowest_clock_counts():
    report = json.loads((RECORDED / "ice40.json").read_text())
    fast = {"achieved": 300.0, "constraint": 40}
    report["fmax"]["other"] = fast
    report["critical_paths"].append({**report["critical_paths"][0], "from": "posedge other", "to": "posedge other"})
    placement = read_report(json.dumps(report), Stages({}), 1)
    assert placement.frequency == pytest.approx(78.41907501220703, abs=0)
    report["fmax"]["other"] = {**fast, "achieved": 10.0}
    assert read_report(json.dumps(report), Stages({}), 1).frequency == 10.0


def test_no_clock():
    report = {"fmax": {}, "critical_paths": [], "utilization": {"ICESTORM_LC": {"used": 1, "available": 5280}}}
    placement = read_report(json.dumps(report), Stages({}), 3)
    assert placement.frequency is None
    assert placement.critical_path is None
    assert placement.failure == "the design has no path from register to register"


def test_words_of_a_short_path():
    segment = Segment("clock to output", 0.5, 1, "a", "a", "x", "x", (1, 2), (1, 2))
    wire = Segment("routing", 1.25, 1, "a", "b", "x", "y", (1, 2), (3, 4))
    assert CriticalPath((segment, wire)).words() == (
        "x → y: 1.75 ns from a to b (clock to output 0.50, routing 1.25 in 1 net, setup 0.00). "
        "Longest net: a, 1.25 ns from (1, 2) to (3, 4)."
    )


def test_command():
    options = PlaceOptions(flags=("--placer-heap-timingweight", "20"))
    assert " ".join(place_command(find_part("LFE5U-85F"), 3, 137.5, 100, options)) == (
        "--85k --package CABGA381 --speed 6 --lpf top.lpf --lpf-allow-unconstrained --json top.json --seed 3 "
        "--freq 137.5 --timing-allow-fail --report report_3.json --router router1 --placer-heap-timingweight 20"
    )
    assert " ".join(place_command(find_part("iCE40UP5K"), 1, 40, 100, PlaceOptions())) == (
        "--up5k --package sg48 --pcf-allow-unconstrained --json top.json --seed 1 --freq 40 "
        "--timing-allow-fail --report report_1.json"
    )
    assert "--vopt cst=top.cst" in " ".join(place_command(find_part("GW2A-18"), 1, 40, 100, PlaceOptions()))


@pytest.mark.parametrize(
    ("part", "cells", "router", "wanted"),
    [
        ("LFE5U-25F", 3999, "auto", "router1"),
        ("LFE5U-25F", 4000, "auto", "router2"),
        ("LFE5U-25F", 10, "router2", "router2"),
        ("iCE40UP5K", 10, "auto", None),
        ("iCE40UP5K", 10, "router2", "router2"),
    ],
)
def test_router(part, cells, router, wanted):
    command = place_command(find_part(part), 1, 100, cells, PlaceOptions(router=router))
    assert (command[command.index("--router") + 1] if "--router" in command else None) == wanted


@pytest.mark.parametrize(
    ("part", "cells", "placer", "wanted"),
    [
        ("LFE5U-25F", 3999, "auto", None),
        ("LFE5U-25F", 4000, "auto", "static"),
        ("LFE5U-25F", 4000, "heap", "heap"),
        ("iCE40UP5K", 5000, "auto", None),
        ("GW2A-18", 5000, "auto", None),
        ("GW2A-18", 5000, "static", "static"),
    ],
)
def test_placer(part, cells, placer, wanted):
    command = place_command(find_part(part), 1, 100, cells, PlaceOptions(placer=placer))
    assert (command[command.index("--placer") + 1] if "--placer" in command else None) == wanted


def test_a_planned_netlist_needs_no_spreading():
    command = place_command(find_part("LFE5U-85F"), 1, 100, 9000, PlaceOptions(), planned=True)
    assert "--placer" not in command


@pytest.mark.parametrize(
    ("part", "wanted", "constraints", "routed"),
    [
        ("LFE5U-25F", "--lpf top.lpf --textcfg routed_2.config", "top.lpf", "routed_2.config"),
        ("iCE40UP5K", "--pcf top.pcf --asc routed_2.asc", "top.pcf", "routed_2.asc"),
        ("GW1NR-9", "--vopt cst=top.cst --write routed_2.json", "top.cst", "routed_2.json"),
    ],
)
def test_command_of_a_board(part, wanted, constraints, routed):
    part = find_part(part)
    command = " ".join(place_command(part, 2, 50, 100, PlaceOptions(), board=True))
    assert wanted in command
    assert "unconstrained" not in command
    assert (constraints_file(part), routed_file(part, 2)) == (constraints, routed)


def test_bad_options():
    with pytest.raises(ValueError, match=r"^placer must be one of auto, heap, static, sa, not 'best'$"):
        PlaceOptions(placer="best")
    with pytest.raises(ValueError, match=r"^router must be one of auto, router1, router2, not 'router3'$"):
        PlaceOptions(router="router3")
    with pytest.raises(ValueError, match=r"^timeout must be more than 0 seconds, not 0$"):
        PlaceOptions(timeout=0)


def test_pins_are_given_where_nextpnr_wants_them(tmp_path):
    write_inputs("{}", find_part("iCE40UP5K"), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["top.json"]
    write_inputs("{}", find_part("LFE5U-25F"), tmp_path)
    assert (tmp_path / "top.lpf").read_text() == 'LOCATE COMP "clk" SITE "G2";\n'
    write_inputs("{}", find_part("LFE5U-25F").variant(package="CABGA256"), tmp_path)
    assert (tmp_path / "top.lpf").read_text() == ""
    write_inputs("{}", find_part("GW1NR-9"), tmp_path)
    assert (tmp_path / "top.cst").read_text() == (
        'IO_LOC "clk" 52;\nIO_LOC "rst" 25;\nIO_LOC "scan_in" 26;\nIO_LOC "scan_out" 27;\n'
    )


def test_key_depends_on_everything(monkeypatch):
    versions = {"/a": "1", "/b": "2"}
    monkeypatch.setattr(Tool, "version", property(lambda tool: versions[tool.path]))
    a, b = (Tool("nextpnr-ecp5", path, "native") for path in versions)
    keys = {place_key("n", ["x"], a), place_key("n", ["x"], b), place_key("m", ["x"], a), place_key("n", ["y"], a)}
    assert len(keys) == 4
    assert place_key("n", ["x"], a) in keys


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "Info:     iter=12 wires=8114 overused=3 overuse=3 archfail=NA",
            "routing, iteration 12: 3 wires in use twice",
        ),
        (
            "Info:        290 |       48        222 |   48   222 |      6049|       0.12       0.12|",
            "routing, 6049 connections left",
        ),
        ("Info: Packing LUTs...", "packing"),
        ("Info: Running main analytical placer, max placement attempts per cell = 66795.", "placing"),
        ("Info: Running simulated annealing placer for refinement.", "refining the placement"),
        ("Info: Setting up routing queue.", "routing"),
        ("Info: [ -1457,  -1088) |*********+", None),
        ("Info: Checksum: 0x1234", None),
    ],
)
def test_activity(line, words):
    assert activity(line) == words
