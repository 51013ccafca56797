"""Compiled simulation: whole layers at 10⁵ cycles a second and more, driven by numpy arrays."""

import ctypes
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
from amaranth.back import rtlil
from amaranth.hdl import ClockDomain, Module, Value
from amaranth.lib import wiring
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from .compiler import Netlist, compile_netlist, find_compiler
from .ports import Port, component_ports, select_ports
from .stalls import Stalls
from .testbench import CHANGED, WITHDREW, Result, SimulationError, StreamActivity, broken_rule, describe_progress

_NO_PORT = 2**32 - 1
_ENDLESS = 2**64 - 1
_SLICE = 0.1  # seconds between two reports of progress


@dataclass(frozen=True)
class Waveform:
    """A waveform of some cycles.

    Parameters
    ----------
    path : path
        The VCD file; ten nanoseconds a cycle, every signal, no memories.
    first, last : int
        Cycles, both included.
    """

    path: str | Path
    first: int = 0
    last: int = 10_000


@dataclass(frozen=True)
class Advance:
    """How far a run has got.

    Attributes
    ----------
    cycles : int
    seconds : float
    done : float
        Share of the expected beats that have been transferred, 0 … 1.
    """

    cycles: int
    seconds: float
    done: float

    @property
    def rate(self) -> float:
        """Cycles a second."""
        return self.cycles / self.seconds if self.seconds else 0.0


class _Outcome(IntEnum):
    """As in ``cxx/harness.h``."""

    RUNNING = 0
    FINISHED = 1
    AT_LIMIT = 2
    QUIET = 3
    WITHDRAWN = 4
    CHANGED = 5
    TOO_MANY = 6
    NO_FILE = 7


class _StreamPlan(ctypes.Structure):
    _fields_ = [
        ("is_input", ctypes.c_uint32),
        ("payload", ctypes.c_uint32),
        ("valid", ctypes.c_uint32),
        ("ready", ctypes.c_uint32),
        ("words", ctypes.c_uint32),
        ("is_stream", ctypes.c_uint32),
        ("seed", ctypes.c_uint64),
        ("threshold", ctypes.c_uint64),
        ("total", ctypes.c_uint64),
        ("data", ctypes.c_void_p),
    ]


class _StreamState(ctypes.Structure):
    _fields_ = [
        ("count", ctypes.c_uint64),
        ("first", ctypes.c_uint64),
        ("last", ctypes.c_uint64),
        ("stalls", ctypes.c_uint64),
        ("data", ctypes.c_void_p),
    ]


class _RunPlan(ctypes.Structure):
    _fields_ = [
        ("limit", ctypes.c_uint64),
        ("patience", ctypes.c_uint64),
        ("idle", ctypes.c_uint64),
        ("waveform_first", ctypes.c_uint64),
        ("waveform_last", ctypes.c_uint64),
        ("waveform_path", ctypes.c_char_p),
    ]


