"""Lattice ECP5-5G Versa with an LFE5UM5G-45F: https://www.latticesemi.com/products/developmentboardsandkits/ecp55gversa"""

from amaranth_boards.versa_ecp5_5g import VersaECP55GPlatform

from winohw.gateware.config import EngineConfig
from winohw.synth.board import Board

board = Board(
    title="Versa ECP5-5G",
    platform=VersaECP55GPlatform,
    config=EngineConfig(
        input_lanes=2,
        line_words=512,
        max_tiles=64,
        drain_tiles=64,
        requantizer="shift",
        requantizer_lanes=2,
        family="ecp5",
    ),
    frequency=85,
    # The first channel of its FT2232 is JTAG.
    programmer=("--cable", "ft2232"),
    notes="Its ispCLOCK device must be bypassed in the JTAG chain.",
)
