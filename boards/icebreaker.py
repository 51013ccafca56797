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
        datapath="compact",
        line_memory="single",
        weights="host",
        max_products=9 * 64,
        max_tiles=64,
        line_words=16384,
        requantizer="shift",
        dimension_bits=9,
        statistics=False,
        descriptor_checks=False,
        family="ice40",
    ),
    frequency=12,
    programmer=("--board", "ice40_generic"),
)
