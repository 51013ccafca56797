# amaranth: UnusedElaboratable=no
"""The weight transform: kernels into the Winograd domain, or from bytes if they are there already."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import ArrayLike, NDArray

from winohw.algorithm.modular import wrap
from winohw.algorithm.toomcook import Winograd
from winohw.gateware.linear import LinearNetwork
from winohw.gateware.narrow import Narrow
from winohw.gateware.pipeline import delayed, matrix_layout
from winohw.numerics.formats import Narrowing
from winohw.numerics.golden import transform

if TYPE_CHECKING:
    from winohw.gateware.config import EngineConfig

__all__ = ["HostWeights", "WeightTransform"]

_INT8 = (-128, 127)


class WeightTransform(wiring.Component):
    """Computes ``U = G g Gᵀ`` of kernel after kernel, a kernel row a cycle in, all of U at once out.

    Each row of g becomes a row of g Gᵀ; when all of them are there, the columns of that become columns of U, a few a
    cycle. U is exact, or narrowed by a shift per tap in the ``quantized`` profile.

    Several kernel sizes share the same networks: rows of G of finite points are powers of the point, whatever the size,
    and coefficients beyond the size are taken as zero; the point at infinity takes the kernel's last coefficient, and
    the last row.

    Latency: ``latency`` cycles from a kernel's last row to U. Throughput: a row a cycle. It never stalls.

    Parameters
    ----------
    kernels : iterable of Winograd
        One, or several that share n and their integer points.
    narrowing : Narrowing, optional
        Width, rounding and saturation of U in the ``quantized`` profile; its shifts are not used, they come by the
        port. None: U is exact.
    max_shift : int, optional
        Greatest shift; that of ``narrowing`` unless told.
    columns : int, optional
        Columns of U a cycle; divides n. Unless told, the fewest that keep up with a row a cycle.

    Attributes
    ----------
    interval : int
        Cycles that the columns of a kernel take: n / columns. Its rows take no less.
    u_bits : int
        Width of an entry of U.
    latency : int
        Cycles.

    Members
    -------
    i : In(stream.Signature(ArrayLayout(signed(8), largest kernel size), always_ready=True))
        A row of a kernel, row 0 first. Columns beyond the kernel size are not looked at.
    o : Out(stream.Signature(ArrayLayout(ArrayLayout(signed(u_bits), n), n), always_ready=True))
        U, ``[row][column]``.
    coming : Out(1)
        Strobe, a cycle before ``o.valid``.
    kernel : In(range(largest kernel size + 1))
        The kernel size at work; not looked at if there is only one. It may change only while no kernel is inside.
    shift : In(ArrayLayout(ArrayLayout(range(max_shift + 1), n), n))
        Only with ``narrowing``: the table ``[row][column]``. It may change only while no kernel is inside.

    Raises
    ------
    ValueError
        If there is no kernel, the kernels do not share n and the powers of their points, ``columns`` does not divide
        n, or a kernel's columns would take longer than its rows.
    """

    def __init__(
        self,
        kernels: Iterable[Winograd],
        *,
        narrowing: Narrowing | None = None,
        max_shift: int | None = None,
        columns: int | None = None,
    ):
        self.kernels = tuple(sorted(kernels, key=lambda kernel: kernel.kernel_size))
        matrix = _shared_matrix(self.kernels)
        self._n = n = len(matrix)
        self._sizes = tuple(kernel.kernel_size for kernel in self.kernels)
        if columns is None:
            columns = next(c for c in range(1, n + 1) if n % c == 0 and n // c <= self._sizes[0])
        if columns < 1 or n % columns:
            raise ValueError(f"Columns must divide the input tile {n}, not {columns!r}")
        self.narrowing = narrowing
        self.max_shift = max_shift if max_shift is not None or narrowing is None else narrowing.max_shift
        self.columns = columns
        self.interval = n // columns
        if self.interval > self._sizes[0]:
            raise ValueError(
                f"{columns!r} columns a cycle take {self.interval} cycles, more than {self._sizes[0]} rows of a kernel"
            )

        self._row = LinearNetwork(matrix, [_INT8] * matrix.shape[1])
        ranges = self._row.output_ranges
        # Network a makes column a of every group of columns.
        self._columns = [LinearNetwork(matrix, [_union(ranges[a::columns])] * matrix.shape[1]) for a in range(columns)]
        exact_bits = max(network.output_bits for network in self._columns)
        self.u_bits = exact_bits if narrowing is None else narrowing.bits
        self._column_latency = self._columns[0].latency
        self._narrows: list[list[Narrow]] = []
        if narrowing is not None:
            arguments = exact_bits, narrowing.bits, self.max_shift, narrowing.rounding
            options = {"saturate": narrowing.saturate, "static_shift": self.interval == 1}
            self._narrows = [[Narrow(*arguments, **options) for _ in range(columns)] for _ in range(n)]
        self._tail = self._narrows[0][0].latency if self._narrows else 0
        # Where there is nothing to compute, a register makes it possible to tell what is coming.
        self._idle_stage = int(self._column_latency + self._tail == 0)
        self.latency = self._row.latency + 1 + self._column_latency + self._tail + self._idle_stage
        if self.interval > 1:
            self.latency += self.interval

        members = {
            "i": In(stream.Signature(data.ArrayLayout(signed(8), self._sizes[-1]), always_ready=True)),
            "o": Out(stream.Signature(matrix_layout(signed(self.u_bits), n, n), always_ready=True)),
            "coming": Out(1),
            "kernel": In(range(self._sizes[-1] + 1)),
        }
        if narrowing is not None:
            members["shift"] = In(matrix_layout(range(self.max_shift + 1), n, n))
        super().__init__(members)

    @classmethod
    def of(cls, config: EngineConfig) -> WeightTransform:
        """The weight transform of an engine."""
        narrowing = config.profile.weight if config.quantized else None
        return cls(config.family_matrices.values(), narrowing=narrowing, max_shift=config.max_shifts[1])

    def model(self, x: ArrayLike, kernel: int | None = None, shift: ArrayLike | None = None) -> NDArray[np.int64]:
        """What the component computes: rows ``[k * r][column]`` to ``[k][row][column]``.

        Parameters
        ----------
        x
            Rows of whole kernels.
        kernel
            The kernel size at work; the largest unless told.
        shift
            The table of the port, if there is one.
        """
        size = self._sizes[-1] if kernel is None else kernel
        matrices = self.kernels[self._sizes.index(size)]
        u = transform(matrices.g, np.asarray(x)[:, :size].reshape(-1, size, size))
        return u if self.narrowing is None else self.narrowing.with_shift(shift).apply(u)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        full = Signal()
        source = self._collect(m, full)
        columns, flags, phase = self._transform_columns(m, source, full)
        groups = [
            [delayed(m, entry, self._idle_stage, name=f"entry{i}_{a}", reset_less=True) for a, entry in enumerate(row)]
            for i, row in enumerate(self._narrow(m, columns, phase))
        ]
        # Whether a group stands at the end of the networks, and is a kernel's last one.
        before = delayed(m, flags, self._column_latency + self._tail + self._idle_stage - 1, name="flags")
        flags = delayed(m, before, 1, name="flags_last")
        m.d.comb += [self.coming.eq(before.all()), self.o.valid.eq(flags.all())]
        # The groups of a kernel come one a cycle: those before the last one move up meanwhile, and need no enable.
        held = [
            [Signal(signed(self.u_bits), name=f"u{i}_{j}", reset_less=True) for j in range(self._n - self.columns)]
            for i in range(self._n)
        ]
        for i, row in enumerate(held):
            row = row + groups[i]
            m.d.comb += [entry.eq(column) for entry, column in zip(self.o.payload[i], row, strict=True)]
            m.d.sync += [column.eq(row[j + self.columns]) for j, column in enumerate(held[i])]
        return m

    def _collect(self, m: Module, full: Signal) -> list[data.View]:
        """Rows of g Gᵀ of a whole kernel, zeros for those it does not have, then once more the last one (if needed).

        `full` is set in the first cycle in which they are there.
        """
        most, several = self._sizes[-1], len(self._sizes) > 1
        size = self.kernel if several else Const(most)
        coefficients = list(self.i.payload)
        if several:
            final = Signal(signed(8))
            with m.Switch(self.kernel):
                for k in self._sizes:
                    with m.Case(k):
                        m.d.comb += final.eq(coefficients[k - 1])
            for k in range(self._sizes[0], most):
                coefficients[k] = Mux(size > k, coefficients[k], 0)
            coefficients.append(final)
        m.submodules.row = self._row
        m.d.comb += [entry.eq(coefficient) for entry, coefficient in zip(self._row.i, coefficients, strict=True)]

        index = Signal(range(most))
        complete = index == size - 1
        with m.If(self.i.valid):
            m.d.sync += index.eq(Mux(complete, 0, index + 1))
        flags = Cat(self.i.valid, complete, index)
        flags = delayed(m, flags, self._row.latency, name="row_flags")
        valid, complete, index = flags[0], flags[1], flags[2:]

        rows = [Signal(self._row.o.shape(), name=f"row{k}", reset_less=True) for k in range(most)]
        with m.If(valid):
            for k, row in enumerate(rows):
                with m.If(index == k):
                    m.d.sync += row.eq(self._row.o)
                if k >= self._sizes[0]:
                    with m.Elif(index == 0):
                        m.d.sync += row.as_value().eq(0)
        m.d.sync += full.eq(valid & complete)
        if several:
            rows.append(Signal(self._row.o.shape(), name="last_row", reset_less=True))
            with m.If(valid):
                m.d.sync += rows[-1].eq(self._row.o)
        return rows

    def _transform_columns(
        self, m: Module, source: list[data.View], full: Signal
    ) -> tuple[list[data.View], Value, Value]:
        """Groups of columns of U before narrowing; whether a group enters and is a kernel's last one, and which."""
        # Whether there is a group at the networks, whether more of the kernel follow, and which group it is.
        valid, more, phase = Signal(), Signal(), Signal(range(self.interval))
        if self.interval == 1:
            m.d.comb += valid.eq(full)
        else:
            m.d.sync += [
                valid.eq(full | more),
                more.eq(Mux(more, phase != self.interval - 2, full)),
                phase.eq(Mux(more, phase + 1, 0)),
            ]
            work = [Signal(row.shape(), name=f"work{k}", reset_less=True) for k, row in enumerate(source)]
            step = self.columns * self._row.output_bits
            m.d.sync += [
                row.as_value().eq(Mux(more, row.as_value() >> step, fresh.as_value()))
                for row, fresh in zip(work, source, strict=True)
            ]
            source = work
        for a, network in enumerate(self._columns):
            m.submodules[f"column{a}"] = network
            m.d.comb += [entry.eq(row[a]) for entry, row in zip(network.i, source, strict=True)]
        return [network.o for network in self._columns], Cat(valid, ~more), phase

    def _narrow(self, m: Module, columns: list[data.View], phase: Value) -> list[list[Value]]:
        """The group of columns ``[row][column in group]`` as it leaves."""
        if not self._narrows:
            return [[column[i] for column in columns] for i in range(self._n)]
        # The shifts of a group are fetched a cycle ahead, if there is one.
        ahead = min(self._column_latency, 1)
        phase = delayed(m, phase, self._column_latency - ahead, name="phase")
        for i, units in enumerate(self._narrows):
            for a, unit in enumerate(units):
                m.submodules[f"narrow{i}_{a}"] = unit
                shift = Array(list(self.shift[i])[a :: self.columns])[phase]
                if self.interval > 1:
                    shift = delayed(m, shift, ahead, name=f"shift{i}_{a}")
                m.d.comb += [unit.i.eq(columns[a][i]), unit.shift.eq(shift)]
        return [[unit.o for unit in units] for units in self._narrows]


