# amaranth: UnusedElaboratable=no
import numpy as np
import pytest
from netlist import NetlistSimulation, SideBySide

from winohw.gateware.memory import Memory
from winohw.sim.testbench import run_stream


def traffic(width: int, depth: int, lanes: int = 1, cycles: int = 300) -> dict[str, np.ndarray]:
    """Random traffic without collisions, a third of the cycles without a read or a write."""
    rng = np.random.default_rng(width * 10007 + depth)
    words = rng.integers(0, 1 << 16, (cycles, -(-width // 16))).tolist()
    used = min(depth, 40)  # Few words, both ends of the memory among them, so that most reads find something.
    address = np.concatenate([np.arange(used // 2), depth - 1 - np.arange(used - used // 2)])
    beats = {
        "write_en": rng.integers(0, 3, cycles) > 0 if lanes == 1 else rng.integers(0, 1 << lanes, cycles),
        "write_addr": rng.choice(address, cycles),
        "write_data": np.array(
            [sum(part << 16 * k for k, part in enumerate(word)) % (1 << width) for word in words], dtype=object
        ),
        "read_en": rng.integers(0, 3, cycles) > 0,
        "read_addr": rng.choice(address, cycles),
    }
    beats["read_en"] &= ~((beats["write_en"] > 0) & (beats["write_addr"] == beats["read_addr"]))
    later = np.append(beats["write_en"][1:] > 0, False) & (np.append(beats["write_addr"][1:], 0) == beats["read_addr"])
    beats["read_en"] &= ~later
    return beats


@pytest.mark.parametrize("kind", ["generic", "ice40"])
@pytest.mark.parametrize(
    ("width", "depth", "lanes"), [(1, 1, 1), (1, 2, 1), (35, 64, 1), (9, 100, 1), (70, 3, 1), (24, 30, 3), (16, 100, 2)]
)
def test_equals_model(width, depth, lanes, kind):
    dut = Memory(width, depth, kind, lanes)
    beats = traffic(width, depth, lanes)
    result = run_stream(dut, beats, {"read_data": len(beats["read_en"])})
    np.testing.assert_array_equal(result.outputs["read_data"], dut.model(**beats))


NETLISTS = {
    "ecp5": [
        *((36, 512, 1), (70, 300, 1), (20, 1024, 1), (9, 2048, 1), (5, 4096, 1), (2, 8192, 1), (1, 16384, 1)),
        *((7, 1, 1), (32, 512, 4), (48, 100, 6), (32, 1000, 4), (48, 300, 3), (16, 2000, 2), (80, 500, 2)),
    ],
    "ice40": [(35, 64, 1), (3, 1000, 1), (16, 256, 2), (24, 256, 3), (16, 300, 2)],
}


@pytest.mark.parametrize("family", NETLISTS)
def test_netlist_equals_model(family):
    duts = {
        f"m{width}x{depth}x{lanes}": Memory(width, depth, family, lanes) for width, depth, lanes in NETLISTS[family]
    }
    beats = {name: traffic(dut.width, dut.depth, dut.lanes) for name, dut in duts.items()}
    inputs = {f"{name}_{port}": column for name, columns in beats.items() for port, column in columns.items()}
    simulation = NetlistSimulation(SideBySide(duts), family)
    outputs = simulation.run(inputs, {f"{name}_read_data": 300 for name in duts}).outputs
    for name, dut in duts.items():
        np.testing.assert_array_equal(outputs[f"{name}_read_data"], dut.model(**beats[name]), name)
    if family == "ecp5":
        # Nothing but the block memories and a register for the enable of each.
        assert simulation.cells["DP16KD"] == sum(dut.blocks for dut in duts.values())
        assert set(simulation.cells) == {"DP16KD", "TRELLIS_FF"}
        assert simulation.cells["TRELLIS_FF"] == len(duts)
    else:
        # Two lanes of a byte share a block of 256 words; at 300 words each has its own.
        assert simulation.cells["SB_RAM40_4K"] == 3 + 1 + 1 + 2 + 2


def test_reads_every_cycle_unless_told():
    dut = Memory(8, 16)
    written = np.arange(16) + 100
    result = run_stream(
        dut,
        {"write_en": np.arange(40) < 16, "write_addr": np.arange(40) % 16, "write_data": np.resize(written, 40)}
        | {"read_addr": (np.arange(40) + 8) % 16},
        {"read_data": 40},
    )
    np.testing.assert_array_equal(result.outputs["read_data"][26:34], (written[(np.arange(24, 32) + 8) % 16]))


@pytest.mark.parametrize(
    ("width", "depth", "blocks"),
    [(210, 512, 6), (36, 1, 1), (37, 512, 2), (36, 513, 2), (9, 2048, 1), (9, 4096, 3), (9, 16384, 9)],
)
def test_blocks(width, depth, blocks):
    assert Memory(width, depth, "ecp5").blocks == blocks


@pytest.mark.parametrize(
    ("width", "depth", "kind", "lanes"),
    [(8, 256, "ice40", 2), (8, 257, "ice40", 1), (20, 256, "ice40", 1), (8, 512, "generic", 1)]
    + [(8, 512, "ecp5", 4), (16, 512, "ecp5", 2), (8, 1024, "ecp5", 2), (16, 1024, "ecp5", 1), (8, 2048, "ecp5", 1)],
)
def test_lanes_a_block(width, depth, kind, lanes):
    assert Memory.lanes_a_block(width, depth, kind) == lanes
    if kind == "ecp5":
        assert Memory(4 * width, depth, kind, 4).blocks == 4 // lanes


def test_model_refuses_collision():
    with pytest.raises(ValueError, match=r"^Word 3 is read and written in cycle 1$"):
        Memory(4, 4).model([0, 1], [3, 3], [0, 0], [0, 1], [3, 3])
    with pytest.raises(ValueError, match=r"^Word 3 is read in cycle 0 and written in cycle 1$"):
        Memory(4, 4).model([0, 1], [3, 3], [0, 0], [1, 0], [3, 3])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((8, 8, "spram"), "Memory kind must be one of generic, ecp5, ice40, not 'spram'"),
        ((0, 8), "Memory width must be 1 or more, not 0"),
        ((8, 0), "Memory depth must be 1 or more, not 0"),
        ((8, 8, "ice40", 3), "Memory lanes must divide the width 8, not 3"),
        ((8, 16385, "ecp5"), "Memory depth must be at most 16384 for kind 'ecp5', not 16385"),
    ],
)
def test_bad_parameters(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        Memory(*arguments)
