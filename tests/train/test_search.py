import csv

import numpy as np
import pytest
from train_networks import Multiplications

torch = pytest.importorskip("torch")

from winohw.algorithm.geometry import ConvGeometry  # noqa: E402
from winohw.train.data import Cifar10  # noqa: E402
from winohw.train.latency import Candidate  # noqa: E402
from winohw.train.loop import to_tensor  # noqa: E402
from winohw.train.quantized_resnet import QuantizedResNet20  # noqa: E402
from winohw.train.resnet import ConvShape, resnet20_shapes  # noqa: E402
from winohw.train.search import CANDIDATES, SearchedConv, SearchRecipe, chosen, search  # noqa: E402

torch.set_num_threads(1)
SMALL = resnet20_shapes(blocks=1, width=4)
FEW = (Candidate(None), Candidate(2, 8, "stage"), Candidate(4, 10, "tap"))


def make_data() -> Cifar10:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 44)
    images = (rng.integers(0, 60, (44, 32, 32, 3)) + 150 * labels[:, None, None, None]).astype(np.uint8)
    return Cifar10(images[:40], labels[:40], images[40:], labels[40:])


def make_network(data) -> QuantizedResNet20:
    torch.manual_seed(1)
    network = QuantizedResNet20(lambda shape, rectified: SearchedConv(shape, rectified, FEW, Multiplications()), SMALL)
    network.calibrate(to_tensor(data.train_images[:4]))
    return network


def test_candidates_are_those_that_were_asked_for():
    assert [str(c) for c in CANDIDATES[:4]] == ["direct", "F2-8bit-stage", "F2-8bit-tap", "F2-10bit-stage"]
    assert {c.tile_size for c in CANDIDATES} == {None, 2, 4, 6}


def test_candidates_share_weights_and_scales():
    layer = SearchedConv(ConvShape("x", 8, 3, 4, 1), True, FEW, Multiplications())
    for way in layer.ways:
        assert way.weight is layer.weight
        assert way.output_exponent is layer.output_exponent
    assert len(list(layer.parameters())) == 3  # weights, biases, preferences


def test_samples_follow_the_probabilities():
    layer = SearchedConv(ConvShape("x", 8, 3, 4, 1), True, FEW, Multiplications())
    with torch.no_grad():
        layer.preference.copy_(torch.tensor([0.0, 3.0, 0.0]))
    generator = np.random.default_rng(1)
    counts = np.zeros(3)
    for _ in range(200):
        layer.sample(generator, 1)
        counts[layer.active[0]] += 1
        layer.sample(generator, 2)
        assert len(set(layer.active)) == 2
    assert counts[1] > 150
    assert layer.best() == 1


def test_two_active_candidates_are_weighed_and_teach_the_preferences():
    torch.manual_seed(1)
    layer = SearchedConv(ConvShape("x", 8, 3, 4, 1), False, FEW, Multiplications())
    x = torch.randint(-100, 100, (2, 3, 8, 8)) / 16
    layer.calibrate(x)
    layer.train()
    layer.active = (0, 2)
    with torch.no_grad():
        layer.preference.copy_(torch.tensor([1.0, 5.0, 0.0]))
    first, second = layer.ways[0](x), layer.ways[2](x)
    share = np.exp(1) / (np.exp(1) + 1)
    torch.testing.assert_close(layer(x), share * first + (1 - share) * second)
    layer(x).square().sum().backward()
    assert layer.preference.grad[1] == 0
    assert layer.preference.grad[0] != 0


def test_the_search_goes_on_where_it_stopped_and_prefers_the_fast(tmp_path):
    data = make_data()
    recipe = SearchRecipe(steps=12, latency_weight=1e4, batch=8, preference_rate=0.3)
    whole = make_network(data)
    choices, _ = search(whole, data, recipe, tmp_path / "whole.csv", lambda line: None)
    assert [choice.layer for choice in choices] == [shape.name for shape in SMALL]
    # With such a weight, latency alone counts; the last stage is so small that partial tiles cost more than they save.
    for choice, shape in zip(choices, SMALL, strict=True):
        geometry = ConvGeometry(shape.size, shape.size, shape.channels, shape.filters, 3, shape.stride, (1,) * 4)
        costs = [Multiplications().cycles(geometry, candidate) for candidate in FEW]
        assert choice.cycles == pytest.approx(min(costs))
        assert choice.direct_cycles == pytest.approx(costs[0])

    class Interrupted(Exception):
        pass

    def interrupt(line):
        if line.startswith("step 12/"):
            raise Interrupted

    with pytest.raises(Interrupted):  # after step 12, before it was saved
        search(make_network(data), data, recipe, tmp_path / "parts.csv", interrupt)
    parts = make_network(data)
    search(parts, data, recipe, tmp_path / "parts.csv", lambda line: None)
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        assert torch.equal(a, b)
    network = make_network(data)
    again, _ = search(network, data, recipe, tmp_path / "parts.csv", lambda line: None)  # finished: only read
    assert again == choices
    with (tmp_path / "whole.csv").open() as file:
        assert float(list(csv.DictReader(file))[-1]["expected_latency"]) < 0.7
    with pytest.raises(ValueError, match="remove it to start anew"):
        search(network, data, SearchRecipe(steps=3), tmp_path / "parts.csv")

    found = QuantizedResNet20(chosen(choices), SMALL)
    found.load_quantized(network)
    found.calibrate(to_tensor(data.train_images[:4]), pixel_scales=False)
    assert found.export().logits(np.zeros((1, 32, 32, 3), np.int8)).shape == (1, 10)
