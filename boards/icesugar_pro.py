"""iCESugar-Pro, a module with an LFE5U-25F: https://github.com/wuxx/icesugar-pro"""

from amaranth_boards.icesugar_pro import ICESugarProPlatform

from winohw.gateware.config import EngineConfig
from winohw.synth.board import Board

board = Board(
    title="iCESugar-Pro",
    platform=ICESugarProPlatform,
    config=EngineConfig(fold=2, max_products=2304, line_words=1024, max_tiles=64, drain_tiles=16, family="ecp5"),
    frequency=80,
    # The serial port is that of a microcontroller.
    baud=115_200,
    programmer=("--cable", "cmsisdap", "--vid", "0x1d50", "--pid", "0x602b"),
    notes="The module stands on its carrier board, whose USB port is the serial port.",
)
