# amaranth: UnusedElaboratable=no
import numpy as np
import pytest
from amaranth.sim import Simulator

from winohw.gateware.replay_store import ReplayStore

#: input tile, fold, lanes, bits, places
GRID = [(4, 2, 2, 8, 8), (6, 3, 1, 7, 4), (4, 1, 3, 5, 2)]


@pytest.mark.parametrize("memory", ["generic", "ice40"])
@pytest.mark.parametrize("parameters", GRID, ids=str)
def test_gives_groups_again(parameters, memory):
    n, fold, lanes, bits, places = parameters
    dut = ReplayStore(input_tile=n, fold=fold, lanes=lanes, u_bits=bits, places=places, memory=memory)
    rng = np.random.default_rng(1)
    groups = [int(rng.integers(1, places + 1)) for _ in range(8)]  # input channels of a group of output channels
    beats = rng.integers(-(1 << bits - 1), 1 << bits - 1, (sum(groups) * lanes * n * n, 1))
    weights = dut.model(beats)
    loaded, given, wanted = [0], [], []

    async def writer(ctx):
        for (beat,) in beats.tolist():
            while rng.random() < 0.1:
                await ctx.tick()
            ctx.set(dut.i.valid, 1)
            ctx.set(dut.i.payload[0], beat)
            await ctx.tick().until(dut.i.ready)
            ctx.set(dut.i.valid, 0)

    async def counter(ctx):
        taken = 0
        async for *_, valid, ready in ctx.tick().sample(dut.i.valid, dut.i.ready):
            taken += valid & ready
            loaded[0] = taken // (lanes * n * n)

    async def reader(ctx):
        base = 0
        for group in groups:
            while loaded[0] < base + group:
                await ctx.tick()
            tiles = int(rng.integers(1, 4))
            for tile in range(tiles):
                for phase in range(fold):
                    for channel in range(group):
                        while rng.random() < 0.2:
                            await ctx.tick()
                        ctx.set(dut.control.valid, 1)
                        ctx.set(dut.control.first, channel == 0)
                        ctx.set(dut.control.phase, phase)
                        ctx.set(dut.control.release, tile == tiles - 1 and phase == fold - 1)
                        wanted.append(weights[base + channel, phase])
                        await ctx.tick()
                        ctx.set(dut.control.valid, 0)
                        # One at a time, so that each can be told from the others.
                        for _ in range(dut.lead - 1):
                            await ctx.tick()
                        given.append([[[ctx.get(u) for u in row] for row in lane] for lane in dut.o])
            base += group

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(reader)
    simulator.add_testbench(writer, background=True)
    simulator.add_testbench(counter, background=True)
    simulator.run()
    np.testing.assert_array_equal(given, wanted)
    assert loaded[0] == sum(groups)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_tile": 0}, "input_tile must be 1 or more, not 0"),
        ({"lanes": 0}, "lanes must be 1 or more, not 0"),
        ({"fold": 3}, "fold must divide the input tile 4, not 3"),
        ({"u_bits": 9}, "u_bits must be within 1 ... 8, not 9"),
        ({"places": 6}, "places must be a power of two, 2 or more, not 6"),
    ],
)
def test_bad_parameters(change, message):
    good = {"input_tile": 4, "fold": 2, "lanes": 2, "u_bits": 8, "places": 8}
    with pytest.raises(ValueError, match=f"^{message}$"):
        ReplayStore(**good | change)
