# amaranth: UnusedElaboratable=no
import numpy as np
import pytest

from winohw.algorithm.toomcook import winograd
from winohw.gateware.linear import LinearNetwork
from winohw.sim.testbench import run_stream

INT8 = (-128, 127)


def vectors(dut: LinearNetwork, seed: int = 1) -> np.ndarray:
    """Those that take every value within the network to its least and greatest, then random ones."""
    low, high = np.array(dut.input_ranges).T
    extremes = [
        np.where(np.array(c, dtype=object) > 0, a, b)
        for c in dut.graph.coefficients
        for a, b in ((low, high), (high, low))
    ]
    constant = [np.clip(x, low, high) for x in (-1, 0, 1)]
    random = np.random.default_rng(seed).integers(low, high, (100, len(low)), endpoint=True)
    return np.concatenate([extremes, constant, random]).astype(np.int64)


def check(dut: LinearNetwork, seed: int = 1) -> None:
    x = vectors(dut, seed)
    result = run_stream(dut, {"i": x}, {"o": len(x) + dut.latency})
    np.testing.assert_array_equal(result.outputs["o"][dut.latency :], dut.model(x))
    if dut.modulo_bits is None:
        bounds = np.stack([dut.model(x).min(axis=0), dut.model(x).max(axis=0)], axis=1)
        np.testing.assert_array_equal(bounds, dut.output_ranges)


@pytest.mark.parametrize(("tile", "kernel"), [(1, 3), (2, 3), (3, 3), (4, 3), (6, 3), (2, 5)])
def test_input_transform_matrices(tile, kernel):
    matrix = winograd(tile, kernel).bt
    check(LinearNetwork(matrix, [INT8] * len(matrix)))


@pytest.mark.parametrize("modulo_bits", [None, 20, 35])
@pytest.mark.parametrize(("tile", "kernel"), [(1, 3), (2, 3), (4, 3), (6, 3)])
def test_output_transform_matrices(tile, kernel, modulo_bits):
    matrix = winograd(tile, kernel).at
    bounds = (-(1 << 34), (1 << 34) - 1) if modulo_bits == 35 else (-(1 << 19), (1 << 19) - 1)
    check(LinearNetwork(matrix, [bounds] * matrix.shape[1], modulo_bits))


@pytest.mark.parametrize(
    "matrix",
    [
        [[1]],
        [[0, 0], [0, 0]],
        [[8, 0], [0, 1]],
        [[-1, 0], [0, -4], [-3, -5]],  # negations, two of them of the same input
        [[-1], [-2], [3], [0]],
        [[1, -64], [-64, 1], [1, 64]],  # shifts beyond the width of the other operand
        [[7, 23, -45], [0, 127, -3], [1, 1, 1]],
    ],
    ids=str,
)
@pytest.mark.parametrize("modulo_bits", [None, 6])
def test_odd_matrices(matrix, modulo_bits):
    check(LinearNetwork(matrix, [(-8, 7)] * len(matrix[0]), modulo_bits))


@pytest.mark.parametrize("seed", range(8))
def test_random_matrices(seed):
    rng = np.random.default_rng(seed)
    rows, columns = rng.integers(1, 7, 2)
    ranges = [tuple(sorted(rng.integers(-300, 300, 2).tolist())) for _ in range(columns)]
    modulo_bits = [None, 9, 17][seed % 3]
    check(LinearNetwork(rng.integers(-40, 41, (rows, columns)), ranges, modulo_bits), seed)


def test_widths_are_exact():
    dut = LinearNetwork(winograd(4, 3).bt, [INT8] * 6)
    assert (dut.input_bits, dut.output_bits) == (8, 12)
    assert dut.output_ranges[0] == (-128 * 5 - 127 * 5, 127 * 5 + 128 * 5)
    assert dut.latency == dut.graph.depth == 2


def test_late_adders_save_flip_flops():
    """x + y waits for nothing, but x and y are kept to the end anyway: it is added last."""
    dut = LinearNetwork([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 11]], [INT8] * 3)
    assert dut.latency == 2
    kept, total, eleven_times = 2 * 2 * 8, 9, 8 + 11 + 12
    assert dut.register_bits == kept + total + eleven_times


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ([INT8], r"A network of 2 inputs needs as many ranges, not \[\(-128, 127\)\]"),
        ([INT8, (3, 2)], "The least value of an input must not be above the greatest, but its range is 3, 2"),
    ],
)
def test_refuses_bad_ranges(ranges, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        LinearNetwork([[1, 2]], ranges)
