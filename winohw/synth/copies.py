"""Copies of cells that drive many others: Yosys merges equal ones, and nextpnr never splits one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from winohw.synth.parts import Part

__all__ = ["MOST_LOADS", "copy_drivers"]

#: By cell type, pins that one may drive.
MOST_LOADS = {"LUT4": 20, "TRELLIS_FF": 40}

_OUTPUTS = {"LUT4": "Z", "TRELLIS_FF": "Q"}

_CLOCKS = {"CLK", "WCK", "CLKA", "CLKB", "CLK0", "CLK1", "CLK2", "CLK3"}


def copy_drivers(module: dict[str, Any], part: Part, most: Mapping[str, int] = MOST_LOADS) -> int:
    """Give every cell of a mapped netlist that drives more than so many pins copies that share them.

    Pins of cells with like names stay together, so that each copy drives its own corner of the design. Only for ECP5.

    Parameters
    ----------
    module : dict
        The top module of Yosys's JSON; it is changed.
    part : Part
    most : mapping of str to int
        By cell type, the pins that one may drive.

    Returns
    -------
    int
        Copies made.
    """
    if part.family.name != "ecp5":
        return 0
    cells = module["cells"]
    fixed = {bit for port in module["ports"].values() for bit in port["bits"]}
    fresh = 1 + max(
        bit for cell in cells.values() for bits in cell["connections"].values() for bit in bits if isinstance(bit, int)
    )
    made = 0
    # Lookup tables first: their copies are loads of registers.
    for kind, output_port in _OUTPUTS.items():
        loads: dict[int, list[tuple[str, str, int]]] = {}
        for name, cell in cells.items():
            for port, bits in cell["connections"].items():
                if cell["port_directions"][port] == "input" and port not in _CLOCKS:
                    for index, bit in enumerate(bits):
                        if isinstance(bit, int):
                            loads.setdefault(bit, []).append((name, port, index))
        for name, cell in list(cells.items()):
            if cell["type"] != kind:
                continue
            (output,) = cell["connections"][output_port]
            driven = loads.get(output, [])
            if len(driven) <= most[kind] or output in fixed:
                continue
            driven.sort(key=lambda load: _natural(load[0]))
            copies = -(-len(driven) // most[kind])
            for number in range(1, copies):
                connections = {port: list(bits) for port, bits in cell["connections"].items()}
                connections[output_port] = [fresh]
                copy = {**cell, "attributes": dict(cell["attributes"]), "connections": connections}
                cells[f"{name}$copy{number}"] = copy
                module["netnames"][f"{name}$copy{number}"] = {"hide_name": 1, "bits": [fresh], "attributes": {}}
                for load, port, index in driven[number * len(driven) // copies : (number + 1) * len(driven) // copies]:
                    cells[load]["connections"][port][index] = fresh
                fresh += 1
                made += 1
    return made


def _natural(name: str) -> list[str | int]:
    return [int(piece) if piece.isdigit() else piece for piece in re.split(r"(\d+)", name)]
