# amaranth: UnusedElaboratable=no
"""The input transform inside the line buffer: a tile row's patches are replaced by what they become."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import ArrayLike, NDArray

from winohw.gateware.countdown import countdown
from winohw.gateware.input_transform import InputTransform
from winohw.gateware.pipeline import delayed, matrix_layout

if TYPE_CHECKING:
    from winohw.gateware.config import EngineConfig

__all__ = ["InPlaceTransform"]

#: Cycles after the last word in which the sequencer may still find out that a block is complete.
_SETTLING = 2


class InPlaceTransform(wiring.Component):
    """Goes over each tile row as soon as it is complete, and puts V in the place of its patches.

    A patch takes ``fold`` words of the line buffer. Words of R = n / fold rows of pixels are read every R cycles; an
    :class:`InputTransform` takes a row of a patch a cycle and gives a column of V a cycle; words of R columns of V are
    written in the cycles in between. So each patch is transformed once, however many output channels there are, and it
    takes n cycles, with no more multiplexers and adders than one row and one column need.

    Latency: `latency` cycles, and R for each word of the row, from `row_done` to `row_ready`; if `row_done` comes
    while a row is being transformed, from the end of that. Throughput: a patch each n cycles.

    Parameters
    ----------
    config : EngineConfig
        Of an engine with a stationary datapath.
    read_latency : int
        Cycles from an address to its word at `i`.

    Attributes
    ----------
    rows : int
        R, rows of a patch a word and columns of V a word: 2 or more.
    latency : int
        See above.

    Members
    -------
    start : In(1)
        Begins a layer whose values stand at the inputs below.
    slots : In(dimension_bits)
        Tile rows that the line buffer holds.
    slot_pitch : In(16)
        Words of a tile row, 1 or more patches.
    row_done : In(1)
        Strobe, a tile row is complete.
    hold : Out(1)
        The line buffer must not be written by anybody else: from the cycle after `row_done` to the one after
        `row_ready`.
    read : Out(stream.Signature(range(words), always_ready=True))
    i : In(ArrayLayout(ArrayLayout(signed(8), n), R))
        A word, ``[row][column]``.
    write : Out(StructLayout({valid: 1, word: range(words), v: ArrayLayout(ArrayLayout(signed(v_bits), R), n)}))
        What a word becomes, ``[row][column in word]``.
    column : Out(range(n))
        Whose shifts are wanted in the next cycle.
    shift : In(ArrayLayout(range(max_shift + 1), n))
        The shifts of V of that column's taps.
    row_ready : Out(1)
        Strobe, a tile row has been transformed.
    """

    def __init__(self, config: EngineConfig, read_latency: int):
        n = config.input_tile
        self.config = config
        self.read_latency = read_latency
        self.rows = n // config.fold
        self._transform = InputTransform(
            config.winograd(),
            fold=n,
            narrowing=config.profile.input,
            max_shift=config.max_shifts[0],
            table=False,
        )
        # From a word that is read to the first of its patch that is written; never in the cycle of another read.
        to_write = read_latency + self._transform.chunk_latency + self.rows - 1
        self._relay = int(to_write % self.rows == 0)
        self._to_write = to_write + self._relay
        self.latency = self._to_write - self.rows + 3
        word = range(config.line_words)
        super().__init__(
            {
                "start": In(1),
                "slots": In(config.dimension_bits),
                "slot_pitch": In(16),
                "row_done": In(1),
                "hold": Out(1),
                "read": Out(stream.Signature(word, always_ready=True)),
                "i": In(matrix_layout(signed(8), self.rows, n)),
                "write": Out(
                    data.StructLayout(
                        {"valid": 1, "word": word, "v": matrix_layout(signed(config.v_bits), n, self.rows)}
                    )
                ),
                "column": Out(range(n)),
                "shift": In(data.ArrayLayout(range(config.max_shifts[0] + 1), n)),
                "row_ready": Out(1),
            }
        )

    def model(self, words: ArrayLike, shift: ArrayLike) -> NDArray[np.int64]:
        """What the words of tile rows, ``[word][row][column]``, become: ``[word][row][column in word]``."""
        n = self.config.input_tile
        columns = self._transform.model(np.asarray(words).reshape(-1, 1, n), shift)
        return columns.reshape(-1, self.rows, n).swapaxes(1, 2)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        rows, n = self.rows, self.config.input_tile
        m.submodules.transform = transform = self._transform
        column = Signal(range(n))
        m.d.comb += [
            self.column.eq(Mux(transform.narrows, Mux(column == n - 1, 0, column + 1), column)),
            transform.shift.as_value().eq(self.shift.as_value()),
        ]
        m.d.sync += column.eq(self.column)

        # --- where it stands -----------------------------------------------------------------------------------------
        slot_last, slot_reload, slot_step = countdown("slot", self.slots, self.config.dimension_bits)
        word_last, word_reload, word_step = countdown("word", self.slot_pitch, range(self.config.line_words + 1))
        turn = Signal(range(rows))  # of the cycles of a word
        settling = Signal(range(self._to_write + _SETTLING))
        waiting, reading = Signal(), Signal()
        address = Signal.like(self.read.payload)
        place = Signal.like(self.read.payload)  # of the next word to be written
        m.d.comb += [
            self.read.valid.eq(reading & (turn == 0)),
            self.read.payload.eq(address),
            self.hold.eq(waiting | reading | (settling != 0)),
        ]
        with m.If(self.row_done):
            m.d.sync += waiting.eq(1)
        with m.If(reading):
            m.d.sync += turn.eq(turn + 1)
            with m.If(turn == rows - 1):
                m.d.sync += [turn.eq(0), address.eq(address + 1), *word_step]
                with m.If(word_last):
                    m.d.sync += [reading.eq(0), settling.eq(self._to_write - rows + 1 + _SETTLING)]
        with m.Elif(settling != 0):
            m.d.sync += settling.eq(settling - 1)
            with m.If(self.row_ready):
                m.d.sync += slot_step
                with m.If(slot_last):
                    m.d.sync += [*slot_reload, address.eq(0), place.eq(0)]
        with m.Elif(waiting):
            m.d.sync += [waiting.eq(self.row_done), reading.eq(1), *word_reload]
        with m.If(self.start):
            m.d.sync += [*slot_reload, address.eq(0), place.eq(0)]
        m.d.comb += self.row_ready.eq(settling == _SETTLING)

        # --- rows of pixels in, one after another --------------------------------------------------------------------
        came = delayed(m, self.read.valid, self.read_latency, name="came")
        going = delayed(m, reading, self.read_latency + self._relay, name="going")
        rest = Signal(data.ArrayLayout(self.i[0].shape(), rows - 1), reset_less=True)
        row = len(self.i[0].as_value())
        m.d.sync += rest.as_value().eq(rest.as_value() >> row)
        pixels = Signal.like(self.i[0])
        m.d.comb += pixels.eq(rest[0])
        with m.If(came):
            m.d.sync += rest.as_value().eq(self.i.as_value()[row:])
            m.d.comb += pixels.eq(self.i[0])
        pixels = delayed(m, pixels, self._relay, name="pixels", reset_less=True)
        m.d.comb += [transform.i.valid.eq(going), transform.i.payload[0].eq(pixels)]

        # --- columns of V out, until there is a word of them ---------------------------------------------------------
        taps = transform.o.payload.as_value()
        gathered = Signal(len(taps) * rows, reset_less=True)
        number, complete = Signal(range(rows)), Signal()
        columns = Cat(gathered[len(taps) :], taps)
        m.d.sync += gathered.eq(columns)
        m.d.comb += complete.eq(transform.o.valid & (number == rows - 1))
        with m.If(transform.o.valid):
            m.d.sync += number.eq(number + 1)
            with m.If(complete):
                m.d.sync += number.eq(0)
        m.d.comb += [self.write.valid.eq(complete), self.write.word.eq(place)]
        v_bits = self.config.v_bits
        for a in range(rows):
            for i in range(n):
                m.d.comb += self.write.v[i][a].eq(columns[(a * n + i) * v_bits :][:v_bits].as_signed())
        with m.If(complete):
            m.d.sync += place.eq(place + 1)
        return m