class HostWeights(wiring.Component):
    """Puts together U, which the host has transformed, from its rows.

    Latency: ``latency`` from the last row to U. Throughput: a row a cycle. It never stalls.

    Parameters
    ----------
    n : int
        Edge of the input tile.
    u_bits : int
        Width of an entry of U, 1 to 32.

    Attributes
    ----------
    u_bytes : int
        Bytes of an entry of a row: 1, 2 or 4.
    latency : int
        Cycles: 1.

    Members
    -------
    i : In(stream.Signature(ArrayLayout(signed(8), n * u_bytes), always_ready=True))
        A row of U, row 0 first: its entries as two's-complement numbers, little-endian, of which the ``u_bits`` lowest
        bits count.
    o : Out(stream.Signature(ArrayLayout(ArrayLayout(signed(u_bits), n), n), always_ready=True))
        U, ``[row][column]``.
    coming : Out(1)
        Strobe, a cycle before ``o.valid``.

    Raises
    ------
    ValueError
        If a parameter is out of range.
    """

    latency = 1

    def __init__(self, *, n: int, u_bits: int):
        if n < 1:
            raise ValueError(f"HostWeights n must be 1 or more, not {n!r}")
        if not 1 <= u_bits <= 32:
            raise ValueError(f"HostWeights u_bits must be 1 to 32, not {u_bits!r}")
        self.n = n
        self.u_bits = u_bits
        self.u_bytes = next(size for size in (1, 2, 4) if u_bits <= 8 * size)
        super().__init__(
            {
                "i": In(stream.Signature(data.ArrayLayout(signed(8), n * self.u_bytes), always_ready=True)),
                "o": Out(stream.Signature(matrix_layout(signed(u_bits), n, n), always_ready=True)),
                "coming": Out(1),
            }
        )

    def model(self, x: ArrayLike) -> NDArray[np.int64]:
        """What the component computes: rows ``[k * n][byte]`` to ``[k][row][column]``."""
        entries = np.ascontiguousarray(x, dtype=np.int8).view(f"<i{self.u_bytes}")
        return wrap(entries.astype(np.int64), self.u_bits).reshape(-1, self.n, self.n)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        rows = [Signal(self.o.payload[0].shape(), name=f"row{k}", reset_less=True) for k in range(self.n)]
        left = Signal(range(self.n), init=self.n - 1)
        m.d.comb += [
            self.coming.eq(self.i.valid & (left == 0)),
            *(entry.eq(row) for entry, row in zip(self.o.payload, rows, strict=True)),
        ]
        m.d.sync += self.o.valid.eq(self.coming)
        coming = Cat(
            Cat(self.i.payload[self.u_bytes * j :][k] for k in range(self.u_bytes))[: self.u_bits]
            for j in range(self.n)
        )
        with m.If(self.i.valid):
            m.d.sync += [row.as_value().eq(later) for row, later in zip(rows, [*rows[1:], coming], strict=True)]
            m.d.sync += left.eq(Mux(left == 0, self.n - 1, left - 1))
        return m


