import numpy as np
import pytest

torch = pytest.importorskip("torch")

from winohw.algorithm.toomcook import winograd  # noqa: E402
from winohw.numerics.calibrate import calibrate  # noqa: E402
from winohw.numerics.golden import GoldenModel  # noqa: E402
from winohw.samples import cifar10_images, trained_resnet20  # noqa: E402
from winohw.train.convolution import DirectConv2d, WinogradConv2d  # noqa: E402
from winohw.train.data import to_pixels  # noqa: E402
from winohw.train.integer import IntegerResNet  # noqa: E402
from winohw.train.matrices import balanced  # noqa: E402
from winohw.train.shifts import Granularity  # noqa: E402

torch.set_num_threads(1)

LAYERS = {
    "F2": {"tile_size": 2},
    "F3": {"tile_size": 3},
    "F4": {"tile_size": 4},
    "F6": {"tile_size": 6},
    "5x5": {"tile_size": 2, "kernel_size": 5, "padding": 2},
    "5x5 F4": {"tile_size": 4, "kernel_size": 5, "padding": 2},
    "stride 2": {"tile_size": 4, "stride": 2},
    "5x5 stride 2": {"tile_size": 2, "kernel_size": 5, "stride": 2, "padding": 2},
    "no padding": {"tile_size": 4, "padding": 0},
    "flex": {"tile_size": 4, "transforms": "flex"},
    "stage": {"tile_size": 4, "granularity": Granularity.STAGE},
    "row-column": {"tile_size": 4, "granularity": Granularity.ROW_COLUMN},
    "wide": {"tile_size": 4, "bits": (10, 9, 16)},
    "learned": {"tile_size": 4, "learned_scales": True},
    "balanced": {"tile_size": 4, "balanced": True},
    "balanced stride 2": {"tile_size": 4, "stride": 2, "balanced": True, "granularity": Granularity.STAGE},
    "balanced flex": {"tile_size": 4, "balanced": True, "transforms": "flex", "fraction_bits": 0},
    "rectified": {"tile_size": 4, "rectified": True},
}


def pixels_of(x, exponent):
    return (x * 2.0**exponent).permute(0, 2, 3, 1).numpy().astype(np.int8)


def make(options, size=(13, 11), seed=0):
    torch.manual_seed(seed)
    conv = WinogradConv2d(5, 7, **options)
    torch.nn.init.normal_(conv.bias)
    x = torch.randn(2, 5, *size) * 2
    x[0, :, :3, :3], x[0, :, 3:6, :3] = 100, -100  # saturated pixels
    x[1, :, 8:] = 0
    conv.output_exponent.fill_(3)
    conv.calibrate((x * 16 + 0.5).floor().clamp(-128, 127) / 16)
    return conv, x


@pytest.mark.parametrize("name", LAYERS)
def test_the_layer_is_the_exported_integer_layer(name):
    conv, x = make(LAYERS[name])
    if name in ("flex", "learned", "balanced flex"):  # as they are after a while of training
        with torch.no_grad():
            for parameter in (*conv.transforms.parameters(), *conv.input_shift.parameters()):
                parameter += 0.02 * torch.randn(parameter.shape)
    layer, matrices, profile = conv.to_layer(*x.shape[2:])
    on_grid = pixels_of((x * 16 + 0.5).floor().clamp(-128, 127) / 16, 4)
    wanted = GoldenModel(matrices, profile).run(layer, on_grid)
    np.testing.assert_array_equal(pixels_of(conv.eval()(x), 3), wanted)
    assert wanted.min() < wanted.max()
    # In training, single precision and one rounding in place of two may move a pixel by one, but not many.
    trained = (conv.train()(x).detach() * 8).permute(0, 2, 3, 1).numpy() - wanted
    assert np.abs(trained).max() <= 1
    assert (trained != 0).mean() < 0.01


@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"kernel_size": 5, "padding": 2}, {"rectified": True}])
def test_direct_convolution_is_the_reference_layer(options):
    torch.manual_seed(1)
    conv = DirectConv2d(5, 7, **options)
    x = torch.randn(2, 5, 9, 10) * 3
    layer, matrices, profile = conv.to_layer(9, 10)
    on_grid = pixels_of((x * 16 + 0.5).floor().clamp(-128, 127) / 16, 4)
    wanted = layer.reference(on_grid)
    np.testing.assert_array_equal(pixels_of(conv.eval()(x), 4), wanted)
    np.testing.assert_array_equal(GoldenModel(matrices, profile).run(layer, on_grid), wanted)


