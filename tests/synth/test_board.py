import re

import pytest
from amaranth_boards.icebreaker import ICEBreakerPlatform
from amaranth_boards.tang_nano_9k import TangNano9kPlatform
from amaranth_boards.ulx3s import ULX3S_85F_Platform

from winohw.gateware.config import EngineConfig
from winohw.synth import board as module
from winohw.synth.board import Board, BoardError, board_names, find_board, load_board, part_of

FILE = """
from amaranth_boards.icebreaker import ICEBreakerPlatform
from winohw.gateware.config import EngineConfig
from winohw.synth.board import Board
board = Board(title="Mine", platform=ICEBreakerPlatform, config=EngineConfig(tile_size=2, fold=4), frequency=12)
"""


def test_a_board_of_ones_own(tmp_path):
    path = tmp_path / "my_board.py"
    path.write_text(FILE)
    board = find_board(str(path))
    assert (board.name, board.title, board.part.name) == ("my-board", "Mine", "iCE40UP5K")
    assert (board.clock, board.divisor) == (12_000_000, 12)
    assert board.capabilities.board == "my-board"
    assert board.effective_gops == pytest.approx(2 * 9 * 0.012)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("board = 5\n", "makes no Board by the name of board"),
        ("raise ValueError('no such thing')\n", "no such thing"),
        (FILE.replace("frequency=12", "frequency=0"), "frequency must be more than 0 MHz, not 0"),
        (FILE.replace("frequency=12", "frequency=12, baud=7_000_000"), "12 MHz cannot be divided into 7000000 bits"),
        (FILE.replace("fold=4", "fold=5"), "fold must divide the input tile 4, not 5"),
    ],
)
def test_files_that_make_no_board(tmp_path, text, message):
    path = tmp_path / "my_board.py"
    path.write_text(text)
    with pytest.raises(BoardError, match=re.escape(message)):
        load_board(path)


def test_unknown_boards(tmp_path):
    with pytest.raises(
        BoardError, match=r"^there is no board 'ulx4s'; there are colorlight-5a75b, .*, versa-ecp5, and"
    ):
        find_board("ulx4s")
    with pytest.raises(BoardError, match=r"^there is no file .*absent\.py$"):
        find_board(str(tmp_path / "absent.py"))


def test_parts_of_platforms():
    part = part_of(ULX3S_85F_Platform())
    assert (part.name, part.package, part.speed) == ("LFE5U-85F", "CABGA381", "6")
    assert part_of(TangNano9kPlatform()).name == "GW1NR-9"

    class Other(ICEBreakerPlatform):
        device = "iCE40HX8K"

    with pytest.raises(BoardError, match=r"^The part 'iCE40HX8K' of Other is unknown; known are LFE5U-85F, "):
        part_of(Other())

    class Gowin(TangNano9kPlatform):
        part = "GW1N-LV1QN48C6/I5"
        family = "GW1N-1"

    with pytest.raises(BoardError, match=r"^The part 'GW1N-LV1QN48C6/I5' of Gowin is unknown"):
        part_of(Gowin())


def test_boards_of_an_installed_package(tmp_path, monkeypatch):
    """There they are inside the package."""
    inside = tmp_path / "winohw" / "boards"
    inside.mkdir(parents=True)
    (inside / "only_one.py").write_text(FILE)
    monkeypatch.setattr(module.winohw, "__file__", str(tmp_path / "winohw" / "__init__.py"))
    board_names.cache_clear()
    try:
        assert board_names() == ("only-one",)
        assert find_board("only-one").title == "Mine"
    finally:
        board_names.cache_clear()


def test_clock_and_baud_of_a_board():
    board = Board("B", ICEBreakerPlatform, EngineConfig(tile_size=2), 24.5, baud=115_200)
    assert (board.clock, board.divisor) == (24_500_000, 213)
