import re
from collections import Counter

import pytest

from winohw.gateware.config import EngineConfig
from winohw.synth.floorplan import GRIDS, floorplan, places
from winohw.synth.parts import find_part


def cells(config, prefix="component."):
    """Names of the cells of an engine's taps: a multiplier for each, and a memory where nothing is wider than one."""
    n, columns, pk = config.input_tile, config.columns, config.output_lanes
    names = [f"mac_array.cell{k}.cell" for k in range(config.multipliers)]
    names += [f"accumulator.memory{k}.block0_0" for k in range(n * columns * pk)]
    for row in range(n * pk):
        for stage in range(columns // config.output_columns):
            names += [f"drain_buffer.memory{row}_{stage}.block0_{k}" for k in range(config.output_columns)]
    return [prefix + name for name in names]


def place(text):
    x, y, name = re.fullmatch(r"X(\d+)/Y(\d+)/(\w+)", text).groups()
    return int(x), int(y), name


def engine(**options):
    return EngineConfig(**{"family": "ecp5", "line_words": 512} | options)


CASES = [
    # part, configuration, memories that find a place
    ("LFE5U-85F", engine(), 72),
    ("LFE5U-85F", engine(input_lanes=2), 72),
    ("LFE5U-85F", engine(input_lanes=3, output_columns=2), 72),
    ("LFE5U-85F", engine(input_lanes=4, output_columns=2), 72),
    ("LFE5U-45F", engine(input_lanes=2), 72),
    ("LFE5U-25F", engine(fold=2), 36),
    ("LFE5U-25F", engine(tile_size=2), 32),
    ("LFE5U-85F", engine(tile_size=3), 50),
]


@pytest.mark.parametrize(("part", "config", "memories"), CASES)
def test_every_tap_has_its_place(part, config, memories):
    part = find_part(part)
    grid = next(GRIDS[flag] for flag in part.device if flag in GRIDS)
    found = places(cells(config), config, part)
    assert len(set(found.values())) == len(found)
    multipliers = {name: place(text) for name, text in found.items() if "mac_array" in name}
    assert len(multipliers) == config.multipliers
    assert len(found) == config.multipliers + memories
    offsets = {"MULT18_0": 0, "MULT18_1": 1, "MULT18_4": 4, "MULT18_5": 5, "EBR0": 0, "EBR1": 2, "EBR2": 4, "EBR3": 6}
    taps = config.input_tile * config.columns
    sharing = {}
    for name, text in found.items():
        x, y, slot = place(text)
        assert x - offsets[slot] in grid.columns
        assert (y in grid.dsp_rows) == slot.startswith("MULT")
        if "mac_array" in name:
            row, column = divmod(int(re.search(r"cell(\d+)", name)[1]) % taps, config.columns)
            # Multipliers side by side share their control signals: those of two rows of taps.
            sharing.setdefault((y, x - offsets[slot], slot in ("MULT18_4", "MULT18_5")), set()).add((row // 2, column))
    assert all(len(pairs) == 1 for pairs in sharing.values())


def test_memories_are_near_their_multipliers():
    config = engine()
    found = places(cells(config), config, find_part("LFE5U-85F"))
    for tap in range(36):
        x, y, _ = place(found[f"component.mac_array.cell{tap}.cell"])
        for name in (f"accumulator.memory{tap}.block0_0", f"drain_buffer.memory{tap // 6}_{tap % 6}.block0_0"):
            memory_x, memory_y, _ = place(found[f"component.{name}"])
            assert abs(memory_x - x) <= 8
            assert abs(memory_y - y) == 12


@pytest.mark.parametrize("lanes", [3, 4])
def test_banks_of_large_arrays_are_spread(lanes):
    """Two memories a bank; those of a row of a patch side by side, columns from left to right, none in the middle."""
    part = find_part("LFE5U-85F")
    names = [
        f"component.line_buffer.bank_{row}_{column}.block0_{k}"
        for row in range(6)
        for column in range(6)
        for k in (0, 1)
    ]
    assert not set(names) & set(places([*cells(engine(input_lanes=2)), *names], engine(input_lanes=2), part))
    config = engine(input_lanes=lanes, output_columns=2)
    found = places([*cells(config), *names], config, part)
    assert len(set(found.values())) == len(found)
    spots = {name: place(found[name]) for name in names}
    for row in range(6):
        of_row = [spots[name] for name in names if f"bank_{row}_" in name]
        assert {y for _, y, _ in of_row} == {(22, 70, 82)[row // 2]}
        assert [x for x, _, _ in of_row] == sorted(x for x, _, _ in of_row)
        assert of_row[-1][0] - of_row[0][0] > 80


def test_rows_of_taps_are_dealt_to_rows_of_multipliers():
    config = engine(input_lanes=4)
    found = places(cells(config, prefix="board.engine."), config, find_part("LFE5U-85F"))
    rows = Counter(place(text)[1] for name, text in found.items() if "mac_array" in name)
    assert rows == {10: 48, 34: 48, 58: 48}


@pytest.mark.parametrize(
    ("part", "config"),
    [
        ("iCE40UP5K", engine()),
        ("LFE5U-85F", EngineConfig()),
        ("LFE5U-25F", engine()),
        ("LFE5U-45F", engine(input_lanes=4)),
        ("LFE5U-85F", engine(input_lanes=5)),
    ],
)
def test_no_plan(part, config):
    assert places(cells(config), config, find_part(part)) == {}


def test_netlist():
    config, part = engine(), find_part("LFE5U-85F")
    module = {
        "cells": {
            "component.mac_array.cell35.cell": {"type": "MULT18X18D", "attributes": {"src": "x"}},
            "component.requantizer.cell": {"type": "MULT18X18D", "attributes": {}},
            "component.mac_array.cell1.cell": {"type": "LUT4", "attributes": {}},
        }
    }
    found = floorplan(module, config, part)
    assert found == places(["component.mac_array.cell35.cell"], config, part)
    attributes = [cell["attributes"] for cell in module["cells"].values()]
    assert attributes == [{"src": "x", "BEL": found["component.mac_array.cell35.cell"]}, {}, {}]
