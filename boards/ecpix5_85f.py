"""ECPIX-5 with an LFE5UM5G-85F: https://docs.lambdaconcept.com/ecpix-5/"""

from amaranth_boards.ecpix5 import ECPIX585Platform

from winohw.gateware.config import EngineConfig
from winohw.synth.board import Board

board = Board(
    title="ECPIX-5 85F",
    platform=ECPIX585Platform,
    config=EngineConfig(
        input_lanes=4,
        line_words=1024,
        max_tiles=64,
        drain_tiles=64,
        requantizer_lanes=3,
        output_columns=2,
        family="ecp5",
    ),
    frequency=85,
    programmer=("--board", "ecpix5"),
)
