# amaranth: UnusedElaboratable=no
import numpy as np
import pytest
from bursts import Bursts

from winohw.algorithm.ranges import signed_bits
from winohw.algorithm.toomcook import Winograd, winograd
from winohw.gateware.input_transform import InputTransform
from winohw.numerics.formats import Narrowing, Quantized, Rounding
from winohw.numerics.golden import GoldenModel
from winohw.sim.stalls import Stalls
from winohw.sim.testbench import run_stream

#: Tile size, kernel size: n = 3 (direct), 1 (direct), 4, 5, 6, 8.
TRANSFORMS = [(1, 3), (1, 1), (2, 3), (3, 3), (4, 3), (6, 3)]
FOLDS = [
    (tile, kernel, fold)
    for tile, kernel in TRANSFORMS
    for fold in (1, 2, 3, tile + kernel - 1)
    if (tile + kernel - 1) % fold == 0 and (fold == 1 or tile + kernel > 2)
]
FOLDS = sorted(set(FOLDS))


def patches(matrices: Winograd, count: int, seed: int = 1) -> np.ndarray:
    """Those that take each tap to its least and greatest value, constant and random ones."""
    n = matrices.n
    weight = np.einsum("ik,jl->ijkl", matrices.bt, matrices.bt).reshape(-1, n, n)
    extremes = [np.where(weight > 0, low, high) for low, high in ((-128, 127), (127, -128))]
    constant = [np.full((1, n, n), x) for x in (-128, -1, 0, 1, 127)]
    random = np.random.default_rng(seed).integers(-128, 128, (count, n, n))
    everything = np.concatenate([*extremes, *constant, random])
    return np.random.default_rng(seed).permutation(everything)


def chunks(x: np.ndarray, fold: int) -> np.ndarray:
    return x.reshape(-1, x.shape[-1] // fold, x.shape[-1])


@pytest.mark.parametrize(("tile", "kernel", "fold"), FOLDS)
def test_exact(tile, kernel, fold):
    matrices = winograd(tile, kernel)
    dut = InputTransform(matrices, fold=fold)
    x = patches(matrices, 20)
    expected = dut.model(chunks(x, fold))
    # Independently of the model.
    v = matrices.bt @ x @ matrices.bt.T
    together = expected.reshape(len(x), fold, matrices.n, -1).swapaxes(1, 2).reshape(v.shape)
    np.testing.assert_array_equal(together, v)
    assert signed_bits(v.min(), v.max()) == dut.v_bits
    result = run_stream(dut, {"i": chunks(x, fold)}, {"o": len(expected)})
    np.testing.assert_array_equal(result.outputs["o"], expected)
    assert result.streams["o"].first == dut.chunk_latency == fold - 1 + dut.latency
    assert result.streams["o"].last == result.streams["i"].last + dut.latency + fold - 1


def test_relay():
    dut = InputTransform(winograd(4, 3), relay=True)
    assert dut.latency == InputTransform(winograd(4, 3)).latency + 2
    assert InputTransform(winograd(4, 3), fold=2, relay=True).latency == InputTransform(winograd(4, 3), fold=2).latency
    x = chunks(patches(winograd(4, 3), 20), 1)
    result = run_stream(dut, {"i": x}, {"o": len(x)})
    np.testing.assert_array_equal(result.outputs["o"], dut.model(x))
    assert result.streams["o"].first == dut.latency


@pytest.mark.parametrize("stall", [0.2, 0.7])
@pytest.mark.parametrize(("tile", "kernel", "fold"), [case for case in FOLDS if case[0] in (1, 2, 4)])
def test_gaps(tile, kernel, fold, stall):
    matrices = winograd(tile, kernel)
    dut = InputTransform(matrices, fold=fold)
    x = chunks(np.random.default_rng(2).integers(-128, 128, (30, matrices.n, matrices.n)), fold)
    whole = x.reshape(30, fold, *x.shape[1:])
    result = run_stream(Bursts(dut, fold), {"i": whole}, {"o": len(x)}, stalls=Stalls(3, i=stall))
    np.testing.assert_array_equal(result.outputs["o"], dut.model(x))


def check_quantized(tile: int, kernel: int, fold: int, narrowing: Narrowing) -> None:
    matrices = winograd(tile, kernel)
    dut = InputTransform(matrices, fold=fold, narrowing=narrowing, max_shift=12)
    shift = np.random.default_rng(4).integers(0, 13, (matrices.n, matrices.n))
    x = patches(matrices, 20)
    profile = Quantized(narrowing.with_shift(shift), Narrowing(8), Narrowing(8))
    v = GoldenModel(matrices, profile).transform_input(x)
    expected = dut.model(chunks(x, fold), shift)
    together = expected.reshape(len(x), fold, matrices.n, -1).swapaxes(1, 2).reshape(v.shape)
    np.testing.assert_array_equal(together, v)
    inputs = {"i": chunks(x, fold).reshape(len(x), fold, -1, matrices.n)}
    outputs, constants = {"o": len(expected)}, {"shift": shift}
    result = run_stream(Bursts(dut, fold), inputs, outputs, constants=constants, stalls=Stalls(5, i=0.2))
    np.testing.assert_array_equal(result.outputs["o"], expected)
    assert dut.v_bits == narrowing.bits


@pytest.mark.parametrize(("tile", "kernel", "fold"), FOLDS)
def test_quantized(tile, kernel, fold):
    check_quantized(tile, kernel, fold, Narrowing(8))


@pytest.mark.parametrize("fold", [1, 2])
@pytest.mark.parametrize(
    "narrowing",
    [Narrowing(10, rounding=Rounding.FLOOR), Narrowing(8, saturate=False), Narrowing(20)],
    ids=["10-floor", "8-wrap", "20"],
)
def test_narrowings(narrowing, fold):
    check_quantized(4, 3, fold, narrowing)


@pytest.mark.parametrize("fold", [1, 3])
def test_quantized_at_full_speed(fold):
    dut = InputTransform(winograd(4, 3), fold=fold, narrowing=Narrowing(8, 7))
    shift = np.random.default_rng(6).integers(0, 8, (6, 6))
    x = chunks(patches(winograd(4, 3), 5), fold)
    result = run_stream(dut, {"i": x}, {"o": len(x)}, constants={"shift": shift})
    np.testing.assert_array_equal(result.outputs["o"], dut.model(x, shift))
    assert result.streams["o"].first == dut.chunk_latency
    assert result.cycles == len(x) + dut.chunk_latency


def test_learned_matrices():
    rng = np.random.default_rng(7)
    bt, g, at = (rng.integers(-16, 17, shape) / 8 for shape in ((6, 6), (6, 3), (4, 6)))
    matrices = Winograd.from_matrices(bt, g, at)
    dut = InputTransform(matrices, fold=2, narrowing=Narrowing(8), max_shift=8)
    x = chunks(patches(matrices, 10), 2)
    shift = rng.integers(0, 9, (6, 6))
    result = run_stream(dut, {"i": x}, {"o": len(x)}, constants={"shift": shift})
    np.testing.assert_array_equal(result.outputs["o"], dut.model(x, shift))


@pytest.mark.parametrize(("tile", "kernel", "bits"), [(1, 3, 8), (2, 3, 10), (3, 3, 14), (4, 3, 15)])
def test_widths(tile, kernel, bits):
    assert InputTransform(winograd(tile, kernel)).v_bits == bits


@pytest.mark.parametrize("fold", [0, 4, 7])
def test_refuses_bad_fold(fold):
    with pytest.raises(ValueError, match=rf"^Fold must divide the input tile 6, not {fold}$"):
        InputTransform(winograd(4, 3), fold=fold)
