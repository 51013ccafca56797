# amaranth: UnusedElaboratable=no
"""Bitstreams of a design that takes seconds: a serial port that answers, in place of the engine."""

import hashlib
import json

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth_boards.icebreaker import ICEBreakerPlatform
from amaranth_boards.tang_nano_9k import TangNano9kPlatform
from amaranth_boards.ulx3s import ULX3S_12F_Platform, ULX3S_25F_Platform

from winohw.gateware.config import EngineConfig
from winohw.synth import board_design
from winohw.synth.bitstream import build_bitstream, suffix_of
from winohw.synth.board import Board, BoardError
from winohw.synth.report import from_json
from winohw.synth.toolchain import ToolNotFoundError, find_tool


class Answer(wiring.Component):
    """The line back, a counter later."""

    rx: In(1)
    tx: Out(1)

    def elaborate(self, platform):
        m = Module()
        count = Signal(12)
        m.d.sync += count.eq(count + self.rx)
        m.d.sync += self.tx.eq(count[-1])
        return m


@pytest.fixture(scope="module", autouse=True)
def small(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WINOHW_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(board_design, "BoardTop", lambda capabilities, divisor: Answer())
        yield


def board(platform=ICEBreakerPlatform, frequency=24.0, **changes):
    config = EngineConfig(tile_size=2, fold=4)
    return Board("Small", platform, config, frequency, name="small", **changes)


def test_bitstream_manifest_and_report(tmp_path):
    events = []
    result = build_bitstream(board(), folder=tmp_path, progress=events.append)
    report = result.report
    assert [step.name for step in report.steps] == ["tools", "elaboration", "synthesis", "seed 1", "bitstream"]
    assert [event.number for event in events if event.state == "end"] == [1, 2, 3, 4, 5]
    assert report.meets_target
    assert 40 < report.frequency < 200
    assert result.verdict == f"{report.frequency:.1f} MHz with seed 1 meets the board's 24 MHz"
    assert {path.name for path in result.files} == {"small.bin", "manifest.json", "report.json"}
    assert {path.name for path in tmp_path.iterdir()} == {"small.bin", "manifest.json", "report.json"}
    # The bitstream of an iCE40 starts with a preamble and carries all rows.
    data = (tmp_path / "small.bin").read_bytes()
    assert data == result.data
    assert bytes.fromhex("7eaa997e") in data[:8]
    assert len(data) == 104_090
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["sha256"] == hashlib.sha256(data).hexdigest()
    assert (manifest["board"], manifest["clock"], manifest["baud"], manifest["seed"]) == ("small", 24_000_000, 10**6, 1)
    assert [tool["name"] for tool in manifest["tools"]] == ["yosys", "nextpnr-ice40", "icepack"]
    assert manifest["digest"] == report.digest
    assert manifest["configuration"]["fold"] == 4
    assert from_json((tmp_path / "report.json").read_text()) == report
    # 12 bits of counter, one of the line; two for the lock, nine to wait and one for the reset.
    assert report.total.flip_flops == 12 + 1 + 2 + 9 + 1


def test_results_are_kept(tmp_path):
    first = build_bitstream(board(), seeds=(1, 2), folder=tmp_path)
    assert "spread" in first.verdict
    again = build_bitstream(board(), seeds=(1, 2))
    assert [step.cached for step in again.report.steps] == [False, False, True, True, True, True]
    assert (again.data, again.report.digest) == (first.data, first.report.digest)
    assert again.files == ()
    anew = build_bitstream(board(), seeds=(1, 2), cache=False)
    assert not any(step.cached for step in anew.report.steps)
    assert anew.data == first.data
    other = build_bitstream(board(frequency=18.0))
    assert other.report.digest != build_bitstream(board()).report.digest


def test_a_missed_clock_gives_no_bitstream(tmp_path):
    """What was there before does not stay: it would not be what was asked for."""
    build_bitstream(board(), folder=tmp_path)
    result = build_bitstream(board(frequency=270.0, baud=3_000_000), folder=tmp_path)
    assert not result.data
    assert result.verdict.startswith(f"{result.report.frequency:.1f} MHz with seed 1 misses the board's 270 MHz")
    assert {path.name for path in tmp_path.iterdir()} == {"report.json"}


def test_what_does_not_fit_gives_no_bitstream(monkeypatch, tmp_path):
    part = board().part
    small = type(part)(**{**{name: getattr(part, name) for name in part.__dataclass_fields__}, "flip_flops": 20})
    monkeypatch.setattr(Board, "part", small)
    result = build_bitstream(board(), folder=tmp_path)
    assert result.verdict == "does not fit: 25 FF of 20"
    assert (result.data, result.report.placements) == (b"", ())


def test_interruption_leaves_nothing(tmp_path):
    def interrupt(event):
        if event.state == "start" and event.title == "bitstream":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_bitstream(board(), folder=tmp_path / "out", progress=interrupt)
    assert not (tmp_path / "out").exists()


def test_writing_that_fails_leaves_nothing_half(monkeypatch, tmp_path):
    monkeypatch.setattr("winohw.synth.bitstream.os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match=r"^disk full$"):
        build_bitstream(board(), folder=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"frequency": 25.0}, BoardError, "^The PLL of an iCE40 cannot make 25 MHz of 12 MHz$"),
        ({"seeds": (1, 1)}, ValueError, r"^seeds must differ from each other, not \[1, 1\]$"),
        ({"jobs": 0}, ValueError, "^jobs must be at least 1, not 0$"),
        ({"uart": ("absent", 0)}, BoardError, r"^Resource absent#0 does not exist$"),
    ],
)
def test_bad_arguments(changes, error, message):
    arguments = {name: changes.pop(name) for name in ("seeds", "jobs") if name in changes}
    with pytest.raises(error, match=message):
        build_bitstream(board(**changes), **arguments)


def test_engine_of_another_family():
    config = EngineConfig(tile_size=2, fold=4, family="ecp5")
    with pytest.raises(ValueError, match=r"^An engine of family 'ecp5' cannot be built for iCE40UP5K$"):
        build_bitstream(Board("Small", ICEBreakerPlatform, config, 24.0))


def test_platform_without_clock():
    class NoClock(ICEBreakerPlatform):
        default_clk = None

    with pytest.raises(BoardError, match=r"^NoClock has no default_clk$"):
        build_bitstream(board(NoClock))


@pytest.mark.parametrize(
    ("platform", "frequency", "head"),
    [
        (ULX3S_25F_Platform, 25.0, b"Part: LFE5U-25F"),
        (ULX3S_12F_Platform, 60.0, b"Part: LFE5U-12F"),
        (TangNano9kPlatform, 27.0, b"0000"),
        pytest.param(TangNano9kPlatform, 54.0, b"0000", marks=pytest.mark.slow),
    ],
)
def test_other_families(platform, frequency, head, tmp_path):
    small = board(platform, frequency)
    try:
        find_tool(small.part.family.place_tool)
    except ToolNotFoundError as error:
        pytest.skip(str(error))
    result = build_bitstream(small, folder=tmp_path)
    assert result.report.frequency > 100
    assert head in result.data[:400]
    assert (tmp_path / f"small.{suffix_of(small.part)}").read_bytes() == result.data
