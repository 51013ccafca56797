"""iCEBreaker with an iCE40UP5K: https://docs.icebreaker-fpga.org"""

from amaranth_boards.icebreaker import ICEBreakerPlatform

from winohw.gateware.config import EngineConfig
from winohw.synth.board import Board
from winohw.synth.synthesis import SynthesisOptions

board = Board(
    title="iCEBreaker",
    platform=ICEBreakerPlatform,
    config=EngineConfig(
        tile_size=2,
        fold=2,
        datapath="compact",
        line_memory="single",
        weights="host",
        max_products=9 * 64,
        max_tiles=16,
        line_words=16384,
        requantizer="shift",
        dimension_bits=8,
        statistics=False,
        descriptor_checks=False,
        family="ice40",
    ),
    frequency=24,
    # Eight registers of a tile share their enable: where few do, logic in its place lets the part be filled.
    synthesis=SynthesisOptions(flags=("-abc9", "-device", "u", "-dffe_min_ce_use", "6")),
    programmer=("--board", "ice40_generic"),
)
