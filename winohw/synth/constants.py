"""Constant inputs of ECP5 carry cells become configuration bits instead of wires."""

from __future__ import annotations

from typing import Any

__all__ = ["free_constants"]

#: Inputs of one half of a CCU2C, in the order of the index into INIT.
_INPUTS = "ABCD"


def free_constants(netlist: dict[str, Any]) -> int:
    """Rewrite every CCU2C of a netlist so that no input of its LUTs is a constant zero.

    nextpnr leaves out a constant one at these inputs, which read as one when open, but routes a constant zero: a net
    with thousands of sinks all over the part. So the LUT forgets the input, and the input becomes a one.

    Parameters
    ----------
    netlist : dict
        JSON netlist of Yosys after ``synth_ecp5``; changed in place.

    Returns
    -------
    inputs that no longer need a wire
    """
    freed = 0
    for module in netlist["modules"].values():
        for cell in module["cells"].values():
            if cell["type"] == "CCU2C":
                for half in "01":
                    freed += _free_half(cell, half)
    return freed


def _free_half(cell: dict[str, Any], half: str) -> int:
    connections, parameters = cell["connections"], cell["parameters"]
    zeros = [name for name in _INPUTS if connections.get(name + half) == ["0"]]
    init = int(parameters["INIT" + half], 2)
    for name in zeros:
        init = forget_input(init, _INPUTS.index(name))
        connections[name + half] = ["1"]
    parameters["INIT" + half] = f"{init:016b}"
    return len(zeros)


def forget_input(init: int, number: int) -> int:
    """The LUT that gives for any value of an input what ``init`` gives when it is zero.

    The carry of a CCU2C half is made by the lowest four bits, a function of A and B alone; forgetting C or D leaves
    them as they are, forgetting A or B does to them what it does to the sum.

    Parameters
    ----------
    init : int
        16 bits; the bit for inputs A, B, C, D is number ``A + 2 B + 4 C + 8 D``.
    number : int
        0 for A … 3 for D.
    """
    return sum(((init >> (index & ~(1 << number))) & 1) << index for index in range(16))
