import json
import re

from click.testing import CliRunner
from tiny_board import new_board

from winohw.host.board_sim import PseudoTerminal
from winohw.host.commands import board_info, board_sim


def test_board_info():
    with PseudoTerminal(new_board()) as terminal:
        shown = CliRunner().invoke(board_info, ["--port", terminal.device, "--json"])
        table = CliRunner().invoke(board_info, ["--port", terminal.device])
    assert shown.exit_code == table.exit_code == 0
    record = json.loads(shown.output)
    assert (record["board"], record["multipliers"], record["effective_macs_per_cycle"]) == ("tiny", 16, 36)
    assert "F(2x2, 3x3)" in table.output


def test_board_info_without_a_board():
    result = CliRunner().invoke(board_info, ["--port", "/dev/no-such-port"])
    assert result.exit_code == 1
    assert result.output.startswith("Error: The serial port /dev/no-such-port cannot be opened: ")


def test_board_sim(monkeypatch):
    monkeypatch.setattr("winohw.host.commands.SimulatedBoard", lambda capabilities: new_board())
    result = CliRunner().invoke(board_sim, ["--tile", "2", "--seconds", "0.2"])
    assert result.exit_code == 0
    assert re.fullmatch(r"F\(2x2, 3x3\), 16 multipliers .*, at /dev/\S+\n", result.output)


def test_board_sim_refuses_bad_engines():
    result = CliRunner().invoke(board_sim, ["--fold", "4"])
    assert result.exit_code == 1
    assert result.output == "Error: fold must divide the input tile 6, not 4\n"
