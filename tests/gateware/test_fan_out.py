# amaranth: UnusedElaboratable=no
import numpy as np
import pytest
from netlist import NetlistSimulation

from winohw.gateware.fan_out import FanOut
from winohw.sim.testbench import run_stream


def check(given: np.ndarray, x: np.ndarray, latency: int = 1) -> None:
    np.testing.assert_array_equal(given[:latency], 0)
    for copy in given[latency:].T:
        np.testing.assert_array_equal(copy, x[:-latency])


@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize("copies", [1, 2, 5, 36])
def test_copies_follow(copies, levels):
    x = np.random.default_rng(1).integers(0, 8, 50)
    dut = FanOut(3, copies, levels=levels)
    assert dut.latency == levels
    check(run_stream(dut, {"i": x}, {"o": 50}).outputs["o"], x, levels)


def test_netlist_keeps_copies():
    """Yosys merges equal registers, but not these."""
    x = np.random.default_rng(1).integers(0, 8, 50)
    simulation = NetlistSimulation(FanOut(3, 5, "ecp5"), "ecp5")
    assert simulation.cells == {"TRELLIS_FF": 15}
    check(simulation.run({"i": x}, {"o": 50}).outputs["o"], x)


def test_netlist_of_two_levels():
    x = np.random.default_rng(1).integers(0, 8, 50)
    simulation = NetlistSimulation(FanOut(3, 10, "ecp5", 2), "ecp5")
    assert simulation.cells == {"TRELLIS_FF": 39}
    check(simulation.run({"i": x}, {"o": 50}).outputs["o"], x, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 1), "FanOut width must be 1 or more, not 0"),
        ((1, 0), "FanOut copies must be 1 or more, not 0"),
        ((1, 1, "xilinx"), "FanOut kind must be one of generic, ecp5, ice40, ice40_dual, lut, not 'xilinx'"),
        ((1, 1, "ecp5", 3), "FanOut levels must be 1 or 2, not 3"),
    ],
)
def test_bad_parameters(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        FanOut(*arguments)
