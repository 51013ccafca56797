# amaranth: UnusedElaboratable=no
import numpy as np
import pytest

from winohw.gateware.weight_splitter import WeightSplitter
from winohw.sim.stalls import Stalls
from winohw.sim.testbench import run_stream


def layer(dut, seed=1, **values):
    channels = -(-values["total_rows"] // values["block_rows"]) * values["output_groups"]
    beats = channels * (dut.constant_beats + values["groups"] * dut.kernel_beats)
    return np.random.default_rng(seed).integers(-128, 128, (beats, dut.beat_bytes)).astype(np.int8)


@pytest.mark.parametrize("stall", [{}, {"default": 0.5}, {"constants": 0.95}, {"kernels": 0.9}], ids=str)
@pytest.mark.parametrize(("beat_bytes", "kernel_beats"), [(1, 9), (2, 16), (2, 1), (4, 36), (12, 2)])
def test_equals_model(beat_bytes, kernel_beats, stall):
    for values in (
        {"total_rows": 5, "block_rows": 2, "groups": 3, "output_groups": 2},
        {"total_rows": 1, "block_rows": 1, "groups": 1, "output_groups": 1},
        {"total_rows": 2, "block_rows": 3, "groups": 1, "output_groups": 5},
    ):
        dut = WeightSplitter(beat_bytes=beat_bytes, kernel_beats=kernel_beats, dimension_bits=5)
        beats = layer(dut, **values)
        kernels, constants = dut.model(beats, **values)
        result = run_stream(
            dut,
            {"i": beats, "start": [1, 0]},
            {"kernels": len(kernels), "constants": len(constants)},
            constants=values,
            stalls=Stalls(**stall, seed=3) if stall else None,
        )
        np.testing.assert_array_equal(result.outputs["kernels"], kernels)
        for name in constants.dtype.names:
            np.testing.assert_array_equal(result.outputs["constants"][name], constants[name])
        if not stall:
            assert result.cycles == len(beats) + 1 + (len(kernels) == 0)


@pytest.mark.parametrize("name", ["beat_bytes", "kernel_beats", "dimension_bits"])
def test_bad_parameters(name):
    with pytest.raises(ValueError, match=f"^{name} must be 1 or more, not 0$"):
        WeightSplitter(**{"beat_bytes": 2, "kernel_beats": 16, "dimension_bits": 8} | {name: 0})
