"""The accumulators of a compact engine: finished sums stay in their memory until there is time for them."""

from __future__ import annotations

import numpy as np
from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import ArrayLike, NDArray

from winohw.algorithm.modular import wrap
from winohw.gateware.memory import Memory

__all__ = ["RestingAccumulator"]


class RestingAccumulator(wiring.Component):
    """Adds chunks of sums to those it has stored, modulo ``2**acc_bits``, in two halves of a memory.

    A round is what the chunks of one group of output channels add up to: several passes over the same words, each of
    them marked by ``start``. The first pass of a round, marked by ``first``, goes on in the other half. What a round
    leaves is fetched later, word after word, in cycles in which no chunk comes (``fetch``; with ``start`` the first
    word of the next round to be fetched). Fetched words become zero, so that the first pass adds to zeros and needs no
    multiplexer; so does the whole memory after a reset, while ``clearing``.

    ``control`` belongs to the chunk that comes at ``i`` exactly ``lead`` cycles later.

    Latency: ``lead`` cycles from a fetch to its word at ``o``. Throughput: a chunk or a fetch a cycle; what is done
    with a word comes ``recurrence`` cycles or more after what was done with it before.

    Parameters
    ----------
    input_tile, columns : int
        n and Q: rows and columns of a chunk.
    sum_bits, acc_bits : int
        Width of a sum and of an accumulator.
    words : int
        Chunks of a pass, at most; each half holds the next power of two.
    memory : str
        Kind of :class:`Memory`.

    Attributes
    ----------
    lead : int
        Cycles: 2.
    recurrence : int
        Cycles: 4.

    Members
    -------
    control : In(StructLayout({valid: 1, start: 1, first: 1, fetch: 1}))
        ``start`` and ``first`` count with ``valid``, ``start`` with ``fetch`` too; never both.
    i : In([n][Q] signed(sum_bits))
        The sums of a chunk.
    o : Out(stream.Signature([n][Q] signed(acc_bits), always_ready=True))
        Words that were fetched.
    clearing : Out(1)
        After a reset, for as many cycles as there are words: no chunk may come.

    Raises
    ------
    ValueError
        If a size is below 1; and as :class:`Memory`.
    """

    lead = Memory.latency
    recurrence = 4

    def __init__(
        self, *, input_tile: int, columns: int, sum_bits: int, acc_bits: int, words: int, memory: str = "generic"
    ):
        for name, value in (
            ("input_tile", input_tile),
            ("columns", columns),
            ("sum_bits", sum_bits),
            ("acc_bits", acc_bits),
            ("words", words),
        ):
            if value < 1:
                raise ValueError(f"{name} must be 1 or more, not {value!r}")
        self.input_tile = input_tile
        self.columns = columns
        self.sum_bits = sum_bits
        self.acc_bits = acc_bits
        self.words = words
        self.memory = memory
        self._half_bits = max(1, (words - 1).bit_length())
        Memory.check_parameters(acc_bits, 2 << self._half_bits, memory)
        super().__init__(
            {
                "control": In(data.StructLayout({"valid": 1, "start": 1, "first": 1, "fetch": 1})),
                "i": In(self._chunk(sum_bits)),
                "o": Out(stream.Signature(self._chunk(acc_bits), always_ready=True)),
                "clearing": Out(1, init=1),
            }
        )

    def _chunk(self, bits: int) -> data.ArrayLayout:
        return data.ArrayLayout(data.ArrayLayout(signed(bits), self.columns), self.input_tile)

    def model(self, sums: ArrayLike) -> NDArray[np.int64]:
        """What the passes of rounds ``[round, pass, word, i, a]`` add up to, ``[round, word, i, a]``."""
        return wrap(np.asarray(sums, np.int64).sum(axis=1), self.acc_bits)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits = self._half_bits
        control = self.control
        lanes = self.input_tile * self.columns
        m.submodules.memory = memory = Memory(lanes * self.acc_bits, 2 << bits, self.memory)

        half, fetch_half = Signal(), Signal()
        next_word, next_fetch = Signal(bits), Signal(bits)
        word, fetched = Signal(bits), Signal(bits)
        this_half, this_fetch = Signal(), Signal()
        m.d.comb += [
            word.eq(Mux(control.start, 0, next_word)),
            fetched.eq(Mux(control.start, 0, next_fetch)),
            this_half.eq(half ^ (control.start & control.first)),
            this_fetch.eq(fetch_half ^ control.start),
        ]
        with m.If(control.valid):
            m.d.sync += [next_word.eq(word + 1), half.eq(this_half)]
        with m.If(control.fetch):
            m.d.sync += [next_fetch.eq(fetched + 1), fetch_half.eq(this_fetch)]
        addr = Mux(control.fetch, Cat(fetched, this_fetch), Cat(word, this_half))
        m.d.comb += memory.read_addr.eq(addr)

        # From the cycle in which a word is read to the one in which the total, or zero, is written.
        write_addr, write_en, clear = addr, control.valid | control.fetch, control.fetch
        for stage in range(self.lead + 1):
            before = write_addr, write_en, clear
            if stage == self.lead:
                m.d.comb += self.o.valid.eq(clear)
            write_addr = Signal(bits + 1, name=f"write_addr{stage}", reset_less=True)
            write_en = Signal(name=f"write_en{stage}")
            clear = Signal(name=f"clear{stage}")
            m.d.sync += [x.eq(y) for x, y in zip((write_addr, write_en, clear), before, strict=True)]
            last_clear = before[2]

        left = Signal(bits + 2, init=2 << bits)  # words to be cleared
        m.d.comb += self.clearing.eq(left != 0)
        with m.If(self.clearing):
            m.d.sync += left.eq(left - 1)
        m.d.comb += [
            memory.write_en.eq(write_en | self.clearing),
            memory.write_addr.eq(Mux(self.clearing, left[: bits + 1], write_addr)),
        ]
        sums = [entry for row in self.i for entry in row]
        for lane, (entry, output) in enumerate(zip(sums, (e for row in self.o.payload for e in row), strict=True)):
            stored = memory.read_data[lane * self.acc_bits :][: self.acc_bits].as_signed()
            total = Signal(signed(self.acc_bits), name=f"total{lane}")
            m.d.comb += [
                output.eq(stored),
                memory.write_data[lane * self.acc_bits :][: self.acc_bits].eq(total),
            ]
            m.d.sync += total.eq(stored + entry)
            with m.If(last_clear | self.clearing):
                m.d.sync += total.eq(0)
        return m
