"""The elementwise product: all multipliers, the transformed weights they hold, and the sums over input channels."""

import numpy as np
from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import ArrayLike, NDArray

from winohw.algorithm.modular import wrap
from winohw.gateware.fan_out import FanOut
from winohw.gateware.multiplier import Multiplier, check_parameters, multiplier_latency, products_per_cell
from winohw.gateware.pipeline import delayed

__all__ = ["MacArray"]


class MacArray(wiring.Component):
    """Multiplies transformed pixels with transformed weights and adds the products of the Pc input channels.

    ``o[k][i][a] = sum(u[k][c][i][p Q + a] * v[c][i][a] for c in range(Pc))``, with Q = n / fold, and p the phase: the
    first chunk after (and with) a swap is phase 0, and each valid chunk is one phase further, modulo ``fold``. Sums are
    exact, or modulo ``2**sum_bits`` if they are given fewer bits than that takes.

    Transformed weights wait in shadow registers, a chain through all lanes, while the multipliers use those before:
    in the cycle after ``u_coming`` every lane passes its n×n weights on to the one before it, and ``u`` enters the
    last. After Pc Pk
    loads, the first load is in lane (k, c) = (0, 0), the second in (0, 1), the last in (Pk - 1, Pc - 1). A chunk with
    ``swap`` makes the multipliers take over what the shadow registers hold; it may come in the cycle of the last load,
    and the next load in the cycle after the chunk.

    For ``fold`` > 1 every multiplier rotates its ``fold`` weights through a ring.

    A register stage in front gives every two taps, (2 i, a) and (2 i + 1, a) in all lanes, a copy of the control
    signals: they may lie in one DSP block, whose multipliers share them. Products are
    registered once more outside of the cells: on ECP5 the way out of a row of DSP blocks takes 5 ns, which leaves no
    time for an adder.

    Latency: ``latency``, the same for every chunk. Throughput: a chunk a cycle. Never stalls.

    Parameters
    ----------
    input_tile : int
        n.
    fold : int
        Cycles a patch; divides n.
    input_lanes, output_lanes : int
        Pc and Pk.
    v_bits, u_bits : int
        Widths of a transformed pixel and of a transformed weight.
    kind : str
        Of the multipliers, see :class:`Multiplier`. ``ice40_dual`` shares a cell between two neighbours.
    registered_products : bool
        Whether products have that register; without, a cycle less.
    relay : bool
        Whether chunks and control signals pass another register, for an array that is spread over a large part.
    sum_bits : int, optional
        Width of a sum; default: what Pc products of the two least numbers take.

    Attributes
    ----------
    columns : int
        Q, tap columns of a chunk.
    multipliers : int
        Products a cycle.
    cells : int
        Multiplier cells.
    latency : int
        Cycles from a chunk to its sums.
    swap_delay : int
        Cycles by which loads must be later than said above: 1 with a relay, else 0.

    Members
    -------
    i : In(stream.Signature({v: [Pc][n][Q] signed(v_bits), swap: 1}, always_ready=True))
    u_coming : In(1)
        Strobe, the next cycle has a kernel at ``u``.
    u : In([n][n] signed(u_bits))
    o : Out(stream.Signature([Pk][n][Q] signed(sum_bits), always_ready=True))
    o_coming : Out(1)
        Strobe, a cycle before ``o.valid``.

    Raises
    ------
    ValueError
        If a size is below 1, or ``fold`` does not divide ``input_tile``; and as :class:`Multiplier`.
    """

    def __init__(
        self,
        *,
        input_tile: int,
        fold: int = 1,
        input_lanes: int = 1,
        output_lanes: int = 1,
        v_bits: int,
        u_bits: int,
        kind: str = "generic",
        registered_products: bool = True,
        relay: bool = False,
        sum_bits: int | None = None,
    ):
        for name, value in (("input_tile", input_tile), ("input_lanes", input_lanes), ("output_lanes", output_lanes)):
            if value < 1:
                raise ValueError(f"MacArray {name} must be 1 or more, not {value!r}")
        if fold < 1 or input_tile % fold:
            raise ValueError(f"MacArray fold must divide the input tile {input_tile}, not {fold!r}")
        check_parameters(v_bits, u_bits, kind)
        levels = (input_lanes - 1).bit_length()
        if sum_bits is None:
            sum_bits = (input_lanes << (v_bits + u_bits - 2)).bit_length() + 1
        if sum_bits < 1:
            raise ValueError(f"MacArray sum_bits must be 1 or more, not {sum_bits!r}")
        self.input_tile = input_tile
        self.fold = fold
        self.input_lanes = input_lanes
        self.output_lanes = output_lanes
        self.v_bits = v_bits
        self.u_bits = u_bits
        self.kind = kind
        self.registered_products = registered_products
        self.sum_bits = sum_bits
        self.columns = input_tile // fold
        self.multipliers = input_lanes * output_lanes * input_tile * self.columns
        self.cells = -(-self.multipliers // products_per_cell(kind))
        self.relay = relay
        self.swap_delay = int(relay)
        self.latency = 1 + relay + multiplier_latency(u_bits, kind) + registered_products + levels
        chunk = _layout(v_bits, input_lanes, input_tile, self.columns)
        super().__init__(
            {
                "i": In(stream.Signature(data.StructLayout({"v": chunk, "swap": 1}), always_ready=True)),
                "u_coming": In(1),
                "u": In(_layout(u_bits, input_tile, input_tile)),
                "o": Out(
                    stream.Signature(_layout(sum_bits, output_lanes, input_tile, self.columns), always_ready=True)
                ),
                "o_coming": Out(1),
            }
        )

    def model(self, v: ArrayLike, u: ArrayLike) -> NDArray[np.int64]:
        """Sums of the chunks between two swaps.

        Parameters
        ----------
        v : array of int
            Chunks, ``[chunk, c, i, a]``; the first one swaps.
        u : array of int
            The Pk Pc kernels in the order they are loaded, ``[load, i, j]``.

        Returns
        -------
        ndarray of int64
            ``[chunk, k, i, a]``.
        """
        v = np.asarray(v, np.int64)
        n, q = self.input_tile, self.columns
        taps = np.asarray(u, np.int64).reshape(self.output_lanes, self.input_lanes, n, self.fold, q)
        phase = np.arange(len(v)) % self.fold
        return wrap(np.einsum("tcia,tkcia->tkia", v, np.moveaxis(taps, 3, 0)[phase]), self.sum_bits)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        lanes = self.output_lanes * self.input_lanes
        valid, swap, load, v = self._front(m)

        shadow = [Signal(self.u.shape(), name=f"shadow{lane}", reset_less=True) for lane in range(lanes)]
        weights, enables = [], []
        for lane, before in enumerate([*shadow[1:], self.u]):
            for i in range(self.input_tile):
                for a in range(self.columns):
                    copy = i // 2 * self.columns + a
                    own = range(a, self.input_tile, self.columns)  # columns of U that come to this multiplier
                    with m.If(load[copy]):
                        m.d.sync += [shadow[lane][i][j].eq(before[i][j]) for j in own]
                    taps = [shadow[lane][i][j] for j in own]
                    weights.append(self._weight(m, f"ring{lane}_{i}_{a}", taps, valid[copy], swap[copy]))
                    enables.append(valid[copy] if self.fold > 1 else swap[copy])

        products = []
        for first in range(0, self.multipliers, products_per_cell(self.kind)):
            m.submodules[f"cell{first}"] = cell = Multiplier(self.v_bits, self.u_bits, self.kind)
            m.d.comb += cell.b_en.eq(enables[first])
            for product in range(min(cell.products, self.multipliers - first)):
                lane, i, a = map(int, np.unravel_index(first + product, (lanes, self.input_tile, self.columns)))
                m.d.comb += [
                    cell.a[product].eq(v[lane % self.input_lanes][i][a]),
                    cell.b[product].eq(weights[first + product]),
                ]
                products.append(cell.p[product])
        if self.registered_products:
            outputs = products
            products = [Signal(signed(len(p)), name=f"product{k}", reset_less=True) for k, p in enumerate(outputs)]
            m.d.sync += [register.eq(product) for register, product in zip(products, outputs, strict=True)]

        per_lane = self.input_tile * self.columns
        for k in range(self.output_lanes):
            for tap in range(per_lane):
                i, a = divmod(tap, self.columns)
                terms = [products[(k * self.input_lanes + c) * per_lane + tap] for c in range(self.input_lanes)]
                m.d.comb += self.o.payload[k][i][a].eq(self._sum(m, f"sum{k}_{i}_{a}", terms))
        on_the_way = Signal(self.latency)
        m.d.sync += on_the_way.eq(Cat(self.i.valid, on_the_way))
        m.d.comb += [self.o_coming.eq(on_the_way[-2]), self.o.valid.eq(on_the_way[-1])]
        return m

    def _front(self, m: Module) -> tuple[list[Value], list[Value], list[Value], data.View]:
        """Copies of the control signals (valid, swap and load), and v that goes with valid and swap."""
        copies = -(-self.input_tile // 2) * self.columns
        m.submodules.control = control = FanOut(2, copies, self.kind, 1 + self.relay)
        m.submodules.load = load = FanOut(1, copies, self.kind)
        m.d.comb += [
            control.i.eq(Cat(self.i.valid, self.i.valid & self.i.payload.swap)),
            load.i.eq(self.u_coming),
        ]
        v = delayed(m, self.i.payload.v, 1 + self.relay, name="v", reset_less=True)
        valid, swaps = ([copy[bit] for copy in control.o] for bit in range(2))
        return valid, swaps, list(load.o), v

    def _weight(self, m: Module, name: str, taps: list[Value], valid: Value, swap: Value) -> Value:
        """The weight that a multiplier takes next: of phase 0 from the shadow register, else from its ring."""
        if self.fold == 1:
            return taps[0]
        ring = [Signal(signed(self.u_bits), name=f"{name}_{k}", reset_less=True) for k in range(self.fold)]
        with m.If(valid):
            m.d.sync += [
                register.eq(Mux(swap, tap, before))
                for register, tap, before in zip(ring, [*taps[1:], taps[0]], [*ring[1:], ring[0]], strict=True)
            ]
        return Mux(swap, taps[0], ring[0])

    def _sum(self, m: Module, name: str, terms: list[Value]) -> Value:
        """The terms added up by a tree with a register a level."""
        level = 0
        while len(terms) > 1:
            sums = [low + high for low, high in zip(terms[::2], terms[1::2], strict=False)] + terms[len(terms) & ~1 :]
            terms = []
            for k, total in enumerate(sums):
                bits = min(len(total), self.sum_bits)
                terms.append(Signal(signed(bits), name=f"{name}_{level}_{k}", reset_less=True))
                m.d.sync += terms[-1].eq(total)
            level += 1
        return terms[0]


def _layout(bits: int, *dimensions: int) -> data.ArrayLayout:
    layout = signed(bits)
    for length in reversed(dimensions):
        layout = data.ArrayLayout(layout, length)
    return layout
