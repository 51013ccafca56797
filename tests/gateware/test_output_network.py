# amaranth: UnusedElaboratable=no
import numpy as np
import pytest

from winohw.algorithm.toomcook import family, winograd
from winohw.gateware.output_network import OutputNetwork
from winohw.numerics.formats import signed_range
from winohw.sim.testbench import run_stream


def vectors(dut: OutputNetwork, input_range: tuple[int, int], seed: int = 1) -> np.ndarray:
    """Those that take each output to its least and greatest, constant and random ones."""
    low, high = input_range
    at = np.concatenate([kernel.at for kernel in dut.kernels])
    extremes = [np.where(at > 0, high, low), np.where(at > 0, low, high)]
    constant = [np.full((1, at.shape[1]), x) for x in (low, -1, 0, 1, high)]
    random = np.random.default_rng(seed).integers(low, high, (60, at.shape[1]), endpoint=True)
    return np.concatenate([*extremes, *constant, random])


def check(dut: OutputNetwork, input_range: tuple[int, int], tile_size: int | None = None) -> None:
    x = vectors(dut, input_range)
    constants = {} if len(dut.kernels) == 1 else {"tile_size": tile_size}
    result = run_stream(dut, {"i": x}, {"o": len(x) + dut.latency}, constants=constants)
    np.testing.assert_array_equal(result.outputs["o"][dut.latency :], dut.model(x, tile_size))


@pytest.mark.parametrize("modulo_bits", [None, 20])
@pytest.mark.parametrize("tile_size", [6, 5, 4, 3, 2])
def test_every_kernel_of_a_family(tile_size, modulo_bits):
    dut = OutputNetwork(family(6).values(), signed_range(20), modulo_bits)
    check(dut, signed_range(20), tile_size)


@pytest.mark.parametrize("tile_size", [4, 3])
@pytest.mark.parametrize(
    "points", [None, ("inf", 0, 3, 1, -1), (0, 1, -1, 2, -2)], ids=["default", "inf first", "finite"]
)
def test_other_points(points, tile_size):
    kernels = [winograd(size, 6 - size, points) for size in (3, 4)]
    check(OutputNetwork(kernels, (-128, 127)), (-128, 127), tile_size)


@pytest.mark.parametrize(("tile", "kernel"), [(1, 3), (1, 1), (2, 3), (4, 3), (6, 3)])
def test_one_kernel(tile, kernel):
    check(OutputNetwork([winograd(tile, kernel)], signed_range(12)), signed_range(12))


def test_attributes():
    dut = OutputNetwork(family(6).values(), (-1, 1))
    assert dut.tile_sizes == (2, 3, 4, 5, 6)
    assert dut.output_range == (-96, 96)
    assert dut.output_bits == 8


@pytest.mark.parametrize(
    ("kernels", "message"),
    [
        ([], "An output network needs at least one kernel"),
        (
            [winograd(4, 3), winograd(2, 3)],
            r"Kernels must have the same input tile, not those of F\(4×4, 3×3\) and F\(2×2, 3×3\)",
        ),
        (
            [winograd(6, 3), winograd(4, 5)],
            r"The output transforms of F\(6×6, 3×3\) and F\(4×4, 5×5\) have no common network",
        ),
    ],
    ids=["none", "sizes", "fractions"],
)
def test_refuses_bad_kernels(kernels, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        OutputNetwork(kernels, (-128, 127))
