import json
from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from winohw.synth.netlist import OWN, Resources
from winohw.synth.place import CriticalPath, Placement, Segment
from winohw.synth.report import Report, StepTime, ToolRecord, from_json, print_report, to_json

PATH = CriticalPath(
    (
        Segment("clock to output", 0.5, 1, "a", "a", "one", "one", (1, 2), (1, 2)),
        Segment("routing", 9.5, 1, "a", "b", "one", "two", (1, 2), (3, 4)),
    )
)
REPORT = Report(
    component="Engine",
    part="LFE5U-25F",
    package="CABGA381",
    speed="6",
    target=90.0,
    digest="abc",
    tools=(ToolRecord("yosys", "0.70", "yowasp"), ToolRecord("nextpnr-ecp5", "0.11.1", "native")),
    inputs=3,
    outputs=4,
    stages={
        "mac_array": Resources(flip_flops=10, cells={"TRELLIS_FF": 10}),
        "mac_array.cell": Resources(multipliers=18, cells={"MULT18X18D": 18}, instances=18),
        "transform": Resources(instances=2),
        "transform.graph": Resources(luts=2000, cells={"LUT4": 2000}, instances=2),
        OWN: Resources(luts=4, cells={"LUT4": 4}),
    },
    wrapper=Resources(flip_flops=14, cells={"TRELLIS_FF": 14}),
    capacity={"luts": 24288, "flip_flops": 24288, "multipliers": 28, "block_rams": 56, "large_rams": 0},
    description="F(4x4, 3x3)",
    placements=(
        Placement(1, 95.0, PATH, {"TRELLIS_COMB": (2100, 24288)}, 12.0),
        Placement(2, 100.0, PATH, {"TRELLIS_COMB": (2100, 24288)}, 13.0),
        Placement(3, seconds=60.0, failure="took too long"),
        Placement(4, 91.5, None, {}, 11.0),
    ),
    steps=(StepTime("tools", 0.5), StepTime("synthesis", 3.0, True)),
    notes=("read this",),
)


def test_figures_that_follow():
    assert REPORT.total == Resources(
        luts=2004, flip_flops=10, multipliers=18, cells={"LUT4": 2004, "MULT18X18D": 18, "TRELLIS_FF": 10}
    )
    assert REPORT.best.seed == 2
    assert (REPORT.frequency, REPORT.spread) == (100.0, 8.5)
    assert REPORT.meets_target
    assert not replace(REPORT, target=100.5).meets_target
    assert REPORT.fits
    assert not replace(REPORT, excess=("30 multiplier of 28",)).fits


def test_nothing_placed():
    report = replace(REPORT, placements=(Placement(3, failure="took too long"),))
    assert (report.best, report.frequency, report.spread, report.meets_target) == (None, None, None, False)


def test_stages_down_to_a_level():
    assert REPORT.by_stage(1) == {
        "mac_array": Resources(flip_flops=10, multipliers=18, cells={"MULT18X18D": 18, "TRELLIS_FF": 10}),
        "transform": Resources(luts=2000, cells={"LUT4": 2000}, instances=2),
        OWN: Resources(luts=4, cells={"LUT4": 4}),
    }
    # The levels above keep what is theirs alone, so that the sum of all rows is the total.
    assert REPORT.by_stage(2) == REPORT.stages
    assert sum(REPORT.by_stage(1).values(), Resources()) == REPORT.total


def test_json_and_back():
    text = to_json(REPORT)
    assert from_json(text) == REPORT
    derived = json.loads(text)["derived"]
    assert (derived["frequency"], derived["spread"], derived["best_seed"]) == (100.0, 8.5, 2)
    assert derived["total"]["luts"] == 2004
    assert derived["critical_path"] == PATH.words()
    empty = replace(REPORT, placements=())
    assert from_json(to_json(empty)) == empty
    assert json.loads(to_json(empty))["derived"]["critical_path"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"more": 1}, "^Report has no more$"),
        ({"part": 5}, "^A value of type str is needed, not 5$"),
        ({"inputs": 1.5}, "^A value of type int is needed, not 1.5$"),
        ({"tools": "yosys"}, "^A list is needed, not 'yosys'$"),
        ({"capacity": []}, r"^A mapping is needed, not \[\]$"),
        ({"wrapper": 3}, "^A Resources is needed, not 3$"),
    ],
)
def test_json_that_is_no_report(change, message):
    with pytest.raises(ValueError, match=message):
        from_json(json.dumps({**json.loads(to_json(REPORT)), **change}))


def test_json_that_lacks_something():
    data = json.loads(to_json(REPORT))
    del data["part"]
    with pytest.raises(ValueError, match=r"^Report is incomplete: .* 'part'$"):
        from_json(json.dumps(data))
    with pytest.raises(ValueError, match=r"^A Report is needed, not 1$"):
        from_json("1")


def printed(report, **arguments):
    out = StringIO()
    print_report(report, Console(file=out, width=200), **arguments)
    return [" ".join(line.split()) for line in out.getvalue().splitlines()]


def test_table():
    lines = printed(REPORT)
    assert lines[0] == "Engine on LFE5U-25F CABGA381 speed 6"
    assert lines[1] == "F(4x4, 3x3)"
    assert "┃ stage ┃ LUT ┃ FF ┃ multiplier ┃ block RAM ┃" in lines
    assert "│ mac_array │ 0 │ 10 │ 18 │ 0 │" in lines
    assert "│ transform ×2 │ 2000 │ 0 │ 0 │ 0 │" in lines
    assert "│ total │ 2004 │ 10 │ 18 │ 0 │" in lines
    assert "│ of the part │ 8.3 % │ 0.0 % │ 64.3 % │ 0.0 % │" in lines
    assert "│ (pins), on top │ 0 │ 14 │ 0 │ 0 │" in lines
    assert "│ 1 │ 95.0 │ one → two │ 0.50 │ 9.50 │ 12.0 │" in lines
    assert "│ 3 │ │ took too long │ │ │ 60.0 │" in lines
    assert "│ 4 │ 91.5 │ │ │ │ 11.0 │" in lines
    assert "100.0 MHz with seed 2 meets the target of 90 MHz; spread over the seeds 8.5 MHz" in lines
    assert f"Critical path: {PATH.words()}" in lines
    assert "Note: read this" in lines
    assert "Steps: tools 0.5 s, synthesis 3.0 s (cached)" in lines
    assert "Tools: yosys 0.70 (yowasp), nextpnr-ecp5 0.11.1 (native)" in lines
    assert lines[-1] == "Digest: abc"


def test_table_down_to_a_level():
    lines = printed(REPORT, depth=2)
    assert "│ mac_array │ 0 │ 10 │ 0 │ 0 │" in lines
    assert "│ mac_array.cell ×18 │ 0 │ 0 │ 18 │ 0 │" in lines


def test_table_of_what_does_not_fit():
    lines = printed(replace(REPORT, placements=(), excess=("30 multiplier of 28",)))
    assert "Does not fit: 30 multiplier of 28" in lines
    assert not any("MHz" in line for line in lines)
