"""Shift-and-add networks for integer matrices, with common subexpressions shared."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from .modular import ExactDivision, wrap
from .ranges import linear_range

_TRIALS: Final = 64
_SLACK: Final = 0.5
_SPARE_BITS: Final = 12


class Node(NamedTuple):
    """One adder: ``sign_a · (value a << shift_a) + sign_b · (value b << shift_b)``.

    ``a`` and ``b`` number values: the inputs come first, then the nodes in order. Signs are 1 or -1, never both -1, and
    one of the shifts is 0. ``depth`` is the number of adders on the longest way from an input, this one included.
    """

    a: int
    shift_a: int
    sign_a: int
    b: int
    shift_b: int
    sign_b: int
    depth: int


class Output(NamedTuple):
    """An output: ``sign · (value << shift)``; a sign of -1 costs one more adder."""

    value: int
    shift: int
    sign: int


@dataclass(frozen=True)
class AdderGraph:
    """Network of adders that multiplies a vector by a constant integer matrix.

    Coefficients are written in canonical signed digits; the pair of terms that occurs most often in all rows, up to a
    common shift and sign, becomes a node, until no pair occurs twice; what is left of each row is added up in the order
    of least depth. Ties, and now and then a pair one occurrence short of the best, are drawn at random with a fixed
    seed; of all trials the one with the fewest adders is kept, then the least depth, then the fewest registers.

    Parameters
    ----------
    matrix : array of int
        outputs × inputs; kept as a tuple of rows.
    modulo_bits : int, optional
        Width to which the result is needed; digits beyond may be dropped.

    Attributes
    ----------
    nodes : tuple of :class:`Node`
        Operands come before their users.
    outputs : tuple of :class:`Output` or None
        One a row; None for a row of zeros.

    Raises
    ------
    TypeError, ValueError
        The matrix does not hold integers, has not two dimensions, or is empty; the width is below 1.

    Source: R. I. Hartley, *Subexpression Sharing in Filters Using Canonic Signed Digit Multipliers*, IEEE Trans.
    Circuits and Systems II 43(10), 1996.
    """

    matrix: tuple[tuple[int, ...], ...]
    modulo_bits: int | None = None
    nodes: tuple[Node, ...] = field(init=False, compare=False)
    outputs: tuple[Output | None, ...] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        array = np.array(self.matrix)
        if array.ndim != 2 or 0 in array.shape:
            raise ValueError(f"Matrix must have rows and columns, not the shape {array.shape}")
        rows = tuple(tuple(row) for row in array.tolist())
        if not all(type(entry) is int for row in rows for entry in row):
            raise TypeError(f"Matrix must hold integers, not {array.dtype}")
        if self.modulo_bits is not None and self.modulo_bits < 1:
            raise ValueError(f"Result must have at least 1 bit, not {self.modulo_bits!r}")
        object.__setattr__(self, "matrix", rows)
        nodes, outputs = _plan(rows, self.modulo_bits)
        object.__setattr__(self, "nodes", nodes)
        object.__setattr__(self, "outputs", outputs)

    @property
    def inputs(self) -> int:
        """Number of inputs."""
        return len(self.matrix[0])

    @property
    def adders(self) -> int:
        """Adders of the network, negations of outputs included."""
        return _adders(self.nodes, self.outputs)

    @property
    def depth(self) -> int:
        """Adders on the longest way from an input to an output, negations left out."""
        return max((node.depth for node in self.nodes), default=0)

    @property
    def registers(self) -> int:
        """Words of register when every adder is followed by one and all outputs come out after :attr:`depth` cycles."""
        return _registers(self.inputs, self.nodes, self.outputs)

    @cached_property
    def coefficients(self) -> tuple[tuple[int, ...], ...]:
        """Each value (inputs first, then nodes) as coefficients of the inputs."""
        values = np.eye(self.inputs, dtype=object)
        return tuple(tuple(row) for row in self._values(list(values)))

    def evaluate(self, x: npt.ArrayLike) -> npt.NDArray:
        """Run the network: the matrix times ``x``, wrapped to ``modulo_bits`` where that is given.

        Parameters
        ----------
        x : array of integers, (inputs, …)
            int64, or Python integers in an object array; wide enough to hold the result where there is no modulus.

        Returns
        -------
        array, (outputs, …)

        Raises
        ------
        ValueError
            The first axis is not as long as there are inputs.
        """
        array = np.asarray(x)
        if array.ndim < 1 or len(array) != self.inputs:
            raise ValueError(f"Input must have {self.inputs} entries along its first axis, not the shape {array.shape}")
        # Entries become arrays: those wrap silently, as a modulus allows.
        entries = array.reshape(self.inputs, -1)
        values = self._values(list(entries))
        rows = [
            np.zeros_like(entries[0]) if output is None else output.sign * (values[output.value] << output.shift)
            for output in self.outputs
        ]
        result = np.stack(rows).reshape(len(rows), *array.shape[1:])
        return result if self.modulo_bits is None else wrap(result, self.modulo_bits)

    def intervals(self, ranges: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
        """Exact (least, greatest) of every value, inputs first, for independent inputs between the given bounds.

        The modulus is left out of account: a value needs no more bits than that either.
        """
        return linear_range(self.coefficients, ranges)

    def output_intervals(self, ranges: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
        """Exact (least, greatest) of every output, the modulus left out of account."""
        return linear_range(self.matrix, ranges)

    def _values(self, values: list) -> list:
        for node in self.nodes:
            a, b = values[node.a] << node.shift_a, values[node.b] << node.shift_b
            values.append(node.sign_a * a + node.sign_b * b)
        return values


def signed_digits(x: int, bits: int | None = None) -> tuple[tuple[int, int], ...]:
    """Canonical signed digits of ``x`` as (shift, sign), no two of them adjacent; those from ``bits`` on are left out.

    >>> signed_digits(23)
    ((0, -1), (3, -1), (5, 1))
    """
    digits = []
    shift = 0
    while x and (bits is None or shift < bits):
        if x & 1:
            sign = 2 - (x & 3)
            digits.append((shift, sign))
            x -= sign
        x >>= 1
        shift += 1
    return tuple(digits)


@lru_cache(maxsize=64)
def cheapest_inverse(division: ExactDivision) -> int:
    """The constant that divides by ``division.odd`` modulo ``2^result_bits`` in the fewest adders.

    Every inverse modulo a higher power of two will do, and the digits of a longer one may repeat more evenly:
    dividing 32 bits by 9 takes 4 adders with the inverse modulo 2^35, 5 with that modulo 2^32.

    Returns
    -------
    int
        Congruent to ``division.inverse`` modulo ``2^result_bits``; only so many bits of its network need be kept.
    """

    def cost(constant: int) -> tuple[int, int, int]:
        graph = AdderGraph(((constant,),))
        return graph.adders, graph.depth, graph.registers

    bits = division.result_bits
    inverses = [pow(division.odd, -1, 1 << width) for width in range(bits, bits + _SPARE_BITS)]
    # The signed residue has no digit beyond its width.
    residues = [x - (1 << width) if x >> (width - 1) else x for width, x in enumerate(inverses, start=bits)]
    return min(residues, key=cost)


class _Term(NamedTuple):
    value: int
    shift: int
    sign: int


class _Pattern(NamedTuple):
    """``(value a << shift_a) + sign · (value b << shift_b)``, a before b, the smaller shift 0."""

    a: int
    shift_a: int
    b: int
    shift_b: int
    sign: int


@lru_cache(maxsize=256)
def _plan(
    matrix: tuple[tuple[int, ...], ...], modulo_bits: int | None
) -> tuple[tuple[Node, ...], tuple[Output | None, ...]]:
    rng = random.Random(0)
    inputs = len(matrix[0])

    def cost(plan: tuple[tuple[Node, ...], tuple[Output | None, ...]]) -> tuple[int, int, int]:
        nodes, outputs = plan
        depth = max((node.depth for node in nodes), default=0)
        return _adders(nodes, outputs), depth, _registers(inputs, nodes, outputs)

    # Digits beyond the modulus may be dropped, but they may also repeat a pattern.
    widths = (None,) if modulo_bits is None else (modulo_bits, None)
    plans = (_Draft(matrix, bits).finish(rng, trial) for bits in widths for trial in range(_TRIALS))
    return min(plans, key=cost)


class _Draft:
    """One trial: rows as sets of terms, which shrink to one term each while nodes are added."""

    def __init__(self, matrix: tuple[tuple[int, ...], ...], modulo_bits: int | None) -> None:
        self.inputs = len(matrix[0])
        self.rows = [
            {
                _Term(column, shift, sign)
                for column, entry in enumerate(row)
                for shift, sign in signed_digits(entry, modulo_bits)
            }
            for row in matrix
        ]
        self.nodes: list[Node] = []

    def finish(self, rng: random.Random, trial: int) -> tuple[tuple[Node, ...], tuple[Output | None, ...]]:
        while (pattern := self._most_frequent(rng, _SLACK if trial else 0.0)) is not None:
            self._replace(pattern)
        self._choose_polarities()
        outputs = tuple(self._add_up(row) for row in self.rows)
        return tuple(self.nodes), outputs

    def _depth(self, value: int) -> int:
        return 0 if value < self.inputs else self.nodes[value - self.inputs].depth

    def _append(self, a: _Term, b: _Term) -> int:
        """New node a + b, and the number of its value."""
        least = min(a.shift, b.shift)
        depth = 1 + max(self._depth(a.value), self._depth(b.value))
        self.nodes.append(Node(a.value, a.shift - least, a.sign, b.value, b.shift - least, b.sign, depth))
        return self.inputs + len(self.nodes) - 1

    def _most_frequent(self, rng: random.Random, slack: float) -> _Pattern | None:
        counts: Counter[_Pattern] = Counter()
        for row in self.rows:
            used: dict[_Pattern, set[_Term]] = {}
            for a, b in itertools.combinations(sorted(row), 2):
                pattern = _pattern(a, b)
                taken = used.setdefault(pattern, set())
                if taken.isdisjoint((a, b)):
                    taken.update((a, b))
                    counts[pattern] += 1
        most = max(counts.values(), default=0)
        if most < 2:
            return None
        enough = max(2, most - (rng.random() < slack))
        candidates = [pattern for pattern, count in counts.items() if count >= enough]
        if rng.random() < 0.7:
            depths = [max(self._depth(pattern.a), self._depth(pattern.b)) for pattern in candidates]
            candidates = [p for p, depth in zip(candidates, depths, strict=True) if depth == min(depths)]
        return rng.choice(candidates)

    def _replace(self, pattern: _Pattern) -> None:
        value = self._append(_Term(pattern.a, pattern.shift_a, 1), _Term(pattern.b, pattern.shift_b, pattern.sign))
        for row in self.rows:
            for a, b in itertools.combinations(sorted(row), 2):
                if a in row and b in row and _pattern(a, b) == pattern:
                    row -= {a, b}
                    row.add(_Term(value, min(a.shift, b.shift), a.sign))

    def _choose_polarities(self) -> None:
        """Turn differences around while that leaves fewer rows of negative terms only, which end in a negation."""
        improved = True
        while improved:
            improved = False
            for value in range(self.inputs, self.inputs + len(self.nodes)):
                before = self.nodes, self.rows
                negated = self._negated_rows()
                self.nodes, self.rows = self.nodes.copy(), [row.copy() for row in self.rows]
                if self._flip(value) and self._negated_rows() < negated:
                    improved = True
                else:
                    self.nodes, self.rows = before

    def _negated_rows(self) -> int:
        return sum(bool(row) and all(term.sign < 0 for term in row) for row in self.rows)

    def _flip(self, value: int) -> bool:
        """Negate a node's value and the sign of its every use; false where that makes two negative operands."""
        node = self.nodes[value - self.inputs]
        node = node._replace(sign_a=-node.sign_a, sign_b=-node.sign_b)
        self.nodes[value - self.inputs] = node
        if node.sign_a < 0 and node.sign_b < 0:
            return False
        self.rows = [
            {term._replace(sign=-term.sign) if term.value == value else term for term in row} for row in self.rows
        ]
        for index, user in enumerate(self.nodes):
            if user.a == value:
                user = user._replace(sign_a=-user.sign_a)
            if user.b == value:
                user = user._replace(sign_b=-user.sign_b)
            self.nodes[index] = user
            if user.sign_a < 0 and user.sign_b < 0 and not self._flip(self.inputs + index):
                return False
        return True

    def _add_up(self, row: Iterable[_Term]) -> Output | None:
        heap = [(self._depth(term.value), term) for term in row]
        heapq.heapify(heap)
        while len(heap) > 1:
            (_, a), (_, b) = heapq.heappop(heap), heapq.heappop(heap)
            sign = max(a.sign, b.sign)
            value = self._append(a._replace(sign=a.sign * sign), b._replace(sign=b.sign * sign))
            heapq.heappush(heap, (self._depth(value), _Term(value, min(a.shift, b.shift), sign)))
        return Output(*heap[0][1]) if heap else None


def _pattern(a: _Term, b: _Term) -> _Pattern:
    least = min(a.shift, b.shift)
    return _Pattern(a.value, a.shift - least, b.value, b.shift - least, a.sign * b.sign)


def _adders(nodes: Sequence[Node], outputs: Sequence[Output | None]) -> int:
    return len(nodes) + sum(output is not None and output.sign < 0 for output in outputs)


def _registers(inputs: int, nodes: Sequence[Node], outputs: Sequence[Output | None]) -> int:
    depths = [0] * inputs + [node.depth for node in nodes]
    depth = max(depths)
    last_use = depths.copy()
    for node in nodes:
        for operand in (node.a, node.b):
            last_use[operand] = max(last_use[operand], node.depth - 1)
    for output in outputs:
        if output is not None:
            last_use[output.value] = depth
    return len(nodes) + sum(last - own for last, own in zip(last_use, depths, strict=True))
