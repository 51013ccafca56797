"""A component as gates, carry chains, registers and memories, before any synthesis.

Works on Amaranth's netlist (of the pinned 0.5 series): everything that is not part of an arithmetic carry chain becomes
AND, XOR and multiplexers of two, hashed, so that equal gates are one; what no output depends on is left out, and so
are constant and equal registers. A greedy cover with four-input lookup tables tells how much logic that is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from amaranth.hdl import Signal, Value, _ir, _nir
from amaranth.lib import wiring
from amaranth.lib.wiring import In

__all__ = ["Chain", "Cover", "Delays", "Gates", "MemoryBlock", "gates_of"]

#: A literal is twice the number of a node, plus 1 if inverted; node 0 is the constant zero.
ZERO, ONE = 0, 1


@dataclass(eq=False)
class Chain:
    """A carry chain: an addition, a subtraction or a comparison.

    Attributes
    ----------
    stage : str
        The submodule that it belongs to.
    a, b : list of int
        Literals of the operands, lowest first.
    outputs : dict of int
        Nodes of the sum's bits; that of the carry is one beyond.
    used : int
        Bits up to the highest one that something depends on.
    sums : int
        Bits of the sum that something depends on.
    carry : bool
        Whether something depends on the carry.
    """

    stage: str
    a: list[int]
    b: list[int]
    outputs: dict[int, int] = field(default_factory=dict)
    used: int = 0
    sums: int = 0
    carry: bool = False


@dataclass(eq=False)
class MemoryBlock:
    """A memory with one port to write and one to read.

    Attributes
    ----------
    stage : str
    width, depth : int
        The bits of a word that are read.
    whole : int
        Bits of a word, with those that nobody reads.
    sync : bool
        Whether the read port has a register of its own.
    fused : list of int
        Registers that take nothing but what is read, with no choice in between: block memories have them inside.
    registered_address : bool
        Whether the address comes straight from registers, which Yosys takes for those of a block memory.
    collisions : bool
        Whether it matters what is read while it is written.
    """

    stage: str
    width: int
    depth: int
    whole: int
    sync: bool
    fused: list[int]
    registered_address: bool
    collisions: bool


@dataclass(frozen=True)
class Delays:
    """Delays along a path, in ns.

    Attributes
    ----------
    register : from the clock to the output of a register, memory or multiplier.
    lut : through a lookup table.
    chain, chain_bit : through a carry chain, and for each bit that the carry passes.
    setup : before the clock.
    wire : for each connection.
    """

    register: float
    lut: float
    chain: float
    chain_bit: float
    setup: float
    wire: float


@dataclass(eq=False)
class _Register:
    stage: str
    output: int
    data: int = ZERO
    direct: bool = False
    roots: tuple[int, ...] = ()


@dataclass(frozen=True)
class Cover:
    """What the logic of a component takes.

    Attributes
    ----------
    luts : dict of int
        Four-input lookup tables that are not part of a carry chain, by stage.
    registers : dict of int
        Register bits by stage, without those that are `MemoryBlock.fused`.
    chains : list of Chain
    memories : list of MemoryBlock
    instances : dict
        Number of each vendor's cell, by stage and type.
    delay : float
        Of the longest path from register to register, ns.
    """

    luts: dict[str, int]
    registers: dict[str, int]
    chains: list[Chain]
    memories: list[MemoryBlock]
    instances: dict[tuple[str, str], int]
    delay: float


class Gates:
    """The gates of a netlist.

    Parameters
    ----------
    netlist : Amaranth's netlist.
    shortest_chain : int
        Additions of fewer bits become gates.
    """

    def __init__(self, netlist: Any, shortest_chain: int):
        self._netlist = netlist
        self._shortest = shortest_chain
        self._fanins: list[tuple] = [()]
        self._stage_of: list[str] = [""]
        self._hashed: dict[tuple, int] = {}
        self._literals: dict[int, int] = {0: ZERO, 1: ONE}
        self._shared: dict[tuple, Chain] = {}
        self._chain_of: dict[int, tuple[Chain, int]] = {}
        self._registers: dict[int, _Register] = {}
        self._register_keys: dict[tuple, int] = {}
        self._open: dict[int, _Register] = {}
        self._ports: dict[int, tuple[Any, list[int]]] = {}  # nodes of memories and instances: their cell
        self._stages = [self._stage(module) for module in netlist.modules]
        self._writers: dict[int, list[Any]] = {}
        for cell in netlist.cells:
            if isinstance(cell, _nir.SyncWritePort):
                self._writers.setdefault(cell.memory, []).append(cell)
        self._lower()

    def _stage(self, module: Any) -> str:
        name = ""
        while module.parent is not None:
            name, module = module.name[-1], self._netlist.modules[module.parent]
        return name

    # --- gates -------------------------------------------------------------------------------------------------------
    def _node(self, fanin: tuple, stage: str) -> int:
        self._fanins.append(fanin)
        self._stage_of.append(stage)
        return len(self._fanins) - 1

    def _gate(self, fanin: tuple, stage: str) -> int:
        node = self._hashed.get(fanin)
        if node is None:
            node = self._hashed[fanin] = self._node(fanin, stage)
        return 2 * node

    def _and(self, a: int, b: int, stage: str) -> int:
        if a > b:
            a, b = b, a
        if a == ZERO or a == b ^ 1:
            return ZERO
        if a in (ONE, b):
            return b
        return self._gate(("and", a, b), stage)

    def _or(self, a: int, b: int, stage: str) -> int:
        return self._and(a ^ 1, b ^ 1, stage) ^ 1

    def _xor(self, a: int, b: int, stage: str) -> int:
        inverted = (a ^ b) & 1
        a, b = sorted((a & ~1, b & ~1))
        if a == ZERO:
            return b ^ inverted
        if a == b:
            return inverted
        return self._gate(("xor", a, b), stage) ^ inverted

    def _mux(self, select: int, a: int, b: int, stage: str) -> int:
        """`a` if `select`, else `b`; a constant input stays one, which registers take for a reset."""
        if select & 1:
            select, a, b = select ^ 1, b, a
        if select == ZERO:
            return b
        if a == b:
            return a
        if a | b == ONE:
            return select if a == ONE else select ^ 1
        return self._gate(("mux", select, a, b), stage)

    def _tree(self, function: Any, literals: Iterable[int], stage: str, empty: int) -> int:
        level = list(literals)
        if not level:
            return empty
        while len(level) > 1:
            pairs = [function(a, b, stage) for a, b in zip(level[::2], level[1::2], strict=False)]
            level = pairs + level[len(level) & ~1 :]
        return level[0]

    # --- arithmetic --------------------------------------------------------------------------------------------------
    def _add(self, a: Sequence[int], b: Sequence[int], invert: int, stage: str, carry_out: bool = False) -> list[int]:
        """Bits of a + (b ^ invert) + invert; with `carry_out`, only the carry."""
        below: list[int] = []
        first = 0
        while first < len(a) and not carry_out and (b[first] == ZERO or (a[first] == ZERO and not invert)):
            below.append(a[first] if b[first] == ZERO else b[first])
            first += 1
        a, b = list(a[first:]), list(b[first:])
        pairs = list(zip(a, b, strict=True))
        width = len(pairs)
        # Copies of the sign beyond the bit that they decide.
        while not carry_out and width > 2 and pairs[width - 1] == pairs[width - 2] == pairs[width - 3]:
            width -= 1
        if width < self._shortest:
            sums, carry = [], invert
            for x, y in pairs[:width]:
                y ^= invert
                differ = self._xor(x, y, stage)
                sums.append(self._xor(differ, carry, stage))
                carry = self._mux(differ, carry, x, stage)
            outputs = [carry] if carry_out else sums
        else:
            # One chain serves the difference and the comparison of the same operands.
            key = tuple(pairs[:width]), invert
            chain = self._shared.get(key)
            if chain is None:
                chain = self._shared[key] = Chain(stage, a[:width], [bit ^ invert for bit in b[:width]])
            outputs = [2 * self._chain_output(chain, bit) for bit in ([width] if carry_out else range(width))]
        if carry_out:
            return outputs
        return below + outputs + [outputs[-1]] * (len(pairs) - width) if pairs else below

    def _chain_output(self, chain: Chain, bit: int) -> int:
        if bit not in chain.outputs:
            chain.outputs[bit] = node = self._node((), chain.stage)
            self._chain_of[node] = chain, bit
        return chain.outputs[bit]

    def _less(self, a: Sequence[int], b: Sequence[int], signed: bool, stage: str) -> int:
        if signed:
            a, b = [*a[:-1], a[-1] ^ 1], [*b[:-1], b[-1] ^ 1]
        while len(a) and a[-1] == b[-1]:
            a, b = a[:-1], b[:-1]
        if not a:
            return ZERO
        while b[0] == ZERO and len(a) > 1:
            a, b = a[1:], b[1:]  # nothing is less than zero
        number_a, number_b = (_number(bits) for bits in (a, b))
        if number_b == 0 or number_a == (1 << len(a)) - 1:
            return ZERO
        if number_a is not None and number_b is not None:
            return int(number_a < number_b)
        # Against a power of two, or one less, there is nothing to carry.
        if number_b == (1 << len(b)) - 1:
            return self._tree(self._and, a, stage, ONE) ^ 1
        if number_b is not None and number_b & (number_b - 1) == 0:
            return self._tree(self._or, a[number_b.bit_length() - 1 :], stage, ZERO) ^ 1
        if number_a is not None and number_a & (number_a + 1) == 0:
            return self._tree(self._or, b[number_a.bit_length() :], stage, ZERO)
        return self._add(a, b, 1, stage, carry_out=True)[0] ^ 1

    # --- cells to gates ----------------------------------------------------------------------------------------------
    def _lower(self) -> None:
        top = self._netlist.top
        self.roots: list[int] = []
        for value in top.ports_o.values():
            self.roots += [self._literal(net) for net in value]
        # What goes into memories and instances, of which their inputs may bring up more.
        seen: set[int] = set()
        while pending := [node for node in self._ports if node not in seen]:
            seen.update(pending)
            for node in pending:
                cell, literals = self._ports[node]
                for value in _inputs(cell, self._writers):
                    literals.extend(self._literal(net) for net in value)

    def _literal(self, net: int) -> int:
        """The literal of a net; a register's data are lowered before its output is used, unless they depend on it."""
        literals, cells = self._literals, self._netlist.cells
        stack = [net]
        while stack:
            top = stack[-1]
            if top in literals and top not in self._open:
                stack.pop()
                continue
            cell = cells[top >> 16]
            if top in self._open:
                self._close(top, cell)
                stack.pop()
                continue
            needed = [n for n in self._needs(cell, top & 0xFFFF) if n not in literals]
            if isinstance(cell, _nir.FlipFlop):
                stage = self._stages[cell.module_idx]
                register = _Register(stage, self._node((), stage))
                self._registers[register.output] = self._open[top] = register
                literals[top] = 2 * register.output
                stack.extend(needed)
            elif needed:
                stack.extend(needed)
            else:
                self._evaluate(top, cell)
                stack.pop()
        return literals[net]

    def _close(self, net: int, cell: Any) -> None:
        register = self._open.pop(net)
        data = self._literals[cell.data[net & 0xFFFF]]
        init = cell.init >> (net & 0xFFFF) & 1
        enable, data = self._enable(data, 2 * register.output, register.stage)
        if enable == ZERO or data == init:
            self._literals[net] = init
            del self._registers[register.output]
            return
        reset, data = self._reset(data, register.stage)
        key = enable, data, reset, init
        if key in self._register_keys:
            self._literals[net] = self._register_keys[key]
            del self._registers[register.output]
            return
        self._register_keys[key] = 2 * register.output
        register.data, register.direct = data, not reset
        register.roots = (data, enable, *reset[:1])

    def _enable(self, data: int, output: int, stage: str, depth: int = 0) -> tuple[int, int]:
        """Enable and data of a register, from multiplexers that keep its output."""
        if data == output:
            return ZERO, ZERO
        fanin = self._fanins[data >> 1]
        if not fanin or fanin[0] != "mux" or data & 1 or depth > 12:
            return ONE, data
        _, select, a, b = fanin
        enable_a, data_a = self._enable(a, output, stage, depth + 1)
        enable_b, data_b = self._enable(b, output, stage, depth + 1)
        if (enable_a, enable_b) == (ONE, ONE):
            return ONE, data
        enable = self._mux(select, enable_a, enable_b, stage)
        if enable_a == ZERO:
            return enable, data_b
        if enable_b == ZERO:
            return enable, data_a
        return enable, self._mux(select, data_a, data_b, stage)

    def _reset(self, data: int, stage: str) -> tuple[tuple[int, ...], int]:
        """Reset of a register, as (when, to what), from multiplexers with a constant; and what is left of the data."""
        when, to = ZERO, None
        while (fanin := self._fanins[data >> 1]) and fanin[0] == "mux" and min(fanin[2:]) <= ONE:
            _, select, a, b = fanin
            if b <= ONE:
                select, a, b = select ^ 1, b, a
            if to is not None and to != a ^ data & 1:
                break
            when, to, data = self._or(when, select, stage), a ^ data & 1, b ^ data & 1
        return ((), data) if to is None else ((when, to), data)

    def _needs(self, cell: Any, bit: int) -> Iterator[int]:
        match cell:
            case _nir.Operator(operator="~" | "&" | "|" | "^", inputs=inputs):
                yield from (value[bit] for value in inputs)
            case _nir.Operator(operator="m", inputs=(select, a, b)):
                yield from (select[0], a[bit], b[bit])
            case _nir.Operator(inputs=inputs):
                for value in inputs:
                    yield from value
            case _nir.Part():
                yield from cell.value
                yield from cell.offset
            case _nir.Matches():
                yield from cell.value
            case _nir.PriorityMatch():
                yield cell.en
                yield from cell.inputs[: bit + 1]
            case _nir.AssignmentList():
                yield cell.default[bit]
                for assignment in cell.assignments:
                    if assignment.start <= bit < assignment.start + len(assignment.value):
                        yield from (assignment.cond, assignment.value[bit - assignment.start])
            case _nir.FlipFlop():
                yield cell.data[bit]

    def _evaluate(self, net: int, cell: Any) -> None:
        literals, bit = self._literals, net & 0xFFFF
        stage = self._stages[getattr(cell, "module_idx", 0)]
        match cell:
            case _nir.Operator():
                self._operator(net, cell, stage)
            case _nir.Part():
                self._part(net, cell, stage)
            case _nir.Matches():
                value = [literals[n] for n in cell.value]
                terms = [
                    self._tree(
                        self._and,
                        (
                            literal if digit == "1" else literal ^ 1
                            for literal, digit in zip(reversed(value), pattern, strict=True)
                            if digit != "-"
                        ),
                        stage,
                        ONE,
                    )
                    for pattern in cell.patterns
                ]
                literals[net] = self._tree(self._or, terms, stage, ZERO)
            case _nir.PriorityMatch():
                terms = [literals[cell.en], literals[cell.inputs[bit]]]
                terms += [literals[before] ^ 1 for before in cell.inputs[:bit]]
                literals[net] = self._tree(self._and, terms, stage, ONE)
            case _nir.AssignmentList():
                literal = literals[cell.default[bit]]
                for run in self._exclusive(cell, bit):
                    literal = self._choice(run, literal, stage)
                literals[net] = literal
            case _:
                node = self._node((), stage)
                literals[net] = 2 * node
                if isinstance(cell, _nir.AsyncReadPort | _nir.SyncReadPort | _nir.Instance):
                    self._ports[node] = cell, []

    def _exclusive(self, cell: Any, bit: int) -> Iterator[list[tuple[int, int]]]:
        """Conditions and values of a signal's bit, in runs of conditions that exclude each other."""
        run: list[tuple[int, int]] = []
        paths: list[dict[int, int]] = []
        for assignment in cell.assignments:
            if not assignment.start <= bit < assignment.start + len(assignment.value):
                continue
            path = self._path(assignment.cond)
            if not all(any(path.get(match, case) != case for match, case in other.items()) for other in paths):
                yield run
                run, paths = [], []
            paths.append(path)
            condition = self._literals[assignment.cond]
            run.append((condition, self._literals[assignment.value[bit - assignment.start]]))
        yield run

    def _path(self, condition: int) -> dict[int, int]:
        """The cases that a condition stands for, from the innermost switch on."""
        path = {}
        while condition > ONE and isinstance(cell := self._netlist.cells[condition >> 16], _nir.PriorityMatch):
            path[condition >> 16] = condition & 0xFFFF
            condition = cell.en
        return path

    def _choice(self, run: list[tuple[int, int]], literal: int, stage: str) -> int:
        """The value whose condition holds, else `literal`; of conditions that exclude each other."""
        by_value: dict[int, list[int]] = {}
        for condition, value in run:
            by_value.setdefault(value, []).append(condition)
        choices = [(self._tree(self._or, conditions, stage, ZERO), value) for value, conditions in by_value.items()]
        if len(choices) < 3:
            for condition, value in choices:
                literal = self._mux(condition, value, literal, stage)
            return literal
        terms = [self._and(condition, value, stage) for condition, value in choices]
        chosen = self._tree(self._or, terms, stage, ZERO)
        some = self._tree(self._or, (condition for condition, _ in choices), stage, ZERO)
        return self._mux(some, chosen, literal, stage)

    def _operator(self, net: int, cell: Any, stage: str) -> None:
        literals, bit, base = self._literals, net & 0xFFFF, net & ~0xFFFF
        values = [[literals.get(n, ZERO) for n in value] for value in cell.inputs]
        match cell.operator:
            case "~":
                literals[net] = values[0][bit] ^ 1
            case "&" | "|" | "^":
                function = {"&": self._and, "|": self._or, "^": self._xor}[cell.operator]
                literals[net] = function(values[0][bit], values[1][bit], stage)
            case "m":
                literals[net] = self._mux(values[0][0], values[1][bit], values[2][bit], stage)
            case "b" | "r|":
                literals[net] = self._tree(self._or, values[0], stage, ZERO)
            case "r&":
                literals[net] = self._tree(self._and, values[0], stage, ONE)
            case "r^":
                literals[net] = self._tree(self._xor, values[0], stage, ZERO)
            case "==" | "!=":
                same = [self._xor(a, b, stage) ^ 1 for a, b in zip(*values, strict=True)]
                literals[net] = self._tree(self._and, same, stage, ONE) ^ (cell.operator == "!=")
            case "+":
                self._give(base, self._add(*values, 0, stage))
            case "-":
                a, b = values if len(values) == 2 else ([ZERO] * len(values[0]), values[0])
                self._give(base, self._add(a, b, 1, stage))
            case "<<" | "u>>" | "s>>":
                self._give(base, self._shift(cell.operator, *values, stage))
            case compare if compare[1:] in ("<", ">", "<=", ">="):
                a, b = reversed(values) if compare[1] == ">" else values
                if compare.endswith("="):
                    literals[net] = self._less(b, a, compare[0] == "s", stage) ^ 1
                else:
                    literals[net] = self._less(a, b, compare[0] == "s", stage)
            case unknown:
                raise ValueError(f"no estimate for the operator {unknown!r}")

    def _give(self, base: int, literals: Sequence[int]) -> None:
        for bit, literal in enumerate(literals):
            self._literals[base + bit] = literal

    def _shift(self, operator: str, value: list[int], amount: list[int], stage: str) -> list[int]:
        fill = value[-1] if operator == "s>>" else ZERO
        for digit, select in enumerate(amount):
            distance = min(1 << digit, len(value))
            if operator == "<<":
                moved = [fill] * distance + value[: len(value) - distance]
            else:
                moved = value[distance:] + [fill] * distance
            value = [self._mux(select, a, b, stage) for a, b in zip(moved, value, strict=True)]
        return value

    def _part(self, net: int, cell: Any, stage: str) -> None:
        value = [self._literals[n] for n in cell.value]
        offset = [self._literals[n] for n in cell.offset]
        fill = value[-1] if cell.value_signed else ZERO
        for digit, select in enumerate(offset):
            distance = min(cell.stride << digit, len(value))
            moved = value[distance:] + [fill] * distance
            value = [self._mux(select, a, b, stage) for a, b in zip(moved, value, strict=True)]
        value += [fill] * max(0, cell.width - len(value))
        self._give(net & ~0xFFFF, value[: cell.width])

    # --- cover -------------------------------------------------------------------------------------------------------
    def cover(self, delays: Delays) -> Cover:
        """Covers all live logic with lookup tables of four inputs."""
        live, references = self._live()
        supports: dict[int, frozenset[int]] = {}
        luts: dict[str, int] = {}
        arrivals: dict[int, float] = {}  # of nodes that are outputs of a cell

        def emit(node: int) -> None:
            if node not in arrivals and (support := supports.get(node)):
                luts[self._stage_of[node]] = luts.get(self._stage_of[node], 0) + 1
                arrivals[node] = max(arrivals[other] for other in support) + delays.wire + delays.lut

        for node in sorted(live):
            fanin = self._fanins[node]
            if not fanin:
                arrivals[node] = self._boundary_arrival(node, arrivals, emit, delays)
                continue
            inputs = sorted({literal >> 1 for literal in fanin[1:]} - {0})
            inner = [n for n in inputs if self._fanins[n] and references[n] == 1]
            for n in inputs:
                if n not in inner:
                    emit(n)
            whole = {n: supports[n] if n in inner else frozenset((n,)) for n in inputs}
            while len(support := frozenset().union(*whole.values())) > 4:
                # Becomes a table of its own: the input that brings most with it.
                most = max(inner, key=lambda n: len(whole[n]))
                whole[most] = frozenset((most,))
                emit(most)
            supports[node] = support
        for root in self._root_nodes:
            emit(root)
        memories = self._memories(live)
        registers: dict[str, int] = {}
        fused = {register for memory in memories for register in memory.fused}
        for output, register in self._registers.items():
            if output in live and output not in fused:
                registers[register.stage] = registers.get(register.stage, 0) + 1
        instances: dict[tuple[str, str], int] = {}
        for cell in self._netlist.cells:
            if isinstance(cell, _nir.Instance) and id(cell) in self._live_cells:
                key = self._stages[cell.module_idx], cell.type
                instances[key] = instances.get(key, 0) + 1
        chains = [chain for chain in self._shared.values() if chain.used]
        latest = max((arrivals.get(node, 0.0) for node in self._root_nodes), default=0.0)
        return Cover(luts, registers, chains, memories, instances, latest + delays.wire + delays.setup)

    def _boundary_arrival(self, node: int, arrivals: dict[int, float], emit: Any, delays: Delays) -> float:
        """When a node that is no gate is there."""
        if node not in self._chain_of:
            return delays.register
        chain, bit = self._chain_of[node]
        latest = 0.0
        for place, pair in enumerate(zip(chain.a[: bit + 1], chain.b[: bit + 1], strict=True)):
            for operand in (literal >> 1 for literal in pair):
                emit(operand)
                # Every bit of the operands goes up to this one.
                latest = max(latest, arrivals.get(operand, 0.0) + (bit - place) * delays.chain_bit)
        return latest + delays.wire + delays.chain

    def _live(self) -> tuple[set[int], dict[int, int]]:
        """Nodes that an output depends on, and how many things refer to each."""
        references: dict[int, int] = {}
        self._root_nodes: set[int] = set()
        live: set[int] = set()
        stack: list[int] = []
        self._live_cells: set[int] = set()  # memory ports and instances, by identity

        def refer(literal: int, root: bool) -> None:
            node = literal >> 1
            references[node] = references.get(node, 0) + 1
            if root:
                self._root_nodes.add(node)
            if node not in live:
                live.add(node)
                stack.append(node)

        for literal in self.roots:
            refer(literal, True)
        while stack:
            node = stack.pop()
            if fanin := self._fanins[node]:
                for literal in fanin[1:]:
                    refer(literal, False)
            elif node in self._registers:
                for literal in self._registers[node].roots:
                    refer(literal, True)
            elif node in self._chain_of:
                chain, bit = self._chain_of[node]
                bits = min(bit + 1, len(chain.a))
                if bit == len(chain.a):
                    chain.carry = True
                else:
                    chain.sums += 1
                for a, b in zip(chain.a[chain.used : bits], chain.b[chain.used : bits], strict=True):
                    refer(a, True)
                    refer(b, True)
                chain.used = max(chain.used, bits)
            elif node in self._ports:
                cell, literals = self._ports[node]
                if id(cell) not in self._live_cells:
                    self._live_cells.add(id(cell))
                    for literal in literals:
                        refer(literal, True)
        return live, references

    def _memories(self, live: set[int]) -> list[MemoryBlock]:
        blocks = []
        direct: dict[int, int] = {}
        for output, register in self._registers.items():
            if register.direct and register.data >> 1 in self._ports:
                direct[register.data >> 1] = output
        for index, cell in enumerate(self._netlist.cells):
            if not isinstance(cell, _nir.AsyncReadPort | _nir.SyncReadPort) or id(cell) not in self._live_cells:
                continue
            memory = self._netlist.cells[cell.memory]
            nodes = [self._literals.get((index << 16) + bit) for bit in range(cell.width)]
            nodes = [literal >> 1 for literal in nodes if literal is not None and literal >> 1 in live]
            fused = [direct[node] for node in nodes if node in direct]
            sync = isinstance(cell, _nir.SyncReadPort)
            address = self._ports[nodes[0]][1][: len(cell.addr)]
            blocks.append(
                MemoryBlock(
                    self._stages[cell.module_idx],
                    len(nodes),
                    memory.depth,
                    cell.width,
                    sync,
                    [] if sync else fused,
                    all(not literal & 1 and literal >> 1 in self._registers for literal in address),
                    not memory.attributes.get("no_rw_check"),
                )
            )
        return blocks


def _number(bits: Sequence[int]) -> int | None:
    """The number that literals stand for, if all of them are constant."""
    return sum(bit << k for k, bit in enumerate(bits)) if max(bits) <= ONE else None


def _inputs(cell: Any, writers: dict[int, list[Any]]) -> Iterator[Any]:
    """Values that go into a memory, through all of its ports, or into an instance."""
    if isinstance(cell, _nir.Instance):
        yield from cell.ports_i.values()
        return
    yield cell.addr
    if isinstance(cell, _nir.SyncReadPort):
        yield (cell.en,)
    for port in writers.get(cell.memory, ()):
        yield from (port.data, port.addr, port.en)


def gates_of(component: wiring.Component, shortest_chain: int) -> Gates:
    """Elaborates a component of one clock domain, ``sync``, into gates."""
    ports = {}
    for path, member, value in component.signature.flatten(component):
        value = Value.cast(value)
        if isinstance(value, Signal):
            direction = _ir.PortDirection.Input if member.flow is In else _ir.PortDirection.Output
            ports["__".join(map(str, path))] = value, direction
    return Gates(_ir.build_netlist(_ir.Fragment.get(component, None), ports), shortest_chain)
