"""The engine: all stages joined, with a stream at every port."""

from __future__ import annotations

from collections.abc import Callable

from amaranth import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from winohw.gateware.accumulator import Accumulator
from winohw.gateware.compact_engine import elaborate_compact
from winohw.gateware.config import EngineConfig
from winohw.gateware.descriptor import DescriptorReader, LayerError, status_layout
from winohw.gateware.drain_buffer import DrainBuffer
from winohw.gateware.fan_out import FanOut
from winohw.gateware.input_transform import InputTransform
from winohw.gateware.line_buffer import LineBuffer
from winohw.gateware.mac_array import MacArray
from winohw.gateware.output_transform import OutputTransform
from winohw.gateware.requantizer import Requantizer
from winohw.gateware.row_serializer import RowSerializer
from winohw.gateware.sequencer import Sequencer
from winohw.gateware.shift_table import ShiftTable
from winohw.gateware.stationary_engine import elaborate_stationary
from winohw.gateware.weight_loader import WeightLoader
from winohw.gateware.weight_pacer import WeightPacer
from winohw.gateware.weight_transform import HostWeights, WeightTransform

__all__ = ["PROBES", "Engine"]

#: Stages that can be watched: name of the golden model's stage and of the stream that carries it.
PROBES = ("input_transform", "weight_transform", "product", "output_transform")


