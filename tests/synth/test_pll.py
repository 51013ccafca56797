"""Dividers against the limits of the data sheets, recomputed here, and settings that other tools are known to give."""

from fractions import Fraction

import pytest

from winohw.synth.pll import Ecp5Pll, GowinPll, Ice40Pll, PllError


@pytest.mark.parametrize(("source", "wanted"), [(25, 50), (25, 60), (25, 80), (25, 100), (50, 65), (100, 70), (25, 48)])
def test_ecp5(source, wanted):
    if (source, wanted) == (25, 48):
        # 25 MHz would have to be divided by 25, below what the phase detector takes.
        with pytest.raises(PllError, match=r"^The PLL of an ECP5 cannot make 48 MHz of 25 MHz$"):
            Ecp5Pll.of(source, wanted)
        return
    pll = Ecp5Pll.of(source, wanted)
    assert Fraction(source, pll.divider) * pll.feedback == wanted == pll.output
    assert Fraction(source, pll.divider) >= Fraction(25, 8)
    assert 400 <= wanted * pll.post <= 800


@pytest.mark.parametrize("wanted", [18, 21, 24, 30, 36, 39, 48])
def test_ice40(wanted):
    pll = Ice40Pll.of(12, wanted)
    oscillator = Fraction(12, pll.divr + 1) * (pll.divf + 1)
    assert oscillator / 2**pll.divq == wanted == pll.output
    assert 533 <= oscillator <= 1066
    assert 12 / (pll.divr + 1) >= 10
    assert pll.filter_range == 1


def test_ice40_as_icepll_has_it():
    pll = Ice40Pll.of(12, 24)
    assert (pll.divr, pll.divf, pll.divq, pll.filter_range) == (0, 63, 5, 1)
    assert Ice40Pll(Fraction(100), 0, 7, 3).filter_range == 5


def test_ice40_cannot_make_all():
    with pytest.raises(PllError, match=r"^The PLL of an iCE40 cannot make 25 MHz of 12 MHz$"):
        Ice40Pll.of(12, 25)


@pytest.mark.parametrize("wanted", [36, 40.5, 45, 54])
def test_gowin(wanted):
    pll = GowinPll.of(27, wanted)
    assert Fraction(27, pll.divider) * pll.feedback == Fraction(str(wanted))
    assert pll.post in GowinPll.POSTS
    assert 500 <= wanted * pll.post <= 1200


def test_instances_carry_the_settings():
    from amaranth.hdl import Signal

    for pll, parameters in (
        (Ecp5Pll.of(25, 60), {"CLKI_DIV": 5, "CLKFB_DIV": 12, "CLKOP_DIV": 10}),
        (Ice40Pll.of(12, 24), {"DIVR": 0, "DIVF": 63, "DIVQ": 5}),
        (GowinPll.of(27, 54), {"IDIV_SEL": 0, "FBDIV_SEL": 1, "ODIV_SEL": 16}),
    ):
        instance = pll.instance(Signal(), Signal(), Signal())
        assert parameters.items() <= instance.parameters.items()
