# amaranth: UnusedElaboratable=no
"""The drain buffer: takes whole chunks of finished sums as they come, hands tiles on a few columns at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from amaranth import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import NDArray

from winohw.gateware.fan_out import FanOut
from winohw.gateware.fill_level import fill_level
from winohw.gateware.memory import Memory
from winohw.gateware.pipeline import delayed

if TYPE_CHECKING:
    from winohw.gateware.config import EngineConfig

__all__ = ["DrainBuffer"]

#: Cycles that control signals take to the memories.
_CONTROL = 2


class DrainBuffer(wiring.Component):
    """Decouples the array, which finishes a chunk of Q columns a cycle, from the output transform, which takes fewer.

    The array's next group of output channels accumulates while the buffer is emptied. The writer must keep count of
    the room: it starts with `depth` tiles and gets one back with each `drained`.

    Each beat of a chunk has memories of its own, and behind them a chain: the beat read out of the last memory leaves
    at once, the one of the memory before enters the chain there and leaves a cycle later, and so on. What the chain
    takes from a memory, and when, comes to it along a chain as well, two cycles a memory: so there is no net to all of
    the buffer, and nothing ever stalls. Once a tile is started, its columns leave without a pause.

    Latency: `latency` cycles from `started` to the tile's first columns. Throughput: a chunk in and a beat out a cycle.

    Parameters
    ----------
    output_lanes : int
        Pk, 1 or more.
    input_tile : int
        n, 1 or more.
    fold : int
        Chunks a tile; divides n. A chunk has Q = n / fold columns.
    bits : int
        Width of a sum, 1 or more.
    depth : int
        Tiles, 1 or more.
    output_columns : int
        Columns a beat out; divides Q.
    memory : str
        Kind of the memory, see `winohw.gateware.memory`. ``ecp5`` has memories for every row, with pointers of
        their own.

    Attributes
    ----------
    columns : int
        Q.
    tile_beats : int
        n / output_columns, beats a tile.
    latency : int
        Cycles: 4 and those of the chain, Q / output_columns.
    drained_latency : int
        Cycles from `started` to `drained`.

    Members
    -------
    coming : In(1)
        Strobe, two cycles before a chunk is at `i`. The chunks of a tile come in cycles that follow one another.
    i : In(ArrayLayout(ArrayLayout(ArrayLayout(signed(bits), Q), n), Pk))
        A chunk, ``[lane][row][column in chunk]``, first columns first.
    room : In(1)
        Whether the receiver takes one more tile. A tile must not be started in the `tile_beats` - 1 cycles after
        another one.
    started : Out(1)
        Strobe, a tile is on its way.
    o : Out(stream.Signature(ArrayLayout(ArrayLayout(ArrayLayout(signed(bits), output_columns), n), Pk)))
        Columns, ``[lane][row][column in beat]``; always ready.
    drained : Out(1)
        Strobe, room for one more tile.

    Raises
    ------
    ValueError
        If a size is out of its range, or the memory cannot be built.
    """

    def __init__(
        self,
        *,
        output_lanes: int,
        input_tile: int,
        fold: int = 1,
        bits: int,
        depth: int,
        output_columns: int = 1,
        memory: str = "generic",
    ):
        for name, value in (
            ("output_lanes", output_lanes),
            ("input_tile", input_tile),
            ("bits", bits),
            ("depth", depth),
        ):
            if value < 1:
                raise ValueError(f"{name} must be 1 or more, not {value!r}")
        if fold < 1 or input_tile % fold:
            raise ValueError(f"fold must divide the input tile {input_tile}, not {fold!r}")
        self.columns = input_tile // fold
        if output_columns < 1 or self.columns % output_columns:
            raise ValueError(
                f"output_columns must divide the {self.columns} columns of a chunk, not {output_columns!r}"
            )
        Memory.check_parameters(bits, depth * fold, memory)
        self.output_lanes = output_lanes
        self.input_tile = input_tile
        self.fold = fold
        self.bits = bits
        self.depth = depth
        self.output_columns = output_columns
        self.memory = memory
        self.tile_beats = input_tile // output_columns
        self._stages = self.columns // output_columns
        self.latency = _CONTROL + Memory.latency + self._stages
        # The chunks of a tile leave one after another, and with the last read of the last one there is room again.
        self.drained_latency = max(1, (fold - 1) * self._stages + 2 * (self._stages - 1))
        super().__init__(
            {
                "coming": In(1),
                "i": In(self._layout(self.columns)),
                "room": In(1),
                "started": Out(1),
                "o": Out(stream.Signature(self._layout(output_columns), always_ready=True)),
                "drained": Out(1),
            }
        )

    @classmethod
    def of(cls, config: EngineConfig) -> DrainBuffer:
        """The drain buffer of an engine."""
        return cls(
            output_lanes=config.output_lanes,
            input_tile=config.input_tile,
            fold=config.fold,
            bits=config.acc_bits,
            depth=config.drain_tiles,
            output_columns=config.output_columns,
            memory=config.family,
        )

    def _layout(self, columns: int) -> data.ArrayLayout:
        row = data.ArrayLayout(signed(self.bits), columns)
        return data.ArrayLayout(data.ArrayLayout(row, self.input_tile), self.output_lanes)

    def model(self, chunks: NDArray[np.integer]) -> NDArray[np.integer]:
        """All beats out, ``[k · Q / output_columns][lane][row][column]``, of ``[k][lane][row][column in chunk]``."""
        split = chunks.reshape(*chunks.shape[:3], -1, self.output_columns)
        return np.moveaxis(split, 3, 1).reshape(-1, self.output_lanes, self.input_tile, self.output_columns)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        fold, stages = self.fold, self._stages

        # --- tiles that may be started -------------------------------------------------------------------------------
        tile_coming = self.coming
        if fold > 1:
            phase = Signal(range(fold))
            with m.If(self.coming):
                m.d.sync += phase.eq(Mux(phase == fold - 1, 0, phase + 1))
            tile_coming = self.coming & (phase == 0)
        filled, _ = fill_level(m, self.depth, tile_coming, self.started)
        m.d.comb += self.started.eq(filled & self.room)
        age = Signal(self.drained_latency)
        m.d.sync += age.eq(age << 1 | self.started)
        ages = Cat(self.started, age)
        chunk_started = Signal()
        m.d.comb += [
            chunk_started.eq(Cat(ages[k * stages] for k in range(fold)).any()),
            self.drained.eq(ages[-1]),
        ]

        # --- memories and chains -------------------------------------------------------------------------------------
        rows = self.output_lanes * self.input_tile
        banks = rows if self.memory == "ecp5" else 1
        m.submodules.write = write = FanOut(1, banks * stages, self.memory, _CONTROL)
        m.submodules.read = read = FanOut(1, banks, self.memory, _CONTROL)
        m.d.comb += [write.i.eq(self.coming), read.i.eq(chunk_started)]
        sums = [row for lane in self.i for row in lane]
        outputs = [row for lane in self.o.payload for row in lane]
        depth, width = self.depth * fold, self.bits * self.output_columns
        for k in range(banks):
            of_bank = slice(k * rows // banks, (k + 1) * rows // banks)
            read_at = _pointer(m, f"read_at{k}", read.o[k][0], depth)
            take, address, chain = read.o[k][0], read_at, None
            for stage in range(stages):
                m.submodules[f"memory{k}_{stage}"] = memory = Memory(width * len(sums[of_bank]), depth, self.memory)
                word = Cat(row.as_value()[stage * width :][:width] for row in sums[of_bank])
                written = write.o[k * stages + stage][0]
                m.d.comb += [
                    memory.write_en.eq(written),
                    memory.write_addr.eq(_pointer(m, f"write_at{k}_{stage}", written, depth)),
                    memory.write_data.eq(word),
                    memory.read_addr.eq(address),
                ]
                # The word is there when the next memory is told to read.
                take = delayed(m, take, Memory.latency, name=f"take{k}_{stage}")
                address = delayed(m, address, Memory.latency, name=f"address{k}_{stage}", reset_less=True)
                held = Signal(len(word), name=f"held{k}_{stage}", reset_less=True)
                m.d.sync += held.eq(memory.read_data if chain is None else Mux(take, memory.read_data, chain))
                chain = held
            m.d.comb += Cat(row.as_value() for row in outputs[of_bank]).eq(chain)

        flight = Signal(self.latency + stages - 2)
        m.d.sync += [
            flight.eq(flight << 1 | chunk_started),
            self.o.valid.eq(Cat(chunk_started, flight)[self.latency - 1 :].any()),
        ]
        return m


def _pointer(m: Module, name: str, moves: Value, depth: int) -> Signal:
    """Counts modulo depth."""
    pointer = Signal(range(depth), name=name)
    with m.If(moves):
        m.d.sync += pointer.eq(pointer + 1)
        with m.If(pointer == depth - 1):
            m.d.sync += pointer.eq(0)
    return pointer
