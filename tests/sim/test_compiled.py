# amaranth: UnusedElaboratable=no
import io
import shutil
from dataclasses import asdict

import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from stream_parts import Adder, Faulty, Gather, Ripple, Snoop, Sum

from winohw.sim import compiled, compiler
from winohw.sim.compiled import CompiledSimulation, Waveform, progress_bar
from winohw.sim.stalls import Stalls
from winohw.sim.testbench import SimulationError, run_stream


def assert_same(result, expected):
    """Everything, to the cycle."""
    assert (result.cycles, result.streams) == (expected.cycles, expected.streams)
    assert result.outputs.keys() == expected.outputs.keys()
    for name, beats in expected.outputs.items():
        np.testing.assert_array_equal(result.outputs[name], beats, err_msg=name)
    assert result.status.keys() == expected.status.keys()
    for name, value in expected.status.items():
        np.testing.assert_array_equal(result.status[name], value, err_msg=name)


@pytest.fixture(scope="module")
def wide_sum():
    return CompiledSimulation(Sum())


@pytest.mark.parametrize(
    "stalls", [None, Stalls(1, 0.5), Stalls(2, i=0.9), Stalls(3, o=0.9), Stalls(4, i=0.7, o=0.7)], ids=repr
)
def test_same_as_amaranth(wide_sum, stalls):
    values = Sum.beats_in(np.random.default_rng(1), 40)
    run = {"inputs": {"i": values}, "outputs": {"o": 40}, "constants": {"offset": -(2**35)}, "stalls": stalls}
    result = wide_sum.run(**run)
    assert_same(result, run_stream(Sum(), **run))
    np.testing.assert_array_equal(result.outputs["o"]["sum"], Sum.model(values, -(2**35)))
    assert result.status == {"beats": 40}


def test_runs_are_independent(wide_sum):
    values = Sum.beats_in(np.random.default_rng(2), 7)
    first = wide_sum.run({"i": values}, {"o": 7}, constants={"offset": 5})
    second = wide_sum.run({"i": values}, {"o": 7})
    assert first.status == second.status == {"beats": 7}
    np.testing.assert_array_equal(first.outputs["o"]["sum"], second.outputs["o"]["sum"] + 5)


def test_many_beats_at_full_speed(wide_sum):
    values = Sum.beats_in(np.random.default_rng(3), 30_000)
    result = wide_sum.run({"i": values}, {"o": None})
    np.testing.assert_array_equal(result.outputs["o"]["lanes"], values)
    assert result.cycles == 30_000
    assert result.streams["o"].last == 30_000


# Zig's waveforms wait for its C++ library, which takes a minute: test_waveform_with_zig.
NATIVE = [name for name in ("clang++", "g++") if shutil.which(name)]


@pytest.mark.parametrize(
    ("name", "waveform"), [("zig", False), *((name, waveform) for name in NATIVE for waveform in (False, True))]
)
def test_compilers(name, waveform):
    left, a, b = np.random.default_rng(4).integers(0, 256, (3, 50))
    run = {
        "inputs": {"left": left, "lanes.0": a, "lanes.1": b},
        "outputs": {"out.total": 50, "seen": None, "clock": 60},
        "stalls": Stalls(5, 0.4),
    }
    assert_same(CompiledSimulation(Gather(), compiler=name, waveform=waveform).run(**run), run_stream(Gather(), **run))


@pytest.fixture(scope="module")
def gather():
    return CompiledSimulation(Gather())


