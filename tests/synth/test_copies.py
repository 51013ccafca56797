from winohw.synth.copies import MOST_LOADS, copy_drivers
from winohw.synth.parts import find_part

ECP5 = find_part("LFE5U-25F")


def netlist(loads, port=False):
    """A register that drives so many others, in two stages, and itself."""
    directions = {"CLK": "input", "DI": "input", "Q": "output"}

    def register(data, output):
        return {
            "type": "TRELLIS_FF",
            "attributes": {"src": "here"},
            "port_directions": directions,
            "connections": {"CLK": [2], "DI": [data], "Q": [output]},
        }

    cells = {"source": register(3, 3)}
    for k in range(loads):
        cells[f"stage{k % 2}.r{k}"] = register(3, 10 + k)
    ports = {"clk": {"direction": "input", "bits": [2]}, "out": {"direction": "output", "bits": [3 if port else 10]}}
    return {"ports": ports, "cells": cells, "netnames": {}}


def test_loads_are_shared():
    module = netlist(100)
    assert copy_drivers(module, ECP5) == 2
    cells = module["cells"]
    outputs = {name: cells[name]["connections"]["Q"][0] for name in ("source", "source$copy1", "source$copy2")}
    assert len(set(outputs.values())) == 3
    driven = {name: [] for name in outputs}
    for name, cell in cells.items():
        (data,) = cell["connections"]["DI"]
        driven[next(source for source, output in outputs.items() if output == data)].append(name)
    # Each copy is a register like the first one, with the same data.
    assert {cells[name]["connections"]["DI"][0] for name in outputs} == {outputs["source"]}
    assert all(cells[name]["type"] == "TRELLIS_FF" for name in outputs)
    loads = [[name for name in names if name.startswith("stage")] for names in driven.values()]
    assert sum(map(len, loads)) == 100
    assert max(map(len, loads)) <= 34
    # Stages stay together as far as they can.
    stages = [{name.split(".")[0] for name in names} for names in loads]
    assert sorted(map(len, stages)) == [1, 1, 2]
    assert {module["netnames"][name]["bits"][0] for name in ("source$copy1", "source$copy2")} <= set(outputs.values())


def test_few_loads_and_ports_are_left_alone():
    module = netlist(MOST_LOADS["TRELLIS_FF"] - 1)
    assert copy_drivers(module, ECP5) == 0
    assert copy_drivers(netlist(100, port=True), ECP5) == 0
    assert copy_drivers(netlist(100), find_part("iCE40UP5K")) == 0
    assert copy_drivers(netlist(100), ECP5, most={"LUT4": 200, "TRELLIS_FF": 200}) == 0


def test_copies_of_a_lookup_table_share_its_registers():
    """100 enables from one lookup table: five of them, which are loads of the register before them."""
    module = netlist(100)
    (source,) = module["cells"]["source"]["connections"]["Q"]
    for name, cell in module["cells"].items():
        if name != "source":
            cell["connections"]["DI"] = [1000]
    module["cells"]["table"] = {
        "type": "LUT4",
        "attributes": {},
        "port_directions": {"A": "input", "Z": "output"},
        "connections": {"A": [source], "Z": [1000]},
    }
    assert copy_drivers(module, ECP5) == 4
    tables = [cell["connections"] for cell in module["cells"].values() if cell["type"] == "LUT4"]
    assert len({connections["Z"][0] for connections in tables}) == 5
    assert all(connections["A"] == [source] for connections in tables)
    loads = [cell["connections"]["DI"][0] for name, cell in module["cells"].items() if name.startswith("stage")]
    assert sorted(loads.count(connections["Z"][0]) for connections in tables) == [20] * 5
