import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from winohw.algorithm.addergraph import AdderGraph, Node, Output, cheapest_inverse, signed_digits
from winohw.algorithm.modular import ExactDivision, wrap
from winohw.algorithm.toomcook import family, winograd

matrices = st.tuples(st.integers(1, 5), st.integers(1, 5)).flatmap(
    lambda shape: arrays.arrays(np.int64, shape, elements=st.integers(-300, 300))
)
# Small entries share more, and give rows of negative terms only.
small_matrices = arrays.arrays(np.int64, (6, 5), elements=st.integers(-1, 1), fill=st.nothing())


def check(graph):
    """The network computes its matrix, and every claim about it holds."""
    matrix = np.array(graph.matrix, dtype=object)
    unit = np.eye(graph.inputs, dtype=object)
    product = graph.evaluate(unit)
    if graph.modulo_bits is None:
        np.testing.assert_array_equal(product, matrix)
    else:
        np.testing.assert_array_equal(product, wrap(matrix, graph.modulo_bits))
    depths = [0] * graph.inputs
    for node in graph.nodes:
        assert node.a < len(depths)
        assert node.b < len(depths)
        assert min(node.shift_a, node.shift_b) == 0
        assert (node.sign_a, node.sign_b) in {(1, 1), (1, -1), (-1, 1)}
        assert node.depth == 1 + max(depths[node.a], depths[node.b])
        depths.append(node.depth)
    used = {operand for node in graph.nodes for operand in (node.a, node.b)}
    used |= {output.value for output in graph.outputs if output is not None}
    assert used >= set(range(graph.inputs, len(depths)))
    assert graph.depth == max(depths)


# Adders and depth that the field's hand-made networks have, or better; more adders are a regression.
@pytest.mark.parametrize(
    ("tile_size", "kernel_size", "name", "adders", "depth"),
    [
        (2, 3, "bt", 4, 1),
        (2, 3, "g", 3, 2),
        (2, 3, "at", 4, 2),
        (3, 3, "bt", 9, 2),
        (3, 3, "g", 5, 2),
        (3, 3, "at", 10, 3),
        (4, 3, "bt", 12, 2),
        (4, 3, "g", 6, 2),
        (4, 3, "at", 12, 3),
        (6, 3, "bt", 26, 3),
        (6, 3, "g", 9, 2),
        (6, 3, "at", 26, 4),
        (1, 3, "bt", 0, 0),
        (1, 3, "at", 2, 2),
    ],
)
def test_known_networks(tile_size, kernel_size, name, adders, depth):
    graph = AdderGraph(getattr(winograd(tile_size, kernel_size), name))
    check(graph)
    assert graph.adders == adders
    assert graph.depth == depth


@pytest.mark.parametrize("n", range(1, 9))
def test_default_matrices_need_no_negation(n):
    for member in family(n).values():
        for matrix in (member.bt, member.g, member.at):
            graph = AdderGraph(matrix)
            check(graph)
            assert all(output is None or output.sign == 1 for output in graph.outputs)


def test_wires_zeros_and_negations():
    graph = AdderGraph([[0, 1], [0, 0], [-4, 0], [-1, -2], [1, 2]])
    check(graph)
    assert graph.nodes == (Node(0, 0, 1, 1, 1, 1, 1),)
    assert graph.outputs == (Output(1, 0, 1), None, Output(0, 2, -1), Output(2, 0, -1), Output(2, 0, 1))
    assert graph.adders == 3
    assert graph.registers == 3


def test_registers_of_a_pipeline():
    """Sums of pairs need their adders' registers only; F(2, 3)'s Aᵀ delays its first and last input by one cycle."""
    assert AdderGraph(winograd(2, 3).bt).registers == 4
    assert AdderGraph(winograd(2, 3).at).registers == 6


def test_difference_is_turned_around_to_save_a_negation():
    graph = AdderGraph([[-1, 1, 0], [-1, 1, 1]])
    check(graph)
    assert graph.adders == 2


def test_turned_around_difference_is_an_operand():
    check(AdderGraph([[-1, 1, 0, -1], [-1, 1, 1, 1], [1, -1, -1, -1]]))


