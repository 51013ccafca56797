import time
from dataclasses import replace

import numpy as np
import pytest
from litert_oracle import LiteRtConvolution

from winohw.algorithm.geometry import ConvGeometry
from winohw.algorithm.toomcook import Winograd, winograd
from winohw.numerics.formats import Exact, Narrowing, Quantized, Rounding
from winohw.numerics.golden import GoldenModel, input_patches, multiply_taps, transform
from winohw.numerics.layer import ConvLayer
from winohw.numerics.requantize import Activation, Requantization


def make_layer(geometry: ConvGeometry, rng, zero_point: int | None = None) -> ConvLayer:
    shape = (geometry.filters, geometry.kernel, geometry.kernel, geometry.channels)
    weights = rng.integers(-128, 128, size=shape).astype(np.int8)
    bias = rng.integers(-5000, 5000, size=geometry.filters)
    zeros = rng.integers(-128, 128, size=2).tolist()
    scale = 60 / (74 * 74 * np.sqrt(geometry.channels) * geometry.kernel)
    requantization = Requantization.from_scales(bias, 1.0, scale, 1.0, zeros[0])
    return ConvLayer(geometry, weights, requantization, zeros[1] if zero_point is None else zero_point)


def make_pixels(layer: ConvLayer, rng, images: int = 1) -> np.ndarray:
    return rng.integers(-128, 128, size=(images, *layer.input_shape)).astype(np.int8)


def assert_exact(layer: ConvLayer, matrices: Winograd, pixels: np.ndarray) -> None:
    stages = GoldenModel(matrices, Exact()).stages(layer, pixels)
    assert stages.accumulators.dtype == np.int32
    assert stages.pixels.dtype == np.int8
    np.testing.assert_array_equal(stages.accumulators, layer.accumulators(pixels), err_msg=f"{matrices} {layer}")
    np.testing.assert_array_equal(stages.pixels, layer.reference(pixels), err_msg=f"{matrices} {layer}")


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5, 7])
def test_exact_profile_equals_direct_convolution(kernel, stride):
    rng = np.random.default_rng(kernel * stride)
    effective = -(-kernel // stride)
    for tile_size in range(1, 10 - effective):
        for padding in ("same", "valid", tuple(rng.integers(0, 4, size=4).tolist())):
            least = 1 if padding == "same" else kernel
            height, width = rng.integers(least, least + 12, size=2).tolist()
            channels, filters = rng.integers(1, 6, size=2).tolist()
            layer = make_layer(ConvGeometry(height, width, channels, filters, kernel, stride, padding), rng)
            assert_exact(layer, winograd(tile_size, effective), make_pixels(layer, rng, images=2))


@pytest.mark.parametrize("tile_size", [1, 2, 3, 4, 6])
def test_exact_profile_at_the_extremes(tile_size):
    """Largest sums: whole images and kernels of -128, signs that follow the transforms, single pixels."""
    rng = np.random.default_rng(tile_size)
    matrices = winograd(tile_size, 3)
    geometry = ConvGeometry(matrices.n, matrices.n, 8, 2, 3)
    rows = [np.sign(row) for row in matrices.bt]
    for pattern in [np.ones(matrices.n), *rows]:
        for sign in (1, -1):
            signs = sign * np.outer(pattern, pattern)
            image = np.repeat(np.where(signs > 0, 127, -128)[None, :, :, None], 8, axis=3).astype(np.int8)
            for weight in (-128, 127, 0, 1, -1):
                weights = np.full((2, 3, 3, 8), weight, np.int8)
                layer = replace(make_layer(geometry, rng, zero_point=-128), weights=weights)
                assert_exact(layer, matrices, image)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 1), (7, 3)])
def test_images_smaller_than_a_tile(size):
    rng = np.random.default_rng(1)
    for tile_size in (1, 2, 4, 6):
        layer = make_layer(ConvGeometry(*size, 1, 1, 3), rng)
        assert_exact(layer, winograd(tile_size, 3), make_pixels(layer, rng))


