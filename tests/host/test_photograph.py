"""The main job on simulated boards, through a pseudo-terminal; what runs is `docs/board_photograph.py`."""

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from winohw.cli import main
from winohw.samples import photograph

EXAMPLE = Path(__file__).parents[2] / "docs" / "board_photograph.py"
BOARDS = ("ulx3s-25f", "icebreaker")


def run_example(*arguments):
    spec = importlib.util.spec_from_file_location("board_photograph", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main(*arguments)


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    with Image.open(photograph()) as image:
        image.crop((120, 60, 147, 72)).save(path)
    return path


@pytest.mark.parametrize("board", BOARDS)
def test_small_picture(board, picture, capfd):
    run_example(board, str(picture))
    output = capfd.readouterr().out
    assert "7 pictures, 7 of them equal to those of plain winohw run, byte for byte" in output
    assert "bit-exact with direct convolution: True" in output


@pytest.mark.slow
@pytest.mark.parametrize("board", BOARDS)
def test_photograph(board, capfd):
    """All of it."""
    run_example(board)
    output = capfd.readouterr().out
    print(output)
    assert "7 pictures, 7 of them equal to those of plain winohw run, byte for byte" in output
    assert "bit-exact with direct convolution: True" in output


def in_8_bits(folder, *image):
    command = ["run", *image, "--board", "icebreaker-int8", "--simulate", "--output", str(folder)]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    output = " ".join(result.output.split())
    assert re.search(r"pixels differ from direct convolution; all equal the golden model\.", output)
    print(output)


def test_small_picture_in_8_bits(picture, tmp_path):
    """Shifts are calibrated on the picture; what the board gives is the golden model's."""
    in_8_bits(tmp_path, str(picture))


@pytest.mark.slow
def test_photograph_in_8_bits(tmp_path):
    """All of it, cut in rows and columns."""
    in_8_bits(tmp_path)


def test_simulated_board_in_one_command(picture, tmp_path):
    result = CliRunner().invoke(
        main,
        ["run", str(picture), "--board", "ulx3s-25f", "--simulate", "--filters", "edges", "--output", str(tmp_path)],
    )
    assert result.exit_code == 0, result.output
    assert "Bit-exact: every pixel equals direct convolution." in result.output
    assert re.search(r"Through the serial port of ulx3s-25f at \d+ MHz: [\d,]+ bytes in", result.output)
    # The board's cycles are those of its serial line; only those at work can be compared.
    ratio = re.search(r"at work, direct convolution takes ([\d.]+) times the cycles", " ".join(result.output.split()))
    assert float(ratio[1]) > 3


def test_wide_picture_on_a_small_board(tmp_path):
    """Wider than its engine counts, so that the host cuts it; without statistics there is nothing to compare."""
    wide = tmp_path / "wide.png"
    with Image.open(photograph()) as image:
        image.crop((0, 60, 256, 64)).resize((264, 4)).save(wide)
    options = ["--board", "icebreaker", "--simulate", "--filters", "edges", "--output", str(tmp_path / "out")]
    result = CliRunner().invoke(main, ["run", str(wide), *options])
    assert result.exit_code == 0, result.output
    assert "Bit-exact: every pixel equals direct convolution." in result.output
    assert "times the cycles" not in " ".join(result.output.split())


def test_figures_of_a_board(picture, tmp_path):
    options = ["--board", "ulx3s-25f", "--simulate", "--filters", "edges", "--no-direct", "--json"]
    result = CliRunner().invoke(main, ["run", str(picture), *options, "--output", str(tmp_path)])
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    board = figures["board"]
    assert (board["name"], board["link"]["restarts"]) == ("ulx3s-25f", 0)
    assert board["seconds_of_engine"] == figures["winograd"]["cycles"] / board["clock"]
    # Pixels of three channels in, as many out; kernels on top.
    pixels = 12 * 27 * 3
    assert board["link"]["payload"] > 2 * pixels
    output = np.asarray(Image.open(tmp_path / "edges.png"))
    assert output.shape == (12, 27, 3)
