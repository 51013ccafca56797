import itertools
import math
from dataclasses import FrozenInstanceError
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from winohw.algorithm.toomcook import (
    INFINITY,
    Winograd,
    default_points,
    family,
    format_points,
    parse_points,
    winograd,
)

offered = [(m, r) for m in range(1, 9) for r in range(1, 10 - m)]


def correlate(d, g):
    """Definition: correlation(d, g)[i, j] = Σ d[i + a, j + b] g[a, b], in Python integers."""
    r = len(g)
    m = len(d) - r + 1
    out = np.zeros((m, m), dtype=object)
    for a, b in np.ndindex(r, r):
        out += d[a : a + m, b : b + m] * g[a, b]
    return out


def transform(w, d, g):
    """The two-dimensional algorithm, in Python integers."""
    bt, gm, at = (matrix.astype(object) for matrix in (w.bt, w.g, w.at))
    return at @ ((gm @ g @ gm.T) * (bt @ d @ bt.T)) @ at.T


def assert_identity(w):
    """Both sides are linear in d and in g, so they are equal when they are for every pair of unit entries."""
    n, r, m = w.n, w.kernel_size, w.tile_size
    # v[y, x] = Bᵀ E(y, x) B and u[a, b] = G E(a, b) Gᵀ: outer products of columns.
    v = np.einsum("iy,jx->yxij", w.bt, w.bt)
    u = np.einsum("ia,jb->abij", w.g, w.g)
    products = v[:, :, None, None] * u[None, None]
    assert max(abs(int(x)) for x in (products.min(), products.max())) < 2**31
    assert np.abs(w.at).sum() < 2**15
    left = np.einsum("pi,yxabij,qj->yxabpq", w.at, products, w.at, optimize=True)
    y, x, a, b, p, q = np.ogrid[:n, :n, :r, :r, :m, :m]
    np.testing.assert_array_equal(left, np.where((y == p + a) & (x == q + b), w.divisor**2, 0))


@pytest.mark.parametrize(("tile_size", "kernel_size"), offered)
def test_two_dimensional_identity(tile_size, kernel_size):
    w = winograd(tile_size, kernel_size)
    assert w.is_exact()
    assert_identity(w)
    # The same with the definitions written out, on entries that no 64 bits hold.
    rng = np.random.default_rng(tile_size * 8 + kernel_size)
    d = rng.integers(-(2**62), 2**62, (w.n, w.n)).astype(object) ** 3
    g = rng.integers(-(2**62), 2**62, (kernel_size, kernel_size)).astype(object) ** 3
    np.testing.assert_array_equal(transform(w, d, g), w.divisor**2 * correlate(d, g))


points = st.one_of(st.just(INFINITY), st.fractions(-4, 4, max_denominator=4))


@settings(deadline=None)
@given(st.data())
def test_any_points(data):
    tile_size, kernel_size = data.draw(st.sampled_from(offered))
    n = tile_size + kernel_size - 1
    drawn = data.draw(st.lists(points, min_size=n, max_size=n, unique=True))
    try:
        w = winograd(tile_size, kernel_size, drawn)
    except ValueError as error:
        assume("32 bits" not in str(error))
        raise
    assert w.is_exact()
    for row in (*w.bt.tolist(), *w.g.tolist()):
        assert math.gcd(*row) == 1
    assert math.gcd(w.divisor, *w.at.flat) == 1
    assert (w.g[np.arange(n), np.argmax(w.g != 0, axis=1)] > 0).all()
    assert (w.at[0] >= 0).all()


@pytest.mark.parametrize("n", range(1, 9))
def test_family_shares_the_input_transform(n):
    members = family(n)
    assert sorted(members) == list(range(1, max(n, 2)))
    for r, w in members.items():
        assert (w.n, w.kernel_size) == (n, r)
        assert w.is_exact()
        np.testing.assert_array_equal(w.bt, members[1].bt)
        assert w.divisor == members[1].divisor
        if w.tile_size > 1:
            assert w == winograd(n + 1 - r, r)


@pytest.mark.parametrize("points", [None, (0, 1, -1, 3, None, 4, -2), ("inf", 0, 1, -1, 2)])
def test_kernels_of_integer_points_share_powers(points):
    members = family(6 if points is None else len(points), points)
    largest = members[max(members)]
    assert not largest.fractional
    for r, w in members.items():
        for k, point in enumerate(w.points):
            powers = [0] * (r - 1) + [1] if point is INFINITY else largest.g[k, :r].tolist()
            assert w.g[k].tolist() == powers
            if point is INFINITY:
                assert w.at[:-1, k].tolist() == [0] * (w.tile_size - 1)
            else:
                assert w.at[:, k].tolist() == [w.at[0, k] * int(point) ** i for i in range(w.tile_size)]


