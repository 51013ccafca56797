import pytest
from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator

from winohw.gateware.countdown import countdown


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("turns", [1, 2, 3, 7])
def test_flag_is_set_on_the_last_turn(turns, known):
    m = Module()
    reload_now = Signal(init=1)
    last, reload, step = countdown("k", turns, range(turns + 1), single=turns == 1 if known else None)
    m.d.sync += step
    with m.If(reload_now):
        m.d.sync += reload
    seen = []

    async def bench(ctx):
        await ctx.tick()
        ctx.set(reload_now, 0)
        for _ in range(turns):
            seen.append(ctx.get(last))
            await ctx.tick()

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert seen == [0] * (len(seen) - 1) + [1]
