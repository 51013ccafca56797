import numpy as np
import pytest

from winohw.algorithm.geometry import ConvGeometry
from winohw.algorithm.toomcook import winograd
from winohw.numerics.calibrate import Criterion, calibrate, layer_signal_to_noise, signal_to_noise
from winohw.numerics.formats import Exact, Narrowing, Quantized, Rounding
from winohw.numerics.golden import GoldenModel
from winohw.numerics.layer import ConvLayer
from winohw.numerics.requantize import Requantization

LARGEST, LEAST = Criterion.LARGEST_MAGNITUDE, Criterion.LEAST_SQUARES


def synthetic(seed: int = 0, stride: int = 1, kernel: int = 3, zero_point: int = 0):
    """A layer with normally distributed weights and pixels."""
    rng = np.random.default_rng(seed)
    geometry = ConvGeometry(24, 24, 64, 32, kernel, stride)
    weights = np.clip(np.round(rng.normal(0, 32, size=(32, kernel, kernel, 64))), -128, 127).astype(np.int8)
    pixels = np.clip(np.round(rng.normal(zero_point, 40, size=(1, 24, 24, 64))), -128, 127).astype(np.int8)
    requantization = Requantization(np.zeros(32, int), 2**30, -9)
    return ConvLayer(geometry, weights, requantization, zero_point), pixels


def quality(tile_size, bits, criterion, per_tap, layer=None, pixels=None):
    if layer is None:
        layer, pixels = synthetic()
    matrices = winograd(tile_size, layer.geometry.effective_kernel)
    profile = calibrate(matrices, layer, pixels, bits, criterion, per_tap)
    profile.total_shift(matrices.n)  # raises unless the same for all taps
    assert any(step.per_tap for step in (profile.input, profile.weight, profile.product)) <= per_tap
    return layer_signal_to_noise(GoldenModel(matrices, profile), layer, pixels)


@pytest.mark.parametrize(
    ("tile_size", "criterion", "per_tap", "low", "high"),
    [
        (2, LARGEST, False, 25, 31),
        (2, LARGEST, True, 28, 34),
        (2, LEAST, False, 25, 31),
        (2, LEAST, True, 28, 34),
        (4, LARGEST, False, -5, 0),
        (4, LARGEST, True, 13, 17),
        (4, LEAST, False, 0, 6),
        (4, LEAST, True, 14, 18),
        (6, LARGEST, False, -10, -6),
        (6, LEAST, True, 9, 13),
    ],
)
def test_eight_bit_factors_yield_the_signal_to_noise_of_the_design(tile_size, criterion, per_tap, low, high):
    """One shift a stage is enough for F(2,3), but F(4,3) needs one per tap."""
    assert low < quality(tile_size, (8, 8, 16), criterion, per_tap) < high


@pytest.mark.parametrize("tile_size", [2, 4])
@pytest.mark.parametrize("per_tap", [False, True])
def test_full_eight_bits_in_all_three_steps(tile_size, per_tap):
    by_magnitude, by_squares = (quality(tile_size, 8, criterion, per_tap) for criterion in (LARGEST, LEAST))
    assert by_magnitude <= by_squares
    low, high = {2: (20, 30), 4: (-4, 12)}[tile_size]
    assert low < by_magnitude < high


@pytest.mark.parametrize(("stride", "kernel"), [(1, 1), (1, 2), (2, 3), (2, 5)])
def test_other_kernels_strides_and_zero_points(stride, kernel):
    layer, pixels = synthetic(1, stride, kernel, zero_point=-20)
    assert quality(2, (8, 8, 16), LEAST, True, layer, pixels) > 18


def test_largest_magnitude_takes_the_least_shifts_without_saturation():
    layer, pixels = synthetic()
    matrices = winograd(4, 3)
    profile = calibrate(matrices, layer, pixels, (8, 9, 12), LARGEST)
    assert [step.bits for step in (profile.input, profile.weight, profile.product)] == [8, 9, 12]
    model = GoldenModel(matrices, profile)
    unbounded = GoldenModel(
        matrices, Quantized(*(Narrowing(18, step.shift) for step in (profile.input, profile.weight, profile.product)))
    )
    stages, wide = model.stages(layer, pixels), unbounded.stages(layer, pixels)
    assert wide.first_difference(stages) is None
    for values, bits, step in (
        (stages.input_transform, 8, profile.input),
        (stages.weight_transform, 9, profile.weight),
    ):
        taps = values.reshape(-1, 36)
        largest = np.maximum(taps.max(axis=0), -1 - taps.min(axis=0))
        fills = largest >= 2 ** (bits - 2) - 1
        assert (fills | (step.table(6).ravel() == 0)).all()
    products = stages.product.reshape(-1, 36)
    assert np.maximum(products.max(axis=0), -1 - products.min(axis=0)).max() >= 2**10 - 1


def test_known_shifts_per_tap():
    """A single 2×2 patch with direct matrices: each tap has one pixel and one weight of its own."""
    values = np.array([[0, 127], [7, -8]], np.int8)
    layer = ConvLayer(
        ConvGeometry(2, 2, 1, 1, 2, padding="valid"), values[None, :, :, None], Requantization([0], 2**30, 0)
    )
    profile = calibrate(winograd(1, 2), layer, values[None, :, :, None], 4, LARGEST)
    # 127 becomes 4 by a shift of 5, 7 and -8 fit 4 bits. Of the products 0, 16, 49 and 64, the second one needs a shift
    # of 2, on top of 10: more than the others need.
    assert profile.input.shift == ((0, 5), (0, 0))
    assert profile.weight.shift == ((0, 5), (0, 0))
    assert profile.product.shift == ((12, 2), (12, 12))