def test_points_of_the_users_choice():
    rng = np.random.default_rng(2)
    layer = make_layer(ConvGeometry(9, 8, 3, 2, 3), rng)
    for points in ([0, 1, -1, "1/2", None], [0, 1, -1, 3, "-1/3", None]):
        assert_exact(layer, winograd(len(points) - 2, 3, points), make_pixels(layer, rng))


def test_direct_convolution_may_step_over_the_image_as_it_is():
    rng = np.random.default_rng(3)
    for kernel in (2, 3, 5):
        layer = make_layer(ConvGeometry(11, 8, 3, 2, kernel, 2), rng)
        pixels = make_pixels(layer, rng)
        assert_exact(layer, winograd(1, kernel), pixels)
        stages = GoldenModel(winograd(1, kernel), Exact()).stages(layer, pixels)
        assert stages.patches.shape == (1, 6, 4, 3, kernel, kernel)


def test_exact_profile_equals_litert_reference_kernels():
    rng = np.random.default_rng(4)
    for number in range(30):
        kernel, stride, tile_size = (int(rng.integers(1, high)) for high in (6, 3, 5))
        height, width, channels, filters = (int(rng.integers(1, high)) for high in (14, 14, 9, 9))
        weights = rng.integers(-127, 128, size=(filters, kernel, kernel, channels)).astype(np.int8)
        bias = rng.integers(-9000, 9000, size=filters)
        scales = np.float32(2.0 ** rng.uniform(-9, -7, size=filters))
        zeros = rng.integers(-128, 128, size=2).tolist()
        activation = list(Activation)[number % 3]
        oracle = LiteRtConvolution(weights, bias, 0.05, zeros[0], scales, 0.07, zeros[1], activation, stride)
        requantization = Requantization.from_scales(bias, 0.05, scales, 0.07, zeros[1], activation)
        layer = ConvLayer(
            ConvGeometry(height, width, channels, filters, kernel, stride), weights, requantization, zeros[0]
        )
        pixels = make_pixels(layer, rng)
        matrices = winograd(tile_size, layer.geometry.effective_kernel)
        np.testing.assert_array_equal(GoldenModel(matrices, Exact()).run(layer, pixels), oracle.run(pixels))


def square(matrix, x):
    """matrix · x · matrixᵀ in Python integers."""
    matrix = matrix.astype(object)
    return matrix @ np.asarray(x).astype(object) @ matrix.T


def narrow(step: Narrowing, x, n: int):
    """Narrowing by its definition, in Python integers."""
    limit = 1 << (step.bits - 1)
    half = [(1 << s >> 1) if step.rounding is Rounding.HALF_UP else 0 for s in step.table(n).ravel().tolist()]
    shifted = [(v + h) >> s for v, h, s in zip(x.ravel(), half, step.table(n).ravel().tolist(), strict=True)]
    kept = [min(max(v, -limit), limit - 1) if step.saturate else (v + limit) % (2 * limit) - limit for v in shifted]
    return np.array(kept, dtype=object).reshape(n, n)