class Engine(wiring.Component):
    """Runs whole int8 convolution layers.

    A layer starts with its descriptor; weights and pixels are then taken as they are needed, and output pixels are
    given in the order of `Job.output_order`. After the last of them, or on a descriptor that is refused, one beat of
    status follows, and the engine waits for the next descriptor.

    Latency: from the descriptor's last word a few hundred cycles of checks, then as the loops of `Sequencer`.
    Throughput: a patch chunk a cycle. Backpressure: every port may stall for ever at any time, nothing is lost.

    Parameters
    ----------
    config: see `EngineConfig`.
    probe: adds the streams `PROBES` that show intermediate stages, for debugging in simulation.

    Members
    -------
    layer : stream of descriptor words, {word, last}; see `winohw.gateware.descriptor`.
    weights : stream of weight beats, [weight_bytes] int8; see `WeightLoader`.
    pixels : stream of pixel groups, [Pc] int8, in the order image, row, column, group.
    o : stream of {pixels: [requantizer_lanes] int8, count, last}.
    status : stream of `status_layout()`, a beat a descriptor.
    """

    def __init__(self, config: EngineConfig, *, probe: bool = False):
        self.config = config
        self.probe = probe
        n, q = config.input_tile, config.columns
        lanes = config.requantizer_lanes
        members = {
            "layer": In(stream.Signature(data.StructLayout({"word": 32, "last": 1}))),
            "weights": In(stream.Signature(data.ArrayLayout(signed(8), config.weight_bytes))),
            "pixels": In(stream.Signature(data.ArrayLayout(signed(8), config.input_lanes))),
            "o": Out(
                stream.Signature(
                    data.StructLayout(
                        {"pixels": data.ArrayLayout(signed(8), lanes), "count": range(lanes + 1), "last": 1}
                    )
                )
            ),
            "status": Out(stream.Signature(status_layout())),
        }
        if probe:
            taps = data.ArrayLayout(data.ArrayLayout(signed(config.v_bits), q), n)
            kernel = data.ArrayLayout(data.ArrayLayout(signed(config.u_bits), n), n)
            sums = data.ArrayLayout(data.ArrayLayout(signed(config.acc_bits), q), n)
            row = data.ArrayLayout(signed(32), config.largest_tile)
            members |= {
                "input_transform": Out(stream.Signature(data.ArrayLayout(taps, config.input_lanes), always_ready=True)),
                "weight_transform": Out(stream.Signature(kernel, always_ready=True)),
                "product": Out(stream.Signature(data.ArrayLayout(sums, config.output_lanes), always_ready=True)),
                "output_transform": Out(
                    stream.Signature(data.ArrayLayout(row, config.output_lanes), always_ready=True)
                ),
            }
        super().__init__(members)

    def elaborate(self, platform) -> Module:
        if self.config.small:
            return {"compact": elaborate_compact, "stationary": elaborate_stationary}[self.config.datapath](self)
        m = Module()
        config = self.config
        n, q, count = config.input_tile, config.columns, config.dimension_bits

        m.submodules.descriptor = descriptor = DescriptorReader(config.limits())
        m.submodules.line_buffer = line_buffer = LineBuffer(
            input_tile=n,
            steps=config.steps,
            lanes=config.input_lanes,
            fold=config.fold,
            words=config.line_words,
            dimension_bits=count,
            memory=config.family,
        )
        input_transforms = [InputTransform.of(config) for _ in range(config.input_lanes)]
        for lane, transform in enumerate(input_transforms):
            m.submodules[f"input_transform_{lane}"] = transform
        m.submodules.mac_array = mac_array = MacArray(
            input_tile=n,
            fold=config.fold,
            input_lanes=config.input_lanes,
            output_lanes=config.output_lanes,
            v_bits=config.v_bits,
            u_bits=config.u_bits,
            kind=config.multiplier,
            relay=True,
        )
        m.submodules.accumulator = accumulator = Accumulator(
            output_lanes=config.output_lanes,
            input_tile=n,
            columns=q,
            sum_bits=mac_array.sum_bits,
            acc_bits=config.acc_bits,
            depth=config.max_tiles * config.fold,
            memory=config.family,
        )
        m.submodules.drain_buffer = drain_buffer = DrainBuffer.of(config)
        m.submodules.output_transform = output_transform = OutputTransform.of(config, drain_buffer.latency)
        m.submodules.serializer = serializer = RowSerializer(
            output_lanes=config.output_lanes,
            row_pixels=config.largest_tile,
            lanes=config.requantizer_lanes,
            dimension_bits=count,
        )
        m.submodules.requantizer = requantizer = Requantizer(
            config.requantizer_lanes, kind=config.requantizer, multiplier=config.multiplier, slack=serializer.slack
        )
        m.submodules.weight_transform = weight_transform = (
            WeightTransform.of(config) if config.weights == "chip" else HostWeights(n=n, u_bits=config.u_bits)
        )
        m.submodules.sequencer = sequencer = Sequencer(
            fold=config.fold,
            max_tiles=config.max_tiles,
            least_group=accumulator.recurrence,
            drain_capacity=drain_buffer.depth,
            dimension_bits=count,
        )
        # Cycles from the sequencer's decision to start a group to the swap of the weights in the array.
        to_array = sequencer.latency + line_buffer.read_latency + input_transforms[0].chunk_latency
        most_rows = max(config.group_rows(kernel) for kernel in config.kernels)
        m.submodules.weight_loader = weight_loader = WeightLoader(
            beat_bytes=config.weight_bytes,
            output_lanes=config.output_lanes,
            fifo_rows=2 * most_rows,
            # A group may start three cycles after its last row has arrived: that row must be loaded before the swap.
            ready_delay=max(0, weight_transform.latency - to_array + 1),
            dimension_bits=count,
        )
        # The first kernel of the next group shall be there in the cycle after the swap; the pacer hears of the group's
        # start a cycle later.
        ideal = {
            r: to_array + mac_array.swap_delay + 1 - config.kernel_rows(r) - weight_transform.latency
            for r in config.kernels
        }
        m.submodules.weight_pacer = weight_pacer = WeightPacer(
            row_bytes=config.weight_bytes,
            delays={r: max(1, delay) for r, delay in ideal.items()},
            most_rows=most_rows,
        )
        late = {r: max(0, 1 - delay) for r, delay in ideal.items()}

        # --- the layer's values go to whoever needs them -------------------------------------------------------------
        job = descriptor.job
        start = Signal()
        # Each has them in registers of its own, near to where it compares them.
        for name, component in (
            ("line_buffer", line_buffer),
            ("sequencer", sequencer),
            ("weight_loader", weight_loader),
            ("weight_pacer", weight_pacer),
            ("serializer", serializer),
            ("requantizer", requantizer),
        ):
            if "start" in component.signature.members:
                m.d.comb += component.start.eq(start)
            inputs = {
                field: getattr(component, field)
                for field in job.shape().members
                if field in component.signature.members
            }
            fields = Cat(job[field][: len(inputs[field])] for field in inputs)
            if inputs:
                m.submodules[f"{name}_fields"] = copy = FanOut(len(fields), 1, config.family)
                m.d.comb += [copy.i.eq(fields), Cat(inputs.values()).eq(copy.o[0])]
        tile_size = self._of_kernel(m, job.kernel, lambda kernel: n + 1 - kernel)
        rows = self._of_kernel(m, job.kernel, config.group_rows)
        interval = self._of_kernel(m, job.kernel, lambda kernel: config.group_interval(kernel) + late[kernel])
        m.d.comb += [
            line_buffer.step.eq(job.stride if config.direct else tile_size),
            sequencer.group_interval.eq(interval),
            weight_loader.group_rows.eq(rows),
            weight_pacer.group_rows.eq(rows),
            serializer.tile_size.eq(tile_size),
            output_transform.kernel.eq(job.kernel),
        ]
        if config.weights == "chip":
            m.d.comb += weight_transform.kernel.eq(job.kernel)
        if config.quantized:
            m.submodules.shift_table = shift_table = ShiftTable(n * n)
            wiring.connect(m, descriptor.tap, shift_table.i)
            for i in range(n):
                for j in range(n):
                    entry = shift_table.o[i * n + j]
                    m.d.comb += [transform.shift[i][j].eq(entry.v) for transform in input_transforms]
                    m.d.comb += output_transform.shift[i][j].eq(entry.m)
                    if config.weights == "chip":
                        m.d.comb += weight_transform.shift[i][j].eq(entry.u)

        # --- ports ---------------------------------------------------------------------------------------------------
        wiring.connect(m, wiring.flipped(self.layer), descriptor.i)
        wiring.connect(m, wiring.flipped(self.weights), weight_loader.i)
        wiring.connect(m, wiring.flipped(self.pixels), line_buffer.i)

        # --- the datapath that never stalls --------------------------------------------------------------------------
        m.d.comb += [
            line_buffer.read.valid.eq(sequencer.o.valid),
            line_buffer.read.payload.eq(sequencer.o.payload.line),
            line_buffer.free.eq(sequencer.free),
            sequencer.row_done.eq(line_buffer.row_done),
            sequencer.weights_ready.eq(weight_loader.weights_ready),
            sequencer.drained.eq(drain_buffer.drained),
        ]
        for lane, transform in enumerate(input_transforms):
            m.d.comb += [
                transform.i.valid.eq(line_buffer.o.valid),
                transform.i.payload.eq(line_buffer.o.payload[lane]),
                mac_array.i.payload.v[lane].eq(transform.o.payload),
            ]
        m.d.comb += mac_array.i.valid.eq(input_transforms[0].o.valid)
        # What the token says about a chunk travels beside it.
        swap = sequencer.o.payload.swap & sequencer.o.valid
        m.d.comb += mac_array.i.payload.swap.eq(
            self._delay(m, swap, line_buffer.read_latency + input_transforms[0].chunk_latency, "swap")
        )
        control = Cat(sequencer.o.payload.accumulator, sequencer.o.payload.first, sequencer.o.payload.last)
        to_sums = line_buffer.read_latency + input_transforms[0].chunk_latency + mac_array.latency
        m.d.comb += accumulator.control.as_value().eq(self._delay(m, control, to_sums - accumulator.lead, "control"))
        wiring.connect(m, mac_array.o, accumulator.i)
        m.d.comb += [
            accumulator.i_coming.eq(mac_array.o_coming),
            drain_buffer.coming.eq(accumulator.o_coming),
            drain_buffer.i.eq(accumulator.o.payload),
        ]

        # --- weights: one kernel after another moves into the shadow registers ---------------------------------------
        wiring.connect(m, weight_loader.rows, weight_pacer.i)
        wiring.connect(m, weight_pacer.o, weight_transform.i)
        m.d.comb += weight_pacer.started.eq(sequencer.started)
        m.d.comb += [
            mac_array.u.eq(weight_transform.o.payload),
            mac_array.u_coming.eq(weight_transform.coming),
        ]

        # --- from the accumulators to pixels -------------------------------------------------------------------------
        m.d.comb += [
            drain_buffer.room.eq(output_transform.room),
            output_transform.started.eq(drain_buffer.started),
        ]
        wiring.connect(m, drain_buffer.o, output_transform.i)
        m.d.comb += [
            serializer.filled.eq(output_transform.filled),
            serializer.i.eq(output_transform.o),
            output_transform.pop.eq(serializer.pop),
        ]
        wiring.connect(m, weight_loader.constants, serializer.constants)
        m.d.comb += [
            requantizer.i.valid.eq(serializer.o.valid),
            serializer.o.ready.eq(requantizer.i.ready),
            requantizer.i.payload.acc.eq(serializer.o.payload.acc),
            requantizer.i.payload.bias.eq(serializer.o.payload.constants.bias),
            requantizer.i.payload.multiplier.eq(serializer.o.payload.constants.multiplier),
            requantizer.i.payload.shift.eq(serializer.o.payload.constants.shift),
            requantizer.i.payload.count.eq(serializer.o.payload.count),
            requantizer.i.payload.last.eq(serializer.o.payload.last),
        ]
        wiring.connect(m, requantizer.o, wiring.flipped(self.o))

        # --- one layer after another ---------------------------------------------------------------------------------
        status = self.status.payload
        counters = {name: Signal(name=name) for name in ("busy", "wait_pixels", "wait_weights", "wait_drain")}
        running = Signal()
        # Two registers: the first one may be one of the sequencer's own, and shall not be drawn to the counters.
        for name, active in counters.items():
            near = Signal(name=f"{name}_near")
            m.d.sync += [near.eq(getattr(sequencer, name)), active.eq(near & running)]
            with m.If(active):
                m.d.sync += status[name].eq(status[name] + 1)
        complete, finished = Signal(), Signal()
        with m.If(self.o.valid & self.o.ready & self.o.payload.last):
            m.d.sync += complete.eq(1)
        m.d.sync += finished.eq(complete & serializer.idle & sequencer.idle & line_buffer.idle)
        settled = Signal(6)  # what is derived from the descriptor stands
        m.d.sync += [settled.eq(Mux(descriptor.valid, Cat(1, settled), 0)), start.eq(0)]
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [status.cycles.eq(0), status.code.eq(LayerError.OK), complete.eq(0)]
                m.d.sync += [status[name].eq(0) for name in counters]
                with m.If(descriptor.error_strobe):
                    m.d.sync += status.code.eq(descriptor.error)
                    m.next = "REPORT"
                with m.Elif(settled[-1]):
                    m.d.sync += start.eq(1)
                    m.next = "START"
            with m.State("START"):
                m.d.sync += status.cycles.eq(1)
                m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += running.eq(1)
                m.d.sync += status.cycles.eq(status.cycles + 1)
                with m.If(finished):
                    m.d.comb += descriptor.done.eq(1)
                    m.next = "REPORT"
            with m.State("REPORT"):
                m.d.comb += self.status.valid.eq(1)
                with m.If(self.status.ready):
                    m.next = "IDLE"

        if self.probe:
            m.d.comb += [
                self.input_transform.valid.eq(mac_array.i.valid),
                self.input_transform.payload.eq(mac_array.i.payload.v),
                self.weight_transform.valid.eq(weight_transform.o.valid),
                self.weight_transform.payload.eq(weight_transform.o.payload),
                self.product.valid.eq(accumulator.o.valid),
                self.product.payload.eq(accumulator.o.payload),
                self.output_transform.payload.eq(output_transform.o),
            ]
            m.d.sync += self.output_transform.valid.eq(output_transform.pop)
        return m

    def _of_kernel(self, m: Module, kernel: Value, function: Callable[[int], int]) -> Value:
        """What follows from the layer's kernel size."""
        values = {size: function(size) for size in self.config.kernels}
        if len(values) == 1:
            return Const(*values.values())
        value = Signal(range(max(values.values()) + 1))
        for size, result in values.items():
            with m.If(kernel == size):
                m.d.sync += value.eq(result)
        return value

    @staticmethod
    def _delay(m: Module, value: Value, cycles: int, name: str) -> Value:
        for step in range(cycles):
            later = Signal(len(value), name=f"{name}_{step}", reset_less=step > 0)
            m.d.sync += later.eq(value)
            value = later
        return value
