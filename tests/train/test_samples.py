import numpy as np
import pytest

from winohw.samples import cifar10_images, trained_resnet20
from winohw.train.data import to_pixels
from winohw.train.evaluation import exactly
from winohw.train.integer import IntegerResNet


@pytest.fixture(scope="module")
def images():
    with np.load(cifar10_images()) as file:
        return to_pixels(file["images"]), file["labels"]


@pytest.mark.parametrize("quantized", [False, True])
def test_the_packaged_network_is_small_and_right_mostly(images, quantized):
    path = trained_resnet20(quantized)
    assert path.stat().st_size < 1 << 20
    pixels, labels = images
    predictions = IntegerResNet.load(path).predictions(pixels)
    assert (predictions == labels).mean() > 0.8


@pytest.mark.parametrize("quantized", [False, True])
def test_every_convolution_is_that_of_the_golden_model(images, quantized):
    for step in IntegerResNet.load(trained_resnet20(quantized)).convolutions(images[0][:1]):
        np.testing.assert_array_equal(step.pixels_out, step.conv.golden(step.pixels_in), err_msg=step.conv.name)


@pytest.mark.parametrize("tile_size", [2, 4])
def test_exact_winograd_gives_the_same_scores(images, tile_size):
    network = IntegerResNet.load(trained_resnet20())
    wanted = network.logits(images[0][:8])
    np.testing.assert_array_equal(exactly(network, tile_size).logits(images[0][:8]), wanted)