PROFILES = {
    "exact": Exact(),
    "narrow exact": Exact(result_bits=21),
    "8 bits, saturating": Quantized.uniform(8, 2, 3, 4),
    "floor, wrapping": Quantized(*(Narrowing(9, s, Rounding.FLOOR, saturate=False) for s in (1, 2, 3))),
    "per tap": None,
}


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize(("tile_size", "kernel", "stride"), [(1, 3, 1), (2, 3, 1), (4, 3, 1), (3, 3, 2), (4, 5, 2)])
def test_every_stage_equals_its_definition(name, tile_size, kernel, stride):
    rng = np.random.default_rng(5)
    layer = make_layer(ConvGeometry(7, 6, 3, 2, kernel, stride), rng)
    geometry, pixels = layer.geometry, make_pixels(layer, rng)
    matrices = winograd(tile_size, geometry.effective_kernel)
    n, m, r = matrices.n, tile_size, geometry.effective_kernel
    profile = PROFILES[name]
    if profile is None:
        sv, su = rng.integers(0, 4, size=(2, n, n))
        profile = Quantized(Narrowing(8, sv), Narrowing(8, su), Narrowing(8, 8 - sv - su))
    model = GoldenModel(matrices, profile)
    stages = model.stages(layer, pixels)
    quantized = isinstance(profile, Quantized)

    def modular(x):
        bits = 1 << (model.division.acc_bits - 1)
        return (x + bits) % (2 * bits) - bits

    def pixel(row, column, channel):
        row, column = row - geometry.pads.top, column - geometry.pads.left
        inside = 0 <= row < geometry.height and 0 <= column < geometry.width
        return int(pixels[0, row, column, channel]) if inside else layer.input_zero_point

    phases = geometry.phases if stride > 1 else [(0, 0)]
    sources = [(a, b, c) for a, b in phases for c in range(geometry.channels)]
    u = {}
    for k in range(geometry.filters):
        for source, (a, b, c) in enumerate(sources):
            taps = np.zeros((r, r), dtype=object)
            for i, j in np.ndindex(r, r):
                if stride * i + a < kernel and stride * j + b < kernel:
                    taps[i, j] = int(layer.weights[k, stride * i + a, stride * j + b, c])
            u[k, source] = square(matrices.g, taps)
            if quantized:
                u[k, source] = narrow(profile.weight, u[k, source], n)
            np.testing.assert_array_equal(stages.weight_transform[k, source], u[k, source])
    for row, column in np.ndindex(stages.patches.shape[1:3]):
        v = []
        for source, (a, b, c) in enumerate(sources):
            patch = [
                [pixel(stride * (row * m + i) + a, stride * (column * m + j) + b, c) for j in range(n)]
                for i in range(n)
            ]
            np.testing.assert_array_equal(stages.patches[0, row, column, source], patch)
            v.append(square(matrices.bt, patch))
            if quantized:
                v[-1] = narrow(profile.input, v[-1], n)
            np.testing.assert_array_equal(stages.input_transform[0, row, column, source], v[-1])
        for k in range(geometry.filters):
            product = sum(v[source] * u[k, source] for source in range(len(sources)))
            product = narrow(profile.product, product, n) if quantized else modular(product)
            np.testing.assert_array_equal(stages.product[0, row, column, k], product)
            y = square(matrices.at, product)
            y = y if quantized else modular(y)
            np.testing.assert_array_equal(stages.output_transform[0, row, column, k], y)
            seen = stages.accumulators[0, row * m : (row + 1) * m, column * m : (column + 1) * m, k]
            if quantized:
                np.testing.assert_array_equal(seen, y[: seen.shape[0], : seen.shape[1]])
    if not quantized:
        np.testing.assert_array_equal(stages.accumulators, layer.accumulators(pixels))
    expected = layer.requantization_for(matrices, profile).apply(stages.accumulators)
    np.testing.assert_array_equal(stages.pixels, expected)


def test_quantized_profile_that_narrows_nothing_is_exact_but_for_the_divisor():
    rng = np.random.default_rng(6)
    layer = make_layer(ConvGeometry(9, 9, 4, 3, 3), rng)
    pixels = make_pixels(layer, rng)
    stages = GoldenModel(winograd(2, 3), Quantized.uniform(25)).stages(layer, pixels)
    np.testing.assert_array_equal(stages.accumulators, 4 * layer.accumulators(pixels))


