"""Copies of cells that drive many others: Yosys merges equal ones, and nextpnr never splits one."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
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
    fixed = {bit for port in module["ports"].values() for bit in port["bits"]}
    used = (bit for cell in module["cells"].values() for bits in cell["connections"].values() for bit in bits)
    fresh = itertools.count(1 + max(bit for bit in used if isinstance(bit, int)))
    made = 0
    # Lookup tables first: their copies are loads of registers.
    for kind, output in _OUTPUTS.items():
        loads = _loads(module["cells"])
        for name, cell in list(module["cells"].items()):
            if cell["type"] == kind and cell["connections"][output][0] not in fixed:
                made += _share(module, name, output, loads.get(cell["connections"][output][0], []), most[kind], fresh)
    return made


def _loads(cells: dict[str, Any]) -> dict[int, list[tuple[str, str, int]]]:
    """By bit, the pins that it drives, clocks left out: cell, port, and which bit of that."""
    loads: dict[int, list[tuple[str, str, int]]] = {}
    for name, cell in cells.items():
        for port, bits in cell["connections"].items():
            if cell["port_directions"][port] == "input" and port not in _CLOCKS:
                for index, bit in enumerate(bits):
                    if isinstance(bit, int):
                        loads.setdefault(bit, []).append((name, port, index))
    return loads


def _share(
    module: dict[str, Any], name: str, output: str, loads: list[tuple[str, str, int]], most: int, bits: Iterator[int]
) -> int:
    """Copies of one cell, if it drives more than `most` pins; how many were made. `bits` are new ones."""
    cells = module["cells"]
    copies = -(-len(loads) // most)
    loads.sort(key=lambda load: _natural(load[0]))
    for number in range(1, copies):
        fresh = next(bits)
        connections = {port: list(bits) for port, bits in cells[name]["connections"].items()}
        connections[output] = [fresh]
        copy = {**cells[name], "attributes": dict(cells[name]["attributes"]), "connections": connections}
        cells[f"{name}$copy{number}"] = copy
        module["netnames"][f"{name}$copy{number}"] = {"hide_name": 1, "bits": [fresh], "attributes": {}}
        for load, port, index in loads[number * len(loads) // copies : (number + 1) * len(loads) // copies]:
            cells[load]["connections"][port][index] = fresh
    return max(0, copies - 1)


def _natural(name: str) -> list[str | int]:
    return [int(piece) if piece.isdigit() else piece for piece in re.split(r"(\d+)", name)]
