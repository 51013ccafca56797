"""Sipeed Tang Nano 9K with a GW1NR-9: https://wiki.sipeed.com/hardware/en/tang/Tang-Nano-9K/Nano-9K.html"""

from amaranth_boards.tang_nano_9k import TangNano9kPlatform

from winohw.gateware.config import EngineConfig
from winohw.synth.board import Board
from winohw.synth.synthesis import SynthesisOptions

board = Board(
    title="Tang Nano 9K",
    platform=TangNano9kPlatform,
    config=EngineConfig(
        tile_size=2,
        fold=4,
        datapath="compact",
        weights="host",
        max_products=9 * 64,
        max_tiles=64,
        line_words=2048,
        requantizer="shift",
        dimension_bits=10,
    ),
    frequency=27,
    baud=115_200,
    # Wide multiplexers stand in blocks of up to eight lookup tables, for which placement finds no room.
    synthesis=SynthesisOptions(flags=("-nowidelut",)),
    programmer=("--board", "tangnano9k"),
)
