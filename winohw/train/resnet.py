"""ResNet-20 for CIFAR-10, made of whatever convolution it is given."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from winohw.algorithm.geometry import ConvGeometry

__all__ = ["RESNET20", "ConvShape", "FloatConv", "ResNet20", "resnet20_shapes", "shortcut"]


@dataclass(frozen=True)
class ConvShape:
    """One 3×3 convolution of the network.

    Parameters
    ----------
    name
        ``stem``, or ``s1b2c1``: stage, block and convolution, counted from 1.
    size
        Rows and columns of its input.
    channels, filters, stride
        Its input channels, output channels and stride; the padding is 1 on all sides.
    """

    name: str
    size: int
    channels: int
    filters: int
    stride: int

    @property
    def geometry(self) -> ConvGeometry:
        """The same as a layer of the engine."""
        return ConvGeometry(self.size, self.size, self.channels, self.filters, 3, self.stride, (1, 1, 1, 1))


def resnet20_shapes(blocks: int = 3, width: int = 16) -> tuple[ConvShape, ...]:
    """The convolutions of a ResNet with ``blocks`` blocks in each of three stages, in the order of computation."""
    shapes = [ConvShape("stem", 32, 3, width, 1)]
    channels, size = width, 32
    for stage in range(3):
        filters = width << stage
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            name = f"s{stage + 1}b{block + 1}"
            shapes.append(ConvShape(f"{name}c1", size, channels, filters, stride))
            size //= stride
            shapes.append(ConvShape(f"{name}c2", size, filters, filters, 1))
            channels = filters
    return tuple(shapes)


#: The nineteen convolutions of ResNet-20.
RESNET20 = resnet20_shapes()
ConvFactory: TypeAlias = Callable[[ConvShape], nn.Module]


class FloatConv(nn.Module):
    """Convolution without bias, and batch normalization."""

    def __init__(self, shape: ConvShape) -> None:
        super().__init__()
        self.conv = nn.Conv2d(shape.channels, shape.filters, 3, shape.stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(shape.filters)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weights ``[K, C, 3, 3]`` and bias ``[K]`` of the same function with running statistics."""
        norm = self.norm
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        return (self.conv.weight * scale[:, None, None, None]).detach(), (
            norm.bias - norm.running_mean * scale
        ).detach()


def shortcut(x: Tensor, filters: int, stride: int) -> Tensor:
    """The identity of a block: every ``stride``-th pixel, and zeros for half of the new channels on either side."""
    if stride > 1:
        x = x[:, :, ::stride, ::stride]
    extra = filters - x.shape[1]
    return functional.pad(x, (0, 0, 0, 0, extra // 2, extra - extra // 2)) if extra else x


class ResNet20(nn.Module):
    """A stem, three stages of basic blocks with shortcuts that have no parameters, the mean, and a linear classifier.

    Parameters
    ----------
    conv
        Makes each convolution (with what normalizes it or narrows it); no activation function.
    shapes
        The convolutions: the stem, then two for each block.

    Source: K. He et al., *Deep Residual Learning for Image Recognition*, CVPR 2016, section 4.2, shortcuts A.
    """

    def __init__(self, conv: ConvFactory = FloatConv, shapes: tuple[ConvShape, ...] = RESNET20) -> None:
        super().__init__()
        self.shapes = shapes
        self.convs = nn.ModuleDict({shape.name: conv(shape) for shape in shapes})
        self.classifier = nn.Linear(shapes[-1].filters, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[N, 10]`` of images ``[N, 3, 32, 32]``."""
        stem, *rest = self.shapes
        x = torch.relu(self.convs[stem.name](x))
        for first, second in zip(rest[::2], rest[1::2], strict=True):
            y = self.convs[second.name](torch.relu(self.convs[first.name](x)))
            x = torch.relu(y + shortcut(x, first.filters, first.stride))
        return self.classifier(x.mean(dim=(2, 3)))
