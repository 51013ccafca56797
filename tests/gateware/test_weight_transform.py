# amaranth: UnusedElaboratable=no
import numpy as np
import pytest
from plain_ports import PlainPorts

from winohw.algorithm.toomcook import Winograd, family, winograd
from winohw.gateware.weight_transform import HostWeights, WeightTransform
from winohw.numerics.formats import Narrowing, Rounding, signed_range
from winohw.sim.stalls import Stalls
from winohw.sim.testbench import run_stream

LEARNED = Winograd.from_matrices(
    bt=np.eye(4), g=[[1, 0, 0], [0.5, 0.75, -0.5], [-0.25, 1.5, 3], [0, 0, 1]], at=np.ones((2, 4))
)

# name: kernels, narrowing, columns
GRID = {
    "direct": ([winograd(1, 3)], None, None),
    "direct-1x1": ([winograd(1, 1)], None, None),
    "direct-narrowed": ([winograd(1, 3)], Narrowing(6, 2), None),
    "F2": ([winograd(2, 3)], None, None),
    "F2-parallel": ([winograd(2, 3)], None, 4),
    "F2-quantized": ([winograd(2, 3)], Narrowing(8, 4), None),
    "F4": ([winograd(4, 3)], None, None),
    "F4-parallel": ([winograd(4, 3)], None, 6),
    "F4-quantized": ([winograd(4, 3)], Narrowing(8, 7), None),
    "F4-quantized-parallel": ([winograd(4, 3)], Narrowing(8, 7, Rounding.FLOOR, saturate=False), 6),
    "F6-quantized": ([winograd(6, 3)], Narrowing(8, 11), None),
    "F2-1x1": ([winograd(2, 1)], None, None),
    "F4-2x2": ([winograd(4, 2)], None, None),
    "fractional": ([winograd(3, 3, ["0", "1/2", "-1/2", "2", "inf"])], None, None),
    "learned": ([LEARNED], None, None),
    "family-4": (list(family(4).values()), None, None),
    "family-6": (list(family(6).values()), None, None),
    "family-6-quantized": ([family(6)[r] for r in (2, 3)], Narrowing(8, 6), 3),
    "family-6-two-columns": ([family(6)[r] for r in (3, 5)], None, 2),
}


