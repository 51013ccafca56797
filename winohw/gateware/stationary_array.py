# amaranth: UnusedElaboratable=no
"""The elementwise MAC array of a stationary engine: sums stay in their registers while channels pass."""

from __future__ import annotations

import numpy as np
from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import ArrayLike, NDArray

from winohw.gateware.multiplier import Multiplier, multiplier_latency, products_per_cell
from winohw.gateware.pipeline import delayed, matrix_layout

__all__ = ["StationaryArray"]


class StationaryArray(wiring.Component):
    """Multiplies the taps of a chunk by the weights of Pk output channels, and adds up one input channel after another.

    With the last channel the sums move into a shift register, from where they leave one by one while the next ones are
    added up: output channel by output channel, each in the order row, column.

    Latency: `latency` cycles from a last channel to its first sum at `o`. Throughput: a chunk a cycle; last channels as
    far apart as `o` takes their sums.

    Parameters
    ----------
    input_tile : int
        n.
    columns : int
        Q, columns of a chunk.
    output_lanes : int
        Pk.
    v_bits, u_bits : int
        Widths of the operands.
    acc_bits : int
        Width of a sum, which must not overflow.
    kind : str
        Of the multipliers, see :class:`Multiplier`.

    Attributes
    ----------
    sums : int
        Sums of a chunk: n · Q · Pk.
    latency : int
        See above.

    Members
    -------
    i : In(StructLayout({valid: 1, first: 1, last: 1, v: [n][Q] signed(v_bits), u: [Pk][n][Q] signed(u_bits)}))
        ``first`` and ``last`` tell the first and last channel of a sum.
    filled : Out(1)
        Strobe, another chunk's sums stand at `o`.
    o : Out(signed(acc_bits))
        The first of the sums that have not left.
    shift : In(1)
        It leaves; not in the cycle before `filled`.
    """

    def __init__(
        self, *, input_tile: int, columns: int, output_lanes: int, v_bits: int, u_bits: int, acc_bits: int, kind: str
    ):
        self.input_tile = input_tile
        self.columns = columns
        self.output_lanes = output_lanes
        self.v_bits = v_bits
        self.u_bits = u_bits
        self.acc_bits = acc_bits
        self.kind = kind
        self.sums = input_tile * columns * output_lanes
        self.latency = multiplier_latency(u_bits, kind) + 2
        taps = matrix_layout(signed(u_bits), input_tile, columns)
        super().__init__(
            {
                "i": In(
                    data.StructLayout(
                        {
                            "valid": 1,
                            "first": 1,
                            "last": 1,
                            "v": matrix_layout(signed(v_bits), input_tile, columns),
                            "u": data.ArrayLayout(taps, output_lanes),
                        }
                    )
                ),
                "filled": Out(1),
                "o": Out(signed(acc_bits)),
                "shift": In(1),
            }
        )

    def model(self, v: ArrayLike, u: ArrayLike) -> NDArray[np.int64]:
        """Sums of one chunk, ``[Pk * n * Q]``, of its channels' v ``[c, n, Q]`` and u ``[c, Pk, n, Q]``."""
        return np.einsum("cia,ckia->kia", np.asarray(v, np.int64), np.asarray(u, np.int64)).ravel()

    def elaborate(self, platform: object) -> Module:
        m = Module()
        taps = self.input_tile * self.columns
        latency = multiplier_latency(self.u_bits, self.kind)
        flags = Cat(self.i.valid, self.i.first, self.i.valid & self.i.last)
        added, first, last = delayed(m, flags, latency, name="flags")
        moves = delayed(m, last, 1, name="moves")
        m.d.sync += self.filled.eq(moves)

        together = products_per_cell(self.kind)
        cells = [Multiplier(self.v_bits, self.u_bits, self.kind) for _ in range(-(-self.sums // together))]
        sums = []
        for number, cell in enumerate(cells):
            m.submodules[f"cell{number}"] = cell
            m.d.comb += cell.b_en.eq(1)
        for number in range(self.sums):
            cell, k = cells[number // together], number % together
            lane, tap = divmod(number, taps)
            i, a = divmod(tap, self.columns)
            total = Signal(signed(self.acc_bits), name=f"total{number}", reset_less=True)
            m.d.comb += [cell.a[k].eq(self.i.v[i][a]), cell.b[k].eq(self.i.u[lane][i][a])]
            with m.If(added):
                m.d.sync += total.eq(Mux(first, cell.p[k], total + cell.p[k]))
            sums.append(total)

        held = Signal(self.sums * self.acc_bits, reset_less=True)
        m.d.comb += self.o.eq(held[: self.acc_bits].as_signed())
        with m.If(moves):
            m.d.sync += held.eq(Cat(sums))
        with m.Elif(self.shift):
            m.d.sync += held.eq(held >> self.acc_bits)
        return m
