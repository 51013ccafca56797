"""The bitstream of a board, as a user builds it; for a small ECP5, see `test_own_board.py`."""

import json
import re
import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("board", ["icebreaker", "icebreaker-int8"])
def test_icebreaker(board, tmp_path):
    command = [sys.executable, "-m", "winohw.cli", "build", "--board", board, "--work", "work"]
    result = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    print(result.stdout)
    assert result.returncode == 0
    assert re.search(rf"{board}: [\d.]+ MHz with seed \d+ meets the board's \d+ MHz", result.stdout)
    folder = tmp_path / "build" / board
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["board"], manifest["part"], manifest["package"]) == (board, "iCE40UP5K", "sg48")
    assert (folder / f"{board}.bin").stat().st_size == manifest["bytes"] == 104_090