def test_result_width_changes_the_sums_but_not_the_result():
    matrices = winograd(4, 3)
    layer = make_layer(ConvGeometry(6, 6, 6, 2, 3, padding="valid"), np.random.default_rng(7))
    layer = replace(
        layer,
        weights=np.outer([1, -1, 1], [1, -1, 1]).astype(np.int8)[:, :, None] * np.full(6, 100, np.int8)
        + np.zeros((2, 1, 1, 1), np.int8),
    )
    signs = np.outer(*[np.sign(matrices.bt[2])] * 2)
    pixels = np.where(signs > 0, 127, -128).astype(np.int8)[None, :, :, None] + np.zeros(6, np.int8)
    low, high = layer.accumulator_range()
    bits = max(high, ~low).bit_length() + 1
    wide, tight = (GoldenModel(matrices, Exact(width)).stages(layer, pixels) for width in (32, bits))
    assert GoldenModel(matrices, Exact(bits)).division.acc_bits == bits + 6
    assert (wide.product != tight.product).any()
    np.testing.assert_array_equal(wide.accumulators, layer.accumulators(pixels))
    np.testing.assert_array_equal(tight.accumulators, layer.accumulators(pixels))
    with pytest.raises(ValueError, match=f"do not fit the {bits - 1} bits of the exact profile"):
        GoldenModel(matrices, Exact(bits - 1)).run(layer, pixels)


def test_weights_transformed_beforehand():
    rng = np.random.default_rng(8)
    layer = make_layer(ConvGeometry(6, 6, 3, 2, 3), rng)
    pixels = make_pixels(layer, rng)
    model = GoldenModel(winograd(2, 3), Quantized.uniform(8, 1, 2, 6))
    chip = model.stages(layer, pixels)
    again = model.stages(layer, pixels, transformed_weights=chip.weight_transform)
    assert again.first_difference(chip) is None
    other = model.stages(layer, pixels, transformed_weights=np.zeros_like(chip.weight_transform))
    assert not other.accumulators.any()
    for weights, error, message in (
        (chip.weight_transform[:1], ValueError, r"the shape \(2, 3, 4, 4\), not \(1, 3, 4, 4\)"),
        (chip.weight_transform / 2, TypeError, "must be integers, not float64"),
        (chip.weight_transform + 200, ValueError, "must fit 8 bits, but lie between"),
    ):
        with pytest.raises(error, match=message):
            model.run(layer, pixels, weights)


def test_large_numbers_take_the_integer_path():
    """Products beyond the 53 bits of a double: sums must still be right modulo 2**64."""
    rng = np.random.default_rng(9)
    v = rng.integers(-(2**40), 2**40, size=(2, 3, 2, 2))
    u = rng.integers(-(2**40), 2**40, size=(2, 3, 2, 2))
    exact = np.einsum("tcij,kcij->tkij", v.astype(object), u.astype(object))
    assert max(abs(int(x)) for x in exact.ravel()) > 2**63
    wrapped = (exact + 2**63) % 2**64 - 2**63
    np.testing.assert_array_equal(multiply_taps(v, u), wrapped.astype(np.int64))
    x = rng.integers(-(2**55), 2**55, size=(3, 2, 2))
    matrix = np.array([[1, 3], [-5, 2]])
    expected = [(square(matrix, one) + 2**63) % 2**64 - 2**63 for one in x]
    np.testing.assert_array_equal(transform(matrix, x), np.array(expected).astype(np.int64))


def test_first_difference_names_stage_and_place():
    rng = np.random.default_rng(10)
    layer = make_layer(ConvGeometry(9, 9, 3, 2, 3), rng)
    pixels = make_pixels(layer, rng)
    stages = GoldenModel(winograd(4, 3), Exact()).stages(layer, pixels)
    assert stages.first_difference(stages) is None
    assert stages.first_difference({}) is None
    product, pixels_out = stages.product.copy(), stages.pixels.copy()
    product[0, 1, 2, 1, 3, 4] += 5
    product[0, 2, 0, 0, 0, 0] += 5
    pixels_out += 1
    difference = stages.first_difference({"pixels": pixels_out, "product": product})
    value = int(stages.product[0, 1, 2, 1, 3, 4])
    assert str(difference) == (
        "product differs first at image 0, tile row 1, tile column 2, filter 1, tap row 3, tap column 4: "
        f"expected {value}, observed {value + 5} (2 of {product.size} values differ)"
    )
    assert stages.first_difference({"pixels": pixels_out}).stage == "pixels"
    with pytest.raises(ValueError, match="There is no stage 'sums'; the stages are patches, input_transform"):
        stages.first_difference({"sums": product})
    with pytest.raises(ValueError, match="observed was"):
        stages.first_difference({"product": product[:, :1]})


