import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from winohw.algorithm.ranges import (
    INT8,
    UINT8,
    linear_range,
    product_range,
    signed_bits,
    stage_ranges,
    stage_widths,
)
from winohw.algorithm.toomcook import Winograd, family, winograd

every = [w for n in range(1, 9) for w in family(n).values()] + [winograd(1, r) for r in (2, 3, 5)]
input_ranges = pytest.mark.parametrize("input_range", [INT8, UINT8], ids=["int8", "uint8"])


@pytest.mark.parametrize(
    ("lo", "hi", "bits"),
    [(0, 0, 1), (-1, 0, 1), (0, 1, 2), (-2, 1, 2), (-128, 127, 8), (-128, 128, 9), (-129, 0, 9), (0, 255, 9)],
)
def test_signed_bits(lo, hi, bits):
    assert signed_bits(lo, hi) == bits
    assert signed_bits(np.int64(lo), np.int64(hi)) == bits


@settings(deadline=None)
@given(st.integers(-(2**70), 2**70), st.integers(-(2**70), 2**70))
def test_signed_bits_are_the_least(x, y):
    lo, hi = min(x, y), max(x, y)
    bits = signed_bits(lo, hi)
    assert -(1 << bits - 1) <= lo
    assert hi < 1 << bits - 1
    if bits > 1:
        assert lo < -(1 << bits - 2) or hi >= 1 << bits - 2


def test_linear_range():
    assert linear_range([[2, -1], [0, 0]], [(-1, 3), (0, 5)]) == ((-7, 6), (0, 0))
    with pytest.raises(ValueError, match="shorter"):
        linear_range([[1, 2]], [(0, 1)])


@settings(deadline=None)
@given(st.tuples(*[st.integers(-9, 9)] * 4))
def test_product_range(x):
    a, b = (min(x[:2]), max(x[:2])), (min(x[2:]), max(x[2:]))
    products = [i * j for i in range(a[0], a[1] + 1) for j in range(b[0], b[1] + 1)]
    assert product_range(a, b) == (min(products), max(products))


def furthest(coefficients, bounds, upwards):
    """Entries within the bounds that drive Σ coefficients · entries furthest up, or down."""
    coefficients = np.asarray(coefficients)
    return np.where((coefficients > 0) == upwards, bounds[1], bounds[0])


@input_ranges
@pytest.mark.parametrize("w", every, ids=str)
def test_bounds_are_attained(w, input_range):
    """Some input and kernel reach each bound; then, as stages before the sum are linear, none passes it."""
    weight_range, channels = INT8, 7
    ranges = stage_ranges(w, channels, input_range, weight_range)
    n, r, m = w.n, w.kernel_size, w.tile_size
    for upwards, side in ((False, "lo"), (True, "hi")):
        for i in range(n):
            assert w.bt[i] @ furthest(w.bt[i], input_range, upwards) == getattr(ranges.input_rows, side)[i]
            assert w.g[i] @ furthest(w.g[i], weight_range, upwards) == getattr(ranges.weight_rows, side)[i]
    for i, j in np.ndindex(n, n):
        inputs = [furthest(np.outer(w.bt[i], w.bt[j]), input_range, upwards) for upwards in (False, True)]
        kernels = [furthest(np.outer(w.g[i], w.g[j]), weight_range, upwards) for upwards in (False, True)]
        v = [int(w.bt[i] @ d @ w.bt[j]) for d in inputs]
        u = [int(w.g[i] @ kernel @ w.g[j]) for kernel in kernels]
        assert (ranges.v.lo[i, j], ranges.v.hi[i, j]) == tuple(v)
        assert (ranges.u.lo[i, j], ranges.u.hi[i, j]) == tuple(u)
        products = [x * y for x in v for y in u]
        assert (ranges.product.lo[i, j], ranges.product.hi[i, j]) == (min(products), max(products))
        sums = channels * min(products), channels * max(products)
        assert (ranges.channel_sum.lo[i, j], ranges.channel_sum.hi[i, j]) == sums
    for j in range(n):
        columns = []
        for upwards in np.ndindex(2, 2):
            d = np.tile(furthest(w.bt[j], input_range, upwards[0]), (n, 1))
            kernel = np.tile(furthest(w.g[j], weight_range, upwards[1]), (r, 1))
            columns.append(channels * w.at @ ((w.g @ kernel @ w.g[j]) * (w.bt @ d @ w.bt[j])))
        assert ranges.output_columns.lo[:, j].tolist() == np.min(columns, axis=0).tolist()
        assert ranges.output_columns.hi[:, j].tolist() == np.max(columns, axis=0).tolist()
    outputs = [channels * r * r * x * y for x in input_range for y in weight_range]
    assert ranges.output == (min(outputs), max(outputs))
    assert (ranges.scaled_output.lo == w.divisor**2 * min(outputs)).all()
    assert (ranges.scaled_output.hi == w.divisor**2 * max(outputs)).all()
    assert ranges.scaled_output.lo.shape == (m, m)


