"""iCESugar with an iCE40UP5K, in 8 bits throughout: https://github.com/wuxx/icesugar"""

from amaranth_boards.icesugar import ICESugarPlatform

from winohw.algorithm.toomcook import winograd
from winohw.gateware.config import EngineConfig
from winohw.numerics.formats import PROFILES
from winohw.synth.board import Board
from winohw.synth.synthesis import SynthesisOptions

board = Board(
    title="iCESugar, 8 bits",
    platform=ICESugarPlatform,
    config=EngineConfig(
        matrices=winograd(2, 3).lifted(),
        profile=PROFILES["int8"],
        fold=2,
        output_lanes=2,
        datapath="stationary",
        line_memory="single",
        weights="host",
        max_products=9 * 32,
        max_tiles=8192,
        line_words=16384,
        requantizer="shift",
        dimension_bits=7,
        statistics=False,
        descriptor_checks=False,
        family="ice40",
    ),
    frequency=21,
    # Eight registers of a tile share their enable: where few do, logic in its place lets the part be filled. A longer
    # script for ABC, and less hurry, take 3 % off the lookup tables.
    synthesis=SynthesisOptions(
        after_read=("scratchpad -copy abc9.script.flow2 abc9.script", "scratchpad -set abc9.D 20000"),
        flags=("-abc9", "-device", "u", "-dffe_min_ce_use", "6"),
    ),
    # The serial port is that of a microcontroller.
    baud=115_200,
    notes="The board shows up as a drive: copy the bitstream onto it.",
)
