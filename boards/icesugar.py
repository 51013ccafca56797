"""iCESugar with an iCE40UP5K: https://github.com/wuxx/icesugar"""

from amaranth_boards.icesugar import ICESugarPlatform

from winohw.gateware.config import EngineConfig
from winohw.synth.board import Board

board = Board(
    title="iCESugar",
    platform=ICESugarPlatform,
    config=EngineConfig(
        tile_size=2,
        fold=4,
        weights="host",
        max_products=9 * 64,
        max_tiles=32,
        line_words=512,
        drain_tiles=8,
        requantizer="shift",
        dimension_bits=10,
        family="ice40",
    ),
    frequency=12,
    # The serial port is that of a microcontroller.
    baud=115_200,
    notes="The board shows up as a drive: copy the bitstream onto it.",
)
