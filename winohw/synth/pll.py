"""Dividers of the PLLs of each family, found by search and checked against the limits of the data sheets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from amaranth.hdl import Instance, Signal, Value

__all__ = ["PLLS", "Ecp5Pll", "GowinPll", "Ice40Pll", "PllError"]


class PllError(ValueError):
    """No dividers give the wanted frequency."""


def _megahertz(value: float | Fraction) -> Fraction:
    """A frequency as a fraction; decimal places as they are written."""
    return value if isinstance(value, Fraction) else Fraction(str(value))


def _choose(found: Iterator, source: Fraction, wanted: Fraction, name: str):
    """The setting with the fastest phase detector, which gives the least jitter."""
    best = max(found, key=lambda pll: (pll.detector, -abs(pll.oscillator - pll.middle)), default=None)
    if best is None:
        raise PllError(f"The PLL of {name} cannot make {float(wanted):g} MHz of {float(source):g} MHz")
    return best


@dataclass(frozen=True)
class Ecp5Pll:
    """EHXPLLL, feedback from its output.

    ``output = source * feedback / divider``, the oscillator runs at ``output * post``; limits of the ECP5 data sheet
    (FPGA-DS-02012, table "sysCLOCK PLL timing").

    Parameters
    ----------
    source : Fraction
        MHz at its input, 8 … 400.
    divider, feedback, post : int
        Dividers of input, feedback and output, 1 … 128 each.
    """

    source: Fraction
    divider: int
    feedback: int
    post: int
    middle = 600

    @property
    def detector(self) -> Fraction:
        """MHz at the phase detector."""
        return self.source / self.divider

    @property
    def output(self) -> Fraction:
        """MHz."""
        return self.detector * self.feedback

    @property
    def oscillator(self) -> Fraction:
        """MHz of the oscillator."""
        return self.output * self.post

    @property
    def is_valid(self) -> bool:
        """Whether all is within the limits."""
        return (
            8 <= self.source <= 400
            and Fraction(25, 8) <= self.detector <= 400
            and 400 <= self.oscillator <= 800
            and Fraction(25, 8) <= self.output <= 400
        )

    @classmethod
    def of(cls, source: float | Fraction, wanted: float | Fraction) -> Ecp5Pll:
        """The setting for two frequencies in MHz.

        Raises
        ------
        PllError
            There is none.
        """
        source, wanted = _megahertz(source), _megahertz(wanted)
        ratio = wanted / source

        def settings() -> Iterator[Ecp5Pll]:
            for divider in range(ratio.denominator, 129, ratio.denominator):
                feedback = ratio * divider
                for post in range(1, 129):
                    pll = cls(source, divider, int(feedback), post)
                    if feedback <= 128 and pll.is_valid:
                        yield pll

        return _choose(settings(), source, wanted, "an ECP5")

    def instance(self, clock: Value, output: Signal, locked: Signal) -> Instance:
        """The primitive between two clocks."""
        return Instance(
            "EHXPLLL",
            a_ICP_CURRENT="12",
            a_LPF_RESISTOR="8",
            a_MFG_ENABLE_FILTEROPAMP="1",
            a_MFG_GMCREF_SEL="2",
            p_PLLRST_ENA="DISABLED",
            p_INTFB_WAKE="DISABLED",
            p_STDBY_ENABLE="DISABLED",
            p_DPHASE_SOURCE="DISABLED",
            p_OUTDIVIDER_MUXA="DIVA",
            p_CLKOP_ENABLE="ENABLED",
            p_CLKI_DIV=self.divider,
            p_CLKOP_DIV=self.post,
            p_CLKOP_CPHASE=self.post // 2,
            p_CLKOP_FPHASE=0,
            p_FEEDBK_PATH="CLKOP",
            p_CLKFB_DIV=self.feedback,
            i_RST=0,
            i_STDBY=0,
            i_CLKI=clock,
            i_CLKFB=output,
            i_PHASESEL0=0,
            i_PHASESEL1=0,
            i_PHASEDIR=1,
            i_PHASESTEP=1,
            i_PHASELOADREG=1,
            i_PLLWAKESYNC=0,
            i_ENCLKOP=0,
            o_CLKOP=output,
            o_LOCK=locked,
        )


@dataclass(frozen=True)
class Ice40Pll:
    """SB_PLL40_PAD, simple feedback; its input is a pad.

    ``output = source / (divr + 1) * (divf + 1) / 2**divq``; limits of the iCE40 PLL guide (FPGA-TN-02052).

    Parameters
    ----------
    source : Fraction
        MHz at its pad, 10 … 133.
    divr, divf, divq : int
        As the primitive calls them: 0 … 15, 0 … 127, 1 … 6.
    """

    source: Fraction
    divr: int
    divf: int
    divq: int
    middle = 800

    @property
    def detector(self) -> Fraction:
        """MHz at the phase detector."""
        return self.source / (self.divr + 1)

    @property
    def oscillator(self) -> Fraction:
        """MHz of the oscillator."""
        return self.detector * (self.divf + 1)

    @property
    def output(self) -> Fraction:
        """MHz."""
        return self.oscillator / (1 << self.divq)

    @property
    def filter_range(self) -> int:
        """Setting of the loop filter for the phase detector's frequency."""
        return 1 + sum(self.detector >= edge for edge in (17, 26, 44, 66, 101))

    @property
    def is_valid(self) -> bool:
        """Whether all is within the limits."""
        return (
            10 <= self.source <= 133
            and 10 <= self.detector <= 133
            and 533 <= self.oscillator <= 1066
            and 16 <= self.output <= 275
        )

    @classmethod
    def of(cls, source: float | Fraction, wanted: float | Fraction) -> Ice40Pll:
        """The setting for two frequencies in MHz.

        Raises
        ------
        PllError
            There is none.
        """
        source, wanted = _megahertz(source), _megahertz(wanted)
        settings = (
            pll
            for divr in range(16)
            for divq in range(1, 7)
            for divf in range(128)
            if (pll := cls(source, divr, divf, divq)).is_valid and pll.output == wanted
        )
        return _choose(settings, source, wanted, "an iCE40")

    def instance(self, clock: Value, output: Signal, locked: Signal) -> Instance:
        """The primitive between a pad and a clock."""
        return Instance(
            "SB_PLL40_PAD",
            p_FEEDBACK_PATH="SIMPLE",
            p_DIVR=self.divr,
            p_DIVF=self.divf,
            p_DIVQ=self.divq,
            p_FILTER_RANGE=self.filter_range,
            i_RESETB=1,
            i_BYPASS=0,
            i_PACKAGEPIN=clock,
            o_PLLOUTGLOBAL=output,
            o_LOCK=locked,
        )


