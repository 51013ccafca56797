"""Amaranth's own simulator around one component with streams; for whole layers see ``compiled``."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from amaranth.hdl import ClockDomain, Elaboratable, Module
from amaranth.lib import wiring
from amaranth.sim import Simulator, SimulatorContext

from .payload import words_to_ints
from .ports import Port, component_ports, select_ports
from .stalls import Stalls

_CLOCK_PERIOD = 1e-8  # seconds; only labels the time axis of a waveform

WITHDREW = "withdrew a payload before it was accepted"
CHANGED = "changed a payload before it was accepted"


class SimulationError(Exception):
    """The component broke the rules of its streams, or did not finish."""


@dataclass(frozen=True)
class StreamActivity:
    """What happened at one stream.

    Attributes
    ----------
    beats : int
        Transfers.
    first, last : int or None
        Cycles of the first and the last transfer; cycle 0 ends with the first clock edge. None without transfers.
    stalls : int
        Cycles up to the last transfer in which a valid payload was not accepted.
    """

    beats: int
    first: int | None
    last: int | None
    stalls: int


@dataclass(frozen=True)
class Result:
    """What a run gave.

    Attributes
    ----------
    outputs : dict of numpy.ndarray
        Beats collected by output (shapes and types: ``PayloadCodec``).
    cycles : int
        Cycles up to and including the one that completed the expected beats, without the idle tail.
    streams : dict of StreamActivity
        By name.
    status : dict of numpy.ndarray
        The plain output signals that are not among ``outputs``, at the end of the run, as ``PayloadCodec.decode`` gives
        a beat.
    """

    outputs: dict[str, np.ndarray]
    cycles: int
    streams: dict[str, StreamActivity]
    status: dict[str, Any]


def run_stream(
    component: wiring.Component,
    inputs: Mapping[str, Any],
    outputs: Mapping[str, int | None],
    *,
    constants: Mapping[str, Any] | None = None,
    stalls: Stalls | None = None,
    max_cycles: int = 100_000,
    idle: int = 32,
    vcd: str | Path | None = None,
) -> Result:
    """Feeds input streams with arrays and collects output streams in Amaranth's simulator.

    All streams run at once, in the clock domain ``sync``. While ``valid`` is low, an input payload carries junk. An
    output may not withdraw or change a payload before it is accepted. The run is over when all beats of all inputs
    were accepted and all outputs delivered their number of beats; ``idle`` further cycles, with every output ready,
    must bring no more.

    Parameters
    ----------
    component : wiring.Component
        Not yet elaborated.
    inputs : mapping of array_like
        Beats by name of stream (``"i"``; nested ``"bus.i"``, ``"lanes.0"``). A plain input signal serves too: it takes
        a beat each cycle and then keeps the last.
    outputs : mapping of int or None
        Number of beats by name of stream; None: as many as come until the run is over. A plain output signal serves
        too: it gives a beat each cycle, from cycle 0 on.
    constants : mapping, optional
        Values of plain input signals, in place before the first cycle; others keep their initial value.
    stalls : Stalls, optional
        None: never.
    max_cycles : int
        Limit, without the idle tail.
    idle : int
        Length of the tail in cycles.
    vcd : path, optional
        Where a waveform goes.

    Raises
    ------
    SimulationError
        If an output breaks the rules, too many beats come, or the limit is reached (the message tells how far every
        stream got).
    ValueError, TypeError
        If a name, a shape, a type or a value does not fit.
    """
    stalls = stalls or Stalls()
    ports = component_ports(component)
    sources = select_ports(ports, inputs, inputs=True)
    sinks = select_ports(ports, outputs, inputs=False)
    fixed = select_ports(ports, constants or {}, inputs=True)
    stalls.check_names([*sources, *sinks])
    drivers = [_Driver(port, inputs[name], stalls) for name, port in sources.items()]
    monitors = [_Monitor(port, outputs[name], stalls) for name, port in sinks.items()]
    values = {name: port.codec.encode_one(constants[name], name) for name, port in fixed.items()}
    status: dict[str, Any] = {}
    cycles = 0

    async def testbench(ctx: SimulatorContext) -> None:
        nonlocal cycles
        for name, value in values.items():
            ctx.set(fixed[name].payload, value)
        tail = 0
        while tail < idle or not all(end.done for end in ends):
            done = all(end.done for end in ends)
            if not done and cycles == max_cycles:
                reached = describe_progress((end.port.name, end.activity, end.total) for end in ends)
                raise SimulationError(f"Not finished after {max_cycles} cycles: {reached}")
            for driver in drivers:
                driver.drive(ctx, cycles)
            for monitor in monitors:
                monitor.drive(ctx, cycles, always=done)
            sampled = iter((await ctx.tick().sample(*watched))[2:])
            for end in ends:
                end.observe(cycles, [next(sampled) for _ in end.watched])
            cycles += 1
            tail = tail + 1 if done else 0
        for name, port in ports.items():
            if not port.is_input and not port.is_stream and name not in outputs:
                status[name] = port.codec.decode_ints([ctx.get(port.payload)])[0]

    ends: list[_End] = [*drivers, *monitors]
    watched = [signal for end in ends for signal in end.watched]
    simulator = Simulator(_clocked(component))
    simulator.add_clock(_CLOCK_PERIOD)
    simulator.add_testbench(testbench)
    if vcd is None:
        simulator.run()
    else:
        with simulator.write_vcd(str(vcd)):
            simulator.run()
    return Result(
        {monitor.port.name: monitor.port.codec.decode_ints(monitor.beats) for monitor in monitors},
        cycles - idle,
        {end.port.name: end.activity for end in ends},
        status,
    )


class _End:
    """One end of a stream, outside the component."""

    def __init__(self, port: Port, stalls: Stalls):
        self.port = port
        self.pattern = stalls.pattern(port.name, can_stall=port.can_stall)
        self.count = 0
        self.first: int | None = None
        self.last: int | None = None
        self.stalls = 0
        self._waiting = 0

    @property
    def activity(self) -> StreamActivity:
        return StreamActivity(self.count, self.first, self.last, self.stalls)

    def transferred(self, cycle: int) -> None:
        self.count += 1
        self.first = cycle if self.first is None else self.first
        self.last = cycle
        self.stalls += self._waiting
        self._waiting = 0

    def refused(self) -> None:
        self._waiting += 1


class _Driver(_End):
    def __init__(self, port: Port, values: Any, stalls: Stalls):
        super().__init__(port, stalls)
        self.beats = words_to_ints(port.codec.encode(values, port.name))
        self.total = len(self.beats)
        self.watched = [port.ready] if port.has_ready else []
        self._valid = not port.has_valid
        self._offered = False

    @property
    def done(self) -> bool:
        return self.count == self.total

    def drive(self, ctx: SimulatorContext, cycle: int) -> None:
        if self._offered:
            return
        self._offered = not self.done and not self.pattern.stalled(cycle)
        if self._offered:
            ctx.set(self.port.payload, self.beats[self.count])
        elif self.port.has_valid:
            ctx.set(self.port.payload, self._junk(cycle))
        if self.port.has_valid:
            ctx.set(self.port.valid, self._offered)

    def _junk(self, cycle: int) -> int:
        return sum(self.pattern.junk(cycle, word) << 64 * word for word in range(self.port.codec.words))

    def observe(self, cycle: int, sampled: list[int]) -> None:
        if not self._offered:
            return
        if all(sampled):
            self.transferred(cycle)
            self._offered = False
        else:
            self.refused()


class _Monitor(_End):
    def __init__(self, port: Port, total: int | None, stalls: Stalls):
        super().__init__(port, stalls)
        self.beats: list[int] = []
        self.total = total
        self.watched = [port.payload, *([port.valid] if port.has_valid else [])]
        self._ready = True
        self._pending: int | None = None

    @property
    def done(self) -> bool:
        return self.total is None or self.count >= self.total

    def drive(self, ctx: SimulatorContext, cycle: int, *, always: bool) -> None:
        if self.port.has_ready:
            self._ready = always or not self.pattern.stalled(cycle)
            ctx.set(self.port.ready, self._ready)

    def observe(self, cycle: int, sampled: list[int]) -> None:
        payload, *valid = sampled
        if self._pending is not None and (not all(valid) or payload != self._pending):
            raise broken_rule(self.port.name, CHANGED if all(valid) else WITHDREW, cycle)
        self._pending = None
        if not all(valid):
            return
        if not self._ready:
            self._pending = payload
            self.refused()
        elif self.count != self.total:
            self.transferred(cycle)
            self.beats.append(payload)
        elif self.port.has_valid:
            raise broken_rule(self.port.name, f"gave more than {self.total} beats", cycle)


def broken_rule(output: str, deed: str, cycle: int) -> SimulationError:
    """What is raised when an output breaks the rules of streams."""
    return SimulationError(f"Output {output!r} {deed}, cycle {cycle}")


def describe_progress(streams: Iterable[tuple[str, StreamActivity, int | None]]) -> str:
    """How far streams got, for messages: name, activity, expected beats (None: any number)."""
    return ", ".join(
        f"{name} {activity.beats} of {'any' if total is None else total} beats"
        + (f" (last in cycle {activity.last})" if activity.last is not None else "")
        for name, activity, total in streams
    )


def _clocked(component: Elaboratable) -> Module:
    """The component inside a design that has the domain ``sync`` even if the component is combinational."""
    m = Module()
    m.domains.sync = ClockDomain()
    m.submodules.component = component
    return m
