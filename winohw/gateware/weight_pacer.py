"""The weight pacer: lets the kernels of a group go so that they meet the shadow registers as these fall free."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from amaranth import Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import NDArray

__all__ = ["WeightPacer"]


class WeightPacer(wiring.Component):
    """Passes the kernel rows of one group for each group that the sequencer has started.

    The weight transform must not fill up while the shadow registers are still in use: kernels that wait inside it lose
    their distance. So the rows of the group after next are held back until `delays[kernel]` cycles after the sequencer
    has started a group; its first kernel then arrives in the very cycle after the swap. The rows of a layer's first
    group pass at once.

    Latency: 0. Throughput: a row a cycle. Rows that are permitted leave at once, and `i.ready` comes from a register; a
    permission that finds no row is kept.

    Parameters
    ----------
    row_bytes : int
        Bytes of a kernel row, 1 or more.
    delays : mapping of int to int
        For each kernel size on offer, cycles from `started` to the first row, 1 or more.
    most_rows : int
        Most rows of a group, 1 or more.

    Members
    -------
    i, o : stream.Signature(ArrayLayout(signed(8), row_bytes))
        Kernel rows; `o` is always ready.
    start : In(1)
        Begins a layer whose values stand at the inputs below; what an earlier one was permitted is void.
    kernel : In(range(largest kernel size + 1))
        Kernel size.
    group_rows : In(range(most_rows + 1))
        Rows of one group, all lanes.
    started : In(1)
        Strobe, the sequencer has started a group.

    Raises
    ------
    ValueError
        If a parameter is out of its range.
    """

    def __init__(self, *, row_bytes: int, delays: Mapping[int, int], most_rows: int):
        for name, value in (("row_bytes", row_bytes), ("most_rows", most_rows)):
            if value < 1:
                raise ValueError(f"{name} must be 1 or more, not {value!r}")
        if not delays or any(delay < 1 for delay in delays.values()):
            raise ValueError(f"delays must be 1 or more for at least one kernel, not {dict(delays)}")
        self.row_bytes = row_bytes
        self.delays = dict(delays)
        self.most_rows = most_rows
        row = data.ArrayLayout(signed(8), row_bytes)
        super().__init__(
            {
                "i": In(stream.Signature(row)),
                "o": Out(stream.Signature(row, always_ready=True)),
                "start": In(1),
                "kernel": In(range(max(delays) + 1)),
                "group_rows": In(range(most_rows + 1)),
                "started": In(1),
            }
        )

    def model(self, rows: NDArray[np.int8]) -> NDArray[np.int8]:
        """The rows that leave, in time: those that came."""
        return rows

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # Groups may be shorter than the way to the array, so that several are on it.
        allowed = Signal(range(self.most_rows * (max(self.delays.values()) + 2)), reset_less=True)
        permit = Signal()
        line = Signal(max(self.delays.values()), reset_less=True)
        m.d.comb += line[0].eq(self.started)
        m.d.sync += line[1:].eq(line)
        if len(set(self.delays.values())) == 1:
            m.d.comb += permit.eq(line[-1])
        else:
            with m.Switch(self.kernel):
                for kernel, delay in self.delays.items():
                    with m.Case(kernel):
                        m.d.comb += permit.eq(line[delay - 1])

        passed, is_open = Signal(), Signal()  # `is_open`: something is allowed
        m.d.comb += [
            passed.eq(self.i.valid & is_open),
            self.o.payload.eq(self.i.payload),
            self.o.valid.eq(passed),
            self.i.ready.eq(is_open),
        ]
        left = Signal.like(allowed)
        m.d.comb += left.eq(Mux(permit, allowed + self.group_rows, allowed) - passed)
        m.d.sync += [allowed.eq(left), is_open.eq(left != 0)]
        with m.If(self.start):
            m.d.sync += [allowed.eq(self.group_rows), is_open.eq(1), line[1:].eq(0)]
        return m
