# amaranth: UnusedElaboratable=no
import numpy as np
import pytest

from winohw.gateware.shift_selector import ShiftSelector
from winohw.sim.testbench import run_stream


@pytest.mark.parametrize("idle", [0, 0.6])
@pytest.mark.parametrize(("taps", "chunk"), [(1, 1), (2, 1), (3, 1), (6, 1), (6, 2), (6, 3), (6, 6)])
def test_goes_through_the_table(taps, chunk, idle):
    rng = np.random.default_rng(1)
    dut = ShiftSelector(taps, chunk, 12)
    table = rng.integers(0, 13, (taps, taps))
    advance = rng.random(60) >= idle
    advance[0] = 0  # the table stands for one cycle first
    result = run_stream(dut, {"advance": advance}, {"o": len(advance)}, constants={"table": table})
    chunks = dut.model(table)
    present = (np.cumsum(advance) - advance) % len(chunks)
    np.testing.assert_array_equal(result.outputs["o"][1:], chunks[present][1:])


def test_takes_a_new_table_between_rounds():
    dut = ShiftSelector(3, 1, 7)
    tables = np.random.default_rng(2).integers(0, 8, (2, 3, 3))
    advance = [0, 1, 1, 1, 0, 1, 1, 1]
    inputs = {"advance": advance, "table": tables[[0, 0, 0, 0, 1, 1, 1, 1]]}
    result = run_stream(dut, inputs, {"o": len(advance)})
    given = result.outputs["o"][np.flatnonzero(advance)]
    np.testing.assert_array_equal(given, np.concatenate([dut.model(table) for table in tables]))


def test_refuses_bad_chunk():
    with pytest.raises(ValueError, match=r"^Chunks of shifts must divide the 6 columns, but have 4$"):
        ShiftSelector(6, 4, 7)