def test_patches_hold_the_image_wherever_they_reach_it():
    """A strided `valid` layer leaves pixels over; a partial tile's patch that reaches them holds them."""
    layer = make_layer(ConvGeometry(5, 5, 1, 1, 2, 2, "valid"), np.random.default_rng(11), zero_point=99)
    pixels = np.arange(25, dtype=np.int8).reshape(1, 5, 5, 1)
    patches = input_patches(winograd(4, 1), layer, pixels)
    assert patches.shape == (1, 1, 1, 4, 4, 4)
    assert patches[0, 0, 0, 0].tolist() == [[0, 2, 4, 99], [10, 12, 14, 99], [20, 22, 24, 99], [99] * 4]
    assert patches[0, 0, 0, 3].tolist() == [[6, 8, 99, 99], [16, 18, 99, 99], [99] * 4, [99] * 4]


@pytest.mark.parametrize("profile", [Exact(), Quantized.uniform(8, 6, 4, 5)])
def test_a_whole_layer_in_seconds(profile):
    rng = np.random.default_rng(12)
    layer = make_layer(ConvGeometry(56, 56, 64, 64, 3), rng)
    pixels = make_pixels(layer, rng)
    start = time.process_time()
    stages = GoldenModel(winograd(4, 3), profile).stages(layer, pixels)
    assert time.process_time() - start < 5
    if isinstance(profile, Exact):
        np.testing.assert_array_equal(stages.pixels, layer.reference(pixels))


def inexact() -> Winograd:
    exact = winograd(2, 3)
    return Winograd.from_matrices(exact.bt, exact.g, exact.at + 1)


def test_inexact_matrices_run_in_the_quantized_profile():
    rng = np.random.default_rng(13)
    layer = make_layer(ConvGeometry(5, 5, 2, 2, 3), rng)
    assert GoldenModel(inexact(), Quantized.uniform(8, 2, 2, 6)).run(layer, make_pixels(layer, rng)).shape == (
        1,
        5,
        5,
        2,
    )


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: GoldenModel(inexact(), Exact()), ValueError, "exact profile needs exact matrices"),
        (lambda: GoldenModel(winograd(2, 3), 8), TypeError, "profile must be Exact or Quantized, not 8"),
        (
            lambda: GoldenModel(winograd(2, 3), Quantized.uniform(8, [[0, 0], [0, 0]])),
            ValueError,
            "The shift table is for 2×2 taps, not 4×4",
        ),
        (
            lambda: GoldenModel(winograd(6, 3), Quantized.uniform(20)),
            ValueError,
            r"Products of 20 bits, which the output transform of F\(6×6, 3×3\) multiplies by up to 38416, do not fit",
        ),
        (lambda: GoldenModel(winograd(2, 3), Quantized.uniform(8)).division, ValueError, "Only the exact profile"),
    ],
)
def test_errors_at_construction(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_errors_of_a_run():
    rng = np.random.default_rng(14)
    layer = make_layer(ConvGeometry(8, 8, 2, 2, 3, 2), rng)
    pixels = make_pixels(layer, rng)
    with pytest.raises(ValueError, match=r"A 3×3 layer of stride 2 needs matrices for kernels of 2, not F\(2×2, 3×3\)"):
        GoldenModel(winograd(2, 3), Exact()).run(layer, pixels)
    with pytest.raises(ValueError, match=r"\[N, 8, 8, 2\]"):
        GoldenModel(winograd(2, 2), Exact()).run(layer, pixels[:, 1:])
    model = GoldenModel(winograd(1, 2), Quantized.uniform(8, [[0, 1], [0, 0]]))
    with pytest.raises(ValueError, match="must have the same sum for every tap"):
        model.run(layer, pixels)
