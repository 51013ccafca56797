# amaranth: UnusedElaboratable=no
import numpy as np
import pytest
from netlist import NetlistSimulation
from plain_ports import PlainPorts

from winohw.gateware.mac_array import MacArray
from winohw.numerics.formats import signed_range
from winohw.sim.testbench import run_stream

# input_tile, fold, input_lanes, output_lanes, v_bits, u_bits, kind
GRID = [
    (3, 1, 1, 1, 8, 8, "generic"),  # direct convolution
    (3, 3, 2, 1, 8, 8, "generic"),
    (4, 1, 1, 1, 10, 12, "generic"),  # F(2,3), exact
    (4, 2, 1, 2, 8, 8, "generic"),  # F(2,3), quantized
    (4, 4, 3, 1, 10, 12, "generic"),
    (4, 1, 2, 1, 4, 4, "lut"),
    (6, 1, 1, 1, 15, 14, "generic"),  # F(4,3), exact
    (6, 2, 1, 1, 15, 14, "generic"),
    (6, 6, 1, 1, 8, 8, "generic"),
    (6, 3, 5, 1, 8, 8, "generic"),
    (6, 6, 2, 2, 15, 14, "lut"),
]


def numbers(bits: int, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """The least and greatest numbers and their neighbours in a quarter of the places, random ones in the others."""
    rng = np.random.default_rng(seed)
    low, high = signed_range(bits)
    return np.where(
        rng.integers(0, 4, shape) == 0,
        rng.choice([low, high, -1, 0, 1], shape),
        rng.integers(low, high, shape, endpoint=True),
    )


def schedule(dut: MacArray, groups: list[int], gap: float, seed: int) -> tuple[dict, np.ndarray, list[int]]:
    """Inputs in every cycle for groups of so many patches, as tight as the array allows.

    Loads of a group begin in the cycle after the swap of the group before; its own swap comes in the cycle of the last
    load, unless the group before it takes longer. Returns the inputs, the sums, and the cycles of the chunks.
    """
    rng = np.random.default_rng(seed)
    n, lanes = dut.input_tile, dut.input_lanes * dut.output_lanes
    kernels = numbers(dut.u_bits, (len(groups), lanes, n, n), seed)
    kernels[0] = signed_range(dut.u_bits)[0]
    columns = {name: [] for name in ("i_valid", "i", "u_coming", "u")}
    chunk_shape = (dut.input_lanes, n, dut.columns)

    def cycle(chunk=None, swap=False, kernel=None):
        # What does not count is junk.
        junk = len(columns["i"])
        columns["i_valid"].append(chunk is not None)
        payload = (numbers(dut.v_bits, chunk_shape, junk), rng.integers(2)) if chunk is None else (chunk, swap)
        columns["i"].append(payload)
        columns["u_coming"].append(kernel is not None)
        columns["u"].append(numbers(dut.u_bits, (n, n), junk) if kernel is None else kernel)

    cycle()
    last_load = [None, *kernels[0]]
    for kernel in last_load[1:-1]:
        cycle(kernel=kernel)
    sums, at, ready = [], [], last_load[-1]
    for group, patches in enumerate(groups):
        chunks = numbers(dut.v_bits, (patches * dut.fold, *chunk_shape), seed + group)
        if group == 0:
            chunks[0] = signed_range(dut.v_bits)[0]
        sums.append(dut.model(chunks, kernels[group]))
        waiting = list(kernels[group + 1]) if group + 1 < len(groups) else []

        def load(probability, least, waiting=waiting):
            return waiting.pop(0) if len(waiting) > least and rng.random() < probability else None

        for k, chunk in enumerate(chunks):
            while k and rng.random() < gap:
                cycle(kernel=load(0.5, 1))
            at.append(len(columns["i"]))
            if k == 0:
                cycle(chunk, True, ready)
            else:
                cycle(chunk, False, load(1, 1))
        while len(waiting) > 1:
            cycle(kernel=load(1, 1))
        ready = waiting[0] if waiting else None
    v, swap = zip(*columns["i"], strict=True)
    columns["i"] = {"v": np.array(v), "swap": np.array(swap)}
    columns["u_coming"] = [*columns["u_coming"][1:], False]
    if dut.swap_delay:
        columns["u_coming"] = [False, *columns["u_coming"][:-1]]
        columns["u"] = [columns["u"][-1], *columns["u"][:-1]]
    return (
        {name: beats if name == "i" else np.array(beats) for name, beats in columns.items()},
        np.concatenate(sums),
        at,
    )


def check(dut: MacArray, groups: list[int], gap: float, simulate=run_stream) -> np.ndarray:
    """Compares every cycle of a run with the model; the sums."""
    inputs, sums, at = schedule(dut, groups, gap, seed=1)
    cycles = len(inputs["i_valid"]) + dut.latency
    inputs["i_valid"] = np.append(inputs["i_valid"], False)
    result = simulate(PlainPorts(dut), inputs, {"o": cycles, "o_valid": cycles}).outputs
    np.testing.assert_array_equal(np.flatnonzero(result["o_valid"]), np.array(at) + dut.latency)
    np.testing.assert_array_equal(result["o"][result["o_valid"] == 1], sums)
    return sums


def mac_array(*parameters, **options) -> MacArray:
    names = ("input_tile", "fold", "input_lanes", "output_lanes", "v_bits", "u_bits", "kind")
    return MacArray(**dict(zip(names, parameters, strict=True)), **options)


@pytest.mark.parametrize("gap", [0.0, 0.4], ids=["dense", "gaps"])
@pytest.mark.parametrize("parameters", [(4, 1, 2, 2, 9, 8, "generic"), (6, 2, 1, 1, 12, 10, "generic")], ids=str)
def test_relay(parameters, gap):
    dut = mac_array(*parameters, relay=True)
    assert dut.latency == mac_array(*parameters).latency + 1
    check(dut, [4, 1, 7, 3], gap)


@pytest.mark.parametrize("gap", [0.0, 0.4], ids=["dense", "gaps"])
@pytest.mark.parametrize("parameters", GRID, ids=str)
def test_equals_model(parameters, gap):
    dut = mac_array(*parameters)
    sums = check(dut, [1, 3, 2, 1, 5], gap)
    # The least numbers need every bit.
    assert abs(sums).max().item().bit_length() + 1 == dut.sum_bits


@pytest.mark.parametrize(
    ("parameters", "family"),
    [
        ((2, 1, 2, 1, 15, 14, "ecp5"), "ecp5"),
        ((2, 2, 1, 2, 10, 12, "ecp5"), "ecp5"),
        ((3, 1, 1, 1, 8, 8, "ice40_dual"), "ice40"),
        ((3, 3, 1, 1, 15, 14, "ice40"), "ice40"),
    ],
    ids=str,
)
def test_netlist_equals_model(parameters, family):
    dut = mac_array(*parameters)

    def simulate(component, inputs, outputs):
        simulation = NetlistSimulation(component, family)
        assert simulation.cells[{"ecp5": "MULT18X18D", "ice40": "SB_MAC16"}[family]] == dut.cells
        return simulation.run(inputs, outputs)

    check(dut, [1, 3, 2, 5], 0.3, simulate)


def test_sums_modulo():
    check(MacArray(input_tile=3, input_lanes=3, v_bits=8, u_bits=8, sum_bits=10), [2, 4], gap=0.2)


def test_latency():
    sizes = {"input_tile": 3, "v_bits": 8, "u_bits": 8}
    for changes, latency in (
        ({}, 4),
        ({"registered_products": False}, 3),
        ({"output_lanes": 2}, 4),
        ({"input_lanes": 2}, 5),
        ({"input_lanes": 5}, 7),
        ({"kind": "lut"}, 6),
    ):
        dut = MacArray(**sizes | changes)
        assert dut.latency == latency
        check(dut, [2, 1], gap=0.3)


def test_ice40_dual_shares_cells():
    lanes = {"input_lanes": 3, "v_bits": 8, "u_bits": 8}
    assert MacArray(input_tile=3, kind="ice40_dual", **lanes).cells == 14
    assert MacArray(input_tile=3, kind="ice40", **lanes).cells == 27


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fold": 3}, "MacArray fold must divide the input tile 4, not 3"),
        ({"fold": 0}, "MacArray fold must divide the input tile 4, not 0"),
        ({"input_tile": 0}, "MacArray input_tile must be 1 or more, not 0"),
        ({"output_lanes": -1}, "MacArray output_lanes must be 1 or more, not -1"),
        ({"sum_bits": 0}, "MacArray sum_bits must be 1 or more, not 0"),
        ({"v_bits": 19, "kind": "ecp5"}, "Multiplier a_width must be 1 to 18 for kind 'ecp5', not 19"),
    ],
)
def test_bad_parameters(changes, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        MacArray(**{"input_tile": 4, "v_bits": 8, "u_bits": 8} | changes)
