# amaranth: UnusedElaboratable=no
"""Every board that comes with winohw: its file, its pins and clocks, and that its job can be made."""

import re

import numpy as np
import pytest

from winohw.gateware.capabilities import Capabilities
from winohw.gateware.config import EngineConfig
from winohw.network.filters import FILTERS, filter_layer
from winohw.network.slicing import sliced_jobs
from winohw.numerics.formats import Quantized
from winohw.synth import board_design
from winohw.synth.bitstream import prepare
from winohw.synth.board import board_names, find_board
from winohw.synth.pll import PLLS

NAMES = (
    *("colorlight-5a75b", "ecpix5-85f", "icebreaker", "icebreaker-int8", "icepi-zero", "icesugar", "icesugar-int8"),
    *(
        "icesugar-pro",
        "tang-nano-9k",
        "tang-primer-20k",
        "ulx3s-12f",
        "ulx3s-25f",
        "ulx3s-45f",
        "ulx3s-85f",
        "versa-ecp5",
    ),
)

#: Clock, receive and transmit pins, from the boards' own constraint files.
PINS = {
    "colorlight-5a75b": ("P6", "M13", "P11"),
    "ecpix5-85f": ("K23", "R26", "R24"),
    "icebreaker": ("35", "6", "9"),
    "icebreaker-int8": ("35", "6", "9"),
    "icepi-zero": ("M1", "K16", "K15"),
    "icesugar": ("35", "4", "6"),
    "icesugar-int8": ("35", "4", "6"),
    "icesugar-pro": ("P6", "A9", "B9"),
    "tang-nano-9k": ("52", "18", "17"),
    "tang-primer-20k": ("H11", "T13", "M11"),
    "ulx3s-12f": ("G2", "M1", "L4"),
    "ulx3s-25f": ("G2", "M1", "L4"),
    "ulx3s-45f": ("G2", "M1", "L4"),
    "ulx3s-85f": ("G2", "M1", "L4"),
    "versa-ecp5": ("P3", "C11", "A11"),
}


def test_all_are_there():
    assert board_names() == NAMES
    assert set(PINS) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_board(name):
    board = find_board(name)
    assert board.name == name
    assert board.config.family in ("generic", board.part.family.gateware)
    assert board.config.multiplier_cells <= board.part.multipliers
    assert Capabilities.decode(board.capabilities.encode()) == board.capabilities
    platform = board.platform()
    source = platform.default_clk_frequency / 1e6
    if source != board.frequency:
        PLLS[board.part.family.name].of(source, board.frequency)


@pytest.mark.parametrize("name", NAMES)
def test_photograph_on_board(name):
    """The main job can be made for every board."""
    board = find_board(name)
    layer = filter_layer(list(FILTERS), 192, 256, 3, shift_only=board.config.requantizer == "shift")
    # Shifts of a quantized engine are calibrated on the photograph; these are what they may be like.
    profile = Quantized.uniform(8, 1, 1, 6) if board.config.quantized else None
    arrangement, jobs = sliced_jobs(board.config, layer, 1, profile)
    assert sum(job.images for job in jobs) == arrangement.images
    assert all(job.layer.geometry.filters == 18 for job in jobs)


@pytest.mark.parametrize("name", NAMES)
def test_pins(name, monkeypatch):
    """What nextpnr is told: the clock and the two pins of the serial port, and nothing else but a reset."""
    board = find_board(name)
    # The pins do not depend on the engine; a small one is elaborated in no time.
    small = Capabilities(EngineConfig(tile_size=1, kernel_size=1), "small")
    top = board_design.BoardTop
    monkeypatch.setattr(board_design, "BoardTop", lambda capabilities, divisor: top(small, divisor=divisor))
    text, constraints = prepare(board)
    located = re.findall(r'(?:LOCATE COMP "|set_io |IO_LOC ")([\w\[\]]+)"?(?: SITE)? "?(\w+)"?', constraints)
    clock, rx, tx = PINS[name]
    found = {pin for port, pin in located if "rst" not in port}
    assert found - {"P4"} == {clock, rx, tx}
    assert {pin for port, pin in located if "rx" in port} == {rx}
    assert {pin for port, pin in located if "tx" in port} == {tx}
    pll = {"ecp5": "EHXPLLL", "ice40": "SB_PLL40_PAD", "gowin": "rPLL"}[board.part.family.name]
    assert (f"\\{pll} " in text) == (board.platform().default_clk_frequency != board.clock)


def test_strips_are_needed_somewhere():
    """A wide image on a small engine."""
    config = find_board("icebreaker").config
    layer = filter_layer(["blur"], 10, 300, 3, shift_only=config.requantizer == "shift")
    arrangement, jobs = sliced_jobs(config, layer)
    assert arrangement.images > 1
    pixels = np.arange(9000).astype(np.int8).reshape(1, 10, 300, 3)
    assert arrangement.pixels(pixels, -128).shape[0] == sum(job.images for job in jobs)
