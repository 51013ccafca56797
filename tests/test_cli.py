"""The command line: what it prints, what it writes, and errors without tracebacks."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from winohw.cli import main


def invoke(*arguments: str):
    return CliRunner().invoke(main, list(arguments))


def test_matrices_as_json() -> None:
    result = invoke("matrices", "--tile", "4", "--kernel", "3", "--json")
    assert result.exit_code == 0
    figures = json.loads(result.stdout)
    assert (figures["gain"], figures["widths"]["v"], figures["widths"]["u"]) == (4.0, 15, 14)
    bt, g, at = (np.array(figures[name]) for name in ("bt", "g", "at"))
    d, kernel = np.arange(6), np.array([1, -2, 3])
    convolution = np.correlate(d, kernel, "valid") * figures["divisor"]
    np.testing.assert_array_equal(at @ ((g @ kernel) * (bt @ d)), convolution)


def test_matrices_for_people() -> None:
    result = invoke("matrices", "--tile", "2")
    assert result.exit_code == 0
    assert "F(2x2, 3x3)" in result.stdout
    assert "2.25 times fewer" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["matrices", "--tile", "9"], "Input tile must be at most 8, not 11"),
        (["matrices", "--points", "0,1,1,inf", "--tile", "2"], "Points must differ"),
        (["run", "absent.png"], "there is no image absent.png"),
        (["run", "--filters", "sepia"], "there is no filter 'sepia'"),
        (["run", "--fold", "4"], "fold must divide the input tile 6, not 4"),
        (["run", "--waveform", "a.vcd", "--window", "9"], "--window must be first:last"),
        (["bench", "alexnet"], "network must be one of resnet-18"),
        (["bench", "resnet-18", "--kernels", "3,x"], "--kernels must be numbers"),
    ],
)
def test_errors_are_one_line(tmp_path, monkeypatch, arguments: list[str], message: str) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke(*arguments)
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output
    assert not list(tmp_path.iterdir())


def test_run_writes_pictures_and_figures(tmp_path) -> None:
    source, output, waveform = tmp_path / "picture.png", tmp_path / "output", tmp_path / "wave.vcd"
    levels = np.random.default_rng(1).integers(0, 256, (10, 13, 3), np.uint8)
    Image.fromarray(levels).save(source)
    result = invoke(
        *("run", str(source), "--filters", "sharpen", "--tile", "2", "--no-direct", "--json"),
        *("--output", str(output), "--waveform", str(waveform), "--window", "100:200"),
    )
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert figures["bit_exact_with_direct_convolution"] is True
    assert figures["winograd"]["multipliers"] == 16
    assert sorted(path.name for path in output.iterdir()) == ["sharpen.png", "sheet.png"]
    padded = np.pad(levels.astype(int), ((1, 1), (1, 1), (0, 0)))
    ring = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    sharpened = np.clip(5 * padded[1:-1, 1:-1] - ring, 0, 255)
    np.testing.assert_array_equal(np.asarray(Image.open(output / "sharpen.png")), sharpened)
    assert waveform.read_text().startswith("$timescale")


def test_run_of_a_strided_layer_beside_direct_convolution(tmp_path) -> None:
    source, weights = tmp_path / "picture.png", tmp_path / "layer.npz"
    rng = np.random.default_rng(2)
    Image.fromarray(rng.integers(0, 256, (12, 11), np.uint8)).save(source)
    np.savez(weights, weights=rng.integers(-20, 20, (2, 5, 5, 1)).astype(np.int8), scale=0.01, stride=2)
    result = invoke(
        *("run", str(source), "--weights", str(weights), "--tile", "2", "--json", "--output", str(tmp_path / "output"))
    )
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert figures["bit_exact_with_direct_convolution"] is True
    assert figures["direct"]["multipliers"] == 25
    assert figures["direct"]["effective_macs"] == figures["winograd"]["effective_macs"]