def test_one_constant():
    assert AdderGraph([[255]]).nodes == (Node(0, 0, -1, 0, 8, 1, 1),)


@pytest.mark.parametrize(
    ("divisor", "bits", "adders"),
    [(4, 28, 0), (9, 29, 4), (9, 32, 4), (45, 32, 5), (2025, 32, 6), (9, 1, 0)],
)
def test_cheapest_inverse(divisor, bits, adders):
    division = ExactDivision(divisor, bits)
    constant = cheapest_inverse(division)
    assert (constant - division.inverse) % (1 << bits) == 0
    graph = AdderGraph([[constant]])
    check(graph)
    assert graph.adders == adders
    assert graph.adders <= AdderGraph([[division.inverse]], modulo_bits=bits).adders
    modular = AdderGraph([[constant]], modulo_bits=bits)
    assert modular.adders == adders
    half = 1 << bits - 1
    quotients = np.array([-half, -1, 0, half - 1])
    for x in quotients:
        assert modular.evaluate(wrap([division.odd * int(x)], bits)) == [x]
    np.testing.assert_array_equal(modular.evaluate([wrap(division.odd * quotients, bits)]), [quotients])


def test_modulus_drops_digits():
    graph = AdderGraph([[255, 1], [256, 2]], modulo_bits=8)
    check(graph)
    assert graph.adders == 1
    assert graph.outputs[1] == Output(1, 1, 1)
    np.testing.assert_array_equal(graph.evaluate([[100], [-100]]), [[56], [56]])


@settings(deadline=None, max_examples=60)
@given(matrices | small_matrices, st.none() | st.integers(1, 12))
def test_any_matrix(matrix, modulo_bits):
    graph = AdderGraph(matrix, modulo_bits)
    check(graph)
    digits = [len(signed_digits(int(x), modulo_bits)) for x in matrix.flat]
    rows = np.reshape(digits, matrix.shape).sum(axis=1)
    assert graph.adders <= rows.sum()
    assert graph == AdderGraph(matrix.tolist(), modulo_bits)


@settings(deadline=None, max_examples=40)
@given(matrices, st.lists(st.tuples(st.integers(-9, 9), st.integers(0, 9)), min_size=5, max_size=5))
def test_intervals_are_attained_and_kept(matrix, spans):
    graph = AdderGraph(matrix)
    ranges = [(lo, lo + span) for lo, span in spans[: graph.inputs]]
    corners = np.stack(np.meshgrid(*ranges, indexing="ij")).reshape(graph.inputs, -1)
    outputs = graph.evaluate(corners)
    assert graph.output_intervals(ranges) == tuple((min(row), max(row)) for row in outputs.tolist())
    values = np.array(graph.coefficients) @ corners
    assert graph.intervals(ranges) == tuple((min(row), max(row)) for row in values.tolist())


@settings(deadline=None)
@given(st.integers(-(2**40), 2**40))
def test_signed_digits(x):
    digits = signed_digits(x)
    assert sum(sign << shift for shift, sign in digits) == x
    shifts = [shift for shift, _ in digits]
    assert all(later - earlier >= 2 for earlier, later in itertools.pairwise(shifts))
    short = signed_digits(x, 7)
    assert (sum(sign << shift for shift, sign in short) - x) % 128 == 0


@pytest.mark.parametrize(
    ("matrix", "modulo_bits", "error", "message"),
    [
        ([1, 2], None, ValueError, "Matrix must have rows and columns, not the shape (2,)"),
        ([[]], None, ValueError, "Matrix must have rows and columns, not the shape (1, 0)"),
        ([[0.5]], None, TypeError, "Matrix must hold integers, not float64"),
        ([[3]], 0, ValueError, "Result must have at least 1 bit, not 0"),
    ],
)
def test_bad_parameters(matrix, modulo_bits, error, message):
    with pytest.raises(error) as info:
        AdderGraph(matrix, modulo_bits)
    assert str(info.value) == message


def test_bad_input():
    message = r"^Input must have 2 entries along its first axis, not the shape \(3, 1\)$"
    with pytest.raises(ValueError, match=message):
        AdderGraph([[1, 1]]).evaluate([[1], [2], [3]])
