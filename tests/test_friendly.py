"""Programs that are told to stop do so, without a traceback and with a status that says why."""

import os
import signal
import subprocess
import sys

import pytest

# A program that is started in the background by a shell inherits that SIGINT is ignored.
HEEDS_SIGINT = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "


def ends(process, number, status):
    """Sends the signal; the program ends with that status, and without a traceback."""
    process.send_signal(number)
    try:
        assert process.wait(timeout=30) == status
        assert "Traceback" not in process.stderr.read()
    finally:
        process.kill()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 0)])
def test_signals_end_a_simulated_board(tmp_path, number, status):
    """SIGINT is the way to end it."""
    board = HEEDS_SIGINT + "from tiny_board import CAPABILITIES; import winohw.host.commands as c, winohw.cli as cli; "
    board += "c.EngineConfig = lambda **_: CAPABILITIES.config; cli.main(['board-sim'])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen(
        [sys.executable, "-c", board], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert "/dev/" in process.stdout.readline()
        ends(process, number, status)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_a_build(tmp_path, number):
    """Nothing is left but the folder of the cache."""
    endless = tmp_path / "yosys"
    endless.write_text(f"#!{sys.executable}\nimport sys, time\nif '--version' in sys.argv:\n    print('Yosys 0.70')\n")
    with endless.open("a") as file:
        file.write("else:\n    print('1. Executing FLATTEN pass', flush=True)\n    time.sleep(120)\n")
    endless.chmod(0o755)
    environment = {**os.environ, "YOSYS": str(endless), "WINOHW_CACHE_DIR": str(tmp_path / "cache"), "COLUMNS": "200"}
    command = [
        sys.executable,
        "-c",
        HEEDS_SIGINT + "import sys; from winohw.cli import main; main()",
        "build",
        "--board",
        "icebreaker",
    ]
    with subprocess.Popen(
        [*command, "--output", str(tmp_path / "out"), "--work", str(tmp_path / "work")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            if "elaboration" in line:
                break
        ends(process, number, 143 if number == signal.SIGTERM else 1)
    assert not (tmp_path / "out").exists()
