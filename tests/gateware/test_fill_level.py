# amaranth: UnusedElaboratable=no
import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator

from winohw.gateware.fill_level import fill_level


@pytest.mark.parametrize("enter_rate", [0.1, 0.5, 0.95])
@pytest.mark.parametrize("leave_rate", [0.1, 0.5, 0.95])
@pytest.mark.parametrize("depth", [1, 2, 3, 16])
def test_is_filled_while_something_waits(depth, enter_rate, leave_rate):
    m = Module()
    enter, leave = Signal(), Signal()
    filled, left = fill_level(m, depth, enter, leave)
    rng = np.random.default_rng(depth)

    async def bench(ctx):
        waiting, before = 0, False
        for _ in range(500):
            assert ctx.get(filled) == (waiting > 0)
            assert ctx.get(left) == before
            leaves = bool(waiting and rng.random() < leave_rate)
            enters = bool(waiting < depth and rng.random() < enter_rate)
            ctx.set(enter, enters)
            ctx.set(leave, leaves)
            waiting, before = waiting + enters - leaves, leaves
            await ctx.tick()

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