@pytest.mark.parametrize("tile_size", [3, 4])
def test_least_squares_finds_the_best_shifts_of_whole_stages(tile_size):
    layer, pixels = synthetic()
    matrices = winograd(tile_size, 3)

    def noise(profile):
        return layer_signal_to_noise(GoldenModel(matrices, profile), layer, pixels)

    candidates = [(v, u) for v in range(2, 8) for u in range(2, 8)]
    best = max(noise(Quantized(Narrowing(8, v), Narrowing(8, u), Narrowing(16))) for v, u in candidates)
    assert noise(calibrate(matrices, layer, pixels, (8, 8, 16), LEAST, per_tap=False)) == best


def test_shifts_of_known_values():
    """A 1×1 kernel with direct matrices: the values are the pixels and weights themselves."""
    geometry = ConvGeometry(2, 2, 1, 1, 1)
    layer = ConvLayer(geometry, np.full((1, 1, 1, 1), 100, np.int8), Requantization([0], 2**30, 0))
    pixels = np.array([-128, 3, 0, 127], np.int8).reshape(1, 2, 2, 1)
    profile = calibrate(winograd(1, 1), layer, pixels, (8, 8, 16), LARGEST)
    assert (profile.input.shift, profile.weight.shift, profile.product.shift) == (0, 0, 0)
    profile = calibrate(winograd(1, 1), layer, pixels, (7, 6, 8), LARGEST, rounding=Rounding.FLOOR)
    # -128 >> 1 = -64 and 127 >> 1 = 63 fit 7 bits, 100 >> 2 = 25 fits 6 bits, -64 * 25 >> 4 = -100 fits 8 bits.
    assert (profile.input.shift, profile.weight.shift, profile.product.shift) == (1, 2, 4)
    profile = calibrate(winograd(1, 1), layer, pixels, (7, 6, 8), LARGEST)
    # Rounded half up, 127 becomes 64 and wants one shift more: 32 * 25 = 800, -32 * 25 = -800, >> 3 = -100.
    assert (profile.input.shift, profile.weight.shift, profile.product.shift) == (2, 2, 3)


def test_shift_limit():
    layer, pixels = synthetic()
    limited = calibrate(winograd(4, 3), layer, pixels, (8, 8, 8), LEAST, max_shift=10)
    assert max(step.max_shift for step in (limited.input, limited.weight, limited.product)) <= 10
    with pytest.raises(ValueError, match="The transformed input saturate even with a shift of 2"):
        calibrate(winograd(4, 3), layer, pixels, (8, 8, 8), LARGEST, max_shift=2)
    with pytest.raises(ValueError, match=r"The products saturate, .* even with a shift of 6"):
        calibrate(winograd(4, 3), layer, pixels, (8, 8, 8), LARGEST, max_shift=6)


def test_all_zero_samples():
    layer, pixels = synthetic()
    matrices = winograd(4, 3)
    for criterion in Criterion:
        profile = calibrate(matrices, layer, np.zeros_like(pixels), 8, criterion)
        assert profile.input.shift == 0
        model = GoldenModel(matrices, profile)
        assert layer_signal_to_noise(model, layer, np.zeros_like(pixels)) == float("inf")


def test_signal_to_noise():
    assert signal_to_noise([3, 4], [3, 4]) == float("inf")
    assert signal_to_noise([30, 40], [27, 36]) == pytest.approx(20)
    assert signal_to_noise([0, 0], [1, 0]) < -3000
    layer, pixels = synthetic(zero_point=7)
    assert layer_signal_to_noise(GoldenModel(winograd(4, 3), Exact()), layer, pixels) == float("inf")


def test_wrong_pixels():
    layer, pixels = synthetic()
    with pytest.raises(ValueError, match=r"\[N, 24, 24, 64\]"):
        calibrate(winograd(4, 3), layer, pixels[:, 1:])


def lifted_gain(tile_size, seed):
    """dB that 8 bits throughout gain on a drawn layer by moving factors of two from the output transform to G."""
    rng = np.random.default_rng(seed)
    weights = np.clip(np.round(rng.normal(0, 30, (16, 3, 3, 32))), -128, 127).astype(np.int8)
    noise = rng.normal(0, 30, (2, 20, 20, 32))
    smooth = noise[:, :16, :16] + noise[:, 1:17, :16] + noise[:, :16, 1:17] + noise[:, 2:18, 2:18]
    pixels = np.clip(np.maximum(smooth, 0) * 1.3 - 100, -128, 127).astype(np.int8)
    constants = Requantization(np.zeros(16, int), 2**30, -9)
    layer = ConvLayer(ConvGeometry(16, 16, 32, 16, 3), weights, constants, -100)
    plain = winograd(tile_size, 3)
    found = []
    for matrices in (plain, plain.lifted()):
        profile = calibrate(matrices, layer, pixels, 8)
        found.append(layer_signal_to_noise(GoldenModel(matrices, profile), layer, pixels))
    return found[1] - found[0]


def test_lifted_matrices_in_8_bits():
    """Better on F(2,3), worse on F(4,3); the figures of docs/design.md (`-s`)."""
    gains = {tile_size: [lifted_gain(tile_size, seed) for seed in range(4)] for tile_size in (2, 4)}
    print({tile_size: np.round(values, 1).tolist() for tile_size, values in gains.items()})
    assert min(gains[2]) > 0
    assert max(gains[4]) < 0
