"""The accumulators of a compact engine: finished sums stay in their memory until there is time for them."""

from __future__ import annotations

import numpy as np
from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import ArrayLike, NDArray

from winohw.algorithm.modular import wrap
from winohw.gateware.memory import Memory
from winohw.gateware.pipeline import delayed

__all__ = ["RestingAccumulator"]


class RestingAccumulator(wiring.Component):
    """Stores the sums that chunks add up to, in two halves of a memory; the adders are behind the multipliers.

    A round is what the chunks of one group of output channels add up to: several passes over the same words, each of
    them marked by ``start``. The first pass of a round, marked by ``first``, goes on in the other half; what it adds to
    is read from a word that is always zero. What a round leaves is fetched later, word after word, in cycles in which
    no chunk comes (``fetch``; with ``start`` the first word of the next round to be fetched).

    What is stored comes at ``o`` exactly ``lead`` cycles after ``control``, and is to be given back with its chunk
    added, at ``total``, a cycle later.

    Latency: ``lead`` cycles from a fetch to its word at ``o``. Throughput: a chunk or a fetch a cycle; what is done
    with a word comes ``recurrence`` cycles or more after what was done with it before.

    Parameters
    ----------
    input_tile, columns : int
        n and Q: rows and columns of a chunk.
    acc_bits : int
        Width of a sum.
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
        ``first`` counts with ``valid``, ``start`` with either; never both ``valid`` and ``fetch``.
    o : Out(stream.Signature([n][Q] signed(acc_bits), always_ready=True))
        What is stored; ``valid`` where it was fetched.
    total : In([n][Q] signed(acc_bits))
        The sums with a chunk added.

    Raises
    ------
    ValueError
        If a size is below 1; and as :class:`Memory`.
    """

    lead = Memory.latency
    recurrence = 4

    def __init__(self, *, input_tile: int, columns: int, acc_bits: int, words: int, memory: str = "generic"):
        for name, value in (
            ("input_tile", input_tile),
            ("columns", columns),
            ("acc_bits", acc_bits),
            ("words", words),
        ):
            if value < 1:
                raise ValueError(f"{name} must be 1 or more, not {value!r}")
        self.input_tile = input_tile
        self.columns = columns
        self.acc_bits = acc_bits
        self.words = words
        self.memory = memory
        self._half_bits = max(1, (words - 1).bit_length())
        # The last word of the second half is the zero, or one of its own where there is none to spare.
        self._zero = (2 << self._half_bits) - (words < 1 << self._half_bits)
        Memory.check_parameters(acc_bits, self._zero + 1, memory)
        chunk = data.ArrayLayout(data.ArrayLayout(signed(acc_bits), columns), input_tile)
        super().__init__(
            {
                "control": In(data.StructLayout({"valid": 1, "start": 1, "first": 1, "fetch": 1})),
                "o": Out(stream.Signature(chunk, always_ready=True)),
                "total": In(chunk),
            }
        )

    def model(self, sums: ArrayLike) -> NDArray[np.int64]:
        """What the passes of rounds ``[round, pass, word, i, a]`` add up to, ``[round, word, i, a]``."""
        return wrap(np.asarray(sums, np.int64).sum(axis=1), self.acc_bits)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits = self._half_bits
        control = self.control
        lanes = self.input_tile * self.columns
        m.submodules.memory = memory = Memory(lanes * self.acc_bits, self._zero + 1, self.memory)

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
        place = Cat(word, this_half)
        kept = Mux(control.first, self._zero, place)
        m.d.comb += memory.read_addr.eq(Mux(control.fetch, Cat(fetched, this_fetch), kept))

        # From the cycle in which a word is read to the one in which the total is written.
        write_addr = delayed(m, place, self.lead + 1, name="write_addr", reset_less=True)
        m.d.comb += [
            memory.write_en.eq(delayed(m, control.valid, self.lead + 1, name="write_en")),
            memory.write_addr.eq(write_addr),
            memory.write_data.eq(self.total),
            self.o.payload.eq(memory.read_data),
            self.o.valid.eq(delayed(m, control.fetch, self.lead, name="fetched")),
        ]
        return m