def test_published_matrices():
    """F(2×2, 3×3) and F(4×4, 3×3) as Lavin and Gray print them, up to factors and signs of rows."""
    w = winograd(2, 3)
    assert w.points == (0, 1, -1, INFINITY)
    assert w.bt.tolist() == [[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, -1, 0, 1]]
    assert w.g.tolist() == [[1, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 1]]
    assert w.at.tolist() == [[2, 1, 1, 0], [0, 1, -1, 2]]
    assert w.divisor == 2
    w = winograd(4, 3)
    assert w.bt.tolist() == [
        [4, 0, -5, 0, 1, 0],
        [0, 4, 4, -1, -1, 0],
        [0, -4, 4, 1, -1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
    assert w.g.tolist() == [[1, 0, 0], [1, 1, 1], [1, -1, 1], [1, 2, 4], [1, -2, 4], [0, 0, 1]]
    assert w.at.tolist() == [[6, 4, 4, 1, 1, 0], [0, 4, -4, 2, -2, 0], [0, 4, 4, 4, 4, 0], [0, 4, -4, 8, -8, 24]]
    assert w.divisor == 24


@pytest.mark.parametrize(
    ("tile_size", "multiplications", "gain"),
    [(1, 9, 1), (2, 4, Fraction(9, 4)), (3, Fraction(25, 9), Fraction(81, 25)), (4, Fraction(9, 4), 4)],
)
def test_cost_of_3x3_kernels(tile_size, multiplications, gain):
    w = winograd(tile_size, 3)
    assert w.multiplications_per_output == multiplications
    assert w.gain == gain


@pytest.mark.parametrize("kernel_size", range(1, 9))
def test_one_output_a_tile_is_direct_convolution(kernel_size):
    w = winograd(1, kernel_size)
    assert w.direct
    assert w.points is None
    assert w.divisor == 1
    assert not w.fractional
    assert w.at.tolist() == [[1] * kernel_size]
    assert not winograd(2, 3).direct


def worst_case_bits(rows, signs=1):
    """Signed bits of rows ⊗ rows on full-range int8, the rows' signs changed."""
    rows = rows * np.reshape(signs, (-1, 1))
    positive, negative = np.maximum(rows, 0).sum(axis=1), np.maximum(-rows, 0).sum(axis=1)
    same = np.outer(positive, positive) + np.outer(negative, negative)
    other = np.outer(positive, negative) + np.outer(negative, positive)
    greatest, least = (127 * same + 128 * other).max(), (128 * same + 127 * other).max()
    return 1 + max(int(greatest).bit_length(), int(least - 1).bit_length())


@pytest.mark.parametrize("n", range(2, 9))
def test_no_other_signs_are_narrower(n):
    members = family(n)
    choices = list(itertools.product((1, -1), repeat=n))
    matrices = [members[1].bt, *(w.g for w in members.values())]
    for matrix in matrices:
        assert worst_case_bits(matrix) == min(worst_case_bits(matrix, signs) for signs in choices)


@pytest.mark.parametrize("n", range(3, 7))
def test_no_other_points_are_narrower(n):
    pool = [*range(-4, 5), Fraction(1, 2), Fraction(-1, 2)]
    kernel_size = min(3, n - 1)
    best = winograd(n + 1 - kernel_size, kernel_size)
    for finite in itertools.combinations(pool, n - 1):
        w = winograd(n + 1 - kernel_size, kernel_size, (*finite, INFINITY))
        assert worst_case_bits(best.bt) <= worst_case_bits(w.bt)
        assert worst_case_bits(best.g) <= worst_case_bits(w.g)


def test_points_are_read_and_written():
    points = parse_points([0, "-1", "1/2", 0.25, "inf"])
    assert points == (0, -1, Fraction(1, 2), Fraction(1, 4), None)
    assert format_points(points) == "0, -1, 1/2, 1/4, inf"
    assert parse_points([math.inf]) == parse_points([None]) == (INFINITY,)
    assert winograd(2, 2, [0, "1/2", None]).fractional
    assert default_points(1) == (INFINITY,)
    assert default_points(8) == parse_points([0, 1, -1, 2, -2, "1/2", "-1/2", None])


def test_matrices_of_the_user():
    w = winograd(4, 3)
    bt, g, at = w.real_matrices()
    rng = np.random.default_rng(0)
    d, kernel = rng.integers(-128, 128, (6, 6)), rng.integers(-128, 128, (3, 3))
    np.testing.assert_allclose(
        at @ ((g @ kernel @ g.T) * (bt @ d @ bt.T)) @ at.T, correlate(d, kernel).astype(float), rtol=1e-9, atol=1e-6
    )
    ours = Winograd.from_matrices(w.bt, w.g, w.at, divisor=24)
    assert ours.is_exact()
    assert (ours.tile_size, ours.kernel_size, ours.points, ours.shifts) == (4, 3, None, (0, 0, 0))


def test_dyadic_matrices():
    exact = winograd(2, 3)
    w = Winograd.from_matrices(exact.bt / 4, exact.g / 8, exact.at.astype(float))
    np.testing.assert_array_equal(w.bt, exact.bt)
    np.testing.assert_array_equal(w.at, exact.at)
    assert w.shifts == (2, 3, 0)
    assert w.divisor == 32
    assert not w.is_exact()
    half = Winograd.from_matrices(exact.bt / 4, exact.g / 8, exact.at / 2)
    assert half.shifts == (2, 3, 1)
    assert half.divisor == 64
    twice = Winograd.from_matrices(exact.bt / 4, exact.g / 8, exact.at * 16)
    assert twice.is_exact()
    for ours, theirs in zip(w.real_matrices(), (exact.bt / 4, exact.g / 8, exact.at), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    learned = Winograd.from_matrices([[1, 0], [0.25, Fraction(3, 2)]], [[1], [1]], [[2, 0], [0, 1]])
    assert learned.bt.tolist() == [[4, 0], [1, 6]]
    assert learned.divisor == 4
    assert not learned.is_exact()


def test_value_semantics():
    w = winograd(2, 3)
    assert winograd(2, 3) is w
    twin = Winograd(2, 3, w.points, w.bt.copy(), w.g.copy(), w.at.copy(), w.divisor)
    assert twin == w
    assert hash(twin) == hash(w)
    assert w != winograd(2, 3, (0, 1, -1, 2))
    assert w != "F(2×2, 3×3)"
    assert str(w) == "F(2×2, 3×3)"
    with pytest.raises(ValueError, match="read-only"):
        w.bt[0, 0] = 7
    with pytest.raises(FrozenInstanceError):
        w.divisor = 3


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: winograd(0, 3), ValueError, "Tile size must be at least 1, not 0"),
        (lambda: winograd(2.0, 3), TypeError, "Tile size must be an integer, not 2.0"),
        (lambda: winograd(2, True), TypeError, "Kernel size must be an integer, not True"),
        (lambda: winograd(7, 3), ValueError, "Input tile must be at most 8, not 9"),
        (lambda: winograd(1, 9), ValueError, "Input tile must be at most 8, not 9"),
        (
            lambda: winograd(8, 2, range(9)),
            ValueError,
            "Input tile m + r - 1 must be at most 8, not 9 (m = 8, r = 2)",
        ),
        (
            lambda: winograd(3, 3, ("1/101", "1/103", "1/107", 1, None)),
            ValueError,
            "Points must give integers of at most 32 bits, not 1/101, 1/103, 1/107, 1, inf",
        ),
        (lambda: winograd(2, 2, (0, 1)), ValueError, "F(2,2) needs 3 points, not 2: 0, 1"),
        (lambda: winograd(2, 2, (0, 1, 1.0)), ValueError, "Points must differ from each other: 0, 1, 1"),
        (lambda: parse_points(["one"]), ValueError, "Point must be a number, a fraction or infinity, not 'one'"),
        (lambda: parse_points(["1/0"]), ValueError, "Point must be a number, a fraction or infinity, not '1/0'"),
        (lambda: parse_points([-math.inf]), ValueError, "Point must be a number, a fraction or infinity, not -inf"),
        (lambda: default_points(0), ValueError, "Input tile must be at least 1, not 0"),
        (lambda: family(1.5), TypeError, "Input tile must be an integer, not 1.5"),
        (
            lambda: Winograd.from_matrices(np.eye(2), [[1]], [[1, 1]]),
            ValueError,
            "bt must have the shape (1, 1), not (2, 2)",
        ),
        (lambda: Winograd.from_matrices([1], [[1]], [[1]]), ValueError, "bt must be a matrix, not of the shape (1,)"),
        (
            lambda: Winograd.from_matrices([[1]], [[Fraction(1, 6)]], [[1]]),
            ValueError,
            "g must be integers over one power of two, not over 6",
        ),
        (lambda: Winograd.from_matrices([[1]], [[1]], [[math.nan]]), ValueError, "at must hold finite numbers"),
        (
            lambda: Winograd.from_matrices([[0.1]], [[1]], [[1]]),
            ValueError,
            "bt needs integers of more than 32 bits over 36028797018963968: round its entries first",
        ),
        (
            lambda: Winograd.from_matrices([[1]], [[1]], [[1]], divisor=0),
            ValueError,
            "Divisor must be at least 1, not 0",
        ),
        (
            lambda: Winograd(1, 1, None, np.eye(1), np.eye(1), np.eye(1), 1),
            TypeError,
            "bt must hold integers, not float64",
        ),
    ],
)
def test_bad_parameters(call, error, message):
    with pytest.raises(error) as info:
        call()
    assert str(info.value) == message


@pytest.mark.parametrize(("tile_size", "kernel_size"), [(2, 3), (4, 3), (3, 2), (1, 3)])
def test_lifted(tile_size, kernel_size):
    """The same convolution; no column of the output transform has an even factor left."""
    plain = winograd(tile_size, kernel_size)
    lifted = plain.lifted()
    assert lifted.is_exact()
    assert lifted.divisor == plain.divisor
    np.testing.assert_array_equal(lifted.bt, plain.bt)
    assert (lifted.at % 2).any(axis=0).all()
