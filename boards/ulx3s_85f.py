"""ULX3S with an LFE5U-85F: https://ulx3s.github.io"""

from amaranth_boards.ulx3s import ULX3S_85F_Platform

from winohw.gateware.config import EngineConfig
from winohw.synth.board import Board

board = Board(
    title="ULX3S 85F",
    platform=ULX3S_85F_Platform,
    config=EngineConfig(
        input_lanes=4,
        line_words=1024,
        max_tiles=64,
        drain_tiles=64,
        requantizer_lanes=3,
        output_columns=2,
        family="ecp5",
    ),
    frequency=75,
    programmer=("--board", "ulx3s"),
)
