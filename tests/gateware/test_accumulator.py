# amaranth: UnusedElaboratable=no
import numpy as np
import pytest
from netlist import NetlistSimulation
from plain_ports import PlainPorts

from winohw.gateware.accumulator import Accumulator
from winohw.numerics.formats import signed_range
from winohw.sim.testbench import run_stream

# output_lanes, input_tile, columns, sum_bits, acc_bits, depth
GRID = [
    (1, 3, 3, 16, 27, 16),  # direct convolution
    (1, 4, 4, 23, 31, 8),  # F(2,3), exact
    (2, 4, 1, 17, 25, 64),
    (1, 6, 6, 31, 35, 16),  # F(4,3), exact
    (3, 6, 1, 29, 35, 5),
    (1, 3, 1, 8, 6, 4),  # modulo less than a sum
    (1, 1, 1, 2, 2, 1),
]


def numbers(bits: int, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """The least and greatest numbers and their neighbours in half of the places, random ones in the others."""
    rng = np.random.default_rng(seed)
    low, high = signed_range(bits)
    return np.where(
        rng.integers(0, 2, shape) == 0,
        rng.choice([low, high, -1, 0, 1], shape),
        rng.integers(low, high, shape, endpoint=True),
    )


def layer(dut: Accumulator, blocks: int, gap: float, seed: int) -> list[tuple[int, bool, bool] | None]:
    """Blocks of tiles: addr, first and last of every chunk in the order of the engine; None for a cycle without.

    Small blocks are tight: an address comes again as soon as it may, and after ``last`` at once.
    """
    rng = np.random.default_rng(seed)
    cycles: list[tuple[int, bool, bool] | None] = []
    for block in range(blocks):
        tiles = min(dut.depth, 1 + block)
        groups = (1, 5, 2, 3)[block % 4]
        earliest = [0] * tiles
        for group in range(groups):
            for addr in range(tiles):
                cycles.extend([None] * max(int(rng.random() < gap), earliest[addr] - len(cycles)))
                earliest[addr] = len(cycles) + dut.recurrence
                cycles.append((addr, group == 0, group == groups - 1))
    return cycles


def check(dut: Accumulator, blocks: int, gap: float, simulate=run_stream) -> None:
    """Compares every cycle of a run with the model."""
    cycles = layer(dut, blocks, gap, seed=1)
    junk = np.random.default_rng(2).integers(0, [dut.depth, 2, 2], (len(cycles), 3))
    valid = np.array([chunk is not None for chunk in cycles])
    addr, first, last = np.array(
        [other if chunk is None else chunk for chunk, other in zip(cycles, junk, strict=True)]
    ).T
    sums = numbers(dut.sum_bits, (len(cycles), dut.output_lanes, dut.input_tile, dut.columns), seed=3)
    expected = dut.model(sums[valid], addr[valid], first[valid], last[valid])

    def late(beats):
        return np.concatenate([np.zeros((dut.lead, *beats.shape[1:]), beats.dtype), beats])

    inputs = {
        "control": {"addr": addr, "first": first, "last": last},
        "i": late(sums),
        "i_valid": np.append(late(valid), False),
        "i_coming": np.append(late(valid)[1:], [False, False]),
    }
    count = len(cycles) + dut.lead + dut.latency
    result = simulate(PlainPorts(dut), inputs, {"o": count, "o_valid": count, "o_coming": count}).outputs
    np.testing.assert_array_equal(result["o_coming"][:-2], result["o_valid"][2:])
    ends = np.flatnonzero(valid & (last == 1))
    np.testing.assert_array_equal(np.flatnonzero(result["o_valid"]), ends + dut.lead + dut.latency)
    np.testing.assert_array_equal(result["o"][result["o_valid"] == 1], expected)


def accumulator(*parameters, **options) -> Accumulator:
    names = ("output_lanes", "input_tile", "columns", "sum_bits", "acc_bits", "depth")
    return Accumulator(**dict(zip(names, parameters, strict=True)), **options)


@pytest.mark.parametrize("gap", [0.0, 0.4], ids=["dense", "gaps"])
@pytest.mark.parametrize("parameters", GRID, ids=str)
def test_equals_model(parameters, gap):
    check(accumulator(*parameters), blocks=8, gap=gap)


@pytest.mark.parametrize(
    ("parameters", "family", "cells"),
    [
        ((2, 1, 3, 14, 17, 32), "ecp5", {"DP16KD": 6}),
        ((1, 2, 2, 14, 17, 32), "ice40", {"SB_RAM40_4K": 5}),
    ],
    ids=str,
)
def test_netlist_equals_model(parameters, family, cells):
    def simulate(component, inputs, outputs):
        simulation = NetlistSimulation(component, family)
        assert {cell: simulation.cells[cell] for cell in cells} == cells
        return simulation.run(inputs, outputs)

    check(accumulator(*parameters, memory=family), blocks=6, gap=0.2, simulate=simulate)


def test_recurrence_is_least():
    """The same address again one cycle too early gives another result."""
    dut = Accumulator(input_tile=1, columns=1, sum_bits=8, acc_bits=8, depth=2)
    cycles = 12
    last = np.arange(cycles) == dut.recurrence - 1
    control = {"addr": np.zeros(cycles, int), "first": np.arange(cycles) == 0, "last": last}
    valid = np.roll(control["first"] | last, dut.lead)
    sums = np.full((cycles, 1, 1, 1), 5)
    inputs = {"control": control, "i": sums, "i_valid": valid, "i_coming": np.roll(valid, -1)}
    result = run_stream(PlainPorts(dut), inputs, {"o": 12, "o_valid": 12})
    assert result.outputs["o"][result.outputs["o_valid"] == 1].item() != 10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"columns": 0}, "Accumulator columns must be 1 or more, not 0"),
        ({"acc_bits": -3}, "Accumulator acc_bits must be 1 or more, not -3"),
        ({"depth": 0}, "Memory depth must be 1 or more, not 0"),
        ({"memory": "spram"}, "Memory kind must be one of generic, ecp5, ice40, not 'spram'"),
    ],
)
def test_bad_parameters(changes, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        Accumulator(**{"input_tile": 4, "columns": 4, "sum_bits": 8, "acc_bits": 8, "depth": 4} | changes)
