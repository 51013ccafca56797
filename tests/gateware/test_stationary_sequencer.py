# amaranth: UnusedElaboratable=no
import numpy as np
import pytest

from winohw.gateware.stationary_sequencer import StationarySequencer
from winohw.sim.testbench import run_stream

#: fold, rows, rows a block, columns, input channels, groups of output channels, slots
LAYERS = [(2, 3, 2, 3, 4, 2, 3), (3, 5, 1, 1, 1, 3, 2), (2, 1, 4, 2, 7, 1, 1), (2, 4, 4, 2, 1, 1, 6)]


def layer(fold, rows, block_rows, columns, groups, output_groups, slots):
    pitch = columns * fold
    return {
        "total_rows": rows,
        "block_rows": block_rows,
        "tile_cols": columns,
        "groups": groups,
        "output_groups": output_groups,
        "slots": slots,
        "group_pitch": pitch,
        "slot_pitch": pitch * groups,
    }


@pytest.mark.parametrize("pace", ["at once", "rows", "weights", "drain"])
@pytest.mark.parametrize("parameters", LAYERS, ids=str)
def test_equals_model(parameters, pace):
    fold, *_ = parameters
    values = layer(*parameters)
    dut = StationarySequencer(fold=fold, line_words=200, dimension_bits=6)
    tokens = dut.model(**values)
    rows, blocks = values["total_rows"], -(-values["total_rows"] // values["block_rows"])
    passes = values["output_groups"] * blocks
    cycles = 40 * len(tokens) + 400
    strobes = {name: np.zeros(cycles, int) for name in ("row_done", "weights_ready", "left")}
    # All at once, or one of them late.
    for name, count, late in (("row_done", rows, "rows"), ("weights_ready", passes, "weights")):
        strobes[name][(60 if pace == late else 1) * np.arange(count) + 3] = 1
    strobes["left"][1 :: 17 if pace == "drain" else 1] = 1
    start = np.zeros(cycles, int)
    start[0] = 1
    result = run_stream(
        dut,
        {"start": start, **strobes},
        {
            "o": len(tokens),
            "busy": cycles,
            "wait_pixels": cycles,
            "wait_weights": cycles,
            "wait_drain": cycles,
            "free": cycles,
        },
        constants=values,
    )
    out = result.outputs
    for name in tokens.dtype.names:
        np.testing.assert_array_equal(out["o"][name], tokens[name])
    assert out["busy"].sum() == len(tokens)
    assert out["free"].sum() == rows
    waits = {name: out[name].sum() for name in ("wait_pixels", "wait_weights", "wait_drain")}
    if pace == "rows" and rows > 1:
        assert waits["wait_pixels"] > 0
    if pace == "weights" and passes > 1:
        assert waits["wait_weights"] > 0
    if pace == "drain":
        assert waits["wait_drain"] > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fold": 1}, "fold must be 2 or more, not 1"),
        ({"line_words": 0}, "line_words must be 1 or more, not 0"),
        ({"dimension_bits": 0}, "dimension_bits must be 1 or more, not 0"),
    ],
)
def test_bad_parameters(change, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        StationarySequencer(**{"fold": 2, "line_words": 100} | change)
