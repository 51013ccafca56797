"""Multiplication of a vector by a constant integer matrix with shifts and adders."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from amaranth.hdl import Cat, Module, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import ArrayLike, NDArray

from winohw.algorithm.addergraph import AdderGraph, Output
from winohw.algorithm.modular import wrap
from winohw.algorithm.ranges import signed_bits
from winohw.numerics.formats import signed_range

__all__ = ["LinearNetwork"]


class LinearNetwork(wiring.Component):
    """Computes ``o = matrix @ i``, a vector a cycle, with common subexpressions shared and no multiplier.

    A register follows every adder. A signal is as wide as the exact range of its value demands, or narrower where only
    its low bits matter. Adders with time to spare stand where the registers take the fewest bits. The pipeline never
    stalls: a parent that has to hold it wraps it in an ``EnableInserter``.

    Latency: ``latency``, the same for all outputs. Throughput: a vector a cycle.

    Parameters
    ----------
    matrix : array of int
        outputs × inputs.
    input_ranges : sequence of (int, int)
        Least and greatest value of every input.
    modulo_bits : int, optional
        The result is only needed modulo ``2**modulo_bits``: outputs wrap to that width.

    Attributes
    ----------
    graph : AdderGraph
        The network that is built.
    latency : int
        Cycles from ``i`` to ``o``; 0 if there is nothing to add.
    input_bits, output_bits : int
        Width of an input and of an output, the widest of them.
    output_ranges : tuple of (int, int)
        Least and greatest value of every output.
    register_bits : int
        Flip-flops.

    Members
    -------
    i : In(ArrayLayout(signed(input_bits), inputs))
        Each within its range.
    o : Out(ArrayLayout(signed(output_bits), outputs))

    Raises
    ------
    TypeError, ValueError
        As :class:`AdderGraph`; or if there are not as many ranges as inputs, or a range is empty.
    """

    def __init__(self, matrix: ArrayLike, input_ranges: Sequence[tuple[int, int]], modulo_bits: int | None = None):
        self.graph = AdderGraph(matrix, modulo_bits)
        self.input_ranges = tuple((int(lo), int(hi)) for lo, hi in input_ranges)
        self.modulo_bits = modulo_bits
        if len(self.input_ranges) != self.graph.inputs:
            raise ValueError(f"A network of {self.graph.inputs} inputs needs as many ranges, not {input_ranges!r}")
        for lo, hi in self.input_ranges:
            if lo > hi:
                raise ValueError(
                    f"The least value of an input must not be above the greatest, but its range is {lo}, {hi}"
                )
        self._plan = _Plan(self.graph, self.input_ranges)
        self.latency = self._plan.latency
        self.register_bits = self._plan.register_bits()
        self.output_ranges = tuple(
            (lo, hi) if modulo_bits is None or signed_bits(lo, hi) <= modulo_bits else signed_range(modulo_bits)
            for lo, hi in self.graph.output_intervals(self.input_ranges)
        )
        self.input_bits = max(signed_bits(*bounds) for bounds in self.input_ranges)
        self.output_bits = max(signed_bits(*bounds) for bounds in self.output_ranges)
        super().__init__(
            {
                "i": In(data.ArrayLayout(signed(self.input_bits), self.graph.inputs)),
                "o": Out(data.ArrayLayout(signed(self.output_bits), len(self.graph.outputs))),
            }
        )

    def model(self, x: ArrayLike) -> NDArray[np.int64]:
        """What the component computes: ``[..., inputs]`` to ``[..., outputs]``."""
        product = np.asarray(x, dtype=np.int64) @ np.array(self.graph.matrix, dtype=np.int64).T
        return product if self.modulo_bits is None else wrap(product, self.modulo_bits)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        plan = self._plan
        pipeline: list[list[Value]] = []  # of every value, one signal a level from its own level to its last use

        def at_level(value: int, level: int) -> Value:
            return pipeline[value][level - plan.levels[value]]

        for value, (width, adder) in enumerate(zip(plan.widths, plan.adders, strict=True)):
            level = plan.levels[value]
            if adder is None:
                stages = [self.i[value][:width].as_signed()]
            else:
                stages = [Signal(signed(width), name=f"sum{value}", reset_less=True)]
                terms = [(at_level(term.value, level - 1), term.shift, term.sign) for term in adder]
                m.d.sync += stages[0].eq(_add(terms, width))
            for later in range(level, plan.last_use(value)):
                stages.append(Signal(signed(width), name=f"sum{value}_{later}", reset_less=True))
                m.d.sync += stages[-1].eq(stages[-2])
            pipeline.append(stages)
        for o, term in zip(self.o, plan.outputs, strict=True):
            if term is not None:
                m.d.comb += o.eq(at_level(term.value, self.latency) << term.shift)
        return m


class _Plan:
    """Width of every value of a graph, and the level of the pipeline at which it is computed.

    Values are the graph's own (inputs, then nodes), then negations for the outputs of negative sign.
    """

    def __init__(self, graph: AdderGraph, input_ranges: Sequence[tuple[int, int]]):
        self.inputs = graph.inputs
        self.adders: list[tuple[Output, ...] | None] = [None] * graph.inputs
        ranges = list(graph.intervals(input_ranges))
        for node in graph.nodes:
            self.adders.append((Output(node.a, node.shift_a, node.sign_a), Output(node.b, node.shift_b, node.sign_b)))
        self.outputs: list[Output | None] = []
        negations: dict[int, int] = {}
        for output in graph.outputs:
            if output is not None and output.sign < 0:
                if output.value not in negations:
                    negations[output.value] = len(self.adders)
                    self.adders.append((Output(output.value, 0, -1),))
                    lo, hi = ranges[output.value]
                    ranges.append((-hi, -lo))
                output = Output(negations[output.value], output.shift, 1)
            self.outputs.append(output)
        self.users: list[list[int]] = [[] for _ in self.adders]
        for user, adder in enumerate(self.adders):
            for term in adder or ():
                self.users[term.value].append(user)
        self.is_output = {output.value for output in self.outputs if output is not None}
        self.widths = self._widths(ranges, graph.modulo_bits)
        self.levels = self._levels()

    @property
    def latency(self) -> int:
        """Levels of registers."""
        return max(self.levels)

    def last_use(self, value: int) -> int:
        """The level up to which a value is needed."""
        if value in self.is_output:
            return self.latency
        return max((self.levels[user] - 1 for user in self.users[value]), default=self.levels[value])

    def register_bits(self) -> int:
        """Flip-flops: those of the sums, and those that delay a value up to its last use."""
        stages = (self.last_use(value) - level + (value >= self.inputs) for value, level in enumerate(self.levels))
        return sum(count * width for count, width in zip(stages, self.widths, strict=True))

    def _widths(self, ranges: Sequence[tuple[int, int]], modulo_bits: int | None) -> list[int]:
        """What the range demands, or the low bits that users need if those are fewer."""
        widths = [signed_bits(lo, hi) for lo, hi in ranges]
        needed = [1] * len(widths)
        for output in self.outputs:
            if output is not None:
                whole = widths[output.value] if modulo_bits is None else modulo_bits - output.shift
                needed[output.value] = max(needed[output.value], whole)
        for value in reversed(range(len(widths))):
            widths[value] = min(widths[value], needed[value])
            for term in self.adders[value] or ():
                needed[term.value] = max(needed[term.value], widths[value] - term.shift)
        return widths

    def _levels(self) -> list[int]:
        """As early as possible first; then adders move, one at a time, while that saves flip-flops."""
        self.levels = [0] * self.inputs
        for adder in self.adders[self.inputs :]:
            self.levels.append(1 + max(self.levels[term.value] for term in adder))
        improved = True
        while improved:
            improved = False
            for value in range(self.inputs, len(self.adders)):
                least = 1 + max(self.levels[term.value] for term in self.adders[value])
                greatest = min((self.levels[user] - 1 for user in self.users[value]), default=self.latency)
                best = self.levels[value], self.register_bits()
                for level in range(least, greatest + 1):
                    self.levels[value] = level
                    if self.register_bits() < best[1]:
                        best = level, self.register_bits()
                        improved = True
                self.levels[value] = best[0]
        return self.levels


def _add(terms: Sequence[tuple[Value, int, int]], width: int) -> Value:
    """The sum of two terms (number, shift, sign), or of a negative one and zero, modulo ``2**width``."""
    if len(terms) == 1:
        ((number, shift, _),) = terms
        return _bits(-(number << shift), 0, width)
    (low, _, low_sign), (high, shift, high_sign) = sorted(terms, key=lambda term: term[1])
    if low_sign < 0:
        return _bits((high << shift) - low, 0, width)
    # The lowest bits need no adder.
    rest = _bits(low, shift, max(len(low), shift + 1)).as_signed()
    return _bits(Cat(_bits(low, 0, shift), rest + high if high_sign > 0 else rest - high), 0, width)


def _bits(number: Value, start: int, stop: int) -> Value:
    """Bits ``start`` to ``stop - 1`` of a signed number."""
    missing = max(stop - len(number), 0)
    return Cat(number, number[-1].replicate(missing))[start:stop]