@pytest.mark.parametrize("w", every, ids=str)
def test_random_data_stays_within(w):
    rng = np.random.default_rng(w.n)
    channels = 3
    ranges = stage_ranges(w, channels, UINT8)
    d = rng.choice([0, 1, 254, 255], (200, channels, w.n, w.n))
    kernel = rng.choice([-128, -127, 126, 127], (200, channels, w.kernel_size, w.kernel_size))
    v, u = w.bt @ d @ w.bt.T, w.g @ kernel @ w.g.T
    sums = (u * v).sum(axis=1)
    stages = {
        "v": v,
        "u": u,
        "product": u * v,
        "channel_sum": sums,
        "output_columns": w.at @ sums,
        "scaled_output": w.at @ sums @ w.at.T,
    }
    for name, values in stages.items():
        bounds = getattr(ranges, name)
        assert (values >= bounds.lo).all(), name
        assert (values <= bounds.hi).all(), name
        assert bounds.width == bounds.bits.max()


@pytest.mark.parametrize(
    ("tile_size", "kernel_size", "v", "u"),
    [
        (1, 3, 8, 8),
        (2, 3, 10, 12),
        (3, 3, 14, 14),
        (4, 3, 15, 14),
        (6, 3, 20, 14),
        (6, 1, 15, 8),
        (5, 2, 15, 12),
        (3, 4, 15, 16),
        (2, 5, 15, 18),
    ],
)
def test_operands_of_full_range_int8(tile_size, kernel_size, v, u):
    widths = stage_widths(winograd(tile_size, kernel_size), 512)
    assert (widths.v, widths.u) == (v, u)


def test_widths_of_f_4_3():
    widths = stage_widths(winograd(4, 3), 512)
    assert (widths.input, widths.weight) == (8, 8)
    assert (widths.input_rows, widths.weight_rows) == (12, 11)
    assert (widths.product, widths.channel_sum) == (26, 35)
    assert (widths.output_columns, widths.scaled_output) == (36, 37)
    assert (widths.output, widths.accumulator) == (28, 34)
    assert stage_widths(winograd(4, 3), 512, UINT8).accumulator == 35


def test_width_of_each_tap():
    ranges = stage_ranges(winograd(2, 3), 1)
    assert ranges.v.bits.tolist() == [[10] * 4] * 4
    assert ranges.u.bits.tolist() == [[8, 10, 10, 8], [10, 12, 12, 10], [10, 12, 12, 10], [8, 10, 10, 8]]


def test_symmetric_ranges():
    ranges = stage_ranges(winograd(2, 3), 1, (-127, 127), (-127, 127))
    assert (ranges.v.lo == -ranges.v.hi).all()
    assert (ranges.product.lo == -ranges.product.hi).all()
    assert ranges.output == (-9 * 127**2, 9 * 127**2)


def test_inexact_matrices_have_bounds():
    exact = winograd(2, 3)
    at = exact.at.copy()
    at[0, 3] = 1
    w = Winograd.from_matrices(exact.bt, exact.g, at)
    assert not w.is_exact()
    ranges = stage_ranges(w, 2)
    rng = np.random.default_rng(0)
    d, kernel = rng.choice(INT8, (500, 4, 4)), rng.choice(INT8, (500, 3, 3))
    sums = 2 * (w.bt @ d @ w.bt.T) * (w.g @ kernel @ w.g.T)
    for name, values in (("output_columns", at @ sums), ("scaled_output", at @ sums @ at.T)):
        bounds = getattr(ranges, name)
        assert bounds.lo.shape == values.shape[1:]
        assert (values >= bounds.lo).all()
        assert (values <= bounds.hi).all()
    independent = np.kron(at, at)
    assert ranges.scaled_output.hi.ravel().tolist() == [
        hi
        for _, hi in linear_range(
            independent.tolist(), list(zip(ranges.channel_sum.lo.flat, ranges.channel_sum.hi.flat, strict=True))
        )
    ]


def test_results_cannot_be_changed():
    ranges = stage_ranges(winograd(2, 3), 1)
    with pytest.raises(ValueError, match="read-only"):
        ranges.v.lo[0, 0] = 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "Channels must be at least 1, not 0"),
        ((1, (5, 4)), r"Input range must not be empty: \(5, 4\)"),
        ((1, INT8, (1, -1)), r"Weight range must not be empty: \(1, -1\)"),
    ],
)
def test_bad_parameters(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        stage_widths(winograd(2, 3), *arguments)
