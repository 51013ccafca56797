# amaranth: UnusedElaboratable=no
import numpy as np
import pytest
from amaranth.sim import Simulator

from winohw.algorithm.modular import wrap
from winohw.gateware.resting_accumulator import RestingAccumulator
from winohw.numerics.formats import signed_range

#: input tile, columns, bits, words; with 8 words there is none to spare for the zero
GRID = [(4, 2, 27, 8), (6, 1, 30, 9), (3, 1, 8, 1), (3, 3, 20, 5)]


def run(dut, sizes, passes, gap, seed=1):
    """Rounds of `sizes` words, each fetched while the next one is added up; sums and what was fetched."""
    rng = np.random.default_rng(seed)
    n, q = dut.input_tile, dut.columns
    low, high = signed_range(dut.acc_bits + 2)  # also more than there is room for
    sums = [rng.integers(low, high, (passes, size, n, q), endpoint=True) for size in sizes]
    for part in sums:
        part[:, 0] = rng.choice([low, high, -1, 0, 1], part[:, 0].shape)
    # Cycles: a chunk (round, pass, word), a fetch (round, word), or nothing.
    cycles, earliest = [], 0
    for number, size in enumerate([*sizes, 0]):
        waiting = [("fetch", number - 1, word) for word in range(sizes[number - 1] if number else 0)]
        for step in range(passes if size else 1):
            while len(cycles) < earliest:
                cycles.append(None)
            for word in range(size):
                while rng.random() < gap:
                    cycles.append(waiting.pop(0) if waiting and rng.random() < 0.7 else None)
                if word == 0:
                    earliest = len(cycles) + dut.recurrence
                cycles.append(("chunk", number, step, word))
        cycles += [None] * dut.recurrence + waiting + [None] * dut.recurrence
    given, lag = [], [None] * dut.lead

    async def bench(ctx):
        total = np.zeros((n, q), np.int64)
        for cycle in [*cycles, *[None] * 6]:
            chunk, fetch = cycle and cycle[0] == "chunk", cycle and cycle[0] == "fetch"
            ctx.set(dut.control.valid, bool(chunk))
            ctx.set(dut.control.fetch, bool(fetch))
            ctx.set(dut.control.start, bool(cycle and cycle[-1] == 0))
            ctx.set(dut.control.first, bool(chunk and cycle[2] == 0))
            lag.append(cycle)
            now = lag.pop(0)
            values = sums[now[1]][now[2], now[3]] if now and now[0] == "chunk" else rng.integers(low, high, (n, q))
            for i in range(n):
                for a in range(q):
                    ctx.set(dut.total[i][a], int(total[i][a]))
            stored = np.array([[ctx.get(entry) for entry in row] for row in dut.o.payload])
            total = wrap(values + stored, dut.acc_bits)
            assert ctx.get(dut.o.valid) == bool(now and now[0] == "fetch")
            if ctx.get(dut.o.valid):
                given.append(stored)
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    return given, np.concatenate([dut.model(part[None])[0] for part in sums])


@pytest.mark.parametrize("gap", [0.0, 0.4])
@pytest.mark.parametrize("memory", ["generic", "ice40"])
@pytest.mark.parametrize("parameters", GRID, ids=str)
def test_equals_model(parameters, memory, gap):
    n, q, acc_bits, words = parameters
    dut = RestingAccumulator(input_tile=n, columns=q, acc_bits=acc_bits, words=words, memory=memory)
    sizes = [words, max(1, words // 2), 1, words, words]
    given, expected = run(dut, sizes, passes=3, gap=gap)
    np.testing.assert_array_equal(given, expected)


@pytest.mark.parametrize("name", ["input_tile", "columns", "acc_bits", "words"])
def test_bad_parameters(name):
    sizes = {"input_tile": 4, "columns": 2, "acc_bits": 24, "words": 16}
    with pytest.raises(ValueError, match=f"^{name} must be 1 or more, not 0$"):
        RestingAccumulator(**sizes | {name: 0})
