# amaranth: UnusedElaboratable=no
import numpy as np
import pytest

from winohw.gateware.narrow import Narrow
from winohw.numerics.formats import Rounding, signed_range
from winohw.sim.testbench import run_stream

GRID = [
    # in_width, out_bits, max_shift
    (9, 4, 5),  # clamp and shift
    (9, 8, 1),  # one bit to spare
    (9, 8, 0),  # clamp only
    (8, 8, 3),  # guard bit only
    (5, 9, 7),  # wider than the input, shifts beyond its width
    (6, 6, 0),  # nothing to do
    (36, 8, 24),  # sums of products
    (15, 8, 15),
]


def numbers(in_width: int, out_bits: int, max_shift: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Every number of narrow inputs; around all limits and random ones of wide inputs; each with every shift."""
    low, high = signed_range(in_width)
    if in_width <= 9:
        x = np.arange(low, high + 1)
    else:
        rng = np.random.default_rng(seed)
        limit = 1 << (out_bits - 1)
        around = [
            (edge << shift) + delta
            for edge in (-limit, limit, limit - 1)
            for shift in range(max_shift + 1)
            for delta in (-1, 0, 1)
        ]
        halves = [
            edge * limit + (1 << shift >> 1) + delta
            for edge in (-1, 1)
            for shift in range(max_shift + 1)
            for delta in (-1, 0)
        ]
        x = np.array([low, high, -1, 0, 1, low + 1, high - 1, *around, *halves])
        # Magnitudes of every size.
        x = np.concatenate([x, rng.integers(low, high, 100) >> rng.integers(0, in_width, 100)])
        x = x[(low <= x) & (x <= high)]
    x, shift = np.meshgrid(x, np.arange(max_shift + 1))
    order = np.random.default_rng(seed).permutation(x.size)
    return x.ravel()[order], shift.ravel()[order]


@pytest.mark.parametrize("saturate", [True, False], ids=["saturate", "wrap"])
@pytest.mark.parametrize("rounding", Rounding, ids=lambda rounding: rounding.value)
@pytest.mark.parametrize(("in_width", "out_bits", "max_shift"), GRID)
def test_equals_model(in_width, out_bits, max_shift, rounding, saturate):
    dut = Narrow(in_width, out_bits, max_shift, rounding, saturate=saturate)
    x, shift = numbers(in_width, out_bits, max_shift, seed=1)
    result = run_stream(dut, {"i": x, "shift": shift}, {"o": len(x) + dut.latency})
    np.testing.assert_array_equal(result.outputs["o"][dut.latency :], dut.model(x, shift))


@pytest.mark.parametrize("shift", [0, 1, 4, 7])
def test_static_shift(shift):
    dut = Narrow(12, 6, 7, static_shift=True)
    x = np.arange(*signed_range(12), 3)
    result = run_stream(dut, {"i": x}, {"o": len(x) + dut.latency}, constants={"shift": shift})
    np.testing.assert_array_equal(result.outputs["o"][dut.latency :], dut.model(x, shift))


def test_model_of_one_number():
    dut = Narrow(15, 8, 7)
    np.testing.assert_array_equal(
        dut.model([1000, 1001, -1001, 8191, -8192], [1, 1, 1, 6, 6]), [127, 127, -128, 127, -128]
    )
    np.testing.assert_array_equal(dut.model([5, 6, -6, -7], 2), [1, 2, -1, -2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, 8, 3), "Narrow in_width must be 2 or more, not 1"),
        ((15, 0, 3), "Narrow out_bits must be 2 or more, not 0"),
        ((15, 8, -1), "Narrow max_shift must be 0 or more, not -1"),
    ],
)
def test_refuses_bad_sizes(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        Narrow(*arguments)


def test_refuses_bad_rounding():
    with pytest.raises(TypeError, match=r"^Narrow rounding must be a Rounding, not 'up'$"):
        Narrow(15, 8, 3, "up")
