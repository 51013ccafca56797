import numpy as np
import pytest
from train_networks import make_network

from winohw.algorithm.toomcook import winograd
from winohw.numerics.formats import Exact
from winohw.train.evaluation import evaluate, exactly
from winohw.train.integer import IntegerConv, IntegerResNet, Join

SIZE = 8


def make_pixels(images=4):
    return np.random.default_rng(2).integers(-128, 128, (images, SIZE, SIZE, 3), dtype=np.int8)


def test_a_join_is_the_rounded_sum():
    branch, shortcut = (x.astype(np.int8) for x in np.meshgrid(np.arange(-128, 128), np.arange(-128, 128)))
    for exponents in ((4, 4, 4), (3, 5, 4), (5, 3, 2), (2, 2, 6)):
        total = branch / 2.0 ** exponents[0] + shortcut / 2.0 ** exponents[1]
        wanted = np.clip(np.floor(total * 2.0 ** exponents[2] + 0.5), 0, 127)
        np.testing.assert_array_equal(Join(*exponents).run(branch, shortcut), wanted)


def test_every_convolution_is_that_of_the_golden_model():
    network, pixels = make_network(), make_pixels()
    steps = list(network.convolutions(pixels))
    assert [step.conv.name for step in steps] == ["stem", "s1b1c1", "s1b1c2", "s2b1c1", "s2b1c2"]
    np.testing.assert_array_equal(steps[0].pixels_in, pixels)
    for step in steps:
        np.testing.assert_array_equal(step.pixels_out, step.conv.golden(step.pixels_in))
        assert step.pixels_out.min() < step.pixels_out.max()


def test_the_logits_follow_from_the_last_convolution():
    network, pixels = make_network(), make_pixels()
    steps = list(network.convolutions(pixels))
    first = network.joins[0].run(steps[2].pixels_out, steps[0].pixels_out)
    np.testing.assert_array_equal(steps[3].pixels_in, first)
    shortcut = np.zeros((4, SIZE // 2, SIZE // 2, 8), np.int8)
    shortcut[..., 2:6] = first[:, ::2, ::2]
    last = network.joins[1].run(steps[4].pixels_out, shortcut).astype(np.int64)
    wanted = np.einsum("nhwc,kc->nk", last, network.classifier_weights.astype(np.int64)) + network.classifier_bias
    np.testing.assert_array_equal(network.logits(pixels), wanted)
    np.testing.assert_array_equal(network.predictions(pixels, batch=3), wanted.argmax(axis=1))


@pytest.mark.parametrize("tile_size", [1, 2, 4])
def test_exactly_is_direct_convolution(tile_size):
    network, pixels = exactly(make_network(), tile_size), make_pixels()
    for step in network.convolutions(pixels):
        np.testing.assert_array_equal(step.pixels_out, step.conv.layer.reference(step.pixels_in))


def test_a_saved_network_is_the_same(tmp_path):
    network, pixels = make_network(), make_pixels()
    for each in (network, exactly(network, 4)):
        each.save(tmp_path / "network.npz")
        loaded = IntegerResNet.load(tmp_path / "network.npz")
        np.testing.assert_array_equal(loaded.logits(pixels), each.logits(pixels))
        for conv, wanted in zip(loaded.convs, each.convs, strict=True):
            assert (conv.name, conv.winograd, conv.profile) == (wanted.name, wanted.winograd, wanted.profile)


def test_bad_files_are_refused(tmp_path):
    path = tmp_path / "network.npz"
    with pytest.raises(FileNotFoundError):
        IntegerResNet.load(path)
    path.write_bytes(b"anything")
    with pytest.raises(ValueError, match=r"network\.npz is no network of winohw"):
        IntegerResNet.load(path)
    np.savez(path, weights=np.zeros(3))
    with pytest.raises(ValueError, match="it has no description"):
        IntegerResNet.load(path)
    make_network().save(path)
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **{name: value for name, value in arrays.items() if name != "weights2"})
    with pytest.raises(ValueError, match="damaged network of winohw: 'weights2"):
        IntegerResNet.load(path)
    np.savez(path, **(arrays | {"weights2": arrays["weights2"][:, :2]}))
    with pytest.raises(ValueError, match=r"damaged network of winohw: .*shape \(4, 3, 3, 4\)"):
        IntegerResNet.load(path)
    np.savez(path, **(arrays | {"network": np.array(str(arrays["network"]).replace('"format": 1', '"format": 9'))}))
    with pytest.raises(ValueError, match="its format is 9, and only 1 is known"):
        IntegerResNet.load(path)


def test_parts_that_do_not_fit_are_refused():
    network = make_network()
    with pytest.raises(ValueError, match="1 blocks need a stem and two convolutions each, not 5"):
        IntegerResNet(network.convs, network.joins[:1], network.classifier_weights, network.classifier_bias)
    swapped = (*network.convs[:3], network.convs[4], network.convs[3])
    with pytest.raises(ValueError, match="The output of s1b1c2 does not fit the input of s2b1c2"):
        IntegerResNet(swapped, network.joins, network.classifier_weights, network.classifier_bias)
    with pytest.raises(ValueError, match="The classifier's weights have the shape"):
        IntegerResNet(network.convs, network.joins, network.classifier_weights[:, :4], network.classifier_bias)


def test_an_evaluation_goes_on_where_it_stopped(tmp_path, monkeypatch):
    network = make_network()
    images = np.random.default_rng(3).integers(0, 256, (10, SIZE, SIZE, 3), dtype=np.uint8)
    labels = network.predictions((images ^ 128).view(np.int8))
    labels[[1, 4, 9]] += 1
    log = tmp_path / "log.csv"
    whole = evaluate(network, images, labels, log, chunk=4)
    assert (whole.hits, whole.images, whole.accuracy) == (7, 10, 70)
    lines = log.read_text().splitlines()
    assert len(lines) == 3
    log.write_text("\n".join(lines[:2]) + "\n")
    computed = []
    predictions = IntegerResNet.predictions
    monkeypatch.setattr(IntegerResNet, "predictions", lambda s, x: computed.append(len(x)) or predictions(s, x))
    assert evaluate(network, images, labels, log, chunk=4) == whole
    assert computed == [2]
    # Another network does not take over anything.
    evaluate(exactly(network, 2), images, labels, log, chunk=4)
    assert computed == [2, 4, 4, 2]


def test_an_evaluation_checks_against_the_golden_model(monkeypatch):
    network = make_network()
    images = np.zeros((2, SIZE, SIZE, 3), np.uint8)
    monkeypatch.setattr(IntegerConv, "golden", lambda conv, pixels: conv.run(pixels) ^ 1)
    with pytest.raises(AssertionError, match="stem"):
        evaluate(network, images, np.zeros(2, np.int64))


def test_profiles_may_be_exact_or_quantized():
    network = make_network()
    mixed = network.computed_by(
        lambda conv: (winograd(1, 3), Exact()) if conv.name == "stem" else (conv.winograd, conv.profile)
    )
    steps = list(mixed.convolutions(make_pixels()))
    np.testing.assert_array_equal(steps[0].pixels_out, steps[0].conv.layer.reference(steps[0].pixels_in))
    np.testing.assert_array_equal(steps[1].pixels_out, network.convs[1].run(steps[1].pixels_in))
