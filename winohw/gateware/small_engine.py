# amaranth: UnusedElaboratable=no
"""What the engines for small parts have in common, whatever their datapath."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amaranth import Module, Signal
from amaranth.lib import wiring

from winohw.gateware.compact_requantizer import CompactRequantizer
from winohw.gateware.compact_sequencer import CompactSequencer
from winohw.gateware.config import EngineConfig
from winohw.gateware.constant_store import ConstantMemory, ConstantRegisters
from winohw.gateware.descriptor import DescriptorReader, LayerError
from winohw.gateware.line_buffer import LineBuffer
from winohw.gateware.pixel_serializer import PixelSerializer
from winohw.gateware.requantizer import Requantizer
from winohw.gateware.stationary_sequencer import StationarySequencer
from winohw.gateware.weight_splitter import WeightSplitter

if TYPE_CHECKING:
    from winohw.gateware.engine import Engine

__all__ = ["SmallEngine", "small_line_buffer", "small_requantizer"]


def small_line_buffer(config: EngineConfig) -> LineBuffer:
    """The line buffer of an engine for small parts."""
    single = config.line_memory == "single"
    kind = config.family
    if single and kind != "ice40":
        kind = "generic"
    return LineBuffer(
        input_tile=config.input_tile,
        steps=config.steps,
        lanes=1,
        fold=config.fold,
        words=config.line_words,
        dimension_bits=config.dimension_bits,
        memory=kind,
        single_port=single,
        write_back=config.datapath == "stationary",
    )


def small_requantizer(config: EngineConfig) -> CompactRequantizer | Requantizer:
    """The requantizer of an engine for small parts."""
    if config.requantizer == "shift":
        return CompactRequantizer(config.sum_bits)
    return Requantizer(1, kind=config.requantizer, multiplier=config.multiplier)


class SmallEngine:
    """The ends of such an engine: descriptor, line buffer, weight splitter, serializer, requantizer, and its ports.

    Parameters
    ----------
    engine : whose ports they are joined to.
    m : its module.
    sequencer : what runs the loops.

    Attributes
    ----------
    descriptor, line_buffer, weight_splitter, constants, serializer, requantizer : the components.
    """

    def __init__(self, engine: Engine, m: Module, sequencer: CompactSequencer | StationarySequencer):
        config = engine.config
        count = config.dimension_bits
        self.engine = engine
        self.sequencer = sequencer
        m.submodules.sequencer = sequencer
        m.submodules.descriptor = self.descriptor = DescriptorReader(config.limits())
        m.submodules.line_buffer = self.line_buffer = small_line_buffer(config)
        m.submodules.weight_splitter = self.weight_splitter = WeightSplitter(
            beat_bytes=config.weight_bytes,
            kernel_beats=config.input_tile**2,
            output_lanes=config.output_lanes,
            dimension_bits=count,
        )
        # Block memory is what a compact engine has least of, and a stationary one most.
        store = ConstantMemory if config.datapath == "stationary" else ConstantRegisters
        m.submodules.constants = self.constants = store(
            beat_bytes=config.weight_bytes, output_lanes=config.output_lanes
        )
        m.submodules.serializer = self.serializer = PixelSerializer(
            tile_size=config.tile_size, output_lanes=config.output_lanes, dimension_bits=count
        )
        m.submodules.requantizer = self.requantizer = small_requantizer(config)
        self._start = Signal(name="start")
        self.give_layer(m, self.line_buffer, sequencer, self.weight_splitter, self.serializer)
        job = self.descriptor.job
        m.d.comb += [
            self.line_buffer.step.eq(job.stride if config.direct else config.tile_size),
            self.requantizer.output_zero_point.eq(job.output_zero_point.as_signed()),
            self.requantizer.act_min.eq(job.act_min.as_signed()),
            self.requantizer.act_max.eq(job.act_max.as_signed()),
            self.line_buffer.free.eq(sequencer.free),
        ]
        wiring.connect(m, wiring.flipped(engine.layer), self.descriptor.i)
        wiring.connect(m, wiring.flipped(engine.weights), self.weight_splitter.i)
        wiring.connect(m, wiring.flipped(engine.pixels), self.line_buffer.i)
        self._join_output(m)
        self._run(m)

    def give_layer(self, m: Module, *components: wiring.Component) -> None:
        """The layer's values, and its start, go to components that need them."""
        job = self.descriptor.job
        for component in components:
            m.d.comb += component.start.eq(self._start)
            for name in job.shape().members:
                if name in component.signature.members:
                    m.d.comb += getattr(component, name).eq(job[name])

    def _join_output(self, m: Module) -> None:
        """From sums to pixels."""
        engine, serializer, requantizer = self.engine, self.serializer, self.requantizer
        m.d.comb += self.weight_splitter.more.eq(serializer.more)
        wiring.connect(m, self.weight_splitter.constants, self.constants.i)
        wiring.connect(m, self.constants.constants, serializer.constants)
        sums, result = requantizer.i.payload, requantizer.o.payload
        constants = serializer.o.payload.constants
        m.d.comb += [
            requantizer.i.valid.eq(serializer.o.valid),
            serializer.o.ready.eq(requantizer.i.ready),
            sums.bias.eq(constants.bias),
            sums.shift.eq(constants.shift),
            sums.last.eq(serializer.o.payload.last),
            engine.o.valid.eq(requantizer.o.valid),
            requantizer.o.ready.eq(engine.o.ready),
            engine.o.payload.count.eq(1),
            engine.o.payload.last.eq(result.last),
        ]
        if engine.config.requantizer == "shift":
            m.d.comb += [sums.acc.eq(serializer.o.payload.acc), engine.o.payload.pixels[0].eq(result.pixel)]
        else:
            m.d.comb += [
                sums.acc[0].eq(serializer.o.payload.acc),
                sums.multiplier.eq(constants.multiplier),
                sums.count.eq(1),
                engine.o.payload.pixels[0].eq(result.pixels[0]),
            ]

    def _run(self, m: Module) -> None:
        """One layer after another."""
        engine, sequencer, descriptor = self.engine, self.sequencer, self.descriptor
        status = engine.status.payload
        counters = {
            "busy": sequencer.busy,
            "wait_pixels": sequencer.wait_pixels,
            "wait_weights": sequencer.wait_weights,
            "wait_drain": sequencer.wait_drain,
        }
        if not engine.config.statistics:
            counters = {}
        complete = Signal()
        with m.If(engine.o.valid & engine.o.ready & engine.o.payload.last):
            m.d.sync += complete.eq(1)
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [status.cycles.eq(0), status.code.eq(LayerError.OK), complete.eq(0)]
                m.d.sync += [status[name].eq(0) for name in counters]
                with m.If(descriptor.error_strobe):
                    m.d.sync += status.code.eq(descriptor.error)
                    m.next = "REPORT"
                with m.Elif(descriptor.valid):
                    m.next = "START"
            with m.State("START"):
                m.d.comb += self._start.eq(1)
                m.d.sync += status.cycles.eq(engine.config.statistics)
                m.next = "RUN"
            with m.State("RUN"):
                if engine.config.statistics:
                    m.d.sync += status.cycles.eq(status.cycles + 1)
                for name, active in counters.items():
                    with m.If(active):
                        m.d.sync += status[name].eq(status[name] + 1)
                with m.If(complete & self.serializer.idle & sequencer.idle & self.line_buffer.idle):
                    m.d.comb += descriptor.done.eq(1)
                    m.next = "REPORT"
            with m.State("REPORT"):
                m.d.comb += engine.status.valid.eq(1)
                with m.If(engine.status.ready):
                    m.next = "IDLE"
