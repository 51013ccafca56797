"""What an engine takes of a part, and how fast it will be, before any synthesis.

The component is elaborated and its gates are counted (`winohw.synth.gates`), so that an estimate follows every change
of the gateware by itself. What is added here is what Yosys makes of each kind of thing on a family:

* a carry chain: an ECP5's CCU2C has two bits; on an iCE40 each bit of a sum is a lookup table, and so is each inverted
  operand;
* a memory: block memories if a table of registers costs more, by Yosys' own figures, else lookup tables as memory
  (ECP5) or registers with multiplexers (iCE40); on an iCE40, a synchronous read port gets registers that settle
  collisions;
* a multiplier or memory that is an instance: itself.

Fitted are `_Technology.logic`, lookup tables of real synthesis for one of the greedy cover, and the delay and spread of
wires, on one routed engine each (`ulx3s-25f` at 71.9 MHz, `icebreaker` at 31.3 MHz): take the clock for a rough figure.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from amaranth.lib import wiring

from winohw.gateware.config import EngineConfig
from winohw.synth.flow import component_of
from winohw.synth.gates import Chain, Delays, MemoryBlock, gates_of
from winohw.synth.netlist import OWN, Resources, stem
from winohw.synth.parts import Part, find_part

__all__ = ["Estimate", "estimate"]


@dataclass(frozen=True)
class _Technology:
    """How Yosys maps to a family.

    Attributes
    ----------
    lut, register, block : str
        Cells.
    block_shapes : depth and width of a word of a block memory.
    block_cost : a block memory, in bits of a table of registers.
    shortest_chain : fewer bits are added without a carry chain.
    logic : fitted; lookup tables for each of the greedy cover.
    delays : fitted; of a path, in ns.
    spread : fitted; ns that a wire gets longer by, for each hundred lookup tables along an edge of the square that the
        logic covers.
    """

    lut: str
    register: str
    block: str
    block_shapes: tuple[tuple[int, int], ...]
    block_cost: int
    shortest_chain: int
    logic: float
    delays: Delays
    spread: float


_TECHNOLOGIES = {
    "ecp5": _Technology(
        "LUT4",
        "TRELLIS_FF",
        "DP16KD",
        ((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1)),
        128,
        5,
        1.0,
        Delays(register=0.5, lut=0.24, chain=0.45, chain_bit=0.035, setup=0.1, wire=0.6),
        1.3,
    ),
    "ice40": _Technology(
        "SB_LUT4",
        "SB_DFF",
        "SB_RAM40_4K",
        ((256, 16), (512, 8), (1024, 4), (2048, 2)),
        64,
        3,
        0.9,
        Delays(register=1.4, lut=1.2, chain=0.7, chain_bit=0.28, setup=1.2, wire=1.25),
        2.0,
    ),
}


@dataclass(frozen=True)
class Estimate:
    """What a component is going to take.

    Attributes
    ----------
    part : Part
    stages : dict of Resources
        By submodule, those whose names differ by a number at the end together; `OWN` is the component itself.
    frequency : float
        MHz after routing.
    """

    part: Part
    stages: dict[str, Resources]
    frequency: float

    @property
    def total(self) -> Resources:
        """All stages together."""
        return sum(self.stages.values(), Resources())

    @property
    def excess(self) -> list[str]:
        """For each resource that the part has too little of, a few words."""
        return self.total.excess(self.part)


def estimate(design: wiring.Component | EngineConfig, part: Part | str) -> Estimate:
    """The estimate for a component, or for the engine of a configuration, in seconds.

    Lookup tables within 15 % of synthesis, multipliers and block memories exact (`tests/synth/test_estimate.py`).

    Parameters
    ----------
    design : Component or EngineConfig
        A configuration's family must be that of the part.
    part : Part or str
        What it is for, or its name: an ECP5 or an iCE40.

    Raises
    ------
    ValueError
        If the part is unknown or of another family, or the configuration is for another one.
    """
    part = find_part(part) if isinstance(part, str) else part
    technology = _TECHNOLOGIES.get(part.family.name)
    if technology is None:
        raise ValueError(f"There are estimates for {' and '.join(_TECHNOLOGIES)}, not for {part.family.name}")
    component, _ = component_of(design, part)
    cover = gates_of(component, technology.shortest_chain).cover(technology.delays)
    cells: dict[str, Counter[str]] = {}

    def count(stage: str, kind: str, number: float) -> None:
        cells.setdefault(stem(stage) or OWN, Counter())[kind] += number

    for stage, number in cover.luts.items():
        count(stage, technology.lut, number * technology.logic)
    for stage, number in cover.registers.items():
        count(stage, technology.register, number)
    for (stage, kind), number in cover.instances.items():
        count(stage, kind, number)
    for chain in cover.chains:
        for kind, number in _chain_cells(chain, part).items():
            count(chain.stage, kind, number)
    for memory in cover.memories:
        for kind, number in _memory_cells(memory, technology).items():
            count(memory.stage, kind, number)
    stages = {
        stage: Resources.of({kind: round(number) for kind, number in counts.items()}, part.family)
        for stage, counts in sorted(cells.items())
    }
    result = Estimate(part, stages, 0.0)
    edge = max(result.total.luts, result.total.flip_flops) ** 0.5 / 100
    period = cover.delay + technology.spread * edge
    return Estimate(part, stages, 1000 / period)


def _chain_cells(chain: Chain, part: Part) -> dict[str, int]:
    if part.family.name == "ecp5":
        return {"CCU2C": -(-chain.used // 2)}
    # The cell that makes a bit of the sum has no inverter at the operands.
    inverted = {literal for literal in chain.a + chain.b if literal & 1 and literal > 1}
    return {"SB_CARRY": chain.used, "SB_LUT4": len(inverted) + chain.sums + chain.carry}


def _memory_cells(memory: MemoryBlock, technology: _Technology) -> dict[str, float]:
    width, depth = memory.width, memory.depth
    lut, register = technology.lut, technology.register
    shapes = technology.block_shapes
    fused = len(memory.fused)
    # A register that is fused with its memory is so as a whole.
    whole = memory.whole if fused == width else width
    blocks = min(-(-whole // bits) * -(-depth // words) for words, bits in shapes)
    tables = -(-width // 4) * -(-depth // 16)
    cost = blocks * technology.block_cost
    if technology.lut == "LUT4":
        if (memory.sync or fused == width) and cost < 4 * tables:
            return {technology.block: blocks}
        return {"TRELLIS_DPR16X4": tables, register: fused + memory.sync * width, lut: width * (-(-depth // 16) - 1)}
    if (memory.sync or memory.registered_address or fused == width) and cost < width * depth:
        # Registers of what is written, and where, and a choice of what is given.
        settled = memory.collisions and fused < width
        return {
            technology.block: blocks,
            register: settled * (2 * width + (depth - 1).bit_length()),
            lut: settled * width,
        }
    return {register: width * depth + fused + memory.sync * width, lut: width * -(-(depth - 1) * 2 // 3) + depth}
