"""The convolution layers of well-known networks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from winohw.algorithm.geometry import ConvGeometry

__all__ = ["NETWORKS", "NamedLayer", "mobilenet_v1", "network", "resnet18", "resnet20", "vgg16"]


@dataclass(frozen=True)
class NamedLayer:
    """A convolution layer of a network.

    Parameters
    ----------
    name : as the network's authors, or torchvision, call it.
    geometry : its shape.
    """

    name: str
    geometry: ConvGeometry


def resnet18() -> tuple[NamedLayer, ...]:
    """ResNet-18 on 224×224 pixels: 20 convolutions, 1.81 GMAC. He et al., CVPR 2016, table 1; names of torchvision."""
    layers = [NamedLayer("conv1", ConvGeometry(224, 224, 3, 64, 7, 2, (3, 3, 3, 3)))]
    for stage, (size, filters) in enumerate(((56, 64), (28, 128), (14, 256), (7, 512)), start=1):
        for block in range(2):
            first = block == 0 and stage > 1
            before, stride = (filters // 2, 2) if first else (filters, 1)
            name, edge = f"layer{stage}.{block}", size * stride
            layers += [
                NamedLayer(f"{name}.conv1", ConvGeometry(edge, edge, before, filters, 3, stride, (1, 1, 1, 1))),
                NamedLayer(f"{name}.conv2", ConvGeometry(size, size, filters, filters, 3, 1, (1, 1, 1, 1))),
            ]
            if first:
                layers.append(
                    NamedLayer(f"{name}.downsample", ConvGeometry(edge, edge, before, filters, 1, 2, "valid"))
                )
    return tuple(layers)


def resnet20() -> tuple[NamedLayer, ...]:
    """ResNet-20 on the 32×32 pixels of CIFAR: 19 convolutions, shortcuts without weights. He et al., section 4.2."""
    layers = [NamedLayer("conv1", ConvGeometry(32, 32, 3, 16, 3, 1, (1, 1, 1, 1)))]
    for stage, (size, filters) in enumerate(((32, 16), (16, 32), (8, 64)), start=1):
        for block in range(3):
            first = block == 0 and stage > 1
            before, stride = (filters // 2, 2) if first else (filters, 1)
            name, edge = f"layer{stage}.{block}", size * stride
            layers += [
                NamedLayer(f"{name}.conv1", ConvGeometry(edge, edge, before, filters, 3, stride, (1, 1, 1, 1))),
                NamedLayer(f"{name}.conv2", ConvGeometry(size, size, filters, filters, 3, 1, (1, 1, 1, 1))),
            ]
    return tuple(layers)


def vgg16() -> tuple[NamedLayer, ...]:
    """VGG-16 on 224×224 pixels: 13 convolutions, 15.3 GMAC. Simonyan and Zisserman, ICLR 2015, configuration D."""
    layers, channels, size = [], 3, 224
    for stage, (filters, count) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)), start=1):
        for index in range(1, count + 1):
            geometry = ConvGeometry(size, size, channels, filters, 3, 1, (1, 1, 1, 1))
            layers.append(NamedLayer(f"conv{stage}_{index}", geometry))
            channels = filters
        size //= 2
    return tuple(layers)


def mobilenet_v1() -> tuple[NamedLayer, ...]:
    """MobileNet v1 on 224×224 pixels, width 1: its 13 pointwise layers, 0.53 of 0.57 GMAC. Howard et al., table 1.

    The depthwise layers between them are no work for an engine that sums over channels.
    """
    sizes = (112, 56, 56, 28, 28, 14, 14, 14, 14, 14, 14, 7, 7)
    filters = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
    return tuple(
        NamedLayer(f"pointwise{number}", ConvGeometry(size, size, before, after, 1))
        for number, (size, before, after) in enumerate(zip(sizes, (32, *filters), filters, strict=False), start=1)
    )


#: Networks by the name that `winohw bench` takes.
NETWORKS = {"resnet-18": resnet18, "resnet-20": resnet20, "vgg-16": vgg16, "mobilenet-v1": mobilenet_v1}


def network(name: str) -> tuple[NamedLayer, ...]:
    """The convolution layers of a network, in order.

    Raises
    ------
    ValueError
        There is no network of that name.
    """
    if name not in NETWORKS:
        raise ValueError(f"network must be one of {', '.join(NETWORKS)}, not {name!r}")
    return NETWORKS[name]()


def distinct(layers: tuple[NamedLayer, ...]) -> Iterator[tuple[str, int, ConvGeometry]]:
    """The different shapes of a network in order: name of the first layer that has it, how many have, the shape."""
    counts: dict[ConvGeometry, list[str]] = {}
    for layer in layers:
        counts.setdefault(layer.geometry, []).append(layer.name)
    for geometry, names in counts.items():
        yield names[0], len(names), geometry
