# amaranth: UnusedElaboratable=no
"""The output transform of an engine with few multipliers: one sum after another through a pair of adders."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from amaranth.hdl import Array, Cat, Const, EnableInserter, Module, Mux, Signal, signed
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import ArrayLike, NDArray

from winohw.algorithm.modular import ExactDivision, exponent_of_two
from winohw.algorithm.toomcook import Winograd
from winohw.gateware.exact_division import ExactDivider
from winohw.gateware.memory import MEMORY_OUTPUT
from winohw.gateware.pipeline import delayed
from winohw.numerics.golden import transform

__all__ = ["SerialOutputTransform", "Step", "program"]

_RESULT_BITS = 32
#: Cycles from a step to its sum in the adder: address, memory, shifted operand, sum.
_TO_TOTAL = 4
#: Tiles that wait or are at work.
_TILES = 2


@dataclass(frozen=True)
class Step:
    """What the adders do with an entry of a vector.

    Attributes
    ----------
    entry : int
        Its place in the vector.
    terms : tuple of (int, int) or None
        For each adder, sign (1 or -1) and shift of what it adds.
    """

    entry: int
    terms: tuple[tuple[int, int] | None, ...]


def program(matrix: NDArray[np.integer], adders: int) -> list[list[Step]]:
    """Steps that compute `matrix @ vector`, for each set of `adders` rows.

    Entries of the matrix are written in digits 1, 0 and -1 (canonical signed digits); each row takes a digit a step.
    """
    sets = []
    for first in range(0, len(matrix), adders):
        rows = matrix[first : first + adders].tolist()
        steps = []
        for entry in range(matrix.shape[1]):
            digits = [_digits(int(row[entry])) for row in rows]
            digits += [[]] * (adders - len(rows))
            for number in range(max(map(len, digits))):
                steps.append(Step(entry, tuple(d[number] if number < len(d) else None for d in digits)))
        sets.append(steps)
    return sets


def _digits(value: int) -> list[tuple[int, int]]:
    """Sign and shift of the canonical signed digits of a number."""
    digits, shift = [], 0
    while value:
        if value & 1:
            digit = 2 - (value & 3)
            digits.append((digit, shift))
            value -= digit
        value >>= 1
        shift += 1
    return digits


class SerialOutputTransform(wiring.Component):
    """Computes ``Y = Aᵀ M A`` of tile after tile, exactly divided, an entry of Y a beat, with a few adders.

    The sums of a tile come in chunks and move into a memory one a cycle. From there they are read again and again:
    first the columns of M give the columns of Aᵀ M, which go back to the memory, then the rows of that give the rows of
    Y. Each adder makes one entry at a time, a digit of a coefficient a cycle. Everything is computed modulo
    ``2**sum_bits``, and Y is divided by the square of the matrices' divisor, so that it equals direct convolution.

    Backpressure: a waiting entry of Y stops the adders. The writer must keep count of the room: it starts with `depth`
    chunks and gets those of a tile back with `drained`. Chunks come `chunk_cycles` apart or more.

    Latency: a tile that finds the adders free begins `chunk_cycles` + 2 cycles after its last chunk; its first entry
    comes `first_latency` cycles after that. Throughput: a tile each `tile_cycles` cycles.

    Parameters
    ----------
    winograd : Winograd
        n is 3 or more.
    fold : int
        Chunks a tile; divides n.
    sum_bits : int
        Width of the sums that come in: 2 to 32 bits more than the exponent of two of the divisor's square.
    adders : int
        1 or more; no more than the tile size m are built.

    Attributes
    ----------
    columns : int
        Q = n / fold.
    depth : int
        Chunks that fit.
    chunk_cycles, tile_cycles, first_latency : int
        See above.
    drain_latency : int
        Cycles from a tile's begin to `drained`.

    Members
    -------
    i : In(stream.Signature(ArrayLayout(ArrayLayout(signed(sum_bits), Q), n), always_ready=True))
        Chunks ``[row][column in chunk]``, first columns first.
    o : Out(stream.Signature(signed(32)))
        Y, row by row.
    drained : Out(1)
        Strobe, room for the chunks of one more tile.

    Raises
    ------
    ValueError
        If a size is out of its range.
    """

    def __init__(self, winograd: Winograd, *, fold: int, sum_bits: int, adders: int = 2):
        n = winograd.n
        if n < 3:
            raise ValueError(f"A serial output transform needs an input tile of 3 or more, not {n}")
        if fold < 1 or n % fold:
            raise ValueError(f"fold must divide the input tile {n}, not {fold!r}")
        if adders < 1:
            raise ValueError(f"adders must be 1 or more, not {adders!r}")
        result_bits = sum_bits - exponent_of_two(winograd.divisor**2)
        if not 2 <= result_bits <= _RESULT_BITS:
            raise ValueError(
                f"Sums of {sum_bits} bits, divided by {winograd.divisor**2}, give results of {result_bits} bits; "
                f"2 to {_RESULT_BITS} are possible"
            )
        self.winograd = winograd
        self.fold = fold
        self.sum_bits = sum_bits
        self.adders = adders = min(adders, winograd.tile_size)
        self.columns = n // fold
        self.depth = _TILES * fold
        self._divider = ExactDivider(winograd.divisor**2, result_bits)
        self._division = ExactDivision(winograd.divisor**2, result_bits)
        self._sets = program(winograd.at, adders)
        # After the last step of a set its totals leave one by one, then the adders are cleared.
        self._lengths = [len(steps) + adders for steps in self._sets]
        self._writes = [min(adders, winograd.tile_size - first) for first in range(0, winograd.tile_size, adders)]
        vector_cycles = sum(self._lengths)
        self._first_pass = n * vector_cycles
        self.tile_cycles = (n + winograd.tile_size) * vector_cycles
        self.drain_latency = self._first_pass - 1
        self.first_latency = self._first_pass + len(self._sets[0]) - 1 + _TO_TOTAL + self._divider.latency + 1
        self.chunk_cycles = self._chunk_cycles()
        super().__init__(
            {
                "i": In(
                    stream.Signature(
                        data.ArrayLayout(data.ArrayLayout(signed(sum_bits), self.columns), n), always_ready=True
                    )
                ),
                "o": Out(stream.Signature(signed(_RESULT_BITS))),
                "drained": Out(1),
            }
        )

    def _chunk_cycles(self) -> int:
        """Cycles in which the sums of a chunk find room between the entries that come back to the memory."""
        pattern: list[bool] = []
        for length, writes in zip(self._lengths, self._writes, strict=True):
            pattern += [True] * writes + [False] * (length - writes)
        needed = cycles = self.winograd.n * self.columns
        while True:
            endless = pattern * (2 + cycles // len(pattern))
            busiest = max(sum(endless[start : start + cycles]) for start in range(len(pattern)))
            if cycles - busiest >= needed:
                return cycles + 1  # the cycle in which the chunk comes
            cycles += 1

    @property
    def entry_times(self) -> list[int]:
        """When each entry of Y comes, in cycles after `first_latency`."""
        times, start = [], 0
        for _ in range(self.winograd.tile_size):
            for steps, length, writes in zip(self._sets, self._lengths, self._writes, strict=True):
                times += [start + len(steps) + number for number in range(writes)]
                start += length
        return [time - times[0] for time in times]

    def model(self, x: ArrayLike) -> NDArray[np.int64]:
        """All of Y, one axis, of chunks ``[k * fold][row][column in chunk]``."""
        n = self.winograd.n
        sums = np.asarray(x).reshape(-1, self.fold, n, self.columns).swapaxes(1, 2).reshape(-1, n, n)
        return self._division.divide(transform(self.winograd.at, sums)).ravel()

    def elaborate(self, platform: object) -> Module:
        m = Module()
        n, tile_size, adders = self.winograd.n, self.winograd.tile_size, self.adders
        bits = (n - 1).bit_length()
        enable = Signal()
        m.d.comb += enable.eq(~self.o.valid | self.o.ready)

        # Address: place in the vector, vector, sums or what has come back, and for the sums the tile.
        sums = memory.Memory(shape=self.sum_bits, depth=1 << 2 * bits + 2, init=[], attrs={"no_rw_check": 1})
        m.submodules.sums = sums
        write, read = sums.write_port(), sums.read_port(domain="comb")
        back = Signal()

        # --- chunks come in ------------------------------------------------------------------------------------------
        held = Signal(self.i.payload.shape(), reset_less=True)
        left = Signal(range(n * self.columns + 1))
        in_row, in_column, in_first, in_tile = Signal(bits), Signal(bits), Signal(bits), Signal()
        last_column = Signal()
        m.d.comb += last_column.eq(in_column == in_first + (self.columns - 1))
        age = Signal(range(self.chunk_cycles + 1))
        ready_tiles = Signal(range(_TILES + 1))
        begin, filled = Signal(), Signal()
        m.d.comb += filled.eq((age == 1) & (in_first == 0))
        m.d.sync += ready_tiles.eq(ready_tiles + filled - begin)
        with m.If(age != 0):
            m.d.sync += age.eq(age - 1)
        with m.If(self.i.valid):
            m.d.sync += [held.eq(self.i.payload), left.eq(n * self.columns), age.eq(self.chunk_cycles)]
        with m.Elif((left != 0) & ~back):
            m.d.sync += [
                held.as_value().eq(held.as_value() >> self.sum_bits),
                left.eq(left - 1),
                in_column.eq(in_column + 1),
            ]
            with m.If(last_column):
                m.d.sync += [in_column.eq(in_first), in_row.eq(in_row + 1)]
            with m.If(left == 1):
                # `in_column` has no row before it in the next chunk.
                m.d.sync += [in_row.eq(0), in_first.eq(in_first + self.columns), in_column.eq(in_first + self.columns)]
                with m.If(in_first == n - self.columns):
                    m.d.sync += [in_first.eq(0), in_column.eq(0), in_tile.eq(~in_tile)]

        # --- where the adders stand ----------------------------------------------------------------------------------
        busy, second, tile = Signal(), Signal(), Signal()
        vector = Signal(bits)
        number = Signal(range(max(2, len(self._sets))))
        step = Signal(range(max(self._lengths)))
        step_last, set_last, vector_last, tile_last = (Signal() for _ in range(4))
        m.d.comb += [
            step_last.eq(step == Array(self._lengths)[number] - 1),
            set_last.eq(step_last & (number == len(self._sets) - 1)),
            vector_last.eq(set_last & (vector == Mux(second, tile_size - 1, n - 1))),
            tile_last.eq(vector_last & second),
            begin.eq(enable & (ready_tiles != 0) & (~busy | tile_last)),
            self.drained.eq(enable & busy & vector_last & ~second),
        ]
        with m.If(enable & busy):
            m.d.sync += step.eq(step + 1)
            with m.If(step_last):
                m.d.sync += [step.eq(0), number.eq(number + 1)]
            with m.If(set_last):
                m.d.sync += [number.eq(0), vector.eq(vector + 1)]
            with m.If(vector_last):
                m.d.sync += [vector.eq(0), second.eq(~second)]
            with m.If(tile_last):
                m.d.sync += [busy.eq(0), tile.eq(~tile)]
        with m.If(begin):
            m.d.sync += busy.eq(1)

        entry = Signal(bits)
        terms = [data.StructLayout({"on": 1, "minus": 1, "shift": range(max(len(s), 1))}) for s in self._shifts]
        wanted = [Signal(layout, name=f"wanted{k}") for k, layout in enumerate(terms)]
        leaves = Signal(adders)  # one-hot: the total that leaves
        with m.Switch(number):
            for index, steps in enumerate(self._sets):
                with m.Case(index), m.Switch(step):
                    for place, action in enumerate(steps):
                        with m.Case(place):
                            m.d.comb += entry.eq(action.entry)
                            for k, term in enumerate(action.terms):
                                if term is not None:
                                    sign, shift = term
                                    m.d.comb += [
                                        wanted[k].on.eq(1),
                                        wanted[k].minus.eq(sign < 0),
                                        wanted[k].shift.eq(self._shifts[k].index(shift)),
                                    ]
                    for k in range(self._writes[index]):
                        with m.Case(len(steps) + k):
                            m.d.comb += leaves[k].eq(1)

        # --- address, memory, operand, total -------------------------------------------------------------------------
        at_totals = EnableInserter(enable)
        later = Module()
        address = Signal(2 * bits + 2, reset_less=True)
        fetched = Signal(signed(self.sum_bits), name=MEMORY_OUTPUT, reset_less=True)
        later.d.sync += [address.eq(Cat(entry, vector, second, tile & ~second)), fetched.eq(read.data)]
        m.d.comb += read.addr.eq(address)
        totals = []
        clear = delayed(later, busy & step_last, _TO_TOTAL - 1, name="clear")
        for k, layout in enumerate(terms):
            term = data.View(layout, delayed(later, Mux(busy, wanted[k].as_value(), 0), 2, name=f"term{k}"))
            operand = Signal(signed(self.sum_bits), name=f"operand{k}", reset_less=True)
            minus = Signal(name=f"minus{k}", reset_less=True)
            total = Signal(signed(self.sum_bits), name=f"total{k}")
            shifted = Array([(fetched << shift)[: self.sum_bits] for shift in self._shifts[k]])[term.shift]
            # Minus the operand is its complement and one more.
            later.d.sync += [
                operand.eq(Mux(term.on, shifted ^ term.minus.replicate(self.sum_bits), 0)),
                minus.eq(term.minus),
                total.eq((Cat(1, total) + Cat(minus, operand))[1:]),
            ]
            with later.If(clear):
                later.d.sync += total.eq(0)
            totals.append(total)
        # A total leaves `_TO_TOTAL - 1` cycles after its `leaves`, which comes when the last step is a cycle old.
        flags = Cat(Mux(busy, leaves, 0), second, vector, number)
        flags = delayed(later, flags, _TO_TOTAL - 1, name="flags")
        now, now_second, now_vector, now_number = (
            flags[:adders],
            flags[adders],
            flags[adders + 1 :][:bits],
            flags[adders + 1 + bits :],
        )
        result = totals[0]
        row = Const(0, bits)
        for k in range(1, adders):
            result = Mux(now[k], totals[k], result)
            row = Mux(now[k], k, row)
        back_row = (row + Array(range(0, tile_size, adders))[now_number])[:bits]
        m.d.comb += [
            back.eq(enable & now.any() & ~now_second),
            write.en.eq(back | (left != 0)),
            write.addr.eq(Mux(back, Cat(now_vector, back_row, 1, 0), Cat(in_row, in_column, 0, in_tile))),
            write.data.eq(Mux(back, result, held.as_value()[: self.sum_bits])),
        ]

        # --- division ------------------------------------------------------------------------------------------------
        later.submodules.divider = divider = self._divider
        m.d.comb += divider.i.eq(result)
        valid = delayed(later, now.any() & now_second, divider.latency, name="divided")
        later.d.sync += [self.o.valid.eq(valid), self.o.payload.eq(divider.o)]
        m.submodules.later = at_totals(later)
        return m

    @property
    def _shifts(self) -> list[list[int]]:
        """Shifts that each adder has to offer."""
        return [
            sorted({step.terms[k][1] for steps in self._sets for step in steps if step.terms[k]})
            for k in range(self.adders)
        ]
