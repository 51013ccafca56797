# amaranth: UnusedElaboratable=no
import numpy as np
import pytest
from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from winohw.algorithm.modular import accumulator_bits, wrap
from winohw.algorithm.toomcook import Winograd, family, winograd
from winohw.gateware.drain_buffer import DrainBuffer
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


class Drained(wiring.Component):
    """The transform behind a drain buffer: takes whole tiles."""

    def __init__(self, dut: OutputTransform, drain: DrainBuffer):
        self.dut = dut
        self.drain = drain
        members = {name: dut.signature.members[name] for name in ("kernel", "shift") if name in dut.signature.members}
        super().__init__(
            {"i": In(stream.Signature(drain.i.shape())), "o": Out(stream.Signature(dut.o.shape())), **members}
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.dut = dut = self.dut
        m.submodules.drain = drain = self.drain
        credits = Signal(range(drain.depth + 1), init=drain.depth)
        accepted = Signal()
        m.d.comb += [
            self.i.ready.eq(credits != 0),
            accepted.eq(self.i.valid & self.i.ready),
            drain.coming.eq(accepted),
            drain.room.eq(dut.room),
            dut.started.eq(drain.started),
            dut.kernel.eq(self.kernel),
        ]
        waiting = Signal(drain.i.shape())
        m.d.sync += [waiting.eq(self.i.payload), drain.i.eq(waiting), credits.eq(credits + drain.drained - accepted)]
        if dut.narrowing is not None:
            m.d.comb += dut.shift.eq(self.shift)
        wiring.connect(m, drain.o, dut.i)
        # Rows may be looked at a cycle after they are there; this reader keeps a few.
        m.submodules.rows = rows = SyncFIFOBuffered(width=dut.o.shape().size, depth=6)
        taken = Signal()
        m.d.comb += [
            dut.pop.eq(dut.filled & (rows.level + taken < 5)),
            rows.w_en.eq(taken),
            rows.w_data.eq(dut.o),
            self.o.valid.eq(rows.r_rdy),
            self.o.payload.eq(rows.r_data),
            rows.r_en.eq(self.o.ready),
        ]
        m.d.sync += taken.eq(dut.pop)
        return m


def drain_buffer(kernels, sum_bits, lanes=1, chunk=1) -> DrainBuffer:
    n = kernels[0].n
    return DrainBuffer(output_lanes=lanes, input_tile=n, bits=sum_bits, depth=32, output_columns=chunk)


def built(kernels, sum_bits, **options) -> Drained:
    """The transform with as much lead as its drain buffer has."""
    kernels = list(kernels)
    drain = drain_buffer(kernels, sum_bits, options.get("lanes", 1), options.get("columns", 1))
    return Drained(OutputTransform(kernels, sum_bits, lead=drain.latency, **options), drain)


def tiles(m: np.ndarray, lanes: int) -> np.ndarray:
    """Beats of whole tiles, ``[k][lane][row][column]``."""
    return m.reshape(-1, lanes, *m.shape[1:])


def rows(y: np.ndarray, lanes: int, largest: int) -> np.ndarray:
    """Beats of results ``[k * lanes, m, m]``."""
    m = y.shape[-1]
    padded = np.pad(y, [(0, 0), (0, 0), (0, largest - m)])
    return padded.reshape(-1, lanes, m, largest).swapaxes(1, 2).reshape(-1, lanes, largest)


def check(drained: Drained, x: np.ndarray, expected: np.ndarray, stalls=(0, 0), **constants) -> None:
    dut, drain = drained.dut, drained.drain
    np.testing.assert_array_equal(expected, dut.model(drain.model(x), **constants))
    pattern = Stalls(3, i=stalls[0], o=stalls[1])
    result = run_stream(drained, {"i": x}, {"o": len(expected)}, constants=constants, stalls=pattern, idle=60)
    np.testing.assert_array_equal(result.outputs["o"], expected)
    if stalls == (0, 0):
        size = len(expected) // len(x)
        interval = max(drain.tile_beats, size)
        # A tile may be started a cycle after it has come.
        started = result.streams["i"].first + 1 + (len(x) - 1) * interval
        last_columns = started + drain.latency + drain.tile_beats - 1
        assert result.streams["o"].last == last_columns + dut.latency + 2 + size - 1  # two for the reader


@pytest.mark.parametrize("stalls", [(0, 0), (0.3, 0.5)], ids=str)
@pytest.mark.parametrize(("tile", "kernel"), TRANSFORMS)
def test_exact_equals_direct_convolution(tile, kernel, stalls):
    matrices = winograd(tile, kernel)
    dut = built([matrices], acc_bits(matrices))
    m, convolution = sums(matrices, 16)
    check(dut, tiles(m, 1), rows(convolution, 1, tile), stalls)


@pytest.mark.parametrize("stalls", [(0.6, 0), (0, 0.9), (0.5, 0.5)], ids=str)
@pytest.mark.parametrize(("tile", "kernel"), [(1, 1), (1, 2), (2, 1), (2, 3)])
def test_backpressure(tile, kernel, stalls):
    matrices = winograd(tile, kernel)
    dut = built([matrices], acc_bits(matrices))
    m, convolution = sums(matrices, 60)
    check(dut, tiles(m, 1), rows(convolution, 1, tile), stalls)


@pytest.mark.parametrize("stalls", [(0, 0), (0.2, 0.4)], ids=str)
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_every_kernel_of_a_family(kernel, stalls):
    kernels = family(6)
    dut = built(kernels.values(), acc_bits(kernels[1]), lanes=2)
    m, convolution = sums(kernels[kernel], 16)
    check(dut, tiles(m, 2), rows(convolution, 2, 6), stalls, kernel=kernel)


@pytest.mark.parametrize("stalls", [(0, 0), (0.2, 0.4)], ids=str)
@pytest.mark.parametrize("chunk", [2, 3, 6])
@pytest.mark.parametrize("kernel", [1, 3, 4])
def test_several_columns_a_cycle(kernel, chunk, stalls):
    kernels = [family(6)[r] for r in (1, 3, 4)]
    dut = built(kernels, acc_bits(kernels[1]), columns=chunk)
    m, convolution = sums(family(6)[kernel], 24)
    check(dut, tiles(m, 1), rows(convolution, 1, 6), stalls, kernel=kernel)


def test_several_columns_a_cycle_with_shifts():
    rng = np.random.default_rng(4)
    matrices = winograd(4, 3)
    dut = built([matrices], 24, narrowing=Narrowing(8), max_shift=16, columns=2)
    m = rng.integers(-(2**23), 2**23, (12, 6, 6))
    shift = rng.integers(0, 17, (6, 6))
    y = matrices.at @ Narrowing(8, shift).apply(m) @ matrices.at.T
    check(dut, tiles(m, 1), rows(y, 1, 4), (0.2, 0.4), shift=shift)


def test_smallest_queue():
    dut = built([winograd(4, 3)], acc_bits(winograd(4, 3)), queue_depth=4)
    m, convolution = sums(winograd(4, 3), 16)
    check(dut, tiles(m, 1), rows(convolution, 1, 4), (0, 0.2))


class TwoLayers(wiring.Component):
    """Changes the kernel once the first layer's rows have left, and only then lets the second layer in."""

    def __init__(self, drained: Drained, kernels: tuple[int, int], tiles: int, rows: int):
        self.drained = drained
        self.kernels = kernels
        self.tiles = tiles
        self.rows = rows
        super().__init__({"i": In(drained.i.signature), "o": Out(drained.o.signature)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.drained = drained = self.drained
        tiles, rows = Signal(range(self.tiles + 1)), Signal(range(self.rows + 1))
        second = Signal()
        m.d.comb += second.eq(rows == self.rows)
        go = second | (tiles != self.tiles)
        m.d.comb += [
            drained.kernel.eq(Mux(second, self.kernels[1], self.kernels[0])),
            drained.i.payload.eq(self.i.payload),
            drained.i.valid.eq(self.i.valid & go),
            self.i.ready.eq(drained.i.ready & go),
        ]
        wiring.connect(m, drained.o, wiring.flipped(self.o))
        with m.If(self.i.valid & self.i.ready & ~second):
            m.d.sync += tiles.eq(tiles + 1)
        with m.If(self.o.valid & self.o.ready & ~second):
            m.d.sync += rows.eq(rows + 1)
        return m


@pytest.mark.parametrize("order", [(3, 1), (1, 3)], ids=str)
def test_kernel_changes_between_layers(order):
    kernels = {r: winograd(5 - r, r) for r in order}
    drained = built(kernels.values(), acc_bits(kernels[1]))
    parts = [sums(kernels[r], 6) for r in order]
    x = np.concatenate([tiles(m, 1) for m, _ in parts])
    expected = [rows(convolution, 1, 4) for _, convolution in parts]
    dut = TwoLayers(drained, order, tiles=6, rows=len(expected[0]))
    result = run_stream(dut, {"i": x}, {"o": sum(map(len, expected))}, stalls=Stalls(8, o=0.2))
    np.testing.assert_array_equal(result.outputs["o"], np.concatenate(expected))


@pytest.mark.parametrize(("tile", "kernel"), TRANSFORMS)
def test_quantized(tile, kernel):
    check_quantized(tile, kernel, (0.2, 0.4), lanes=1)


def test_quantized_at_full_speed():
    check_quantized(2, 3, (0, 0), lanes=3)


def check_quantized(tile: int, kernel: int, stalls: tuple[float, float], lanes: int) -> None:
    matrices = winograd(tile, kernel)
    dut = built([matrices], 22, lanes=lanes, narrowing=Narrowing(8), max_shift=15)
    rng = np.random.default_rng(5)
    shift = rng.integers(0, 16, (matrices.n, matrices.n))
    m = rng.integers(*signed_range(22), (6 * lanes, matrices.n, matrices.n), endpoint=True)
    m[:lanes] = 0  # comes before the shifts stand
    m[lanes], m[lanes + 1] = signed_range(22)
    y = matrices.at @ Narrowing(8, shift).apply(m) @ matrices.at.T
    check(dut, tiles(m, lanes), rows(y, lanes, tile), stalls, shift=shift)


@pytest.mark.parametrize(
    "narrowing", [Narrowing(10, 9, Rounding.FLOOR), Narrowing(8, 12, saturate=False)], ids=["floor", "wrap"]
)
def test_narrowings_of_a_family(narrowing):
    dut = built(family(6).values(), 20, narrowing=narrowing)
    rng = np.random.default_rng(6)
    shift = rng.integers(0, narrowing.max_shift + 1, (6, 6))
    m = rng.integers(*signed_range(20), (8, 6, 6), endpoint=True)
    m[0] = 0  # comes before the shifts stand
    at = family(6)[5].at
    y = at @ narrowing.with_shift(shift).apply(m) @ at.T
    check(dut, tiles(m, 1), rows(y, 1, 6), (0.2, 0.4), kernel=5, shift=shift)


def test_learned_matrices():
    rng = np.random.default_rng(7)
    matrices = Winograd.from_matrices(*(rng.integers(-8, 9, shape) / 4 for shape in ((6, 6), (6, 3), (4, 6))))
    dut = built([matrices], 20, narrowing=Narrowing(8, 12))
    shift = rng.integers(0, 13, (6, 6))
    m = rng.integers(*signed_range(20), (8, 6, 6), endpoint=True)
    m[0] = 0  # comes before the shifts stand
    y = matrices.at @ Narrowing(8, shift).apply(m) @ matrices.at.T
    check(dut, tiles(m, 1), rows(y, 1, 4), shift=shift)


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