def rows(size: int, most: int, count: int, seed: int) -> np.ndarray:
    """Rows of kernels: all of them the least, the greatest, -1, 0, 1 and alternating; then random. Junk beyond size."""
    rng = np.random.default_rng(seed)
    low, high = signed_range(8)
    kernels = rng.integers(low, high, (count, size, size), endpoint=True)
    kernels[-count // 3 :] = rng.choice([low, high], (-(-count // 3), size, size))
    for kernel, value in zip(kernels, (low, high, -1, 0, 1), strict=False):
        kernel[:] = value
    x = rng.integers(low, high, (count * size, most), endpoint=True)
    x[:, :size] = kernels.reshape(-1, size)
    return x


def run(dut: WeightTransform, x: np.ndarray, size: int, shift: np.ndarray | None, stalls: Stalls):
    constants = {"kernel": size} | ({} if shift is None else {"shift": shift})
    return run_stream(dut, {"i": x}, {"o": len(x) // size}, constants=constants, stalls=stalls)


def shift_table(dut: WeightTransform, seed: int) -> np.ndarray | None:
    if dut.narrowing is None:
        return None
    n = dut.kernels[0].n
    return np.random.default_rng(seed).integers(0, dut.max_shift, (n, n), endpoint=True)


CASES = [(name, kernel.kernel_size) for name, (kernels, _, _) in GRID.items() for kernel in kernels]


@pytest.mark.parametrize("stalls", [{}, {"i": 0.5}], ids=["full", "gaps"])
@pytest.mark.parametrize(("name", "size"), CASES, ids=[f"{name}-r{size}" for name, size in CASES])
def test_equals_model(name, size, stalls):
    kernels, narrowing, columns = GRID[name]
    dut = WeightTransform(kernels, narrowing=narrowing, columns=columns)
    x = rows(size, max(kernel.kernel_size for kernel in kernels), count=12, seed=size)
    shift = shift_table(dut, seed=5)
    result = run(dut, x, size, shift, Stalls(7, **stalls))
    u = dut.model(x, size, shift)
    np.testing.assert_array_equal(result.outputs["o"], u)
    if not stalls:
        # At full speed: `latency` after its last row.
        assert result.streams["o"].first == size - 1 + dut.latency
        assert result.streams["o"].last == result.streams["o"].first + (len(u) - 1) * size


@pytest.mark.parametrize(
    ("kernels", "bits"),
    [([winograd(1, 3)], 8), ([winograd(2, 3)], 12), ([winograd(4, 3)], 14), (family(6).values(), 18)],
    ids=["direct", "F2", "F4", "family-6"],
)
def test_u_bits(kernels, bits):
    assert WeightTransform(kernels).u_bits == bits


@pytest.mark.parametrize("smaller", [1, 3])
def test_size_changes_between_layers(smaller):
    """What a larger kernel leaves behind does not reach a smaller one."""
    dut = WeightTransform(family(6).values())
    pause = 10 + dut.latency
    x = np.concatenate([rows(5, 5, 2, seed=1), np.zeros((dut.latency, 5), int), rows(smaller, 5, 4, seed=2)])
    cycle = np.arange(len(x) + dut.latency + 1)
    inputs = {
        "i": x,
        "i_valid": (cycle < 10) | ((cycle >= pause) & (cycle < len(x))),
        "kernel": np.where(cycle < pause, 5, smaller),
    }
    outputs = {"o": len(cycle), "o_valid": len(cycle), "coming": len(cycle)}
    result = run_stream(PlainPorts(dut), inputs, outputs).outputs
    np.testing.assert_array_equal(result["coming"][:-1], result["o_valid"][1:])
    expected = np.concatenate([dut.model(x[:10], 5), dut.model(x[pause:], smaller)])
    np.testing.assert_array_equal(result["o"][result["o_valid"] == 1], expected)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: WeightTransform([]), "A weight transform needs a kernel"),
        (lambda: WeightTransform([winograd(4, 3)], columns=4), "Columns must divide the input tile 6, not 4"),
        (
            lambda: WeightTransform([winograd(4, 3)], columns=1),
            "1 columns a cycle take 6 cycles, more than 3 rows of a kernel",
        ),
        (
            lambda: WeightTransform([winograd(4, 3), winograd(2, 3)]),
            r"Kernels that share a weight transform need the same input tile, not F\(4×4, 3×3\), F\(2×2, 3×3\)",
        ),
        (
            lambda: WeightTransform(
                [winograd(2, 3, ["0", "1", "1/2", "inf"]), winograd(3, 2, ["0", "1", "1/2", "inf"])]
            ),
            r"The kernels F\(3×3, 2×2\), F\(2×2, 3×3\) share no weight transform: "
            r"their points are not the same integers",
        ),
        (lambda: HostWeights(n=0, u_bits=8), "HostWeights n must be 1 or more, not 0"),
        (lambda: HostWeights(n=4, u_bits=33), "HostWeights u_bits must be 1 to 32, not 33"),
    ],
)
def test_bad_parameters(build, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        build()


@pytest.mark.parametrize("stalls", [{}, {"i": 0.5}], ids=["full", "gaps"])
@pytest.mark.parametrize(("n", "u_bits"), [(6, 14), (4, 8), (4, 12), (3, 18), (1, 1), (2, 32)])
def test_host_weights(n, u_bits, stalls):
    dut = HostWeights(n=n, u_bits=u_bits)
    rng = np.random.default_rng(u_bits)
    u = rng.integers(*signed_range(u_bits), (9, n, n), endpoint=True)
    u[:2] = np.array(signed_range(u_bits))[:, None, None]
    x = u.astype(f"<i{dut.u_bytes}").reshape(-1, n).view(np.int8)
    np.testing.assert_array_equal(dut.model(x), u)
    result = run_stream(dut, {"i": x}, {"o": len(u)}, stalls=Stalls(3, **stalls))
    np.testing.assert_array_equal(result.outputs["o"], u)
    if not stalls:
        assert result.streams["o"].first == n - 1 + dut.latency
        assert result.streams["o"].last == result.streams["o"].first + (len(u) - 1) * n
