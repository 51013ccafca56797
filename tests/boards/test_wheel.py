"""What a user of the installed package has: the boards are in it."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from winohw.synth.board import board_names

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_boards_of_the_wheel(tmp_path):
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True)
    (wheel,) = tmp_path.glob("winohw-*.whl")
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    script = (
        "import winohw, json\nfrom winohw.synth.board import boards_folder, board_names, find_board\n"
        "from winohw.samples import photograph\n"
        "print(json.dumps([winohw.__file__, str(boards_folder()), [find_board(n).title for n in board_names()]]))\n"
        "assert photograph().is_file()\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        stdout=subprocess.PIPE,
        text=True,
    )
    package, folder, titles = json.loads(result.stdout)
    assert package == str(installed / "winohw" / "__init__.py")
    assert folder == str(installed / "winohw" / "boards")
    assert len(titles) == len(board_names())
