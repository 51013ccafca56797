"""Copies of registers that drive many others: Yosys merges equal registers, and nextpnr never splits one."""

from __future__ import annotations

import re
from typing import Any

from winohw.synth.parts import Part

__all__ = ["MOST_LOADS", "copy_registers"]

#: Pins that one register may drive.
MOST_LOADS = 40

_CLOCKS = {"CLK", "WCK", "CLKA", "CLKB", "CLK0", "CLK1", "CLK2", "CLK3"}


def copy_registers(module: dict[str, Any], part: Part, most: int = MOST_LOADS) -> int:
    """Give every register of a mapped netlist that drives more than `most` pins copies that share them.

    Pins of cells with like names stay together, so that each copy drives its own corner of the design. Only for ECP5.

    Parameters
    ----------
    module : dict
        The top module of Yosys's JSON; it is changed.
    part : Part
    most : int
        Pins a register may drive.

    Returns
    -------
    int
        Copies made.
    """
    if part.family.name != "ecp5":
        return 0
    cells = module["cells"]
    loads: dict[int, list[tuple[str, str, int]]] = {}
    for name, cell in cells.items():
        for port, bits in cell["connections"].items():
            if cell["port_directions"][port] == "input" and port not in _CLOCKS:
                for index, bit in enumerate(bits):
                    if isinstance(bit, int):
                        loads.setdefault(bit, []).append((name, port, index))
    fixed = {bit for port in module["ports"].values() for bit in port["bits"]}
    fresh = 1 + max(
        bit for cell in cells.values() for bits in cell["connections"].values() for bit in bits if isinstance(bit, int)
    )
    made = 0
    for name, cell in list(cells.items()):
        if cell["type"] != "TRELLIS_FF":
            continue
        (output,) = cell["connections"]["Q"]
        driven = loads.get(output, [])
        if len(driven) <= most or output in fixed:
            continue
        driven.sort(key=lambda load: _natural(load[0]))
        copies = -(-len(driven) // most)
        for number in range(1, copies):
            connections = {port: list(bits) for port, bits in cell["connections"].items()}
            connections["Q"] = [fresh]
            cells[f"{name}$copy{number}"] = {**cell, "attributes": dict(cell["attributes"]), "connections": connections}
            module["netnames"][f"{name}$copy{number}"] = {"hide_name": 1, "bits": [fresh], "attributes": {}}
            for load, port, index in driven[number * len(driven) // copies : (number + 1) * len(driven) // copies]:
                cells[load]["connections"][port][index] = fresh
            fresh += 1
            made += 1
    return made


def _natural(name: str) -> list[str | int]:
    return [int(piece) if piece.isdigit() else piece for piece in re.split(r"(\d+)", name)]
