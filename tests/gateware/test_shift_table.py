# amaranth: UnusedElaboratable=no
import numpy as np
import pytest
from amaranth.sim import Simulator

from winohw.gateware.shift_table import ShiftMemory, ShiftTable


def simulate(dut, bench):
    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()


async def give(ctx, dut, entries, rng):
    for v, u, m in entries:
        while rng.random() < 0.3:
            await ctx.tick()
        ctx.set(dut.i.valid, 1)
        ctx.set(dut.i.payload, {"v": int(v), "u": int(u), "m": int(m)})
        await ctx.tick()
        ctx.set(dut.i.valid, 0)


def test_registers():
    rng = np.random.default_rng(1)
    dut = ShiftTable(9)

    async def bench(ctx):
        for entries in rng.integers(0, 32, (3, 9, 3)):
            await give(ctx, dut, entries, rng)
            table = [[ctx.get(entry[key]) for key in ("v", "u", "m")] for entry in dut.o]
            np.testing.assert_array_equal(table, entries)

    simulate(dut, bench)


@pytest.mark.parametrize("n", [3, 4, 6])
def test_memory(n):
    rng = np.random.default_rng(n)
    dut = ShiftMemory(n, 3, 15)

    async def bench(ctx):
        for part in (n * n, 5, n * n, 1, n * n):
            entries = rng.integers(0, (4, 32, 16), (n, n, 3))
            await give(ctx, dut, entries.reshape(-1, 3)[:part], rng)
            if part < n * n:
                # What comes after a table that was refused is whole again.
                ctx.set(dut.clear, 1)
                await ctx.tick()
                ctx.set(dut.clear, 0)
                continue
            columns, taps = dut.model(entries[..., 0], "v"), dut.model(entries[..., 2], "m").reshape(n, n)
            for _ in range(30):
                column, row, tap_column = rng.integers(0, n, 3).tolist()
                ctx.set(dut.column, column)
                ctx.set(dut.row, row)
                ctx.set(dut.tap_column, tap_column)
                await ctx.tick()
                assert [ctx.get(shift) for shift in dut.v] == columns[column].tolist()
                assert ctx.get(dut.m) == taps[row, tap_column]

    simulate(dut, bench)
