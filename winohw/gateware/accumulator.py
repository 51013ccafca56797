"""The accumulators: sums of many tiles, each added up over the groups of input channels."""

import numpy as np
from amaranth.hdl import Cat, Module, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import ArrayLike, NDArray

from winohw.algorithm.modular import wrap
from winohw.gateware.fan_out import FanOut
from winohw.gateware.gated_adder import GatedAdder
from winohw.gateware.memory import Memory

__all__ = ["RECURRENCE", "Accumulator"]

#: Least distance, in cycles, from a chunk to the one that is added to it.
RECURRENCE = 4


class Accumulator(wiring.Component):
    """Adds each chunk of sums to the chunk it has stored at the same address, modulo ``2**acc_bits``.

    With ``first`` the chunk replaces what is stored. With ``last`` the total leaves at ``o``, and what is stored there
    is undefined afterwards; otherwise the total is stored.

    ``control`` belongs to the chunk that comes at ``i`` exactly ``lead`` cycles later, valid or not: the memory takes
    that long to answer, and it is cheaper to know the address early than to hold all sums back.

    Latency: ``latency`` from ``i`` to ``o``. Throughput: a chunk a cycle, but a chunk must come at least
    ``recurrence`` cycles after the one that it is added to. Never stalls.

    Parameters
    ----------
    output_lanes : int
        Pk.
    input_tile : int
        n, rows of a chunk.
    columns : int
        Q, columns of a chunk.
    sum_bits : int
        Width of a sum.
    acc_bits : int
        Width of an accumulator.
    depth : int
        Chunks that are stored.
    memory : str
        Kind of :class:`Memory`. ``ecp5`` has a memory and a copy of the control signals for every sum of a chunk.

    Attributes
    ----------
    lead : int
        Cycles by which ``control`` precedes ``i``: 4.
    latency : int
        Cycles: 1.
    recurrence : int
        Cycles: :data:`RECURRENCE`.

    Members
    -------
    control : In(StructLayout({addr: range(depth), first: 1, last: 1}))
    i : In(stream.Signature([Pk][n][Q] signed(sum_bits), always_ready=True))
    o : Out(stream.Signature([Pk][n][Q] signed(acc_bits), always_ready=True))
    i_coming : In(1)
        Strobe, a cycle before ``i.valid``.
    o_coming : Out(1)
        Strobe, two cycles before ``o.valid``.

    Raises
    ------
    ValueError
        If a size is below 1; and as :class:`Memory`.
    """

    lead = 2 + Memory.latency
    latency = 1
    recurrence = RECURRENCE

    def __init__(
        self,
        *,
        output_lanes: int = 1,
        input_tile: int,
        columns: int,
        sum_bits: int,
        acc_bits: int,
        depth: int,
        memory: str = "generic",
    ):
        for name, value in (
            ("output_lanes", output_lanes),
            ("input_tile", input_tile),
            ("columns", columns),
            ("sum_bits", sum_bits),
            ("acc_bits", acc_bits),
        ):
            if value < 1:
                raise ValueError(f"Accumulator {name} must be 1 or more, not {value!r}")
        Memory.check_parameters(acc_bits, depth, memory)
        self.output_lanes = output_lanes
        self.input_tile = input_tile
        self.columns = columns
        self.sum_bits = sum_bits
        self.acc_bits = acc_bits
        self.depth = depth
        self.memory = memory
        super().__init__(
            {
                "control": In(data.StructLayout({"addr": range(depth), "first": 1, "last": 1})),
                "i": In(stream.Signature(self._chunk(sum_bits), always_ready=True)),
                "o": Out(stream.Signature(self._chunk(acc_bits), always_ready=True)),
                "i_coming": In(1),
                "o_coming": Out(1),
            }
        )

    def _chunk(self, bits: int) -> data.ArrayLayout:
        row = data.ArrayLayout(signed(bits), self.columns)
        return data.ArrayLayout(data.ArrayLayout(row, self.input_tile), self.output_lanes)

    def model(self, sums: ArrayLike, addr: ArrayLike, first: ArrayLike, last: ArrayLike) -> NDArray[np.int64]:
        """What leaves at ``o``.

        Parameters
        ----------
        sums : array of int
            ``[chunk, k, i, a]``.
        addr, first, last : array of int
            ``[chunk]``.

        Returns
        -------
        ndarray of int64
            ``[chunk, k, i, a]``, a chunk for each ``last``.

        Raises
        ------
        KeyError
            If a chunk is to be added to one that is not stored.
        """
        stored: dict[int, NDArray[np.int64]] = {}
        given = [np.empty((0, self.output_lanes, self.input_tile, self.columns), np.int64)]
        for chunk, a, f, is_last in zip(np.asarray(sums, np.int64), addr, first, last, strict=True):
            total = wrap(chunk if f else stored.pop(a) + chunk, self.acc_bits)
            if is_last:
                given.append(total[None])
                stored.pop(a, None)
            else:
                stored[a] = total
        return np.concatenate(given)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        total_lanes = self.output_lanes * self.input_tile * self.columns
        # Lanes that share a memory and its control.
        banks = total_lanes if self.memory == "ecp5" else 1
        lanes = total_lanes // banks

        m.submodules.control = control = FanOut(len(self.control.as_value()), banks, self.memory, levels=2)
        m.submodules.store = store = FanOut(1, banks, self.memory, levels=2)
        last = Signal(self.lead)
        m.d.sync += last.eq(Cat(self.control.last, last))
        m.d.comb += [
            control.i.eq(self.control.as_value()),
            store.i.eq(self.i_coming & ~last[-2]),
            self.o_coming.eq(self.i_coming & last[-2]),
        ]
        m.d.sync += self.o.valid.eq(self.i.valid & last[-1])

        sums = [entry for lane in self.i.payload for row in lane for entry in row]
        outputs = [entry for lane in self.o.payload for row in lane for entry in row]
        for bank in range(banks):
            m.submodules[f"memory{bank}"] = memory = Memory(lanes * self.acc_bits, self.depth, self.memory)
            # From the cycle in which the word is read to the one in which the total is written.
            pipeline = [data.View(self.control.shape(), control.o[bank])]
            for stage in range(1, Memory.latency + 2):
                pipeline.append(Signal(self.control.shape(), name=f"control{bank}_{stage}", reset_less=True))
                m.d.sync += pipeline[-1].eq(pipeline[-2])
            m.d.comb += [
                memory.read_addr.eq(pipeline[0].addr),
                memory.write_addr.eq(pipeline[-1].addr),
                memory.write_en.eq(store.o[bank]),
            ]
            for lane in range(lanes):
                m.submodules[f"adder{bank}_{lane}"] = adder = GatedAdder(self.acc_bits, self.memory)
                total = Signal(signed(self.acc_bits), name=f"total{bank}_{lane}", reset_less=True)
                word = slice(lane * self.acc_bits, (lane + 1) * self.acc_bits)
                m.d.comb += [
                    adder.a.eq(sums[bank * lanes + lane]),
                    adder.b.eq(memory.read_data[word]),
                    adder.alone.eq(pipeline[-2].first),
                    memory.write_data[word].eq(total),
                    outputs[bank * lanes + lane].eq(total),
                ]
                m.d.sync += total.eq(adder.o)
        return m
