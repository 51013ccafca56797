import numpy as np
import pytest

torch = pytest.importorskip("torch")

from winohw.train.data import to_pixels  # noqa: E402
from winohw.train.experiments import Arithmetic, quantize  # noqa: E402
from winohw.train.loop import to_tensor  # noqa: E402
from winohw.train.quantized_resnet import QuantizedResNet20  # noqa: E402
from winohw.train.resnet import RESNET20, FloatConv, ResNet20, resnet20_shapes  # noqa: E402
from winohw.train.shifts import Granularity  # noqa: E402

torch.set_num_threads(1)
SMALL = resnet20_shapes(blocks=1, width=4)


def make_float(seed=1) -> ResNet20:
    torch.manual_seed(seed)
    network = ResNet20(shapes=SMALL)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.3, 0.3)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.3, 0.3)
    return network.eval()


def make_images(count=6):
    return np.random.default_rng(1).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def make_quantized(arithmetic: Arithmetic) -> QuantizedResNet20:
    network = QuantizedResNet20(arithmetic.conv, SMALL)
    network.load_float(make_float())
    network.calibrate(to_tensor(make_images()))
    return network.eval()


def test_shapes_are_those_of_the_paper():
    assert len(RESNET20) == 19
    assert [s.size for s in RESNET20] == [32] * 7 + [32] + [16] * 5 + [16] + [8] * 5
    assert [s.stride for s in RESNET20] == [1] * 7 + [2] + [1] * 5 + [2] + [1] * 5
    assert (
        sum(s.channels * s.filters * 9 for s in RESNET20) + 64 * 10 + 10 + 2 * sum(s.filters for s in RESNET20)
        == 269722
    )


def test_folding_keeps_the_function():
    torch.manual_seed(2)
    conv = make_float().convs["s2b1c1"]
    assert isinstance(conv, FloatConv)
    x = torch.randn(2, 4, 8, 8)
    weight, bias = conv.folded()
    torch.testing.assert_close(torch.nn.functional.conv2d(x, weight, bias, 2, 1), conv(x))


@pytest.mark.parametrize(
    "arithmetic",
    [
        Arithmetic(),
        Arithmetic(2),
        Arithmetic(4, granularity=Granularity.STAGE),
        Arithmetic(4, transforms="flex", granularity=Granularity.ROW_COLUMN),
        Arithmetic(6, bits=(10, 10, 12)),
    ],
)
def test_the_exported_network_is_the_torch_network(arithmetic):
    network, images = make_quantized(arithmetic), make_images()
    exported = network.export()
    steps = list(exported.convolutions(to_pixels(images)))
    seen = {}
    for name, conv in network.convs.items():
        conv.register_forward_hook(
            lambda module, inputs, output, name=name: seen.__setitem__(name, (inputs[0], output))
        )
    with torch.no_grad():
        logits = network(to_tensor(images)).double().numpy()
    for step, shape in zip(steps, SMALL, strict=True):
        conv = network.convs[shape.name]
        for tensor, pixels, exponent in (
            (seen[shape.name][0], step.pixels_in, conv.input_exponent),
            (seen[shape.name][1], step.pixels_out, conv.output_exponent),
        ):
            on_grid = (tensor * 2.0 ** int(exponent)).permute(0, 2, 3, 1).numpy()
            np.testing.assert_array_equal(on_grid, pixels)
        np.testing.assert_array_equal(step.pixels_out, step.conv.golden(step.pixels_in))
    integers = exported.logits(to_pixels(images))
    assert np.corrcoef(integers.ravel(), logits.ravel())[0, 1] > 0.999999


def test_int8_direct_is_near_the_unquantized_network():
    images = make_images()
    with torch.no_grad():
        wanted = make_float()(to_tensor(images))
        got = make_quantized(Arithmetic())(to_tensor(images))
    assert (got - wanted).norm() < 0.1 * wanted.norm()


def test_quantizing_starts_from_one_int8_network():
    torch.manual_seed(1)
    data = type("Data", (), {"train_images": make_images()})
    network = ResNet20().eval()
    direct = quantize(network, data, Arithmetic().conv, images=2).export()
    tiled = quantize(network, data, Arithmetic(4).conv, images=2).export()
    for a, b in zip(direct.convs, tiled.convs, strict=True):
        np.testing.assert_array_equal(a.layer.weights, b.layer.weights)
        np.testing.assert_array_equal(a.layer.requantization.multiplier, b.layer.requantization.multiplier)
        assert str(b.winograd) == ("F(4×4, 3×3)" if b.layer.geometry.stride == 1 else "F(5×5, 2×2)")
    assert direct.joins == tiled.joins