@dataclass(frozen=True)
class GowinPll:
    """rPLL.

    ``output = source * feedback / divider``, the oscillator runs at ``output * post``; limits of the GW1NR-9 and
    GW2A-18 data sheets (DS117, DS102), the narrower of both.

    Parameters
    ----------
    source : Fraction
        MHz at its input, 3 … 400.
    divider, feedback : int
        1 … 64.
    post : int
        One of `POSTS`.
    """

    source: Fraction
    divider: int
    feedback: int
    post: int
    middle = 800
    POSTS = (2, 4, 8, 16, 32, 48, 64, 80, 96, 112, 128)

    @property
    def detector(self) -> Fraction:
        """MHz at the phase detector."""
        return self.source / self.divider

    @property
    def output(self) -> Fraction:
        """MHz."""
        return self.detector * self.feedback

    @property
    def oscillator(self) -> Fraction:
        """MHz of the oscillator."""
        return self.output * self.post

    @property
    def is_valid(self) -> bool:
        """Whether all is within the limits."""
        return 3 <= self.source <= 400 and 3 <= self.detector <= 400 and 500 <= self.oscillator <= 1200

    @classmethod
    def of(cls, source: float | Fraction, wanted: float | Fraction) -> GowinPll:
        """The setting for two frequencies in MHz.

        Raises
        ------
        PllError
            There is none.
        """
        source, wanted = _megahertz(source), _megahertz(wanted)
        settings = (
            pll
            for divider in range(1, 65)
            for feedback in range(1, 65)
            for post in cls.POSTS
            if (pll := cls(source, divider, feedback, post)).is_valid and pll.output == wanted
        )
        return _choose(settings, source, wanted, "a Gowin part")

    def instance(self, clock: Value, output: Signal, locked: Signal) -> Instance:
        """The primitive between two clocks."""
        return Instance(
            "rPLL",
            p_FCLKIN=f"{float(self.source):g}",
            p_IDIV_SEL=self.divider - 1,
            p_FBDIV_SEL=self.feedback - 1,
            p_ODIV_SEL=self.post,
            p_CLKFB_SEL="internal",
            p_CLKOUT_BYPASS="false",
            p_CLKOUTP_BYPASS="false",
            p_CLKOUTD_BYPASS="false",
            p_DYN_IDIV_SEL="false",
            p_DYN_FBDIV_SEL="false",
            p_DYN_ODIV_SEL="false",
            p_DYN_DA_EN="false",
            p_DYN_SDIV_SEL=2,
            p_PSDA_SEL="0000",
            p_DUTYDA_SEL="1000",
            i_CLKIN=clock,
            i_CLKFB=0,
            i_RESET=0,
            i_RESET_P=0,
            i_FBDSEL=0,
            i_IDSEL=0,
            i_ODSEL=0,
            i_PSDA=0,
            i_DUTYDA=0,
            i_FDLY=0,
            o_CLKOUT=output,
            o_LOCK=locked,
        )


#: The PLL of each family.
PLLS = {"ecp5": Ecp5Pll, "ice40": Ice40Pll, "gowin": GowinPll}
