# amaranth: UnusedElaboratable=no
"""The example in docs/own-board.md, as it stands there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from winohw.synth.bitstream import prepare
from winohw.synth.board import find_board

DOCUMENT = Path(__file__).parents[2] / "docs" / "own-board.md"


@pytest.fixture
def file(tmp_path):
    found = re.search(r"<!-- file: (\S+) -->\n```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    path = tmp_path / found[1]
    path.write_text(found[2], encoding="utf-8")
    return path


def test_board(file):
    board = find_board(str(file))
    assert (board.name, board.part.name, board.part.package) == ("my-board", "LFE5U-25F", "CABGA256")
    text, constraints = prepare(board)
    assert "\\EHXPLLL " in text
    assert 'LOCATE COMP "uart_0__rx__io" SITE "A9";' in constraints
    assert 'FREQUENCY PORT "clk25_0__io" 25000000.0 HZ;' in constraints


@pytest.mark.slow
def test_bitstream(file):
    """A small engine on an ECP5, whole: synthesis, placement, routing, timing, bitstream."""
    command = [sys.executable, "-m", "winohw.cli", "build", "--board", f"./{file.name}"]
    result = subprocess.run(command, cwd=file.parent, stdout=subprocess.PIPE, text=True)
    print(result.stdout)
    assert result.returncode == 0
    assert re.search(r"my-board: [\d.]+ MHz with seed 1 meets the board's 50 MHz", result.stdout)
    assert (file.parent / "build" / "my-board" / "my-board.bit").stat().st_size > 100_000
