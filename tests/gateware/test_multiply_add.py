# amaranth: UnusedElaboratable=no
import numpy as np
import pytest
from netlist import NetlistSimulation, SideBySide

from winohw.gateware.multiply_add import MultiplyAdd
from winohw.numerics.formats import signed_range
from winohw.sim.testbench import run_stream

CYCLES = 300


def beats(dut, widths):
    """Operands and addends of every cycle, extremes among them."""
    rng = np.random.default_rng(sum(widths))
    drawn = []
    for width in widths:
        low, high = signed_range(width)
        values = rng.integers(low, high, (CYCLES, dut.products), endpoint=True)
        drawn.append(np.where(rng.random(values.shape) < 0.3, rng.choice([low, high, -1, 0], values.shape), values))
    return drawn


def expected(dut, a, b, c):
    """From the first sum of operands on; an addend comes later than they do."""
    late = dut.latency - 1
    return dut.model(a[: -dut.latency], b[: -dut.latency], c[late:-1])


@pytest.mark.parametrize("kind", ["generic", "lut"])
@pytest.mark.parametrize("widths", [(12, 13, 26), (8, 8, 8), (16, 16, 34), (1, 1, 1)])
def test_equals_model(widths, kind):
    dut = MultiplyAdd(*widths, kind)
    a, b, c = beats(dut, widths)
    outputs = run_stream(dut, {"a": a, "b": b, "c": c}, {"p": CYCLES}).outputs["p"]
    np.testing.assert_array_equal(outputs[dut.latency :], expected(dut, a, b, c))


def test_netlist_equals_model():
    """In SB_MAC16; beyond 32 bits it has no adder."""
    grid = [(16, 16, 32, "ice40"), (12, 13, 26, "ice40"), (10, 12, 34, "ice40"), (8, 8, 20, "ice40_dual")]
    duts = {f"{kind}{width}": MultiplyAdd(a, b, width, kind) for a, b, width, kind in grid}
    drawn = {name: beats(dut, sizes[:3]) for (name, dut), sizes in zip(duts.items(), grid, strict=True)}
    simulation = NetlistSimulation(SideBySide(duts), "ice40")
    assert simulation.cells["SB_MAC16"] == len(grid)
    # Adders of logic: one of 34 bits and two of 20.
    assert 34 + 2 * 20 <= simulation.cells["SB_LUT4"] <= 34 + 2 * 20 + 2
    inputs = {f"{name}_{port}": values for name in duts for port, values in zip("abc", drawn[name], strict=True)}
    outputs = simulation.run(inputs, {f"{name}_p": CYCLES for name in duts}).outputs
    for name, dut in duts.items():
        np.testing.assert_array_equal(outputs[f"{name}_p"][dut.latency :], expected(dut, *drawn[name]), name)


def test_refuses_bad_widths():
    with pytest.raises(ValueError, match=r"^MultiplyAdd width must be 1 or more, not 0$"):
        MultiplyAdd(8, 8, 0)
    with pytest.raises(ValueError, match=r"^Multiplier a_width must be 1 to 16 for kind 'ice40', not 17$"):
        MultiplyAdd(17, 8, 32, "ice40")