@pytest.mark.parametrize("seed", range(4))
def test_several_streams_of_all_kinds(gather, seed):
    left, a, b = np.random.default_rng(seed).integers(0, 256, (3, 50))
    run = {
        "inputs": {"left": left, "lanes.0": a, "lanes.1": b},
        "outputs": {"out.total": 50, "seen": 50, "clock": None if seed % 2 else 60},
        "constants": {"out.scale_by_two": seed // 2},
        "stalls": Stalls(seed, 0.2, **{"lanes.1": 0.5}),
    }
    assert_same(gather.run(**run), run_stream(Gather(), **run))


@pytest.mark.parametrize("stalls", [None, Stalls(1, 0.4)], ids=repr)
def test_logic_that_settles_slowly(stalls):
    values = np.concatenate([[0, 0xFFFF, 1, 0x8000], np.random.default_rng(5).integers(0, 2**16, 60)])
    run = {"inputs": {"i": values}, "outputs": {"o": 64}, "stalls": stalls}
    result = CompiledSimulation(Ripple()).run(**run)
    assert_same(result, run_stream(Ripple(), **run))
    np.testing.assert_array_equal(result.outputs["o"], Ripple.model(values))


def test_junk_without_valid():
    run = {"inputs": {"i": [0] * 40}, "outputs": {"o": None}, "stalls": Stalls(1, i=0.5)}
    result = CompiledSimulation(Snoop()).run(**run)
    assert_same(result, run_stream(Snoop(), **run))
    assert len(set(result.outputs["o"].tolist())) > 50
    assert result.status == {"age": result.cycles + 32}


def test_plain_signals_without_clock():
    run = {"inputs": {"a": [-128, 127, -1, 0, 5], "b": [-128, 127, 1, 0]}, "outputs": {"o": 5}}
    assert_same(CompiledSimulation(Adder()).run(**run), run_stream(Adder(), **run))


def test_values_that_are_not_given():
    class Initial(wiring.Component):
        step: In(4, init=3)
        scale: In(data.ArrayLayout(4, 2), init=[2, 5])
        o: Out(stream.Signature(8, always_valid=True))
        nothing: Out(stream.Signature(data.StructLayout({}), always_valid=True))

        def elaborate(self, platform):
            m = Module()
            m.d.sync += self.o.payload.eq(self.o.payload + self.step + self.scale[1])
            return m

    run = {"inputs": {}, "outputs": {"o": 10}}
    result = CompiledSimulation(Initial()).run(**run)
    assert_same(result, run_stream(Initial(), **run))
    assert result.outputs["o"].tolist() == list(range(0, 80, 8))


class Mixer(wiring.Component):
    """Enough state, conditions and logic to be cut in pieces."""

    i: In(stream.Signature(data.ArrayLayout(8, 16), always_ready=True))
    o: Out(stream.Signature(data.ArrayLayout(8, 16), always_ready=True))

    def elaborate(self, platform):
        m = Module()
        lanes, valid = list(self.i.payload), self.i.valid
        for stage in range(8):
            following = [Signal(8, name=f"s{stage}_{k}") for k in range(16)]
            for k, signal in enumerate(following):
                with m.If(valid | lanes[k - 1][0]):
                    m.d.sync += signal.eq(lanes[k] + (lanes[k - 1] ^ (lanes[k - 5] >> 3)))
            flag = Signal(name=f"valid{stage}")
            m.d.sync += flag.eq(valid)
            lanes, valid = following, flag
        m.d.comb += [self.o.valid.eq(valid), *(self.o.payload[k].eq(lanes[k]) for k in range(16))]
        return m


def test_pieces_equal_the_whole(tmp_path, monkeypatch):
    monkeypatch.setenv("WINOHW_CACHE_DIR", str(tmp_path))
    values = np.random.default_rng(6).integers(0, 256, (200, 16))
    run = {"inputs": {"i": values}, "outputs": {"o": 200}, "stalls": Stalls(6, 0.3)}
    expected = run_stream(Mixer(), **run)
    assert_same(CompiledSimulation(Mixer(), waveform=True).run(**run), expected)
    monkeypatch.setattr(compiler, "_STATEMENTS", 20)
    monkeypatch.setattr(compiler.os, "cpu_count", lambda: 3)
    pieces = []
    cut = compiler._tune
    monkeypatch.setattr(compiler, "_tune", lambda *given: pieces.append(cut(*given)) or pieces[-1])
    assert_same(CompiledSimulation(Mixer()).run(**run), expected)
    header, source, files = pieces[0]
    assert len(files) == 3
    assert "posedge_p_clk = true" in files[2]
    assert "posedge_p_clk" not in source
    assert ".commit(observer)" not in header.replace("return commit<>(observer)", "")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("drop", r"^Output 'o' withdrew a payload before it was accepted, cycle \d+$"),
        ("change", r"^Output 'o' changed a payload before it was accepted, cycle \d+$"),
        ("repeat", r"^Output 'o' gave more than 10 beats, cycle \d+$"),
        ("block", r"^Not finished after 500 cycles: i 5 of 10 beats \(last in cycle \d+\), o 5 of 10 beats "),
    ],
)
def test_faults_are_seen_as_by_the_test_bench(fault, message):
    run = {"inputs": {"i": range(10)}, "outputs": {"o": 10}, "stalls": Stalls(1, o=0.5), "max_cycles": 500}
    with pytest.raises(SimulationError) as expected:
        run_stream(Faulty(fault), **run)
    with pytest.raises(SimulationError, match=message) as caught:
        CompiledSimulation(Faulty(fault)).run(**run)
    assert str(caught.value) == str(expected.value)


def test_deadlock_is_told():
    simulation = CompiledSimulation(Faulty("block"))
    reached = r"i 5 of 9 beats \(last in cycle 4\), o 5 of any beats \(last in cycle 4\)"
    with pytest.raises(SimulationError, match=rf"^No stream moved for 300 cycles: {reached}$"):
        simulation.run({"i": range(9)}, {"o": None}, patience=300)
    with pytest.raises(SimulationError, match=r"o 0 of 5 beats$"):
        simulation.run({"i": range(5)}, {"o": 5}, stalls=Stalls(0, o=1.0), patience=300)


