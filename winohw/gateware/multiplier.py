"""Signed multipliers with registered inputs and outputs, one kind for each family's DSP block."""

import numpy as np
from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Mux, Signal, Value, ValueLike, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import ArrayLike, NDArray

__all__ = ["KINDS", "Multiplier", "check_parameters", "multiplier_latency", "products_per_cell", "sb_mac16"]

_WIDEST = {"generic": 64, "ecp5": 18, "ice40": 16, "ice40_dual": 8, "lut": 64}

#: The kinds of :class:`Multiplier`.
KINDS = tuple(_WIDEST)


def products_per_cell(kind: str) -> int:
    """Independent products that a multiplier of this kind computes."""
    return 2 if kind == "ice40_dual" else 1


def multiplier_latency(b_width: int, kind: str) -> int:
    """Cycles from the operands to the product."""
    pairs = -(-b_width // 2)
    return 2 + (pairs - 1).bit_length() if kind == "lut" else 2


def check_parameters(a_width: int, b_width: int, kind: str) -> None:
    """Raises ``ValueError`` unless there is such a multiplier."""
    if kind not in KINDS:
        raise ValueError(f"Multiplier kind must be one of {', '.join(KINDS)}, not {kind!r}")
    for name, width in (("a_width", a_width), ("b_width", b_width)):
        if not 1 <= width <= _WIDEST[kind]:
            raise ValueError(f"Multiplier {name} must be 1 to {_WIDEST[kind]} for kind {kind!r}, not {width!r}")


def sb_mac16(a: data.View, b: data.View, lane: int, **arguments: int | ValueLike) -> tuple[Instance, Signal]:
    """An SB_MAC16 with registered operands of ``lane`` bits, and its output; the arguments say what else it does."""
    left, right = (
        Cat(Cat(number, number[-1].replicate(lane - len(number))) for number in operand) for operand in (a, b)
    )
    output = Signal(32)
    cell = Instance(
        "SB_MAC16",
        p_A_REG=1,
        p_B_REG=1,
        p_A_SIGNED=1,
        p_B_SIGNED=1,
        i_CLK=ClockSignal(),
        i_CE=Const(1),
        i_A=left,
        i_B=right,
        o_O=output,
        **arguments,
    )
    return cell, output


class Multiplier(wiring.Component):
    """Computes ``p[k] = a[k] * b[k]``, exactly, one or two independent products a cell.

    ``a`` is registered in every cycle, ``b`` only while ``b_en`` is high: the register of ``b`` holds a weight while
    data pass at ``a``, and on the DSP blocks it is their own input register.

    ============== ============================================== ========== =========
    kind           hardware                                       widths     products
    ============== ============================================== ========== =========
    ``generic``    behavioural; the twin of the next three        up to 64   1
    ``ecp5``       MULT18X18D                                     up to 18   1
    ``ice40``      SB_MAC16, 16×16 (never pass Yosys ``-dsp``)    up to 16   1
    ``ice40_dual`` SB_MAC16, two 8×8 (never pass Yosys ``-dsp``)  up to 8    2
    ``lut``        adder tree over pairs of partial products      up to 64   1
    ============== ============================================== ========== =========

    ``generic`` behaves as the three DSP kinds do, cycle for cycle (``ice40_dual``: for either of its products), and
    takes their place in simulation. ``lut`` needs no vendor's cells and simulates as it is.

    Latency: ``latency``, from ``a`` (or ``b`` with ``b_en``) to ``p``. Throughput: ``products`` a cycle.

    Parameters
    ----------
    a_width, b_width : int
        Bits of the operands, 1 or more.
    kind : str
        One of :data:`KINDS`.

    Attributes
    ----------
    latency : int
        Cycles: 2, or for ``lut`` 2 and one for each level of its tree.
    products : int
        Products a cell computes: 2 for ``ice40_dual``, else 1.

    Members
    -------
    a : In(ArrayLayout(signed(a_width), products))
    b : In(ArrayLayout(signed(b_width), products))
    b_en : In(1)
        Clock enable of the register of ``b``.
    p : Out(ArrayLayout(signed(a_width + b_width), products))

    Raises
    ------
    ValueError
        If the kind is unknown, or a width is out of the kind's range.

    Source: Lattice FPGA-TN-02205 (ECP5 sysDSP) and FPGA-TN-02007 (iCE40 DSP).
    """

    def __init__(self, a_width: int, b_width: int, kind: str = "generic"):
        check_parameters(a_width, b_width, kind)
        self.a_width = a_width
        self.b_width = b_width
        self.kind = kind
        self.products = products_per_cell(kind)
        self.latency = multiplier_latency(b_width, kind)
        super().__init__(
            {
                "a": In(data.ArrayLayout(signed(a_width), self.products)),
                "b": In(data.ArrayLayout(signed(b_width), self.products)),
                "b_en": In(1),
                "p": Out(data.ArrayLayout(signed(a_width + b_width), self.products)),
            }
        )

    def model(self, a: ArrayLike, b: ArrayLike) -> NDArray[np.int64]:
        """The product of a beat at ``a`` with what the register of ``b`` holds; products of up to 63 bits."""
        return np.asarray(a, np.int64) * np.asarray(b, np.int64)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        build = {
            "generic": self._generic,
            "ecp5": self._ecp5,
            "ice40": self._ice40,
            "ice40_dual": self._ice40_dual,
            "lut": self._lut,
        }
        build[self.kind](m)
        return m

    def _generic(self, m: Module) -> None:
        a, b = self._registered_operands(m)
        p = Signal.like(self.p[0], reset_less=True)
        m.d.sync += p.eq(a * b)
        m.d.comb += self.p[0].eq(p)

    def _ecp5(self, m: Module) -> None:
        # Operands stand in the top bits: the zeros below are configuration, whereas copies of the sign would be wires
        # that crowd the rows of DSP blocks. A constant at SRIA, SRIB, C or an unused clock, enable or reset would be a
        # wire as well, so they are left out. CE0 and RST0 are in use: what an open control input reads as is not
        # documented, and a reset that reads as one would hold the registers at zero.
        a, b = (Cat(Const(0, 18 - len(operand[0])), operand[0]) for operand in (self.a, self.b))
        p = Signal(36)
        registers = {
            f"p_REG_{register}_{pin}": f"{pin}{index}"
            for register, enable in (("INPUTA", 0), ("INPUTB", 1), ("OUTPUT", 0))
            for pin, index in (("CLK", 0), ("CE", enable), ("RST", 0))
        }
        m.submodules.cell = Instance(
            "MULT18X18D",
            p_GSR="DISABLED",
            **registers,
            i_CLK0=ClockSignal(),
            i_CE0=Const(1),
            i_CE1=self.b_en,
            i_RST0=Const(0),
            i_SIGNEDA=Const(1),
            i_SIGNEDB=Const(1),
            i_SOURCEA=Const(0),
            i_SOURCEB=Const(0),
            **{f"i_A{k}": a[k] for k in range(18)},
            **{f"i_B{k}": b[k] for k in range(18)},
            **{f"o_P{k}": p[k] for k in range(36)},
        )
        m.d.comb += self.p[0].eq(p[36 - self.a_width - self.b_width :])

    def _ice40(self, m: Module) -> None:
        # The output register is the one behind the adder of the four partial products ("IM_BYPASS").
        m.submodules.cell, product = sb_mac16(
            self.a, self.b, 16, p_PIPELINE_16x16_MULT_REG2=1, **_output_select(3), i_BHOLD=~self.b_en
        )
        m.d.comb += self.p[0].eq(product)

    def _ice40_dual(self, m: Module) -> None:
        registers = {"p_TOP_8x8_MULT_REG": 1, "p_BOT_8x8_MULT_REG": 1}
        m.submodules.cell, product = sb_mac16(
            self.a, self.b, 8, p_MODE_8x8=1, **registers, **_output_select(2), i_BHOLD=~self.b_en
        )
        m.d.comb += [self.p[k].eq(product[16 * k :]) for k in range(2)]

    def _lut(self, m: Module) -> None:
        # Two rows of partial products make one adder: four inputs a bit. The topmost row counts negative.
        a, b = self._registered_operands(m)
        rows = [Mux(bit, a, 0) for bit in b]
        pairs = [low + (high << 1) for low, high in zip(rows[:-2:2], rows[1:-1:2], strict=True)]
        pairs.append(-rows[-1] if self.b_width % 2 else rows[-2] - (rows[-1] << 1))
        level, shift = _registered(m, pairs), 2
        while len(level) > 1:
            sums = [low + (high << shift) for low, high in zip(level[::2], level[1::2], strict=False)]
            level, shift = _registered(m, [*sums, *level[2 * len(sums) :]]), 2 * shift
        m.d.comb += self.p[0].eq(level[0])

    def _registered_operands(self, m: Module) -> tuple[Signal, Signal]:
        a = Signal.like(self.a[0], name="a_held", reset_less=True)
        b = Signal.like(self.b[0], name="b_held", reset_less=True)
        m.d.sync += a.eq(self.a[0])
        with m.If(self.b_en):
            m.d.sync += b.eq(self.b[0])
        return a, b


def _output_select(source: int) -> dict[str, int]:
    return {"p_TOPOUTPUT_SELECT": source, "p_BOTOUTPUT_SELECT": source}


def _registered(m: Module, values: list[Value]) -> list[Value]:
    registers = [Signal(value.shape(), name=f"sum{k}", reset_less=True) for k, value in enumerate(values)]
    m.d.sync += [register.eq(value) for register, value in zip(registers, values, strict=True)]
    return registers
