# amaranth: UnusedElaboratable=no
import numpy as np
import pytest

from winohw.gateware.row_positions import RowPositions
from winohw.sim.stalls import Stalls
from winohw.sim.testbench import run_stream


def shape(dut, *, tile_size, size, images=1, block_rows=1, filters=1):
    tile_rows, tile_cols = (-(-edge // tile_size) for edge in size)
    return {
        "tile_size": tile_size,
        "total_rows": images * tile_rows,
        "block_rows": block_rows,
        "tile_rows": tile_rows,
        "tile_cols": tile_cols,
        "output_groups": -(-filters // dut.output_lanes),
        "filters": filters,
        "output_height": size[0],
        "output_width": size[1],
    }


def run(dut, values, stalls):
    expected = dut.model(**values)
    result = run_stream(
        dut,
        {"start": [0, 0, 0, 1, 0]},
        {"o": len(expected), "idle": None},
        constants=values,
        stalls=Stalls(2, o=stalls),
    )
    np.testing.assert_array_equal(result.outputs["o"], expected.astype(result.outputs["o"].dtype))
    idle = result.outputs["idle"]
    end = result.streams["o"].last
    assert not idle[4 : end + 2].any()
    assert idle[end + 2 :].all()
    return result


def test_by_hand():
    dut = RowPositions(output_lanes=2, row_pixels=4, dimension_bits=4)
    positions = dut.model(**shape(dut, tile_size=2, size=(3, 3), filters=3))
    assert positions["columns"].tolist() == [2, 2, 1, 1] * 2 + [2, 0, 1, 0] * 2
    assert positions["channels"].tolist() == [2] * 4 + [1] * 4 + [2] * 4 + [1] * 4
    assert np.flatnonzero(positions["first"]).tolist() == [0, 4, 8, 12]
    assert np.flatnonzero(positions["last"]).tolist() == [14]


GRID = [
    # output lanes, row pixels, the layer
    (1, 4, {"tile_size": 4, "size": (8, 8), "filters": 2}),
    (2, 4, {"tile_size": 4, "size": (9, 7), "block_rows": 2, "filters": 3}),
    (3, 6, {"tile_size": 2, "size": (5, 3), "block_rows": 2, "filters": 4, "images": 2}),
    (3, 6, {"tile_size": 6, "size": (7, 9), "block_rows": 9, "filters": 7, "images": 2}),
    (4, 1, {"tile_size": 1, "size": (3, 4), "block_rows": 2, "filters": 9, "images": 2}),
    (1, 1, {"tile_size": 1, "size": (1, 1)}),
]


@pytest.mark.parametrize("stalls", [0, 0.5, 0.9])
@pytest.mark.parametrize("case", GRID, ids=str)
def test_equals_model(case, stalls):
    output_lanes, row_pixels, layer = case
    dut = RowPositions(output_lanes=output_lanes, row_pixels=row_pixels, dimension_bits=6)
    values = shape(dut, **layer)
    result = run(dut, values, stalls)
    if not stalls:
        activity = result.streams["o"]
        blocks = -(-values["total_rows"] // values["block_rows"])
        assert activity.last - activity.first == activity.beats - 1 + 2 * (blocks - 1)


def test_random_layers():
    rng = np.random.default_rng(4)
    for _ in range(25):
        dut = RowPositions(output_lanes=int(rng.integers(1, 4)), row_pixels=int(rng.integers(1, 6)), dimension_bits=7)
        values = shape(
            dut,
            tile_size=int(rng.integers(1, dut.row_pixels + 1)),
            images=int(rng.integers(1, 4)),
            size=rng.integers(1, 9, 2).tolist(),
            block_rows=int(rng.integers(1, 5)),
            filters=int(rng.integers(1, 7)),
        )
        run(dut, values, float(rng.choice([0, 0.3])))
