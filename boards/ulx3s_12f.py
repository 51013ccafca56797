"""ULX3S with an LFE5U-12F, which nextpnr fills like an LFE5U-25F: https://ulx3s.github.io"""

from amaranth_boards.ulx3s import ULX3S_12F_Platform

from winohw.gateware.config import EngineConfig
from winohw.synth.board import Board

board = Board(
    title="ULX3S 12F",
    platform=ULX3S_12F_Platform,
    config=EngineConfig(fold=2, max_products=2304, line_words=1024, max_tiles=64, drain_tiles=16, family="ecp5"),
    frequency=80,
    programmer=("--board", "ulx3s"),
)