def _shared_matrix(kernels: tuple[Winograd, ...]) -> NDArray[np.int64]:
    """G of one kernel; of several, the matrix that gives G g from the coefficients, padded with zeros, and the last.

    Raises
    ------
    ValueError
        If there is none.
    """
    if not kernels:
        raise ValueError("A weight transform needs a kernel")
    largest = kernels[-1].g
    if len(kernels) == 1:
        return largest
    names = ", ".join(map(str, kernels))
    if any(kernel.n != kernels[0].n for kernel in kernels):
        raise ValueError(f"Kernels that share a weight transform need the same input tile, not {names}")
    shared = np.pad(largest, [(0, 0), (0, 1)])
    at_infinity = ~largest[:, :-1].any(axis=1)
    shared[at_infinity] = 0
    shared[at_infinity, -1] = 1
    for kernel in kernels:
        size = kernel.kernel_size
        wanted = shared[:, :size].copy()
        wanted[:, -1] += shared[:, -1]
        if not np.array_equal(kernel.g, wanted):
            raise ValueError(f"The kernels {names} share no weight transform: their points are not the same integers")
    return shared


def _union(ranges: tuple[tuple[int, int], ...]) -> tuple[int, int]:
    return min(low for low, _ in ranges), max(high for _, high in ranges)