def test_names_and_values_are_checked(wide_sum):
    with pytest.raises(ValueError, match=r"no input 'x'; its inputs are: i, offset$"):
        wide_sum.run({"x": [1]}, {})
    with pytest.raises(ValueError, match=r"no output 'i'; its outputs are: o, beats$"):
        wide_sum.run({}, {"i": 1})
    with pytest.raises(ValueError, match=r"no input 'o'"):
        wide_sum.run({}, {"o": 1}, constants={"o": 1})
    with pytest.raises(ValueError, match=r"unknown stream 'q'"):
        wide_sum.run({}, {"o": None}, stalls=Stalls(0, q=0.1))
    with pytest.raises(ValueError, match=r"^i must have the shape \(4, 5, 6\), not \(4, 5, 5\)$"):
        wide_sum.run({"i": np.zeros((4, 5, 5), int)}, {"o": 4})
    with pytest.raises(TypeError, match=r"^i must be integers, not float64$"):
        wide_sum.run({"i": np.zeros((4, 5, 6))}, {"o": 4})
    with pytest.raises(ValueError, match=r"^offset must be within"):
        wide_sum.run({}, {"o": None}, constants={"offset": 2**40})
    with pytest.raises(ValueError, match=r"^Waveforms need CompiledSimulation\(…, waveform=True\)$"):
        wide_sum.run({}, {"o": None}, waveform=Waveform("x.vcd"))


def test_transform():
    def harder(rtlil):
        return rtlil.replace("cell $add", "cell $sub")

    result = CompiledSimulation(Adder(), transform=harder).run({"a": [5], "b": [7]}, {"o": 1})
    assert result.outputs["o"].tolist() == [-2]


def changes(path):
    """Times and values of each signal of a VCD file, by name."""
    names, values, now = {}, {}, None
    for line in path.read_text().splitlines():
        if line.startswith("$var"):
            names.setdefault(line.split()[3], line.split()[4])
        elif line.startswith("#"):
            now = int(line[1:])
        elif line.startswith("b"):
            bits, code = line[1:].split()
            values.setdefault(names[code], []).append((now, int(bits, 2)))
        elif line[0] in "01":
            values.setdefault(names[line[1:]], []).append((now, int(line[0])))
    return values


def test_waveform_of_a_window(tmp_path):
    simulation = CompiledSimulation(Sum(), waveform=True)
    path = tmp_path / "window.vcd"
    values = Sum.beats_in(np.random.default_rng(1), 30)
    simulation.run({"i": values}, {"o": 30}, waveform=Waveform(path, 10, 13))
    seen = changes(path)
    assert seen["beats"] == [(100, 10), (110, 11), (120, 12), (130, 13)]
    assert seen["clk"] == [(5 * half, 1 - half % 2) for half in range(20, 28)]
    with pytest.raises(OSError, match=r"^The waveform '.*absent.x\.vcd' cannot be written$"):
        simulation.run({"i": values}, {"o": 30}, waveform=Waveform(tmp_path / "absent" / "x.vcd"))


@pytest.mark.slow
def test_waveform_with_zig(tmp_path):
    paths = []
    for name in (None, "zig"):
        paths.append(tmp_path / f"{name}.vcd")
        simulation = CompiledSimulation(Sum(), waveform=True, compiler=name)
        simulation.run({"i": Sum.beats_in(np.random.default_rng(1), 5)}, {"o": 5}, waveform=Waveform(paths[-1]))
    assert paths[0].read_text() == paths[1].read_text()


def test_progress(wide_sum, monkeypatch):
    reports = []
    values = Sum.beats_in(np.random.default_rng(1), 5000)
    wide_sum.run({"i": values}, {"o": 5000, "beats": None}, progress=reports.append)
    assert reports[-1].cycles == 5001 + 32
    assert reports[-1].done == 1.0
    assert reports[0].cycles == 1000
    assert 0.19 < reports[0].done < 0.21
    assert reports[-1].rate > 0
    assert [asdict(report)["cycles"] for report in reports] == sorted(report.cycles for report in reports)


def test_progress_bar(wide_sum, monkeypatch):
    console = compiled.Console(file=io.StringIO(), force_terminal=True, width=100)
    values = Sum.beats_in(np.random.default_rng(1), 2000)
    with progress_bar("A layer", console=console) as report:
        wide_sum.run({"i": values}, {"o": 2000}, progress=report)
    text = console.file.getvalue()
    assert "A layer" in text
    assert "2,033 cycles" in text
    assert "100 %" in text