@pytest.mark.parametrize(
    "options", [{}, {"stride": 2}, {"tile_size": 2}, {"tile_size": 2, "kernel_size": 5, "padding": 2}]
)
def test_gradients_are_those_of_the_unquantized_layer(options):
    """With many bits everywhere, the straight-through gradients are the true ones but for rounding."""
    torch.manual_seed(3)
    conv = WinogradConv2d(4, 6, bits=(16, 16, 20), **options).double()
    conv.output_exponent.fill_(2)
    x = torch.randint(-100, 100, (2, 4, 8, 12)).double() / 16
    conv.calibrate(x)
    x.requires_grad_()
    gradient = torch.randn_like(conv(x).detach())
    got = torch.autograd.grad(conv(x), (x, conv.weight, conv.bias), gradient)
    weight, bias = conv.weight.detach().requires_grad_(), conv.bias.detach().requires_grad_()
    scale = conv.weight_scales()[:, None, None, None]
    on_grid = (weight / scale + 0.5).floor() * scale
    on_grid = on_grid.detach() + weight - weight.detach()
    plain = torch.nn.functional.conv2d(x, on_grid, bias, conv.stride, conv.padding)
    inside = (plain * 4 + 0.5).floor().clamp(-128, 127) == (plain * 4 + 0.5).floor()
    wanted = torch.autograd.grad(plain, (x, weight, bias), gradient * inside)
    for a, b in zip(got, wanted, strict=True):
        assert (a - b).norm() < 2e-3 * b.norm()


def test_balanced_matrices_are_exact_and_lose_less():
    matrices = balanced(4, 3)
    assert matrices.is_exact()
    with np.load(cifar10_images()) as file:
        pixels = to_pixels(file["images"][:2])
    steps = IntegerResNet.load(trained_resnet20()).convolutions(pixels)
    step = next(step for step in steps if step.conv.name == "s2b1c2")
    errors = {}
    for name, chosen in (("balanced", matrices), ("usual", winograd(4, 3))):
        for per_tap in (False, True):
            profile = calibrate(chosen, step.conv.layer, step.pixels_in, 8, per_tap=per_tap)
            pixels = GoldenModel(chosen, profile).run(step.conv.layer, step.pixels_in)
            errors[name, per_tap] = np.square(pixels.astype(int) - step.pixels_out).mean()
    assert errors["balanced", True] < 0.15 * errors["usual", True]
    assert errors["balanced", False] < 0.05 * errors["usual", False]
    assert errors["balanced", False] < 0.15 * errors["usual", True]  # one scale a stage, and better than one a tap


def test_flex_and_learned_scales_have_gradients():
    conv, x = make(
        {"tile_size": 4, "transforms": "flex", "learned_scales": True, "granularity": Granularity.ROW_COLUMN}
    )
    conv.train()(x).square().sum().backward()
    tables = (conv.input_shift, conv.weight_shift, conv.total_shift)
    for parameter in (*conv.transforms.parameters(), *(table.values for table in tables)):
        assert torch.isfinite(parameter.grad).all()
        assert parameter.grad.abs().max() > 0


def test_training_flex_lowers_the_error():
    conv, x = make({"tile_size": 4, "transforms": "flex", "granularity": Granularity.STAGE})
    x = (x * 16 + 0.5).floor().clamp(-128, 127) / 16
    with torch.no_grad():
        weights, scales = conv.integer_weights()
        wanted = torch.nn.functional.conv2d(x, weights * scales[:, None, None, None], conv.bias, padding=1)
        wanted = wanted.clamp(-16, 15.875)
    optimizer = torch.optim.Adam(conv.transforms.parameters(), 2e-3)
    losses = []
    for _ in range(20):
        loss = (conv(x) - wanted).square().mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert min(losses[10:]) < 0.9 * losses[0]


def test_a_scale_per_tap_is_better_than_one_a_stage():
    errors = {}
    for granularity in Granularity:
        conv, x = make({"tile_size": 4, "granularity": granularity})
        layer, matrices, profile = conv.to_layer(*x.shape[2:])
        pixels = pixels_of((x * 16 + 0.5).floor().clamp(-128, 127) / 16, 4)
        difference = GoldenModel(matrices, profile).run(layer, pixels).astype(int) - layer.reference(pixels)
        errors[granularity] = np.square(difference).mean()
    assert errors[Granularity.TAP] <= errors[Granularity.ROW_COLUMN] < errors[Granularity.STAGE]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"transforms": "learned"}, "Transforms must be 'static' or 'flex', not 'learned'"),
        ({"transforms": "flex", "fraction_bits": 9}, "Fraction bits of learned matrices must be 0 to 8, not 9"),
        ({"tile_size": 2, "balanced": True}, r"known for F\(4×4, 3×3\), not for F\(2×2, 3×3\)"),
        ({"tile_size": 7}, "Input tile must be at most 8, not 9"),
        ({"padding": -1}, "padding of a convolution must be at least 0, not -1"),
    ],
)
def test_bad_parameters_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        WinogradConv2d(3, 4, **options)
