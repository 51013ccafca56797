"""Colorlight 5A-75B, hardware version 7.0, with an LFE5U-25F: https://github.com/q3k/chubby75"""

from amaranth_boards.colorlight_5a75b_r7_0 import Colorlight_5A75B_R70Platform

from winohw.gateware.config import EngineConfig
from winohw.synth.board import Board

board = Board(
    title="Colorlight 5A-75B",
    platform=Colorlight_5A75B_R70Platform,
    config=EngineConfig(fold=2, max_products=2304, line_words=1024, max_tiles=64, drain_tiles=16, family="ecp5"),
    frequency=80,
    programmer=("--board", "colorlight"),
    notes="Serial adapter of 3.3 V at J19: its RX at DATA_LED-, its TX at KEY+. JTAG adapter at J27 to J34.",
)
