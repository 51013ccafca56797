"""iCEBreaker with an iCE40UP5K: https://docs.icebreaker-fpga.org"""

from amaranth_boards.icebreaker import ICEBreakerPlatform

from winohw.gateware.config import EngineConfig
from winohw.synth.board import Board

board = Board(
    title="iCEBreaker",
    platform=ICEBreakerPlatform,
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
    programmer=("--board", "ice40_generic"),
)