class CompiledSimulation:
    """A component as a compiled program; streams are moved between it and numpy buffers without Python in the loop.

    The rules are those of ``testbench.run_stream``, and so are the cycle counts: same arguments, same ``Result``. Every
    run starts from the state after power-on. The domain is ``sync``; ``Assert`` and ``Print`` are left out.

    Parameters
    ----------
    component : wiring.Component
        Not yet elaborated.
    waveform : bool
        Compile so that ``run`` can write waveforms (slower in both).
    compiler : str, optional
        As ``compiler.find_compiler`` takes it.
    transform : callable, optional
        Applied to the RTLIL text before it is compiled, such as a synthesis; must keep the top module and its ports.

    Attributes
    ----------
    library : pathlib.Path
        The shared object, kept in the cache by its content.

    Raises
    ------
    CompilerError
        If Yosys or a C++ compiler is missing or fails.
    TypeError
        If the component is not an ``amaranth.lib.wiring.Component``.
    """

    def __init__(
        self,
        component: wiring.Component,
        *,
        waveform: bool = False,
        compiler: str | None = None,
        transform: Callable[[str], str] | None = None,
    ):
        self.ports = component_ports(component)
        self.waveform = waveform
        self._compiler = find_compiler(compiler)
        netlist = _netlist(component, self.ports, waveform)
        if transform:
            netlist = replace(netlist, rtlil=transform(netlist.rtlil))
        self._index = {name: index for index, name in enumerate(netlist.ports)}
        self.library = compile_netlist(netlist, self._compiler)
        self._functions = _load(self.library)

    def run(
        self,
        inputs: Mapping[str, Any],
        outputs: Mapping[str, int | None],
        *,
        constants: Mapping[str, Any] | None = None,
        stalls: Stalls | None = None,
        max_cycles: int = 100_000_000,
        patience: int = 1_000_000,
        idle: int = 32,
        waveform: Waveform | None = None,
        progress: Callable[[Advance], None] | None = None,
    ) -> Result:
        """Feeds input streams and collects output streams until all beats were transferred.

        Parameters
        ----------
        inputs, outputs, constants, stalls, max_cycles, idle
            As ``testbench.run_stream`` takes them. Outputs that merely observe (``always_ready``) with None beats serve
            as probes of inner stages.
        patience : int
            So many cycles without any transfer count as a deadlock.
        waveform : Waveform, optional
            The simulation must have been made with ``waveform=True``.
        progress : callable, optional
            Called about ten times a second; see ``progress_bar``.

        Raises
        ------
        SimulationError
            If an output breaks the rules, too many beats come, or the run does not finish (the message tells how far
            every stream got).
        ValueError, TypeError
            If a name, a shape, a type or a value does not fit.
        OSError
            If the waveform cannot be written.
        """
        if waveform and not self.waveform:
            raise ValueError("Waveforms need CompiledSimulation(…, waveform=True)")
        stalls = stalls or Stalls()
        sources = select_ports(self.ports, inputs, inputs=True)
        sinks = select_ports(self.ports, outputs, inputs=False)
        fixed = select_ports(self.ports, constants or {}, inputs=True)
        stalls.check_names([*sources, *sinks])
        buffers = {name: port.codec.encode(inputs[name], name) for name, port in sources.items()}
        for name, port in sinks.items():
            if (total := outputs[name]) is not None:
                buffers[name] = np.zeros((total, port.codec.words), np.uint64)
        streams = [*sources.values(), *sinks.values()]
        plans = (_StreamPlan * len(streams))(*(self._plan(port, buffers.get(port.name), stalls) for port in streams))
        plan = _RunPlan(max_cycles, patience, idle, 0, 0, None)
        if waveform:
            plan = _RunPlan(max_cycles, patience, idle, waveform.first, waveform.last, str(waveform.path).encode())
        values = {name: port.payload.init for name, port in self.ports.items() if port.is_input and not port.is_stream}
        values |= {name: port.codec.encode_one(constants[name], name) for name, port in fixed.items()}
        with closing(_Model(self._functions, plans, plan)) as model:
            for name, value in values.items():
                if (index := self._index.get(f"{name}.payload")) is not None:
                    model.set(index, self.ports[name].codec.ints_to_words([value]))
            outcome, culprit = model.run(progress)
            states = [model.state(index) for index in range(len(streams))]
            activities = {port.name: _activity(state) for port, state in zip(streams, states, strict=True)}
            if outcome is not _Outcome.FINISHED:
                totals = {name: len(buffers[name]) if name in buffers else None for name in activities}
                reached = describe_progress((name, activity, totals[name]) for name, activity in activities.items())
                name = streams[culprit].name
                raise _failure(outcome, model.cycles, name, totals[name], reached, plan)
            for name, state in zip(activities, states, strict=True):
                if name not in buffers:
                    buffers[name] = _copy(state, self.ports[name].codec.words)
            cycles = model.cycles - idle
            status = {
                name: port.codec.decode(model.get(self._index[f"{name}.payload"], port.codec.words))[0]
                for name, port in self.ports.items()
                if not port.is_input and not port.is_stream and name not in outputs and port.codec.width
            }
        return Result(
            {name: port.codec.decode(buffers[name]) for name, port in sinks.items()},
            cycles,
            activities,
            status,
        )

    def _plan(self, port: Port, buffer: np.ndarray | None, stalls: Stalls) -> _StreamPlan:
        pattern = stalls.pattern(port.name, can_stall=port.can_stall)
        return _StreamPlan(
            is_input=port.is_input,
            payload=self._index.get(f"{port.name}.payload", _NO_PORT),
            valid=self._index.get(f"{port.name}.valid", _NO_PORT),
            ready=self._index.get(f"{port.name}.ready", _NO_PORT),
            words=port.codec.words,
            is_stream=port.is_stream,
            seed=pattern.seed,
            threshold=pattern.threshold,
            total=_ENDLESS if buffer is None else len(buffer),
            data=None if buffer is None else buffer.ctypes.data,
        )


