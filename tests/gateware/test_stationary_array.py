# amaranth: UnusedElaboratable=no
import numpy as np
import pytest
from amaranth.sim import Simulator

from winohw.gateware.stationary_array import StationaryArray
from winohw.numerics.formats import signed_range

#: input tile, columns, lanes, v, u and sum bits, kind
GRID = [(4, 2, 2, 8, 8, 20, "generic"), (3, 1, 1, 5, 8, 16, "lut"), (2, 2, 3, 8, 6, 17, "generic")]


@pytest.mark.parametrize("parameters", GRID, ids=str)
def test_equals_model(parameters):
    n, q, lanes, v_bits, u_bits, acc_bits, kind = parameters
    dut = StationaryArray(
        input_tile=n, columns=q, output_lanes=lanes, v_bits=v_bits, u_bits=u_bits, acc_bits=acc_bits, kind=kind
    )
    rng = np.random.default_rng(1)
    most = (1 << acc_bits - 1) // (1 << v_bits + u_bits - 2) - 1
    counts = [1, most, *rng.integers(1, most + 1, 8).tolist()]  # input channels of a chunk
    chunks = []
    for count in counts:
        v = rng.choice([*signed_range(v_bits), 0, 1, -1], (count, n, q))
        u = rng.choice([*signed_range(u_bits), 2, -3], (count, lanes, n, q))
        chunks.append((v, u))
    given = []

    async def bench(ctx):
        cycle, free, taking, filled_at = 0, 0, 0, []
        pending = [(v[c], u[c], c == 0, c == len(v) - 1) for v, u in chunks for c in range(len(v))]
        while len(given) < len(chunks) * dut.sums:
            ctx.set(dut.i.valid, 0)
            # The next chunk's last channel comes when its sums will find the others gone.
            if pending and rng.random() < 0.8 and not (pending[0][3] and cycle < free):
                v, u, first, last = pending.pop(0)
                ctx.set(dut.i.valid, 1)
                ctx.set(dut.i.first, int(first))
                ctx.set(dut.i.last, int(last))
                ctx.set(dut.i.v, v.tolist())
                ctx.set(dut.i.u, u.tolist())
                if last:
                    free = cycle + dut.sums
                    filled_at.append(cycle + dut.latency)
            if ctx.get(dut.filled):
                assert filled_at.pop(0) == cycle
                assert taking == 0
                taking = dut.sums
            ctx.set(dut.shift, int(taking > 0))
            if taking:
                given.append(ctx.get(dut.o))
                taking -= 1
            await ctx.tick()
            cycle += 1

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    np.testing.assert_array_equal(given, np.concatenate([dut.model(v, u) for v, u in chunks]))
