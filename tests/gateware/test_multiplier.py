# amaranth: UnusedElaboratable=no
import numpy as np
import pytest
from netlist import NetlistSimulation, SideBySide

from winohw.gateware.multiplier import KINDS, Multiplier
from winohw.numerics.formats import signed_range
from winohw.sim.testbench import run_stream

WIDTHS = [(8, 8), (18, 18), (15, 14), (10, 12), (1, 1), (1, 5), (5, 1), (3, 2), (2, 3), (4, 7)]


def operands(a_width: int, b_width: int, count: int = 150) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of extremes, then random numbers of every size."""
    rng = np.random.default_rng(a_width * 64 + b_width)
    columns = []
    for width in (a_width, b_width):
        low, high = signed_range(width)
        extremes = [x for x in (low, high, -1, 0, 1, low + 1) if low <= x <= high]
        columns.append((extremes, rng.integers(low, high, count, endpoint=True) >> rng.integers(0, width, count)))
    a, b = np.meshgrid(columns[0][0], columns[1][0])
    return np.concatenate([a.ravel(), columns[0][1]]), np.concatenate([b.ravel(), columns[1][1]])


@pytest.mark.parametrize("kind", ["generic", "lut"])
@pytest.mark.parametrize(("a_width", "b_width"), WIDTHS)
def test_equals_model(a_width, b_width, kind):
    dut = Multiplier(a_width, b_width, kind)
    a, b = operands(a_width, b_width)
    result = run_stream(dut, {"a": a[:, None], "b": b[:, None]}, {"p": len(a) + dut.latency}, constants={"b_en": 1})
    np.testing.assert_array_equal(result.outputs["p"][dut.latency :, 0], dut.model(a, b))


NETLISTS = {
    "ecp5": [(18, 18, "ecp5"), (15, 14, "ecp5"), (8, 8, "ecp5"), (1, 1, "ecp5"), (8, 8, "lut")],
    "ice40": [(16, 16, "ice40"), (10, 12, "ice40"), (1, 1, "ice40"), (8, 8, "ice40_dual"), (5, 7, "ice40_dual")],
}


@pytest.mark.parametrize("family", NETLISTS)
def test_netlist_equals_twin(family):
    """The cells, synthesised, do in every cycle what the behavioural twin of each product does."""
    duts = {f"{kind}_{a}x{b}": Multiplier(a, b, kind) for a, b, kind in NETLISTS[family]}
    cycles = 250
    b_en = np.random.default_rng(3).integers(0, 3, cycles) > 0
    inputs, twins, twin_inputs = {}, {}, {}
    for name, dut in duts.items():
        a, b = operands(dut.a_width, dut.b_width)
        # The second product has other operands than the first.
        a, b = (np.resize(np.stack([x, x[::-1]], 1)[:, : dut.products], (cycles, dut.products)) for x in (a, b))
        inputs |= {f"{name}_a": a, f"{name}_b": b, f"{name}_b_en": b_en}
        for k in range(dut.products):
            twin = f"{name}_{k}"
            twins[twin] = Multiplier(dut.a_width, dut.b_width, "lut" if dut.kind == "lut" else "generic")
            twin_inputs |= {f"{twin}_a": a[:, [k]], f"{twin}_b": b[:, [k]], f"{twin}_b_en": b_en}
    expected = run_stream(SideBySide(twins), twin_inputs, {f"{twin}_p": cycles for twin in twins}).outputs

    simulation = NetlistSimulation(SideBySide(duts), family)
    cell = {"ecp5": "MULT18X18D", "ice40": "SB_MAC16"}[family]
    assert simulation.cells[cell] == sum(dut.kind != "lut" for dut in duts.values())
    outputs = simulation.run(inputs, {f"{name}_p": cycles for name in duts}).outputs
    for name, dut in duts.items():
        for k in range(dut.products):
            np.testing.assert_array_equal(outputs[f"{name}_p"][:, k], expected[f"{name}_{k}_p"][:, 0], f"{name} {k}")


@pytest.mark.parametrize("kind", ["generic", "lut"])
def test_b_is_held(kind):
    dut = Multiplier(8, 8, kind)
    a, b = operands(8, 8)
    b_en = np.random.default_rng(1).integers(0, 2, len(a))
    b_en[0] = 1
    held = b[np.maximum.accumulate(np.where(b_en, np.arange(len(b)), 0))]
    result = run_stream(dut, {"a": a[:, None], "b": b[:, None], "b_en": b_en}, {"p": len(a) + dut.latency})
    np.testing.assert_array_equal(result.outputs["p"][dut.latency :, 0], dut.model(a, held))


def test_latency():
    assert {kind: Multiplier(8, 8, kind).latency for kind in KINDS} == {
        "generic": 2,
        "ecp5": 2,
        "ice40": 2,
        "ice40_dual": 2,
        "lut": 4,
    }
    assert [Multiplier(8, width, "lut").latency for width in (1, 2, 3, 4, 5, 8, 9)] == [2, 2, 3, 3, 4, 4, 5]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((8, 8, "xilinx"), "Multiplier kind must be one of generic, ecp5, ice40, ice40_dual, lut, not 'xilinx'"),
        ((0, 8), "Multiplier a_width must be 1 to 64 for kind 'generic', not 0"),
        ((18, 19, "ecp5"), "Multiplier b_width must be 1 to 18 for kind 'ecp5', not 19"),
        ((17, 16, "ice40"), "Multiplier a_width must be 1 to 16 for kind 'ice40', not 17"),
        ((8, 9, "ice40_dual"), "Multiplier b_width must be 1 to 8 for kind 'ice40_dual', not 9"),
    ],
)
def test_bad_parameters(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        Multiplier(*arguments)
