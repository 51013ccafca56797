import json
from pathlib import Path

import pytest

from winohw.synth.parts import PARTS, find_part

RECORDED = Path(__file__).parent / "recorded"


def test_names_in_any_case():
    assert find_part("lfe5u-85f") is PARTS["LFE5U-85F"]
    assert find_part("ice40up5k") is PARTS["iCE40UP5K"]
    assert all(find_part(name).name == name for name in PARTS)


def test_unknown_part():
    with pytest.raises(ValueError, match=r"^Unknown part 'XC7A35T'; known are LFE5U-85F, LFE5U-45F, "):
        find_part("XC7A35T")


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("LFE5U-85F", "--85k --package CABGA381 --speed 6"),
        ("LFE5UM5G-85F", "--um5g-85k --package CABGA381 --speed 8"),
        ("iCE40UP5K", "--up5k --package sg48"),
        ("GW1NR-9", "--device GW1NR-LV9QN88PC6/I5 --vopt family=GW1N-9C"),
    ],
)
def test_flags(name, flags):
    assert " ".join(find_part(name).place_flags) == flags


def test_variants():
    part = find_part("LFE5U-25F").variant(package="CABGA256", speed=7)
    assert part.place_flags == ("--25k", "--package", "CABGA256", "--speed", "7")
    assert find_part("LFE5U-25F").variant() == find_part("LFE5U-25F")
    assert find_part("iCE40UP5K").variant(package="uwg30").package == "uwg30"
    with pytest.raises(ValueError, match=r"^iCE40UP5K has no speed grades to choose from, so not 7 either$"):
        find_part("iCE40UP5K").variant(speed=7)
    with pytest.raises(ValueError, match=r"^The package of GW2A-18 is fixed to PG256C, so not 'QN88'$"):
        find_part("GW2A-18").variant(package="QN88")


@pytest.mark.parametrize(
    ("name", "resource", "recorded", "cell"),
    [
        ("LFE5U-12F", "luts", "ecp5", "TRELLIS_COMB"),
        ("LFE5U-12F", "flip_flops", "ecp5", "TRELLIS_FF"),
        ("LFE5U-12F", "multipliers", "ecp5", "MULT18X18D"),
        ("LFE5U-12F", "block_rams", "ecp5", "DP16KD"),
        ("iCE40UP5K", "luts", "ice40", "ICESTORM_LC"),
        ("iCE40UP5K", "multipliers", "ice40", "ICESTORM_DSP"),
        ("iCE40UP5K", "block_rams", "ice40", "ICESTORM_RAM"),
        ("iCE40UP5K", "large_rams", "ice40", "ICESTORM_SPRAM"),
        ("GW1NR-9", "luts", "gowin", "LUT4"),
        ("GW1NR-9", "flip_flops", "gowin", "DFF"),
        ("GW1NR-9", "multipliers", "gowin", "MULT18X18"),
        ("GW1NR-9", "block_rams", "gowin", "BSRAM"),
    ],
)
def test_capacity_is_what_nextpnr_counts(name, resource, recorded, cell):
    utilization = json.loads((RECORDED / f"{recorded}.json").read_text())["utilization"]
    assert find_part(name).capacity[resource] == utilization[cell]["available"]


def test_capacities_of_facts():
    counts = {name: (part.multipliers, part.block_rams) for name, part in PARTS.items()}
    assert counts["LFE5U-85F"] == counts["LFE5UM5G-85F"] == (156, 208)
    assert counts["LFE5U-45F"] == (72, 108)
    assert counts["LFE5U-25F"] == counts["LFE5U-12F"] == (28, 56)
    assert counts["iCE40UP5K"] == (8, 30)
