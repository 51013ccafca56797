"""Icepi Zero with an LFE5U-25F: https://github.com/cheyao/icepi-zero"""

from amaranth_boards.icepi_zero import IcepiZero1_3Platform

from winohw.gateware.config import EngineConfig
from winohw.synth.board import Board

board = Board(
    title="Icepi Zero",
    platform=IcepiZero1_3Platform,
    config=EngineConfig(fold=2, max_products=2304, line_words=1024, max_tiles=64, drain_tiles=16, family="ecp5"),
    frequency=80,
    programmer=("--board", "icepi-zero"),
)
