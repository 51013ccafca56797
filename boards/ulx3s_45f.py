"""ULX3S with an LFE5U-45F: https://ulx3s.github.io"""

from amaranth_boards.ulx3s import ULX3S_45F_Platform

from winohw.gateware.config import EngineConfig
from winohw.synth.board import Board

board = Board(
    title="ULX3S 45F",
    platform=ULX3S_45F_Platform,
    config=EngineConfig(
        input_lanes=2,
        line_words=512,
        max_tiles=64,
        drain_tiles=64,
        requantizer="shift",
        requantizer_lanes=2,
        family="ecp5",
    ),
    frequency=80,
    programmer=("--board", "ulx3s"),
)
