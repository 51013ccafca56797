# amaranth: UnusedElaboratable=no
"""One-dimensional output transform, for one kernel size or for several at run time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import ArrayLike, NDArray

from winohw.algorithm.modular import wrap
from winohw.algorithm.ranges import linear_range, signed_bits
from winohw.algorithm.toomcook import Winograd
from winohw.gateware.linear import LinearNetwork
from winohw.gateware.pipeline import delayed
from winohw.numerics.formats import signed_range

__all__ = ["OutputNetwork"]


class OutputNetwork(wiring.Component):
    """Computes ``o = Aᵀ i``, a vector a cycle, with Aᵀ of the tile size m that a port tells.

    Kernels that share integer points share the columns of Aᵀ: its rows i < m are those of the largest m. Only the
    column of the point at infinity differs: it has an entry in row m - 1, always the same. So one shift-and-add network
    serves all kernels, and that one term is added to the row where it belongs. With one kernel, any matrix will do.

    The pipeline never stalls: a parent that has to hold it wraps it in an ``EnableInserter``.

    Latency: ``latency``. Throughput: a vector a cycle.

    Parameters
    ----------
    kernels : iterable of Winograd
        One, or several with the same n.
    input_range : (int, int)
        Least and greatest value of an input.
    modulo_bits : int, optional
        The result is only needed modulo ``2**modulo_bits``: outputs wrap to that width.

    Attributes
    ----------
    tile_sizes : tuple of int
        m of the kernels, ascending.
    latency : int
        Cycles from ``i`` to ``o``.
    input_bits, output_bits : int
        Width of an input and of an output.
    output_range : (int, int)
        Least and greatest value of an output.

    Members
    -------
    i : In(ArrayLayout(signed(input_bits), n))
    o : Out(ArrayLayout(signed(output_bits), largest m))
        With several kernels, entries from m on are zero.
    tile_size : In(range(largest m + 1))
        Only with several kernels: m, one of ``tile_sizes``. It may change only while no vector is in
        flight, and must stand in the cycle before the first vector.

    Raises
    ------
    ValueError
        If there is no kernel, or several that do not share their columns.
    """

    def __init__(self, kernels: Iterable[Winograd], input_range: tuple[int, int], modulo_bits: int | None = None):
        self.kernels = tuple(sorted(kernels, key=lambda kernel: kernel.tile_size))
        if not self.kernels:
            raise ValueError("An output network needs at least one kernel")
        self.tile_sizes = tuple(kernel.tile_size for kernel in self.kernels)
        self.modulo_bits = modulo_bits
        at = self.kernels[-1].at
        rows, n = at.shape
        is_shared = _shared_columns(self.kernels)
        ranges = [input_range] * n
        self._network = LinearNetwork(at * is_shared, ranges, modulo_bits)
        self._last_term = None if is_shared.all() else LinearNetwork([at[-1] * ~is_shared], ranges, modulo_bits)
        self._aligned = self._network.latency
        if self._last_term is not None:
            self._aligned = max(self._aligned, self._last_term.latency + 1)
        self.latency = self._aligned + (len(self.kernels) > 1)

        bounds = [bound for kernel in self.kernels for bound in linear_range(kernel.at.tolist(), ranges)]
        self.output_range = min(lo for lo, _ in bounds), max(hi for _, hi in bounds)
        if modulo_bits is not None and signed_bits(*self.output_range) > modulo_bits:
            self.output_range = signed_range(modulo_bits)
        self.input_bits = self._network.input_bits
        self.output_bits = signed_bits(*self.output_range)
        members = {
            "i": In(data.ArrayLayout(signed(self.input_bits), n)),
            "o": Out(data.ArrayLayout(signed(self.output_bits), rows)),
        }
        if len(self.kernels) > 1:
            members["tile_size"] = In(range(rows + 1))
        super().__init__(members)

    def model(self, x: ArrayLike, tile_size: int | None = None) -> NDArray[np.int64]:
        """What the component computes: ``[..., n]`` to ``[..., largest m]``; the largest m unless told."""
        kernel = self.kernels[-1 if tile_size is None else self.tile_sizes.index(tile_size)]
        product = np.asarray(x, dtype=np.int64) @ kernel.at.T
        product = np.pad(product, [(0, 0)] * (product.ndim - 1) + [(0, self.tile_sizes[-1] - kernel.tile_size)])
        return product if self.modulo_bits is None else wrap(product, self.modulo_bits)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.network = network = self._network
        m.d.comb += network.i.eq(self.i)
        if len(self.kernels) == 1:
            m.d.comb += self.o.eq(network.o)
            return m

        sums = delayed(m, network.o, self._aligned - network.latency, name="sums", reset_less=True)
        terms = [None] * len(self.o)
        if self._last_term is not None:
            m.submodules.last_term = last_term = self._last_term
            m.d.comb += last_term.i.eq(self.i)
            term = delayed(m, last_term.o, self._aligned - 1 - last_term.latency, name="term", reset_less=True)[0]
            for size in self.tile_sizes:
                terms[size - 1] = gated = Signal(term.shape(), name=f"term_of_row{size - 1}", reset_less=True)
                is_last = Signal(name=f"row{size - 1}_is_last", reset_less=True)
                m.d.sync += [is_last.eq(self.tile_size == size), gated.eq(Mux(is_last, term, 0))]
        for i, (o, total, term) in enumerate(zip(self.o, sums, terms, strict=True)):
            entry = Signal(signed(self.output_bits), name=f"entry{i}", reset_less=True)
            whole = total if term is None else total + term
            if i >= self.tile_sizes[0]:
                is_inside = Signal(name=f"row{i}_is_inside", reset_less=True)
                m.d.sync += is_inside.eq(i < self.tile_size)
                whole = Mux(is_inside, whole, 0)
            m.d.sync += entry.eq(whole)
            m.d.comb += o.eq(entry)
        return m


def _shared_columns(kernels: Sequence[Winograd]) -> NDArray[np.bool_]:
    """Which columns of Aᵀ are, for every kernel, the first rows of those of the largest m."""
    largest = kernels[-1].at
    is_shared = np.ones(largest.shape[1], np.bool_)
    for kernel in kernels:
        if kernel.n != len(is_shared):
            raise ValueError(f"Kernels must have the same input tile, not those of {kernels[-1]} and {kernel}")
        is_shared &= (kernel.at == largest[: kernel.tile_size]).all(axis=0)
    for kernel in kernels:
        if kernel.at[:-1, ~is_shared].any() or (kernel.at[-1] != largest[-1])[~is_shared].any():
            raise ValueError(f"The output transforms of {kernels[-1]} and {kernel} have no common network")
    return is_shared
