# amaranth: UnusedElaboratable=no
import numpy as np
import pytest
from amaranth.sim import Simulator

from winohw.algorithm.toomcook import Winograd, winograd
from winohw.gateware.replaying_output_transform import ReplayingOutputTransform
from winohw.numerics.formats import Narrowing, Rounding, signed_range

LEARNED = Winograd.from_matrices(np.eye(4), np.ones((4, 3)), [[1, -0.5, 3, 0], [0.25, 0, 0, -1.75]])
#: matrices, fold, lanes, bits of a sum, narrowing
GRID = [
    (winograd(2, 3).lifted(), 2, 2, 21, Narrowing(8)),
    (winograd(4, 3), 3, 1, 18, Narrowing(10, rounding=Rounding.FLOOR)),
    (LEARNED, 2, 3, 16, Narrowing(6, saturate=False)),
]


@pytest.mark.parametrize("slow", [0, 0.97])
@pytest.mark.parametrize("parameters", GRID, ids=str)
def test_equals_model(parameters, slow):
    matrices, fold, lanes, sum_bits, narrowing = parameters
    dut = ReplayingOutputTransform(
        matrices, fold=fold, output_lanes=lanes, sum_bits=sum_bits, narrowing=narrowing, max_shift=11, ahead=3
    )
    rng = np.random.default_rng(1)
    table = rng.integers(0, 12, (matrices.n, matrices.n))
    sums = rng.integers(*signed_range(sum_bits), (6 * fold, dut.sums), endpoint=True)
    sums[0] = rng.choice(signed_range(sum_bits), dut.sums)
    expected = dut.model(sums.ravel(), table)
    given, times = [], {"left": [], "last": [], "wait": 0}

    async def source(ctx):
        """A register that holds the sums of a chunk; another chunk comes when there will be room for it."""
        cycle, tap = 0, (0, 0)
        for chunk in sums:
            ctx.set(dut.filled, 1)
            for number, total in enumerate(chunk.tolist()):
                ctx.set(dut.i, total)
                while True:
                    ctx.set(dut.shift, int(table[tap]))
                    taken, left = ctx.get(dut.taken), ctx.get(dut.left)
                    tap = ctx.get(dut.row), ctx.get(dut.column)
                    if left:
                        times["left"].append(cycle)
                    if taken and number == dut.sums - 1:
                        times["last"].append(cycle)
                    await ctx.tick()
                    ctx.set(dut.filled, 0)
                    cycle += 1
                    if taken:
                        break
                    times["wait"] += number > 0

    async def sink(ctx):
        cycle = 0
        while len(given) < len(expected):
            ready = rng.random() >= slow
            ctx.set(dut.o.ready, int(ready))
            if ctx.get(dut.o.valid):
                times.setdefault("first result", cycle)
                if ready:
                    given.append(ctx.get(dut.o.payload))
            await ctx.tick()
            cycle += 1

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(sink)
    simulator.add_testbench(source, background=True)
    simulator.run()
    np.testing.assert_array_equal(given, expected)
    # Nothing waits in the middle of a chunk, so that its end is known before.
    assert times["wait"] == 0
    np.testing.assert_array_equal(np.array(times["left"]) + 3, times["last"])
    assert times["first result"] == times["last"][fold - 1] + dut.latency


def test_bad_parameters():
    with pytest.raises(ValueError, match=r"^ahead must be within 0 ... 15, not 16$"):
        ReplayingOutputTransform(
            winograd(2, 3), fold=2, output_lanes=2, sum_bits=20, narrowing=Narrowing(8), max_shift=12, ahead=16
        )
