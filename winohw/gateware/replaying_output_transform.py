# amaranth: UnusedElaboratable=no
"""The output transform of a stationary engine: entries of M wait in memory, and are added up row after row of Y."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from amaranth.hdl import Array, Cat, Const, EnableInserter, Module, Mux, Signal, Value, signed
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import ArrayLike, NDArray

from winohw.algorithm.ranges import signed_bits
from winohw.algorithm.toomcook import Winograd
from winohw.gateware.linear import LinearNetwork
from winohw.gateware.memory import MEMORY_OUTPUT
from winohw.gateware.narrow import Narrow
from winohw.gateware.pipeline import delayed
from winohw.numerics.formats import Narrowing, signed_range
from winohw.numerics.golden import transform

__all__ = ["ReplayingOutputTransform"]

_RESULT_BITS = 32
#: Tiles that are filled, wait, or are at work.
_TILES = 2


@dataclass(frozen=True)
class _Position:
    """Of a sum: its chunk, tap and output lane, whether it is the chunk's last one; the tap of the next cycle."""

    chunk: Signal
    row: Signal
    column: Value
    lane: Signal
    last: Value
    next_row: Signal
    next_column: Value


class ReplayingOutputTransform(wiring.Component):
    """Computes ``Y = Aᵀ M A`` of Pk output channels at a time, of sums that come one by one.

    A tile comes in ``fold`` chunks of Q columns, a chunk output channel by output channel, each in the order row,
    column. A sum becomes an entry of M, narrowed by the shift of its tap, and goes to memory. When a tile is complete
    its entries are read again for each row of Y, those that count: m adders make the row of an output channel, then
    that of the next, then the next row. Odd multiples of an entry, of either sign, come from a `LinearNetwork`; an
    adder takes one of them, shifted, or nothing.

    Backpressure: a row of Y that cannot leave stops the adders; while the memory is full, sums wait.

    Latency: `latency` cycles from a tile's last sum to its first result, if the adders are free. Throughput: a sum a
    cycle, chunks without a gap, and a tile each `tile_cycles` cycles.

    Parameters
    ----------
    winograd : Winograd
        Matrices.
    fold : int
        Chunks a tile.
    output_lanes : int
        Pk.
    sum_bits : int
        Width of a sum.
    narrowing : Narrowing
        Width, rounding and saturation of M; its shifts come by the port.
    max_shift : int
        Greatest shift.
    ahead : int
        See `left`.

    Attributes
    ----------
    columns : int
        Q = n / fold.
    sums : int
        Of a chunk: n · Q · Pk.
    row_cycles : tuple of int
        Cycles that the adders take for each row of Y of one output channel.
    tile_cycles : int
        Cycles that they take for a tile.
    latency : int
        See above.
    to_memory : int
        Cycles from a sum to the earliest beginning of its tile.

    Members
    -------
    filled : In(1)
        Strobe, a chunk's sums have come.
    i : In(signed(sum_bits))
        The first of its sums that has not been taken.
    taken : Out(1)
        It is taken.
    left : Out(1)
        Strobe, the chunk's last sum is taken ``ahead`` cycles from now.
    row, column : Out(range(n))
        The tap whose shift is wanted in the next cycle.
    shift : In(range(max_shift + 1))
        The shift of the tap that was told a cycle before.
    o : Out(stream.Signature(signed(32)))
        Y, row by row, in each row output channel by output channel.

    Raises
    ------
    ValueError
        If ``ahead`` is more than a chunk has sums.
    """

    def __init__(
        self,
        winograd: Winograd,
        *,
        fold: int,
        output_lanes: int,
        sum_bits: int,
        narrowing: Narrowing,
        max_shift: int,
        ahead: int,
    ):
        n = winograd.n
        self.winograd = winograd
        self.fold = fold
        self.output_lanes = output_lanes
        self.sum_bits = sum_bits
        self.narrowing = narrowing
        self.max_shift = max_shift
        self.ahead = ahead
        self.columns = n // fold
        self.sums = n * self.columns * output_lanes
        if not 0 <= ahead < self.sums:
            raise ValueError(f"ahead must be within 0 ... {self.sums - 1}, not {ahead!r}")
        self._narrow = Narrow(sum_bits, narrowing.bits, max_shift, narrowing.rounding, saturate=narrowing.saturate)
        # For each row of Y the rows of M that count.
        self._used = [np.flatnonzero(row).tolist() for row in winograd.at]
        self.row_cycles = tuple(len(rows) * n for rows in self._used)
        self.tile_cycles = sum(self.row_cycles) * output_lanes
        self._odd = sorted({_split(factor)[0] for factor in self._factors().ravel().tolist() if factor})
        self._multiplied = LinearNetwork([[odd] for odd in self._odd], [signed_range(narrowing.bits)])
        self.to_memory = self._narrow.latency + 1
        # From a step of the adders: memory, multiple, what is added, the sum, and where it leaves from.
        self.latency = self.to_memory + self.row_cycles[0] - 1 + self._multiplied.latency + 4
        growth = int(np.abs(winograd.at).sum(axis=1).max()) ** 2 << narrowing.bits - 1
        self._bits = signed_bits(-growth, growth)
        super().__init__(
            {
                "filled": In(1),
                "i": In(signed(sum_bits)),
                "taken": Out(1),
                "left": Out(1),
                "row": Out(range(n)),
                "column": Out(range(n)),
                "shift": In(range(max_shift + 1)),
                "o": Out(stream.Signature(signed(_RESULT_BITS))),
            }
        )

    def model(self, sums: ArrayLike, shift: ArrayLike) -> NDArray[np.int64]:
        """All results, one axis, of sums ``[tile * fold * Pk * n * Q]`` and the table of shifts."""
        n, lanes, size = self.winograd.n, self.output_lanes, self.winograd.tile_size
        m = np.asarray(sums).reshape(-1, self.fold, lanes, n, self.columns).transpose(0, 2, 3, 1, 4)
        y = transform(self.winograd.at, self.narrowing.with_shift(shift).apply(m.reshape(-1, lanes, n, n)))
        return y.reshape(-1, lanes, size, size).swapaxes(1, 2).ravel()

    def elaborate(self, platform: object) -> Module:
        m = Module()
        n, lanes = self.winograd.n, self.output_lanes
        bits, lane_bits = (n - 1).bit_length(), (lanes - 1).bit_length()

        # --- sums come -----------------------------------------------------------------------------------------------
        waiting, begun = Signal(), Signal()  # sums of a chunk; some of them have been taken
        tiles = Signal(range(_TILES + 1))  # in memory, or on their way to it
        number = Signal(range(self.sums))
        place = self._position(m, self.taken, "in")
        begins, read_over = Signal(), Signal()
        m.d.comb += [
            self.taken.eq(waiting & (begun | (place.chunk != 0) | (tiles != _TILES))),
            self.left.eq(self.taken & (number == self.sums - 1 - self.ahead)),
            begins.eq(self.taken & ~begun & (place.chunk == 0)),
            self.row.eq(place.next_row),
            self.column.eq(place.next_column),
        ]
        m.d.sync += tiles.eq(tiles + begins - read_over)
        with m.If(self.filled):
            m.d.sync += waiting.eq(1)
        with m.If(self.taken):
            m.d.sync += [number.eq(number + 1), begun.eq(1)]
            with m.If(place.last):
                m.d.sync += [number.eq(0), begun.eq(0), waiting.eq(0)]

        # --- each is narrowed by the shift of its tap, and goes to memory --------------------------------------------
        m.submodules.narrow = narrow = self._narrow
        m.d.comb += [narrow.i.eq(self.i), narrow.shift.eq(self.shift)]
        m.submodules.entries = entries = memory.Memory(
            shape=signed(self.narrowing.bits), depth=2 << 2 * bits + lane_bits, init=[], attrs={"no_rw_check": 1}
        )
        write, read = entries.write_port(), entries.read_port(domain="comb")
        there = delayed(m, self.taken, narrow.latency, name="there")
        place = self._position(m, there, "written")
        write_tile, complete = Signal(), Signal()
        m.d.comb += [
            write.en.eq(there),
            write.data.eq(narrow.o),
            write.addr.eq(Cat(place.column, place.row, place.lane[:lane_bits], write_tile)),
            complete.eq(there & place.last & (place.chunk == self.fold - 1)),
        ]
        m.d.sync += write_tile.eq(write_tile ^ complete)

        # --- and is read again for each row of Y ---------------------------------------------------------------------
        enable = Signal()
        ready_tiles, read_tile = Signal(range(_TILES + 1)), Signal()
        y_row, lane = Signal(range(self.winograd.tile_size)), Signal(range(lanes))
        used, column = Signal(range(n)), Signal(range(n))  # which of the rows of M that count
        step, column_last, row_last, lane_last, tile_last = (Signal() for _ in range(5))
        m.d.comb += [
            step.eq(enable & (ready_tiles != 0)),
            column_last.eq(column == n - 1),
            row_last.eq(column_last & (used == Array(len(rows) - 1 for rows in self._used)[y_row])),
            lane_last.eq(row_last & (lane == lanes - 1)),
            tile_last.eq(lane_last & (y_row == self.winograd.tile_size - 1)),
            read_over.eq(step & tile_last),
        ]
        m.d.sync += ready_tiles.eq(ready_tiles + complete - read_over)
        with m.If(step):
            m.d.sync += column.eq(column + 1)
            with m.If(column_last):
                m.d.sync += [column.eq(0), used.eq(used + 1)]
            with m.If(row_last):
                m.d.sync += [used.eq(0), lane.eq(lane + 1)]
            with m.If(lane_last):
                m.d.sync += [lane.eq(0), y_row.eq(y_row + 1)]
            with m.If(tile_last):
                m.d.sync += [y_row.eq(0), read_tile.eq(~read_tile)]
        row = Signal(bits)
        m.d.comb += [
            row.eq(Array(Array(rows) for rows in self._padded(self._used))[y_row][used]),
            read.addr.eq(Cat(column, row, lane[:lane_bits], read_tile)),
        ]

        # --- memory, multiple, what is added, sum --------------------------------------------------------------------
        at_adders = EnableInserter(enable)
        later = Module()
        later.submodules.multiplied = multiplied = self._multiplied
        entry = Signal(signed(self.narrowing.bits), name=MEMORY_OUTPUT, reset_less=True)
        later.d.sync += entry.eq(read.data)
        later.d.comb += multiplied.i[0].eq(entry)
        until_operand = 1 + multiplied.latency
        place = Cat(y_row, used, column)
        place = delayed(later, place, until_operand, name="place", reset_less=True)
        y_row_then, used_then = place[: len(y_row)], place[len(y_row) :][: len(used)]
        column_then = place[len(y_row) + len(used) :]
        flags = Cat(step, step & (used == 0) & (column == 0), step & row_last)
        adds, first, finishes = delayed(later, flags, until_operand + 1, name="flags")
        finished = delayed(later, finishes, 1, name="finished")
        row_sums = []
        for b in range(self.winograd.tile_size):
            operand = Signal(signed(self._bits), name=f"operand{b}", reset_less=True)
            total = Signal(signed(self._bits), name=f"total{b}", reset_less=True)
            later.d.sync += operand.eq(self._operand(b, y_row_then, used_then, column_then))
            with later.If(adds):
                later.d.sync += total.eq(Mux(first, operand, total + operand))
            row_sums.append(total)
        m.submodules.adders = at_adders(later)

        # --- a row of Y leaves ---------------------------------------------------------------------------------------
        leaving = Signal(self._bits * len(row_sums), reset_less=True)
        left = Signal(range(len(row_sums) + 1))
        m.d.comb += [
            enable.eq(~finished | (left == 0)),
            self.o.valid.eq(left != 0),
            self.o.payload.eq(leaving[: self._bits].as_signed()),
        ]
        with m.If(finished & enable):
            m.d.sync += [leaving.eq(Cat(row_sums)), left.eq(len(row_sums))]
        with m.Elif(self.o.valid & self.o.ready):
            m.d.sync += [leaving.eq(leaving >> self._bits), left.eq(left - 1)]
        return m

    def _position(self, m: Module, advance: Value, name: str) -> _Position:
        """Which sum it is; goes on with `advance`."""
        n, q, lanes, fold = self.winograd.n, self.columns, self.output_lanes, self.fold
        counts = {"a": q, "row": n, "lane": lanes, "chunk": fold}
        now = {key: Signal(range(turns), name=f"{name}_{key}") for key, turns in counts.items()}
        following = {key: Signal(range(turns), name=f"{name}_next_{key}") for key, turns in counts.items()}
        over: Value = advance
        for key, turns in counts.items():
            m.d.comb += following[key].eq(now[key])
            with m.If(over):
                m.d.comb += following[key].eq(Mux(now[key] == turns - 1, 0, now[key] + 1))
            over = over & (now[key] == turns - 1)
            m.d.sync += now[key].eq(following[key])
        last = Cat(now[key] == counts[key] - 1 for key in ("a", "row", "lane")).all()
        columns = Array(Array(range(first, first + q)) for first in range(0, n, q))
        return _Position(
            now["chunk"],
            now["row"],
            columns[now["chunk"]][now["a"]],
            now["lane"],
            last,
            following["row"],
            columns[following["chunk"]][following["a"]],
        )

    @staticmethod
    def _padded(rows: list[list[int]]) -> list[list[int]]:
        """All of the same length; what is added is never read."""
        most = max(map(len, rows))
        return [row + [0] * (most - len(row)) for row in rows]

    def _factors(self) -> NDArray[np.int64]:
        """How often an entry of M belongs to an entry of Y, ``[Y column][Y row][row of M that counts][column]``."""
        at = self.winograd.at
        rows = np.array(self._padded([at[a, used].tolist() for a, used in enumerate(self._used)]))
        return np.einsum("au,bj->bauj", rows, at)

    def _operand(self, b: int, y_row: Value, used: Value, column: Value) -> Value:
        """What an entry of M adds to column b of a row of Y: a multiple, shifted, or nothing."""
        factors = self._factors()[b].tolist()
        operand: Value = Const(0, signed(self._bits))
        for factor in sorted({factor for rows in factors for row in rows for factor in row if factor}):
            flags = Array(Array(Array(Const(f == factor, 1) for f in row) for row in rows) for rows in factors)
            odd, shift = _split(factor)
            multiple = self._multiplied.o[self._odd.index(odd)]
            operand |= Mux(flags[y_row][used][column], multiple << shift, 0)
        return operand


def _split(factor: int) -> tuple[int, int]:
    """An odd number, and how far it is to be shifted to the left."""
    shift = (factor & -factor).bit_length() - 1
    return factor >> shift, shift
