"""Sipeed Tang Primer 20K with a GW2A-18: https://wiki.sipeed.com/hardware/en/tang/tang-primer-20k/primer-20k.html"""

from amaranth_boards.tang_primer_20k import TangPrimer20kPlatform

from winohw.gateware.config import EngineConfig
from winohw.synth.board import Board
from winohw.synth.synthesis import SynthesisOptions

board = Board(
    title="Tang Primer 20K",
    platform=TangPrimer20kPlatform,
    config=EngineConfig(
        tile_size=2,
        fold=2,
        max_products=9 * 64,
        max_tiles=64,
        line_words=1024,
        drain_tiles=16,
        requantizer="shift",
    ),
    frequency=27,
    baud=115_200,
    # Wide multiplexers stand in blocks of up to eight lookup tables, which make placement slow.
    synthesis=SynthesisOptions(flags=("-nowidelut",)),
    programmer=("--board", "tangprimer20k"),
)
