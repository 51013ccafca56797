# amaranth: UnusedElaboratable=no
"""The input transform: patches of pixels into the Winograd domain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from amaranth.hdl import Module, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import ArrayLike, NDArray

from winohw.algorithm.toomcook import Winograd
from winohw.gateware.linear import LinearNetwork
from winohw.gateware.narrow import Narrow
from winohw.gateware.pipeline import delayed, matrix_layout
from winohw.gateware.shift_selector import ShiftSelector
from winohw.gateware.transposer import Transposer
from winohw.gateware.turning_transposer import TurningTransposer
from winohw.numerics.formats import Narrowing
from winohw.numerics.golden import transform

if TYPE_CHECKING:
    from winohw.gateware.config import EngineConfig

__all__ = ["InputTransform"]

_INT8 = (-128, 127)


class InputTransform(wiring.Component):
    """Computes ``V = Bᵀ d B`` of one channel's patches, one chunk a cycle.

    A patch d (n×n int8) comes as ``fold`` chunks of ``n / fold`` rows, and V leaves as ``fold`` chunks of ``n / fold``
    columns. First each row of a chunk becomes a row of d·B. With ``fold = 1`` the columns follow at once; otherwise a
    transposer collects the rows of a patch and gives columns, while the next patch comes, so that patches follow each
    other without a gap. Then each column becomes a column of V, exactly, or narrowed by a shift per tap in the
    ``quantized`` profile.

    It never stalls. The chunks of a patch come, and leave, without a pause.

    Latency: ``latency`` cycles from a patch's last chunk to the first chunk of V. Throughput: a chunk a cycle.

    Parameters
    ----------
    winograd : Winograd
        Matrices; any kernel size that shares Bᵀ.
    fold : int
        Chunks a patch; divides n.
    narrowing : Narrowing, optional
        Width, rounding and saturation of V in the ``quantized`` profile; its shifts are not used, they come by the
        port. None: V is exact.
    max_shift : int, optional
        Greatest shift; that of ``narrowing`` unless told.
    kind : str
        Of the copies of control signals, see :class:`~winohw.gateware.fan_out.FanOut`.
    relay : bool
        Whether there are registers in front of the rows and of the columns also without a transposer, for an engine
        that is spread over a large part.
    table : bool
        Whether the shifts of all taps stand at the port; else those of a chunk come with it.

    Attributes
    ----------
    columns : int
        Columns of V, and rows of d, a chunk: n / fold.
    v_bits : int
        Width of an entry of V.
    latency : int
        Cycles from the acceptance of a patch's last chunk to its first chunk out, always the same.
    chunk_latency : int
        Cycles from the first chunk in to the first chunk out where the chunks of a patch come without gaps.

    Members
    -------
    i : In(stream.Signature(ArrayLayout(ArrayLayout(signed(8), n), columns), always_ready=True))
        ``[row in chunk][column]``, first rows first.
    o : Out(stream.Signature(ArrayLayout(ArrayLayout(signed(v_bits), columns), n), always_ready=True))
        ``[row][column in chunk]``, first columns first.
    shift : In(ArrayLayout(ArrayLayout(range(max_shift + 1), n), n))
        Only with ``narrowing``: the table ``[row][column]``. It may change only while no patch is in flight, and must
        stand two cycles before the first chunk. Without ``table`` that of a chunk, ``[row][column in chunk]``.
    narrows : Out(1)
        Only with ``narrowing`` and without ``table``: a chunk's shifts are taken in this cycle.

    Raises
    ------
    ValueError
        If ``fold`` does not divide n.
    """

    def __init__(
        self,
        winograd: Winograd,
        *,
        fold: int = 1,
        narrowing: Narrowing | None = None,
        max_shift: int | None = None,
        kind: str = "generic",
        relay: bool = False,
        table: bool = True,
    ):
        n = winograd.n
        if fold < 1 or n % fold:
            raise ValueError(f"Fold must divide the input tile {n}, not {fold!r}")
        self.winograd = winograd
        self.fold = fold
        self.narrowing = narrowing
        self.table = table
        self.max_shift = max_shift if max_shift is not None or narrowing is None else narrowing.max_shift
        self.columns = n // fold

        self._rows = [LinearNetwork(winograd.bt, [_INT8] * n) for _ in range(self.columns)]
        column_ranges = self._rows[0].output_ranges
        # Network a makes column a of every chunk.
        shared = [_union(column_ranges[a :: self.columns]) for a in range(self.columns)]
        self._columns = [LinearNetwork(winograd.bt, [bounds] * n) for bounds in shared]
        entry = signed(self._rows[0].output_bits)
        self._transposer: Transposer | TurningTransposer
        if fold > 2:
            self._transposer = TurningTransposer(entry, n, self.columns, kind=kind)
        else:
            self._transposer = Transposer(entry, n, n, self.columns, self.columns, kind=kind)
        exact_bits = max(network.output_bits for network in self._columns)
        self.v_bits = exact_bits if narrowing is None else narrowing.bits
        self.latency = self._rows[0].latency + self._columns[0].latency
        self._relay = int(relay and fold == 1)
        self.latency += 2 * self._relay
        if fold > 1:
            self.latency += self._transposer.latency
        self._exact_latency = self.latency
        if narrowing is not None:
            arguments = exact_bits, narrowing.bits, self.max_shift, narrowing.rounding
            options = {"saturate": narrowing.saturate, "static_shift": fold == 1 and table}
            self._narrows = [[Narrow(*arguments, **options) for _ in range(self.columns)] for _ in range(n)]
            self.latency += self._narrows[0][0].latency
        self.chunk_latency = self.latency + fold - 1

        members = {
            "i": In(stream.Signature(matrix_layout(signed(8), self.columns, n), always_ready=True)),
            "o": Out(stream.Signature(matrix_layout(signed(self.v_bits), n, self.columns), always_ready=True)),
        }
        if narrowing is not None:
            members["shift"] = In(matrix_layout(range(self.max_shift + 1), n, n if table else self.columns))
            if not table:
                members["narrows"] = Out(1)
        super().__init__(members)

    @classmethod
    def of(cls, config: EngineConfig) -> InputTransform:
        """The input transform of one lane of an engine."""
        narrowing = config.profile.input if config.quantized else None
        return cls(
            config.winograd(),
            fold=config.fold,
            narrowing=narrowing,
            max_shift=config.max_shifts[0],
            kind=config.family,
            relay=config.datapath == "wide",
        )

    def model(self, x: ArrayLike, shift: ArrayLike | None = None) -> NDArray[np.int64]:
        """What the component computes: all chunks ``[k * fold][row in chunk][column]`` to ``[k * fold][row][column]``.

        Parameters
        ----------
        x
            Chunks of whole patches.
        shift
            The table, if there is narrowing.
        """
        n = self.winograd.n
        v = transform(self.winograd.bt, np.asarray(x).reshape(-1, n, n))
        if self.narrowing is not None:
            v = self.narrowing.with_shift(shift).apply(v)
        return v.reshape(-1, n, self.fold, self.columns).swapaxes(1, 2).reshape(-1, n, self.columns)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        n = self.winograd.n

        rows, valid = [], self.i.valid
        for k, network in enumerate(self._rows):
            m.submodules[f"row{k}"] = network
            m.d.comb += network.i.eq(delayed(m, self.i.payload[k], self._relay, name=f"row_relay{k}", reset_less=True))
            rows.append(delayed(m, network.o, self._relay, name=f"relay{k}", reset_less=True))
        valid = delayed(m, valid, self._rows[0].latency + 2 * self._relay, name="row_valid")

        if self.fold > 1:
            m.submodules.transposer = transposer = self._transposer
            m.d.comb += transposer.i.valid.eq(valid)
            for chunk_row, row in zip(transposer.i.payload, rows, strict=True):
                m.d.comb += chunk_row.eq(row)
            rows, valid = transposer.o.payload, transposer.o.valid

        columns = []
        for a, network in enumerate(self._columns):
            m.submodules[f"column{a}"] = network
            m.d.comb += [network.i[k].eq(rows[k][a]) for k in range(n)]
            columns.append(network.o)
        valid = delayed(m, valid, self._columns[0].latency, name="column_valid")

        if self.narrowing is None:
            m.d.comb += self.o.valid.eq(valid)
            m.d.comb += [self.o.payload[i][a].eq(column[i]) for a, column in enumerate(columns) for i in range(n)]
            return m
        shift = self.shift
        if self.table:
            m.submodules.selector = selector = ShiftSelector(n, self.columns, self.max_shift)
            m.d.comb += [selector.table.eq(self.shift), selector.advance.eq(valid)]
            shift = selector.o
        else:
            m.d.comb += self.narrows.eq(valid)
        for i, units in enumerate(self._narrows):
            for a, unit in enumerate(units):
                m.submodules[f"narrow{i}_{a}"] = unit
                m.d.comb += [
                    unit.i.eq(columns[a][i]),
                    unit.shift.eq(shift[i][a]),
                    self.o.payload[i][a].eq(unit.o),
                ]
        m.d.comb += self.o.valid.eq(delayed(m, valid, self._narrows[0][0].latency, name="narrow_valid"))
        return m


def _union(ranges: Sequence[tuple[int, int]]) -> tuple[int, int]:
    return min(lo for lo, _ in ranges), max(hi for _, hi in ranges)
