# amaranth: UnusedElaboratable=no
"""The output transform: summed products out of the Winograd domain into accumulators of pixels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import ArrayLike, NDArray

from winohw.algorithm.modular import ExactDivision, exponent_of_two
from winohw.algorithm.toomcook import Winograd
from winohw.gateware.credit_queue import CreditQueue
from winohw.gateware.exact_division import ExactDivider
from winohw.gateware.narrow import Narrow
from winohw.gateware.output_network import OutputNetwork
from winohw.gateware.pipeline import delayed, matrix_layout
from winohw.gateware.shift_selector import ShiftSelector
from winohw.gateware.transposer import Transposer
from winohw.numerics.formats import Narrowing, signed_range
from winohw.numerics.golden import transform

if TYPE_CHECKING:
    from winohw.gateware.config import EngineConfig

__all__ = ["OutputTransform"]

_RESULT_BITS = 32
_LUT_RAM_DEPTH = 16


class OutputTransform(wiring.Component):
    """Computes ``Y = Aᵀ M A`` of tile after tile, a few columns of M a cycle in, a row of Y a cycle out, in all lanes.

    ``exact`` profile: everything is computed modulo ``2**sum_bits``, and Y is divided by the square of the matrices'
    divisor, so that the result equals direct convolution. ``quantized`` profile: each sum of products is first narrowed
    by the shift of its tap, and Y is exact from there on and not divided.

    Each column becomes a column of Aᵀ M, a transposer collects the columns and gives rows, and each row becomes a row
    of Y. With several kernels, a port tells which one is at work.

    The pipeline never stalls. A queue takes its rows, and ``room`` tells when there is room in it for one more tile;
    the sender says with ``started`` that it has taken that room, before it sends the tile. ``room`` and ``filled``
    come from registers.

    Latency: ``latency`` cycles from a tile's last columns to its first row, more under backpressure. Throughput: a tile
    each ``interval`` cycles.

    Parameters
    ----------
    kernels : iterable of Winograd
        One, or several that share n and their integer points.
    sum_bits : int
        Width of the sums that come in. ``exact``: 2 to 32 bits more than the exponent of two of the divisor's square.
    lanes : int
        Tiles side by side (output channels).
    narrowing : Narrowing, optional
        Width, rounding and saturation of the sums in the ``quantized`` profile; its shifts are not used, they come by
        the port. None: ``exact`` profile.
    max_shift : int, optional
        Greatest shift; that of ``narrowing`` unless told.
    columns : int
        Columns of M a cycle; divides n.
    lead : int
        Cycles from ``started`` to the tile's first columns.
    queue_depth : int, optional
        Rows that the queue holds: a power of two, no less than the largest m (with n = 2, twice and with n = 1, three
        times that). As many as full speed needs unless told.
    kind : str
        Of the copies of control signals, see :class:`FanOut`.

    Attributes
    ----------
    tile_sizes : tuple of int
        m of the kernels, ascending.
    latency : int
        Cycles from the acceptance of a tile's last column to its first row, without backpressure.

    Members
    -------
    i : In(stream.Signature(ArrayLayout(ArrayLayout(ArrayLayout(signed(sum_bits), columns), n), lanes)))
        ``[lane][row][column in chunk]``: column 0 of a tile first; always ready.
    room : Out(1)
        Whether one more tile may be started.
    started : In(1)
        Strobe, while ``room``: a tile will come.
    filled, o, pop : Out(1), Out(ArrayLayout(ArrayLayout(signed(32), largest m), lanes)), In(1)
        The queue's exit, see :class:`CreditQueue`. ``[lane][column]``: rows 0 … m - 1 of a tile. Columns from m on are
        zero.
    kernel : In(range(largest kernel size + 1))
        The kernel size at work; not looked at if there is only one. It may change only while no tile is in flight, and
        must stand in the cycle before the first column.
    shift : In(ArrayLayout(ArrayLayout(range(max_shift + 1), n), n))
        Only with ``narrowing``: the table ``[row][column]``. It may change only while no tile is in flight, and must
        stand two cycles before the first column.

    Raises
    ------
    ValueError
        If the kernels do not go together, there is no lane, the result would not fit 32 bits, or the queue no tile.
    """

    def __init__(
        self,
        kernels: Iterable[Winograd],
        sum_bits: int,
        *,
        lanes: int = 1,
        narrowing: Narrowing | None = None,
        max_shift: int | None = None,
        columns: int = 1,
        lead: int = 0,
        queue_depth: int | None = None,
        kind: str = "generic",
    ):
        if lanes < 1:
            raise ValueError(f"Output transform lanes must be 1 or more, not {lanes!r}")
        self.kernels = tuple(sorted(kernels, key=lambda kernel: kernel.tile_size))
        self.sum_bits = sum_bits
        self.lanes = lanes
        self.narrowing = narrowing
        self.max_shift = max_shift if max_shift is not None or narrowing is None else narrowing.max_shift
        n = self.kernels[0].n
        if columns < 1 or n % columns:
            raise ValueError(f"Output transform columns must divide the input tile {n}, not {columns!r}")
        self.columns = columns
        self.lead = lead
        self._pipeline = _Pipeline(self.kernels, sum_bits, lanes, narrowing, self.max_shift, columns, kind)
        self.tile_sizes = self._pipeline.tile_sizes
        # A tile is charged three cycles late; the next ones may have been started by then.
        self.margin = self.tile_sizes[-1] * (-(-3 // self.interval(self.tile_sizes[0])) - 1)
        self.queue_depth = self._needed_depth() if queue_depth is None else queue_depth
        least = self.tile_sizes[-1] + self.margin
        if self.queue_depth < least:
            raise ValueError(f"The queue must have room for {least} rows or more, not {queue_depth!r}")
        self.latency = self._pipeline.latency + CreditQueue.latency

        members = {
            "i": In(stream.Signature(self._pipeline.i.payload.shape(), always_ready=True)),
            "room": Out(1),
            "started": In(1),
            "filled": Out(1),
            "o": Out(matrix_layout(signed(_RESULT_BITS), lanes, self.tile_sizes[-1])),
            "pop": In(1),
            "kernel": In(range(max(kernel.kernel_size for kernel in self.kernels) + 1)),
        }
        if narrowing is not None:
            members["shift"] = In(self._pipeline.shift.shape())
        super().__init__(members)

    def interval(self, tile_size: int) -> int:
        """Least cycles from tile to tile: n / columns to come in, m for the rows to leave."""
        return max(self.kernels[0].n // self.columns, tile_size)

    @classmethod
    def of(cls, config: EngineConfig, lead: int) -> OutputTransform:
        """The output transform of an engine, `lead` cycles behind the start of a tile.

        With one column a cycle its queue fits the LUT RAM of one cell: with several kernels that is less than the
        smallest needs at full speed, but nobody who wants that speed takes one column a cycle.
        """
        return cls(
            config.family_matrices.values(),
            config.acc_bits,
            lanes=config.output_lanes,
            narrowing=config.profile.product if config.quantized else None,
            max_shift=config.max_shifts[2],
            columns=config.output_columns,
            lead=lead,
            queue_depth=_LUT_RAM_DEPTH if config.output_columns == 1 else None,
            kind=config.family,
        )

    def model(self, x: ArrayLike, kernel: int | None = None, shift: ArrayLike | None = None) -> NDArray[np.int64]:
        """What the component computes: chunks ``[k * n / columns][lane][row][column in chunk]`` of columns to rows
        ``[k * m][lane][column]``.

        Parameters
        ----------
        x
            Columns of whole tiles.
        kernel
            The kernel size at work; the smallest unless told.
        shift
            The table of the port, if there is one.
        """
        sizes = [matrices.kernel_size for matrices in self.kernels]
        matrices = self.kernels[-1 if kernel is None else sizes.index(kernel)]
        size, largest = matrices.tile_size, self.tile_sizes[-1]
        n = matrices.n
        sums = np.asarray(x).reshape(-1, n // self.columns, self.lanes, n, self.columns)
        sums = sums.transpose(0, 2, 3, 1, 4).reshape(-1, self.lanes, n, n)
        if self.narrowing is None:
            result = self._pipeline.division.divide(transform(matrices.at, sums))
        else:
            result = transform(matrices.at, self.narrowing.with_shift(shift).apply(sums))
        padded = np.pad(result, [(0, 0)] * 3 + [(0, largest - size)])
        return padded.transpose(0, 2, 1, 3).reshape(-1, self.lanes, largest)

    def _needed_depth(self) -> int:
        """Rows on their way when tiles come at full speed, rounded up.

        A tile's rows count from its start until their credits are back, three cycles after the pipeline for row 0; a
        tile comes every ``interval`` cycles.
        """
        away = self.lead + self.kernels[0].n // self.columns - 1 + self._pipeline.latency + 3
        rows = max(
            sum(max(0, size - max(0, age - away)) for age in range(0, away + size, self.interval(size)))
            for size in self.tile_sizes
        )
        return max(2, 1 << (rows - 1).bit_length())

    def elaborate(self, platform: object) -> Module:
        m = Module()
        n = self.kernels[0].n
        pipeline = self._pipeline
        tile_size = Signal(range(n + 1))
        charge = Signal(range(n + 1), init=self.tile_sizes[0], reset_less=True)
        with m.Switch(self.kernel):
            for matrices in self.kernels[1:]:
                with m.Case(matrices.kernel_size):
                    m.d.comb += tile_size.eq(matrices.tile_size)
            with m.Default():
                m.d.comb += tile_size.eq(self.tile_sizes[0])
        m.d.sync += charge.eq(tile_size)
        m.d.comb += [pipeline.tile_size.eq(tile_size), pipeline.i.payload.eq(self.i.payload)]
        if self.narrowing is not None:
            m.d.comb += pipeline.shift.eq(self.shift)

        m.submodules.pipeline = pipeline
        m.submodules.queue = queue = CreditQueue(pipeline.o.payload.shape(), self.queue_depth)
        m.d.comb += [
            pipeline.i.valid.eq(self.i.valid),
            queue.i.valid.eq(pipeline.o.valid),
            queue.i.payload.eq(pipeline.o.payload),
            queue.pop.eq(self.pop),
            self.filled.eq(queue.filled),
        ]
        for row, narrow_row in zip(self.o, queue.o, strict=True):
            m.d.comb += [pixel.eq(narrow_pixel) for pixel, narrow_pixel in zip(row, narrow_row, strict=True)]

        credits = Signal(range(self.queue_depth + 1), init=self.queue_depth)
        has_room = Signal()
        was_started = Signal()
        m.d.sync += [
            was_started.eq(self.started),
            credits.eq(credits - Mux(was_started, charge, 0) + queue.freed),
            has_room.eq(credits >= charge + self.margin),
        ]
        rested = Signal(init=1)  # the columns of the tile before have come, and its rows leave the transposer in time
        m.d.comb += self.room.eq(has_room & rested)
        chunks = n // self.columns
        if self.interval(self.tile_sizes[-1]) > 1:
            least = Signal(range(n + 1), init=self.interval(self.tile_sizes[0]), reset_less=True)
            m.d.sync += least.eq(Mux(tile_size > chunks, tile_size, chunks))
            wait = Signal(range(n + 1))
            with m.If(self.started):
                m.d.sync += [wait.eq(least - 1), rested.eq(least == 1)]
            with m.Elif(~rested):
                m.d.sync += [wait.eq(wait - 1), rested.eq(wait == 1)]
        return m


class _Pipeline(wiring.Component):
    """The arithmetic: columns in, rows out, no stalls. Parameters as :class:`OutputTransform`."""

    def __init__(
        self,
        kernels: Sequence[Winograd],
        sum_bits: int,
        lanes: int,
        narrowing: Narrowing | None,
        max_shift: int | None,
        columns: int,
        kind: str,
    ):
        modulo_bits = sum_bits if narrowing is None else None
        input_range = signed_range(sum_bits if narrowing is None else narrowing.bits)
        self._columns = [
            [OutputNetwork(kernels, input_range, modulo_bits) for _ in range(columns)] for _ in range(lanes)
        ]
        column = self._columns[0][0]
        self._chunk = columns
        self._rows = [OutputNetwork(kernels, column.output_range, modulo_bits) for _ in range(lanes)]
        row = self._rows[0]
        self.tile_sizes = column.tile_sizes
        self._n = n = kernels[0].n
        self._max_shift = max_shift
        largest = self.tile_sizes[-1]
        entry = signed(column.output_bits)
        self._transposers = [Transposer(entry, n, largest, columns, kind=kind, variable=True) for _ in range(lanes)]
        self.latency = column.latency + self._transposers[0].latency + row.latency

        self._narrows = self._dividers = None
        if narrowing is None:
            self.division, result_bits = _division(kernels, sum_bits)
            self._dividers = [
                [ExactDivider(self.division.divisor_squared, result_bits) for _ in range(largest)] for _ in range(lanes)
            ]
            self.latency += self._dividers[0][0].latency
        else:
            result_bits = row.output_bits
            if result_bits > _RESULT_BITS:
                raise ValueError(
                    f"Products of {narrowing.bits} bits give results of {result_bits} bits; "
                    f"up to {_RESULT_BITS} are possible"
                )
            arguments = sum_bits, narrowing.bits, max_shift, narrowing.rounding
            self._narrows = [
                [[Narrow(*arguments, saturate=narrowing.saturate) for _ in range(columns)] for _ in range(n)]
                for _ in range(lanes)
            ]
            self.latency += self._narrows[0][0][0].latency

        members = {
            "i": In(
                stream.Signature(
                    data.ArrayLayout(matrix_layout(signed(sum_bits), n, columns), lanes), always_ready=True
                )
            ),
            "o": Out(stream.Signature(matrix_layout(signed(result_bits), lanes, largest), always_ready=True)),
            "tile_size": In(range(n + 1)),
        }
        if narrowing is not None:
            members["shift"] = In(matrix_layout(range(max_shift + 1), n, n))
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        valid = self.i.valid
        if self._narrows:
            m.submodules.selector = selector = ShiftSelector(self._n, self._chunk, self._max_shift)
            m.d.comb += [selector.table.eq(self.shift), selector.advance.eq(self.i.valid)]
            valid = delayed(m, valid, self._narrows[0][0][0].latency, name="narrow_valid")
        valid = delayed(m, valid, self._columns[0][0].latency, name="column_valid")
        parts = zip(self._columns, self._transposers, self._rows, strict=True)
        for lane, (columns, transposer, row) in enumerate(parts):
            for a, column in enumerate(columns):
                m.submodules[f"column{lane}_{a}"] = column
            m.submodules[f"transposer{lane}"] = transposer
            m.submodules[f"row{lane}"] = row
            for network in (*columns, row):
                if len(self.tile_sizes) > 1:
                    m.d.comb += network.tile_size.eq(self.tile_size)
            for k, totals in enumerate(self.i.payload[lane]):
                for a, (column, total) in enumerate(zip(columns, totals, strict=True)):
                    if self._narrows:
                        m.submodules[f"narrow{lane}_{k}_{a}"] = narrow = self._narrows[lane][k][a]
                        m.d.comb += [narrow.i.eq(total), narrow.shift.eq(selector.o[k][a])]
                        total = narrow.o
                    m.d.comb += column.i[k].eq(total)
            m.d.comb += [transposer.count.eq(self.tile_size), transposer.i.valid.eq(valid)]
            m.d.comb += [transposer.i.payload[a].eq(column.o) for a, column in enumerate(columns)]
            m.d.comb += [entry.eq(chunk[0]) for entry, chunk in zip(row.i, transposer.o.payload, strict=True)]
            for k, pixel in enumerate(self.o.payload[lane]):
                result = row.o[k]
                if self._dividers:
                    m.submodules[f"divider{lane}_{k}"] = divider = self._dividers[lane][k]
                    m.d.comb += divider.i.eq(result)
                    result = divider.o
                m.d.comb += pixel.eq(result)
        valid = delayed(m, self._transposers[0].o.valid, self._rows[0].latency, name="row_valid")
        if self._dividers:
            valid = delayed(m, valid, self._dividers[0][0].latency, name="divider_valid")
        m.d.comb += self.o.valid.eq(valid)
        return m


def _division(kernels: Sequence[Winograd], sum_bits: int) -> tuple[ExactDivision, int]:
    """The division that the kernels share, and the width of its result."""
    divisor = kernels[0].divisor
    for kernel in kernels:
        if kernel.divisor != divisor:
            raise ValueError(
                f"Kernels must share their divisor, but {kernels[0]} has {divisor} and {kernel} {kernel.divisor}"
            )
    result_bits = sum_bits - exponent_of_two(divisor**2)
    if not 2 <= result_bits <= _RESULT_BITS:
        raise ValueError(
            f"Sums of {sum_bits} bits, divided by {divisor**2}, give results of {result_bits} bits; "
            f"2 to {_RESULT_BITS} are possible"
        )
    return ExactDivision(divisor**2, result_bits), result_bits
