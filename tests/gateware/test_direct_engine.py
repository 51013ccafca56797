from winohw.algorithm.geometry import ConvGeometry
from winohw.gateware.config import EngineConfig
from winohw.gateware.direct_engine import direct_engine

BOARD = EngineConfig(kernels=(1, 2, 3, 4), input_lanes=4, requantizer_lanes=3, output_columns=2)


def test_multipliers_and_memories():
    direct = direct_engine(BOARD, [ConvGeometry(28, 28, 128, 128, 3)])
    assert direct.direct
    assert direct.multipliers == BOARD.multipliers == 144
    assert direct.line_words * 9 * direct.input_lanes == BOARD.line_words * 36 * BOARD.input_lanes
    assert direct.max_tiles == BOARD.max_tiles * 16
    assert direct_engine(EngineConfig(tile_size=2, fold=4)).multipliers == 9


def test_lanes_follow_the_layers():
    def lanes(*sizes):
        direct = direct_engine(BOARD, [ConvGeometry(8, 8, *sizes, 3)])
        return direct.input_lanes, direct.output_lanes

    # Few channels leave no time for as many output lanes, and none may idle.
    assert lanes(1, 64) == (1, 16)
    assert lanes(64, 1) == (16, 1)
    assert lanes(256, 256) == (1, 16)


def test_another_kernel():
    direct = direct_engine(BOARD, [ConvGeometry(8, 8, 4, 4, 5)], 5)
    assert (direct.kernel_size, direct.multipliers) == (5, 125)
