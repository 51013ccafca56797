"""ResNet-20 in fake-quantized form, calibration from the unquantized network, and export to whole numbers."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from winohw.train.convolution import QuantizedConv2d
from winohw.train.data import PIXEL_SCALE
from winohw.train.fake_quantization import narrow, on_grid
from winohw.train.integer import IntegerConv, IntegerResNet, Join
from winohw.train.resnet import RESNET20, ConvShape, ResNet20

__all__ = ["QuantizedConvFactory", "QuantizedResNet20"]

#: Makes the convolution for a shape; ``rectified`` says whether ReLU follows at once.
QuantizedConvFactory: TypeAlias = Callable[[ConvShape, bool], QuantizedConv2d]
_MAX_EXPONENT = 12


class QuantizedResNet20(nn.Module):
    """ResNet-20 whose convolutions, additions and classifier compute with int8 numbers on power-of-two grids.

    Parameters
    ----------
    conv
        Makes each convolution.
    shapes
        The convolutions, as of :class:`~winohw.train.resnet.ResNet20`.
    """

    def __init__(self, conv: QuantizedConvFactory, shapes: tuple[ConvShape, ...] = RESNET20) -> None:
        super().__init__()
        self.shapes = shapes
        # ReLU follows the stem and every first convolution of a block; the second is added to the shortcut before.
        self.convs = nn.ModuleDict(
            {shape.name: conv(shape, not number or number % 2 == 1) for number, shape in enumerate(shapes)}
        )
        self.classifier = nn.Linear(shapes[-1].filters, 10)
        self.register_buffer("join_exponents", torch.full((len(shapes) // 2,), 4))

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[N, 10]`` of images ``[N, 3, 32, 32]`` as :func:`~winohw.train.loop.to_tensor` makes them."""
        stem, *rest = self.shapes
        x = self.convs[stem.name](x)
        for number, (first, second) in enumerate(zip(rest[::2], rest[1::2], strict=True)):
            y = self.convs[second.name](self.convs[first.name](x))
            x = on_grid(y + _shortcut(x, first), int(self.join_exponents[number]), 0, 127)
        weights, _ = self._classifier_weights()
        return functional.linear(x.mean(dim=(2, 3)), weights, self.classifier.bias)

    def _classifier_weights(self) -> tuple[Tensor, Tensor]:
        """Weights on the grid of int8 with one scale for all, and the scale."""
        scale = self.classifier.weight.detach().abs().max() / 127
        return narrow(self.classifier.weight / scale, -127, 127) * scale, scale

    @torch.no_grad()
    def load_float(self, network: ResNet20) -> None:
        """Take over an unquantized network, its normalization folded into weights and biases."""
        for name, conv in self.convs.items():
            conv.load_conv(*network.convs[name].folded())
        self.classifier.load_state_dict(network.classifier.state_dict())

    @torch.no_grad()
    def load_quantized(self, network: "QuantizedResNet20") -> None:
        """Take over weights, biases and scales of pixels of a network that may compute its convolutions otherwise."""
        for name, conv in self.convs.items():
            other = network.convs[name]
            conv.load_conv(other.weight, other.bias)
            conv.input_exponent.copy_(other.input_exponent)
            conv.output_exponent.copy_(other.output_exponent)
        self.classifier.load_state_dict(network.classifier.state_dict())
        self.join_exponents.copy_(network.join_exponents)

    @torch.no_grad()
    def calibrate(self, x: Tensor, pixel_scales: bool = True) -> None:
        """Choose every scale from sample images, layer by layer, each seeing what those before it make of them.

        Parameters
        ----------
        x
            Images ``[N, 3, 32, 32]``.
        pixel_scales
            Whether to choose the scales of pixels, too, or only what the convolutions' arithmetic needs.
        """
        self.eval()

        def run(shape: ConvShape, x: Tensor, exponent_in: int) -> Tensor:
            conv = self.convs[shape.name]
            if pixel_scales:
                conv.input_exponent.fill_(exponent_in)
                y = functional.conv2d(x, conv.weight, conv.bias, conv.stride, conv.padding)
                conv.output_exponent.fill_(_best_exponent(y, *conv.limits))
            conv.calibrate(x)
            return conv(x)

        stem, *rest = self.shapes
        x = run(stem, x, -int(np.log2(PIXEL_SCALE)))
        exponent = int(self.convs[stem.name].output_exponent)
        for number, (first, second) in enumerate(zip(rest[::2], rest[1::2], strict=True)):
            y = run(first, x, exponent)
            y = run(second, y, int(self.convs[first.name].output_exponent))
            total = y + _shortcut(x, first)
            if pixel_scales:
                self.join_exponents[number] = _best_exponent(total, 0, 127)
            exponent = int(self.join_exponents[number])
            x = on_grid(total, exponent, 0, 127)

    def export(self) -> IntegerResNet:
        """The network in whole numbers: its scores order the classes as this one's do in evaluation mode."""
        convs = []
        for shape in self.shapes:
            layer, matrices, profile = self.convs[shape.name].to_layer(shape.size, shape.size)
            convs.append(IntegerConv(shape.name, layer, matrices, profile))
        exponents = [int(self.convs[name].output_exponent) for name in (shape.name for shape in self.shapes)]
        outputs = self.join_exponents.tolist()
        joins = [
            Join(branch, shortcut, output)
            for branch, shortcut, output in zip(exponents[2::2], [exponents[0], *outputs[:-1]], outputs, strict=True)
        ]
        with torch.no_grad():
            weights, scale = self._classifier_weights()
            size = self.shapes[-1].size // self.shapes[-1].stride
            unit = scale.double() * 2.0 ** -outputs[-1]
            bias = torch.floor(self.classifier.bias.double() * size**2 / unit + 0.5)
            integers = torch.floor(weights / scale + 0.5)
        return IntegerResNet(
            tuple(convs), tuple(joins), integers.numpy().astype(np.int8), bias.numpy().astype(np.int32)
        )


def _shortcut(x: Tensor, shape: ConvShape) -> Tensor:
    """As :func:`winohw.train.resnet.shortcut`, for images with the batch innermost in memory, which they stay."""
    if shape.stride > 1:
        x = x[:, :, :: shape.stride, :: shape.stride]
    extra = shape.filters - x.shape[1]
    if not extra:
        return x
    padded = functional.pad(x.permute(1, 2, 3, 0), (0, 0, 0, 0, 0, 0, extra // 2, extra - extra // 2))
    return padded.permute(3, 0, 1, 2)


def _best_exponent(x: Tensor, low: int, high: int) -> int:
    """Exponent of the power-of-two grid of ``low`` … ``high`` steps with the least squared error."""
    x = x.clamp_min(0) if low == 0 else x
    errors = []
    for exponent in range(_MAX_EXPONENT + 1):
        step = 2.0**-exponent
        on_grid = torch.floor(x / step + 0.5).clamp_(low, high).mul_(step)
        errors.append(float((on_grid - x).square().mean()))
    return int(np.argmin(errors))
