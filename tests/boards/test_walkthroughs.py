"""The commands in the walkthroughs: each is one that winohw has, with options and boards that it knows."""

import re
import shlex
from pathlib import Path

import click
import pytest

from winohw.cli import main
from winohw.synth.board import board_names

DOCUMENTS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", ["walkthrough-ulx3s", "walkthrough-icebreaker", "own-board", "boards"])
def test_commands_exist(name):
    text = (DOCUMENTS / f"{name}.md").read_text(encoding="utf-8")
    lines = [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    commands = [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("winohw ")]
    assert len(commands) > 2
    for arguments in commands:
        command = main.get_command(click.Context(main), arguments[0])
        assert command is not None, arguments
        context = command.make_context(arguments[0], list(arguments[1:]))
        board = context.params.get("board_name") or context.params.get("name")
        assert board in (None, "./my_board.py", *board_names())
        if name.startswith("walkthrough"):
            assert "not yet tried on physical hardware" in text.lower()
