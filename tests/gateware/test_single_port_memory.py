# amaranth: UnusedElaboratable=no
import numpy as np
import pytest
from amaranth.back import rtlil

from winohw.gateware.single_port_memory import SinglePortMemory
from winohw.sim.testbench import run_stream


def traffic(width, depth, lanes, cycles=400):
    """Random reads and writes, never both in a cycle, both ends of the memory among them."""
    rng = np.random.default_rng(width * 1009 + depth)
    used = min(depth, 20)
    address = np.concatenate([np.arange(used // 2), depth - 1 - np.arange(used - used // 2)])
    words = rng.integers(0, 1 << 16, (cycles, -(-width // 16))).tolist()
    read_en = rng.integers(0, 2, cycles)
    return {
        "write_en": np.where(read_en, 0, rng.integers(0, 1 << lanes, cycles)),
        "write_addr": rng.choice(address, cycles),
        "write_data": np.array(
            [sum(part << 16 * k for k, part in enumerate(word)) % (1 << width) for word in words], dtype=object
        ),
        "read_en": read_en,
        "read_addr": rng.choice(address, cycles),
    }


def check(dut, outputs, beats):
    expected = dut.model(**beats)
    known = np.array([word is not None for word in expected])
    assert known.sum() > 100
    np.testing.assert_array_equal(np.asarray(outputs, object)[known], expected[known])


@pytest.mark.parametrize(("width", "depth", "lanes"), [(1, 1, 1), (16, 100, 2), (35, 7, 1), (24, 300, 3), (16, 64, 4)])
def test_equals_model(width, depth, lanes):
    dut = SinglePortMemory(width, depth, lanes=lanes)
    beats = traffic(width, depth, lanes)
    check(dut, run_stream(dut, beats, {"read_data": 400}).outputs["read_data"], beats)


@pytest.mark.parametrize(("width", "lanes", "blocks"), [(16, 2, 1), (24, 3, 2), (16, 4, 1), (10, 1, 1)])
def test_blocks(width, lanes, blocks):
    """An instance for each 16 bits, and no other memory."""
    text = rtlil.convert(SinglePortMemory(width, 9000, "ice40", lanes))
    assert text.count("cell \\SB_SPRAM256KA") == blocks
    assert "cell $mem" not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((8, 8, "ecp5"), "Memory kind must be one of generic, ice40, not 'ecp5'"),
        ((0, 8), "Memory width must be 1 or more, not 0"),
        ((8, 0), "Memory depth must be 1 or more, not 0"),
        ((8, 16385, "ice40"), "Memory depth must be at most 16384 for kind 'ice40', not 16385"),
        ((8, 8, "generic", 3), "Memory lanes must divide the width 8, not 3"),
        ((20, 8, "ice40", 2), "Memory lanes must have 4, 8 or 16 bits for kind 'ice40', not 10"),
    ],
)
def test_bad_parameters(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        SinglePortMemory(*arguments)
