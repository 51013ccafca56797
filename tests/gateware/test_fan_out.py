# amaranth: UnusedElaboratable=no
import numpy as np
import pytest
from netlist import NetlistSimulation

from winohw.gateware.fan_out import FanOut
from winohw.sim.testbench import run_stream


def check(given: np.ndarray, x: np.ndarray) -> None:
    np.testing.assert_array_equal(given[0], 0)
    for copy in given[1:].T:
        np.testing.assert_array_equal(copy, x[:-1])


def test_copies_follow():
    x = np.random.default_rng(1).integers(0, 8, 50)
    check(run_stream(FanOut(3, 5), {"i": x}, {"o": 50}).outputs["o"], x)


def test_netlist_keeps_copies():
    """Yosys merges equal registers, but not these."""
    x = np.random.default_rng(1).integers(0, 8, 50)
    simulation = NetlistSimulation(FanOut(3, 5, "ecp5"), "ecp5")
    assert simulation.cells == {"TRELLIS_FF": 15}
    check(simulation.run({"i": x}, {"o": 50}).outputs["o"], x)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 1), "FanOut width must be 1 or more, not 0"),
        ((1, 0), "FanOut copies must be 1 or more, not 0"),
        ((1, 1, "lut"), "FanOut kind must be 'generic' or 'ecp5', not 'lut'"),
    ],
)
def test_bad_parameters(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        FanOut(*arguments)
