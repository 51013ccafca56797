# amaranth: UnusedElaboratable=no
import numpy as np
import pytest

from winohw.gateware.pixel_serializer import PixelSerializer
from winohw.gateware.weight_loader import constants_layout
from winohw.sim.payload import PayloadCodec
from winohw.sim.stalls import Stalls
from winohw.sim.testbench import run_stream

INT32 = (-(1 << 31), (1 << 31) - 1)
#: tile size, images, output height and width, tile rows a block, channels
LAYERS = [(2, 1, (4, 4), 2, 1), (4, 2, (5, 9), 1, 3), (4, 1, (1, 1), 1, 2), (1, 2, (3, 2), 4, 2), (3, 3, (7, 4), 4, 2)]


def layer(dut, images, size, block_rows, channels, seed=1):
    rng = np.random.default_rng(seed)
    rows, columns = (-(-edge // dut.tile_size) for edge in size)
    values = {
        "total_rows": images * rows,
        "block_rows": block_rows,
        "output_groups": channels,
        "output_height": size[0],
        "output_width": size[1],
    }
    sums = rng.integers(*INT32, images * rows * columns * channels * dut.tile_size**2, endpoint=True)
    sums[:2] = INT32[: len(sums)]
    constants = np.zeros(-(-images * rows // block_rows) * channels, PayloadCodec(constants_layout()).dtype)
    for name, bits in (("bias", 32), ("multiplier", 32), ("shift", 8)):
        constants[name] = rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), constants.shape)
    return values, sums, constants


@pytest.mark.parametrize("stall", [{}, {"default": 0.5}, {"constants": 0.9}, {"o": 0.9}], ids=str)
@pytest.mark.parametrize("parameters", LAYERS, ids=str)
def test_equals_model(parameters, stall):
    tile_size, *shape = parameters
    dut = PixelSerializer(tile_size=tile_size, dimension_bits=6)
    values, sums, constants = layer(dut, *shape)
    expected = dut.model(sums, constants, **values)
    images, size, _, channels = shape
    assert len(expected["acc"]) == images * size[0] * size[1] * channels
    result = run_stream(
        dut,
        {"i": sums, "constants": constants, "start": [1, 0]},
        {"o": len(expected["acc"])},
        constants=values,
        stalls=Stalls(**stall, seed=2) if stall else None,
    )
    out = result.outputs["o"]
    np.testing.assert_array_equal(out["acc"], expected["acc"])
    np.testing.assert_array_equal(out["last"], expected["last"])
    for name in constants.dtype.names:
        np.testing.assert_array_equal(out["constants"][name], expected["constants"][name])
    assert result.status["idle"] == 1
    if not stall:
        blocks = -(-values["total_rows"] // values["block_rows"])
        assert result.cycles <= len(sums) + len(constants) + blocks + 1


@pytest.mark.parametrize("name", ["tile_size", "dimension_bits"])
def test_bad_parameters(name):
    with pytest.raises(ValueError, match=f"^{name} must be 1 or more, not 0$"):
        PixelSerializer(**{"tile_size": 2, "dimension_bits": 8} | {name: 0})
