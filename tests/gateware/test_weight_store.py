# amaranth: UnusedElaboratable=no
import numpy as np
import pytest
from amaranth.sim import Simulator

from winohw.gateware.weight_store import WeightStore
from winohw.numerics.formats import signed_range

GRID = [(4, 2, 12, 4), (6, 6, 14, 2), (6, 3, 8, 16), (3, 1, 17, 2), (6, 2, 16, 4)]


def run(dut, kernels, rng, eager):
    """Kernels go in while there is room; passes of random length take them. Weights given, expected, and asked for."""
    n = dut.input_tile
    low, high = signed_range(dut.u_bits)
    weights = rng.integers(low, high, kernels * n * n, endpoint=True)
    weights[: n * n] = np.resize([low, high, -1, 0, 1], n * n)
    beats = weights.astype(f"<i{dut.u_bytes}").view(np.int8).reshape(-1, dut.u_bytes)
    given, asked = [], []

    async def bench(ctx):
        position, loaded, started, chunk, due = 0, 0, 0, 0, []
        for _ in range(20_000):
            valid = position < len(beats) and rng.random() < eager
            ctx.set(dut.i.valid, valid)
            for byte in range(dut.u_bytes):
                ctx.set(dut.i.payload[byte], int(beats[position][byte]) if valid else 0)
            # A pass has whole patches; the next one begins when its kernel is complete.
            start = loaded > started and chunk % dut.fold == 0 and (chunk == 0 or rng.random() < 0.3)
            go = start or (started > 0 and (chunk % dut.fold != 0 or rng.random() < 0.3))
            if start:
                started, chunk = started + 1, 0
            ctx.set(dut.control.valid, go)
            ctx.set(dut.control.start, start if go else bool(rng.random() < 0.5))
            if go:
                asked.append((started - 1, chunk % dut.fold))
                chunk += 1
            due.append(go)
            if len(due) > dut.lead and due[-1 - dut.lead]:
                given.append([[ctx.get(entry) for entry in row] for row in dut.o])
            ready, strobe = (await ctx.tick().sample(dut.i.ready, dut.loaded))[2:]
            position += valid and ready
            # Filled places never exceed what there is.
            assert position <= (max(started, 1) - 1 + dut.kernels) * n * n
            loaded += strobe
            if started == kernels and len(asked) > len(given) + dut.lead:
                break
            if started == kernels and chunk > 3 * dut.fold:
                break

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    expected = dut.model(beats)
    return np.array(given), np.array([expected[kernel][phase] for kernel, phase in asked[: len(given)]]), asked


@pytest.mark.parametrize("eager", [1.0, 0.4])
@pytest.mark.parametrize("parameters", GRID, ids=str)
def test_equals_model(parameters, eager):
    n, fold, u_bits, kernels = parameters
    dut = WeightStore(input_tile=n, fold=fold, u_bits=u_bits, kernels=kernels)
    given, expected, asked = run(dut, 3 * kernels, np.random.default_rng(n + fold), eager)
    assert {kernel for kernel, _ in asked} == set(range(3 * kernels))
    np.testing.assert_array_equal(given, expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_tile": 0}, "input_tile must be 1 or more, not 0"),
        ({"fold": 4}, "fold must divide the input tile 6, not 4"),
        ({"u_bits": 33}, "u_bits must be within 1 ... 32, not 33"),
        ({"kernels": 6}, "kernels must be a power of two, 2 or more, not 6"),
        ({"kernels": 1}, "kernels must be a power of two, 2 or more, not 1"),
    ],
)
def test_bad_parameters(change, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        WeightStore(**{"input_tile": 6, "fold": 6, "u_bits": 14} | change)
