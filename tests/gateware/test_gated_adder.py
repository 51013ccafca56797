# amaranth: UnusedElaboratable=no
import numpy as np
import pytest
from netlist import NetlistSimulation, SideBySide

from winohw.gateware.gated_adder import GatedAdder
from winohw.sim.testbench import run_stream

WIDTHS = (1, 2, 3, 35)


def beats(width: int) -> dict[str, np.ndarray]:
    """Extremes and single bits against each other, random numbers; each with and without the second operand."""
    rng = np.random.default_rng(width)
    top = 1 << width
    edges = np.unique([0, 1, top - 1, top // 2, top // 2 - 1, top // 3])
    a, b = (x.ravel() for x in np.meshgrid(edges, edges))
    a, b = np.append(a, rng.integers(0, top, 60)), np.append(b, rng.integers(0, top, 60))
    return {"a": np.tile(a, 2), "b": np.tile(b, 2), "alone": np.repeat([0, 1], len(a))}


@pytest.mark.parametrize("width", WIDTHS)
def test_equals_model(width):
    dut = GatedAdder(width)
    columns = beats(width)
    result = run_stream(dut, columns, {"o": len(columns["a"])})
    np.testing.assert_array_equal(result.outputs["o"], dut.model(**columns))


def test_netlist_equals_model():
    duts = {f"w{width}": GatedAdder(width, "ecp5") for width in WIDTHS}
    columns = {name: beats(dut.width) for name, dut in duts.items()}
    simulation = NetlistSimulation(SideBySide(duts), "ecp5")
    # No LUT beside the adders.
    assert simulation.cells == {"CCU2C": sum(-(-width // 2) for width in WIDTHS)}
    result = simulation.run(
        {f"{name}_{port}": x for name, ports in columns.items() for port, x in ports.items()},
        {f"{name}_o": len(ports["a"]) for name, ports in columns.items()},
    )
    for name, dut in duts.items():
        np.testing.assert_array_equal(result.outputs[f"{name}_o"], dut.model(**columns[name]), name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "GatedAdder width must be 1 or more, not 0"),
        ((4, "lut"), "GatedAdder kind must be 'generic', 'ecp5' or 'ice40', not 'lut'"),
    ],
)
def test_bad_parameters(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        GatedAdder(*arguments)
