import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from winohw.algorithm.modular import ExactDivision, accumulator_bits, exponent_of_two, wrap
from winohw.algorithm.ranges import UINT8, stage_ranges, stage_widths
from winohw.algorithm.toomcook import family, winograd


def test_division_by_the_factors_of_n_6():
    division = ExactDivision(576, 28)
    assert (division.k, division.odd, division.acc_bits) == (6, 9, 34)
    assert division.inverse * 9 % (1 << 28) == 1
    extremes = np.array([-(2**27), -1, 0, 1, 2**27 - 1])
    np.testing.assert_array_equal(division.divide(576 * extremes), extremes)
    np.testing.assert_array_equal(division.divide(wrap(576 * extremes, 34)), extremes)


@settings(deadline=None)
@given(st.integers(1, 2**20), st.integers(1, 64), st.data())
def test_quotients_survive_any_overflow(divisor, bits, data):
    if accumulator_bits(divisor, bits) > 64:
        with pytest.raises(ValueError, match=r"^Result must have 1 to"):
            ExactDivision(divisor, bits)
        return
    division = ExactDivision(divisor, bits)
    half = 1 << (bits - 1)
    drawn = data.draw(st.lists(st.integers(-half, half - 1), max_size=5))
    quotients = np.array([-half, half - 1, -1, *drawn], dtype=np.int64)
    dividends = divisor * quotients.astype(object)
    overflow = data.draw(st.integers(-3, 3)) << division.acc_bits
    residues = wrap(dividends + overflow, 64)
    np.testing.assert_array_equal(division.divide(residues), quotients)
    np.testing.assert_array_equal(division.divide(wrap(residues, division.acc_bits)), quotients)
    np.testing.assert_array_equal(division.divide(residues.astype(np.uint64)), quotients)


@settings(deadline=None)
@given(st.integers(-(2**80), 2**80), st.integers(1, 64))
def test_wrap(x, bits):
    wrapped = int(wrap(x, bits))
    assert -(1 << bits - 1) <= wrapped < 1 << bits - 1
    assert (wrapped - x) % (1 << bits) == 0


def test_exponent_of_two():
    assert [exponent_of_two(x) for x in (1, 2, 12, -576)] == [0, 1, 2, 6]


def modular_result(w, d, kernel, channels, accumulator, output):
    """Output of `channels` equal channels, every sum after the products kept in `accumulator` bits."""
    products = (w.g @ kernel @ w.g.T) * (w.bt @ d @ w.bt.T)
    sums = wrap(products * channels, accumulator)
    columns = wrap(w.at @ sums, accumulator)
    scaled = wrap(columns @ w.at.T, accumulator)
    return ExactDivision(w.divisor**2, output).divide(scaled)


def extremes(w, input_range, weight_range, seed):
    """Inputs and kernels of extreme values only: all alike, then those that drive each tap furthest, then random."""
    n, r = w.n, w.kernel_size
    for pixel in input_range:
        for weight in weight_range:
            yield np.full((n, n), pixel), np.full((r, r), weight)
    for i, j in np.ndindex(n, n):
        for sign in (1, -1):
            d = np.where(sign * np.outer(w.bt[i], w.bt[j]) > 0, *input_range[::-1])
            yield d, np.where(np.outer(w.g[i], w.g[j]) > 0, *weight_range[::-1])
    rng = np.random.default_rng(seed)
    for _ in range(20):
        yield rng.choice(input_range, (n, n)), rng.choice(weight_range, (r, r))


def direct(d, kernel, m):
    out = np.zeros((m, m), np.int64)
    for a, b in np.ndindex(kernel.shape):
        out += d[a : a + m, b : b + m] * kernel[a, b]
    return out


every = [w for n in range(1, 9) for w in family(n).values()] + [winograd(1, r) for r in range(2, 9)]


@pytest.mark.parametrize("w", every, ids=str)
@pytest.mark.parametrize("input_range", [(-128, 127), UINT8], ids=["int8", "uint8"])
def test_modular_accumulators_at_the_extremes(w, input_range):
    channels = 512
    widths = stage_widths(w, channels, input_range)
    for d, kernel in extremes(w, input_range, (-128, 127), seed=w.n):
        expected = channels * direct(d, kernel, w.tile_size)
        result = modular_result(w, d, kernel, channels, widths.accumulator, widths.output)
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("w", [w for n in (4, 5, 6) for w in family(n).values()], ids=str)
def test_one_bit_less_is_not_enough(w):
    """The extremes reach the bounds that the widths are made from."""
    channels = 512
    widths = stage_widths(w, channels)
    greatest = stage_ranges(w, channels).output[1]
    d, kernel = np.full((w.n, w.n), -128), np.full((w.kernel_size, w.kernel_size), -128)
    assert channels * direct(d, kernel, w.tile_size).max() == greatest
    result = modular_result(w, d, kernel, channels, widths.accumulator - 1, widths.output - 1)
    assert (result != greatest).all()


@pytest.mark.parametrize(("channels", "bits"), [(64, [28, 30, 31, 32, 32]), (512, [31, 33, 34, 35, 35])])
def test_accumulators_of_n_6(channels, bits):
    assert [stage_widths(w, channels).accumulator for w in family(6).values()] == bits


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 8), "Divisor must be at least 1, not 0"),
        ((576, 0), "Result must have 1 to 58 bits to be divided by 576, not 0"),
        ((576, 59), "Result must have 1 to 58 bits to be divided by 576, not 59"),
    ],
)
def test_bad_parameters(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        ExactDivision(*arguments)


def test_bad_dividends():
    with pytest.raises(TypeError, match=r"^Dividends must be integers, not float64$"):
        ExactDivision(4, 8).divide([1.0])
