import itertools

import pytest

from winohw.network.networks import NETWORKS, network


@pytest.mark.parametrize(
    ("name", "layers", "macs"),
    [
        ("resnet-18", 20, 1_813_561_344),
        ("resnet-20", 19, 40_550_400),
        ("vgg-16", 13, 15_346_630_656),
        ("mobilenet-v1", 13, 539_492_352),
    ],
)
def test_size(name, layers, macs):
    assert len(network(name)) == layers
    assert sum(layer.geometry.macs for layer in network(name)) == macs


@pytest.mark.parametrize("name", NETWORKS)
def test_shapes_follow_from_each_other(name):
    layers = network(name)
    assert len({layer.name for layer in layers}) == len(layers)
    main = [layer.geometry for layer in layers if "downsample" not in layer.name]
    for before, after in itertools.pairwise(main):
        assert after.channels == before.filters
        # In between lie at most a pooling of 2 or a depthwise layer of stride 2.
        assert after.height in (before.out_height, before.out_height // 2)
        assert after.width == after.height


def test_shortcuts_of_resnet18():
    shapes = {layer.name: layer.geometry for layer in network("resnet-18")}
    for stage in (2, 3, 4):
        first, shortcut = shapes[f"layer{stage}.0.conv1"], shapes[f"layer{stage}.0.downsample"]
        assert (shortcut.out_height, shortcut.filters) == (first.out_height, first.filters)
        assert (shortcut.height, shortcut.channels) == (first.height, first.channels)


def test_unknown():
    with pytest.raises(ValueError, match=r"^network must be one of resnet-18, .*, not 'lenet'$"):
        network("lenet")