@contextmanager
def progress_bar(
    description: str = "Simulating", console: Console | None = None
) -> Iterator[Callable[[Advance], None]]:
    """A bar on the terminal with cycles, rate and time left; what it yields is the ``progress`` of ``run``."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %  {task.fields[cycles]:,} cycles  {task.fields[rate]:,.0f} k/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(description, total=1.0, cycles=0, rate=0.0)

        def report(advance: Advance) -> None:
            bar.update(task, completed=advance.done, cycles=advance.cycles, rate=advance.rate / 1000)

        yield report


def _netlist(component: wiring.Component, ports: Mapping[str, Port], waveform: bool) -> Netlist:
    domain = ClockDomain("sync")
    m = Module()
    m.domains += domain
    m.submodules.component = component
    signals: dict[str, Value] = {}
    for name, port in ports.items():
        if port.codec.width:
            signals[f"{name}.payload"] = port.payload
        if port.has_valid:
            signals[f"{name}.valid"] = port.valid
        if port.has_ready:
            signals[f"{name}.ready"] = port.ready
    # Without a direction, a signal that nothing drives is an input.
    directed = {name: (signal, None) for name, signal in {"clk": domain.clk, **signals}.items()}
    return Netlist(rtlil.convert(m, ports=directed, emit_src=False), tuple(signals), waveform)


class _Model:
    """One run of a compiled model: ``cxx/harness.h`` for Python."""

    def __init__(self, functions: ctypes.CDLL, plans: ctypes.Array[_StreamPlan], plan: _RunPlan):
        self._functions = functions
        self._plans = plans
        self._handle = functions.winohw_open(plans, len(plans), ctypes.byref(plan))

    def close(self) -> None:
        self._functions.winohw_close(self._handle)

    @property
    def cycles(self) -> int:
        return self._functions.winohw_cycles(self._handle)

    def set(self, port: int, words: np.ndarray) -> None:
        self._functions.winohw_set(self._handle, port, words.ctypes.data)

    def get(self, port: int, words: int) -> np.ndarray:
        value = np.zeros((1, words), np.uint64)
        self._functions.winohw_get(self._handle, port, value.ctypes.data)
        return value

    def state(self, index: int) -> _StreamState:
        state = _StreamState()
        self._functions.winohw_stream(self._handle, index, ctypes.byref(state))
        return state

    def run(self, progress: Callable[[Advance], None] | None) -> tuple[_Outcome, int]:
        """To the end, in slices between which Python sees signals; the outcome and the stream to blame."""
        culprit = ctypes.c_uint32()
        start = time.perf_counter()
        outcome, cycles = _Outcome.RUNNING, 1000
        while outcome is _Outcome.RUNNING:
            began = time.perf_counter()
            outcome = _Outcome(self._functions.winohw_run(self._handle, cycles, ctypes.byref(culprit)))
            now = time.perf_counter()
            cycles = max(1000, min(cycles * 4, int(cycles * _SLICE / max(now - began, 1e-6))))
            if progress:
                progress(Advance(self.cycles, now - start, self._done()))
        return outcome, culprit.value

    def _done(self) -> float:
        counted = [(self.state(index).count, plan.total) for index, plan in enumerate(self._plans)]
        totals = sum(total for _, total in counted if total != _ENDLESS)
        return sum(count for count, total in counted if total != _ENDLESS) / totals if totals else 1.0


def _load(library: Path) -> ctypes.CDLL:
    functions = ctypes.CDLL(str(library))
    pointer, index, number = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint64
    for name, result, arguments in (
        ("open", pointer, (pointer, index, pointer)),
        ("close", None, (pointer,)),
        ("set", None, (pointer, index, pointer)),
        ("get", None, (pointer, index, pointer)),
        ("run", ctypes.c_uint32, (pointer, number, pointer)),
        ("cycles", number, (pointer,)),
        ("stream", None, (pointer, index, pointer)),
    ):
        function = getattr(functions, f"winohw_{name}")
        function.restype = result
        function.argtypes = arguments
    return functions


def _activity(state: _StreamState) -> StreamActivity:
    first, last = (None if cycle == _ENDLESS else cycle for cycle in (state.first, state.last))
    return StreamActivity(state.count, first, last, state.stalls)


def _copy(state: _StreamState, words: int) -> np.ndarray:
    if not state.count:
        return np.zeros((0, words), np.uint64)
    source = ctypes.cast(state.data, ctypes.POINTER(ctypes.c_uint64))
    return np.ctypeslib.as_array(source, (state.count, words)).copy()


def _failure(outcome: _Outcome, cycle: int, culprit: str, total: int | None, reached: str, plan: _RunPlan) -> Exception:
    match outcome:
        case _Outcome.AT_LIMIT:
            return SimulationError(f"Not finished after {plan.limit} cycles: {reached}")
        case _Outcome.QUIET:
            return SimulationError(f"No stream moved for {plan.patience} cycles: {reached}")
        case _Outcome.WITHDRAWN:
            return broken_rule(culprit, WITHDREW, cycle)
        case _Outcome.CHANGED:
            return broken_rule(culprit, CHANGED, cycle)
        case _Outcome.TOO_MANY:
            return broken_rule(culprit, f"gave more than {total} beats", cycle)
        case _:
            return OSError(f"The waveform {plan.waveform_path.decode()!r} cannot be written")
