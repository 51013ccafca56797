# amaranth: UnusedElaboratable=no
import numpy as np
import pytest
from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from winohw.algorithm.modular import accumulator_bits, wrap
from winohw.algorithm.toomcook import Winograd, family, winograd
from winohw.gateware.output_transform import OutputTransform
from winohw.numerics.formats import Narrowing, Rounding, signed_range
from winohw.sim.stalls import Stalls
from winohw.sim.testbench import run_stream

#: Tile size, kernel size: n = 3 and 1 (direct), 4, 5, 6, 8.
TRANSFORMS = [(1, 3), (1, 1), (2, 3), (3, 3), (4, 3), (6, 3)]
CHANNELS = 16
RESULT_BITS = 26


def acc_bits(matrices: Winograd) -> int:
    return accumulator_bits(matrices.divisor**2, RESULT_BITS)


def sums(matrices: Winograd, tiles: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Sums over channels of U ⊙ V, wrapped to the accumulators' width, and the convolution that they stand for.

    The first tiles and kernels are extreme, the others random.
    """
    rng = np.random.default_rng(seed)
    r, n, size = matrices.kernel_size, matrices.n, matrices.tile_size
    d = rng.integers(-128, 128, (tiles, CHANNELS, n, n))
    g = rng.integers(-128, 128, (tiles, CHANNELS, r, r))
    for tile, (x, w) in enumerate([(-128, -128), (-128, 127), (127, -128), (0, 0)]):
        d[tile], g[tile] = x, w
    v, u = matrices.bt @ d @ matrices.bt.T, matrices.g @ g @ matrices.g.T
    windows = np.lib.stride_tricks.sliding_window_view(d, (r, r), axis=(2, 3))
    convolution = np.einsum("tcijab,tcab->tij", windows, g)
    assert convolution.shape == (tiles, size, size)
    return wrap((u * v).sum(axis=1), acc_bits(matrices)), convolution


def columns(m: np.ndarray, lanes: int, chunk: int = 1) -> np.ndarray:
    """Beats of tiles ``[k * lanes, n, n]``, ``chunk`` columns each."""
    n = m.shape[-1]
    return m.reshape(-1, lanes, n, n // chunk, chunk).transpose(0, 3, 1, 2, 4).reshape(-1, lanes, n, chunk)


def rows(y: np.ndarray, lanes: int, largest: int) -> np.ndarray:
    """Beats of results ``[k * lanes, m, m]``."""
    m = y.shape[-1]
    padded = np.pad(y, [(0, 0), (0, 0), (0, largest - m)])
    return padded.reshape(-1, lanes, m, largest).swapaxes(1, 2).reshape(-1, lanes, largest)


def check(dut: OutputTransform, x: np.ndarray, expected: np.ndarray, stalls=(0, 0), **constants) -> None:
    np.testing.assert_array_equal(expected, dut.model(x, **constants))
    pattern = Stalls(3, i=stalls[0], o=stalls[1])
    result = run_stream(dut, {"i": x}, {"o": len(expected)}, constants=constants, stalls=pattern, idle=60)
    np.testing.assert_array_equal(result.outputs["o"], expected)
    n = dut.kernels[0].n
    if stalls == (0, 0):
        chunks = n // dut.columns
        tiles = len(x) // chunks
        size = len(expected) // tiles
        no_room_at_reset = chunks == 1 and dut.buffered
        assert result.streams["i"].last == chunks - 1 + (tiles - 1) * max(chunks, size) + no_room_at_reset
        assert result.streams["o"].last == result.streams["i"].last + dut.latency + size - 1


@pytest.mark.parametrize("buffered", [True, False], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("stalls", [(0, 0), (0.3, 0.5)], ids=str)
@pytest.mark.parametrize(("tile", "kernel"), TRANSFORMS)
def test_exact_equals_direct_convolution(tile, kernel, stalls, buffered):
    matrices = winograd(tile, kernel)
    dut = OutputTransform([matrices], acc_bits(matrices), buffered=buffered)
    m, convolution = sums(matrices, 16)
    check(dut, columns(m, 1), rows(convolution, 1, tile), stalls)


@pytest.mark.parametrize("buffered", [True, False], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("stalls", [(0.6, 0), (0, 0.9), (0.5, 0.5)], ids=str)
@pytest.mark.parametrize(("tile", "kernel"), [(1, 1), (1, 2), (2, 1), (2, 3)])
def test_backpressure(tile, kernel, stalls, buffered):
    matrices = winograd(tile, kernel)
    dut = OutputTransform([matrices], acc_bits(matrices), buffered=buffered)
    m, convolution = sums(matrices, 60)
    check(dut, columns(m, 1), rows(convolution, 1, tile), stalls)


@pytest.mark.parametrize("stalls", [(0, 0), (0.2, 0.4)], ids=str)
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_every_kernel_of_a_family(kernel, stalls):
    kernels = family(6)
    dut = OutputTransform(kernels.values(), acc_bits(kernels[1]), lanes=2)
    m, convolution = sums(kernels[kernel], 16)
    check(dut, columns(m, 2), rows(convolution, 2, 6), stalls, kernel=kernel)


@pytest.mark.parametrize("stalls", [(0, 0), (0.2, 0.4)], ids=str)
@pytest.mark.parametrize("chunk", [2, 3, 6])
@pytest.mark.parametrize("kernel", [1, 3, 4])
def test_several_columns_a_cycle(kernel, chunk, stalls):
    kernels = [family(6)[r] for r in (1, 3, 4)]
    dut = OutputTransform(kernels, acc_bits(kernels[1]), columns=chunk)
    m, convolution = sums(family(6)[kernel], 24)
    check(dut, columns(m, 1, chunk), rows(convolution, 1, 6), stalls, kernel=kernel)


def test_several_columns_a_cycle_with_shifts():
    rng = np.random.default_rng(4)
    matrices = winograd(4, 3)
    dut = OutputTransform([matrices], 24, narrowing=Narrowing(8), max_shift=16, columns=2)
    m = rng.integers(-(2**23), 2**23, (12, 6, 6))
    shift = rng.integers(0, 17, (6, 6))
    y = matrices.at @ Narrowing(8, shift).apply(m) @ matrices.at.T
    check(dut, columns(m, 1, 2), rows(y, 1, 4), (0.2, 0.4), shift=shift)


def test_smallest_queue():
    dut = OutputTransform([winograd(4, 3)], acc_bits(winograd(4, 3)), queue_depth=4)
    m, convolution = sums(winograd(4, 3), 16)
    check(dut, columns(m, 1), rows(convolution, 1, 4), (0, 0.2))


class TwoLayers(wiring.Component):
    """Changes the kernel once the first layer's rows have left, and only then lets the second layer in."""

    def __init__(self, transform: OutputTransform, kernels: tuple[int, int], columns: int, rows: int):
        self.transform = transform
        self.kernels = kernels
        self.columns = columns
        self.rows = rows
        super().__init__({"i": In(transform.i.signature), "o": Out(transform.o.signature)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.transform = transform = self.transform
        columns, rows = Signal(range(self.columns + 1)), Signal(range(self.rows + 1))
        second = Signal()
        m.d.comb += second.eq(rows == self.rows)
        go = second | (columns != self.columns)
        m.d.comb += [
            transform.kernel.eq(Mux(second, self.kernels[1], self.kernels[0])),
            transform.i.payload.eq(self.i.payload),
            transform.i.valid.eq(self.i.valid & go),
            self.i.ready.eq(transform.i.ready & go),
        ]
        wiring.connect(m, transform.o, wiring.flipped(self.o))
        with m.If(self.i.valid & self.i.ready & ~second):
            m.d.sync += columns.eq(columns + 1)
        with m.If(self.o.valid & self.o.ready & ~second):
            m.d.sync += rows.eq(rows + 1)
        return m


@pytest.mark.parametrize("order", [(3, 1), (1, 3)], ids=str)
def test_kernel_changes_between_layers(order):
    kernels = {r: winograd(5 - r, r) for r in order}
    transform = OutputTransform(kernels.values(), acc_bits(kernels[1]))
    parts = [sums(kernels[r], 6) for r in order]
    x = np.concatenate([columns(m, 1) for m, _ in parts])
    expected = [rows(convolution, 1, 4) for _, convolution in parts]
    dut = TwoLayers(transform, order, columns=24, rows=len(expected[0]))
    result = run_stream(dut, {"i": x}, {"o": sum(map(len, expected))}, stalls=Stalls(8, o=0.2))
    np.testing.assert_array_equal(result.outputs["o"], np.concatenate(expected))


def test_unbuffered_family():
    kernels = family(4)
    dut = OutputTransform(kernels.values(), acc_bits(kernels[1]), buffered=False)
    m, convolution = sums(kernels[3], 16)
    check(dut, columns(m, 1), rows(convolution, 1, 4), (0.2, 0.4), kernel=3)


@pytest.mark.parametrize(("tile", "kernel"), TRANSFORMS)
def test_quantized(tile, kernel):
    check_quantized(tile, kernel, (0.2, 0.4), lanes=1)


def test_quantized_at_full_speed():
    check_quantized(2, 3, (0, 0), lanes=3)


def check_quantized(tile: int, kernel: int, stalls: tuple[float, float], lanes: int) -> None:
    matrices = winograd(tile, kernel)
    dut = OutputTransform([matrices], 22, lanes=lanes, narrowing=Narrowing(8), max_shift=15)
    rng = np.random.default_rng(5)
    shift = rng.integers(0, 16, (matrices.n, matrices.n))
    m = rng.integers(*signed_range(22), (6 * lanes, matrices.n, matrices.n), endpoint=True)
    m[:lanes] = 0  # comes before the shifts stand
    m[lanes], m[lanes + 1] = signed_range(22)
    y = matrices.at @ Narrowing(8, shift).apply(m) @ matrices.at.T
    check(dut, columns(m, lanes), rows(y, lanes, tile), stalls, shift=shift)


@pytest.mark.parametrize("buffered", [True, False], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize(
    "narrowing", [Narrowing(10, 9, Rounding.FLOOR), Narrowing(8, 12, saturate=False)], ids=["floor", "wrap"]
)
def test_narrowings_of_a_family(narrowing, buffered):
    dut = OutputTransform(family(6).values(), 20, narrowing=narrowing, buffered=buffered)
    rng = np.random.default_rng(6)
    shift = rng.integers(0, narrowing.max_shift + 1, (6, 6))
    m = rng.integers(*signed_range(20), (8, 6, 6), endpoint=True)
    m[0] = 0  # comes before the shifts stand
    at = family(6)[5].at
    y = at @ narrowing.with_shift(shift).apply(m) @ at.T
    check(dut, columns(m, 1), rows(y, 1, 6), (0.2, 0.4), kernel=5, shift=shift)


def test_learned_matrices():
    rng = np.random.default_rng(7)
    matrices = Winograd.from_matrices(*(rng.integers(-8, 9, shape) / 4 for shape in ((6, 6), (6, 3), (4, 6))))
    dut = OutputTransform([matrices], 20, narrowing=Narrowing(8, 12))
    shift = rng.integers(0, 13, (6, 6))
    m = rng.integers(*signed_range(20), (8, 6, 6), endpoint=True)
    m[0] = 0  # comes before the shifts stand
    y = matrices.at @ Narrowing(8, shift).apply(m) @ matrices.at.T
    check(dut, columns(m, 1), rows(y, 1, 4), shift=shift)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([winograd(4, 3)], 35), {"lanes": 0}, "Output transform lanes must be 1 or more, not 0"),
        (([winograd(4, 3)], 35), {"queue_depth": 2}, "The queue must have room for 4 rows or more, not 2"),
        (
            ([winograd(4, 3)], 39),
            {},
            "Sums of 39 bits, divided by 576, give results of 33 bits; 2 to 32 are possible",
        ),
        (
            ([winograd(6, 3)], 40),
            {"narrowing": Narrowing(24)},
            "Products of 24 bits give results of 40 bits; up to 32 are possible",
        ),
    ],
)
def test_refuses_bad_parameters(arguments, options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        OutputTransform(*arguments, **options)
