# amaranth: UnusedElaboratable=no
from types import SimpleNamespace

import numpy as np
import pytest
from amaranth.sim import Simulator

from winohw.gateware.sequencer import Sequencer
from winohw.sim.payload import PayloadCodec

USES = ("busy", "wait_pixels", "wait_weights", "wait_drain")


def layer(dut, *, total_rows=1, block_rows=1, tile_cols=1, groups=1, output_groups=1, slots=None):
    pitch = tile_cols * dut.fold
    return {
        "total_rows": total_rows,
        "block_rows": block_rows,
        "tile_cols": tile_cols,
        "groups": groups,
        "output_groups": output_groups,
        "slots": slots or min(total_rows, block_rows + 1),
        "group_pitch": pitch,
        "slot_pitch": pitch * groups,
    }


class Neighbours:
    """Line buffer, weights and drain buffer around the sequencer, as fast or slow as one likes.

    A side is given as the probability that it does something in a cycle.
    """

    def __init__(self, dut, values, *, rows=1.0, weights=1.0, drain=1.0, waiting_groups=4, seed=0):
        self.dut, self.values = dut, values
        self.rates = {"row_done": rows, "weights_ready": weights, "drained": drain}
        self.waiting_groups = waiting_groups
        self.rng = np.random.default_rng(seed)
        blocks = -(-values["total_rows"] // values["block_rows"])
        self.all_groups = blocks * values["output_groups"] * values["groups"]
        self.begin()

    def begin(self):
        self.rows = self.freed = self.announced = self.started = self.outstanding = self.chunks = 0

    def strobes(self):
        possible = {
            "row_done": self.rows < self.values["total_rows"] and self.rows - self.freed < self.values["slots"],
            "weights_ready": self.announced < self.all_groups and self.announced - self.started < self.waiting_groups,
            "drained": self.outstanding > 0,
        }
        strobes = {name: possible[name] and self.rng.random() < rate for name, rate in self.rates.items()}
        self.rows += strobes["row_done"]
        self.announced += strobes["weights_ready"]
        self.outstanding -= strobes["drained"]
        return strobes

    def observe(self, valid, swap, last, free):
        self.started += valid and swap
        # A tile takes room with its first chunk and leaves, at the earliest, after its last one.
        self.chunks += valid
        self.outstanding += valid and last and self.chunks % self.dut.fold == 0
        self.freed += free


def simulate(dut, values, *, group_interval=1, limit=20_000, layers=1, **sides):
    """Runs layers one after another; what happened in every cycle of the last one."""
    neighbours = Neighbours(dut, values, **sides)
    codec = PayloadCodec(dut.o.payload.shape())
    names = ["free", "idle", *USES]
    trace = {name: [] for name in ("valid", "token", *names, *neighbours.rates)}

    async def bench(ctx):
        for name, value in values.items():
            ctx.set(getattr(dut, name), value)
        ctx.set(dut.group_interval, group_interval)
        await ctx.tick().repeat(3)
        for _ in range(layers):
            neighbours.begin()
            for column in trace.values():
                column.clear()
            quiet = 0
            for cycle in range(limit):
                strobes = {} if cycle == 0 else neighbours.strobes()
                ctx.set(dut.start, cycle == 0)
                for name in neighbours.rates:
                    ctx.set(getattr(dut, name), bool(strobes.get(name)))
                watched = [getattr(dut, name) for name in names]
                payload = dut.o.payload
                sample = await ctx.tick().sample(dut.o.valid, payload.swap, payload.last, payload.as_value(), *watched)
                valid, swap, last, token, *rest = (int(value) for value in sample[2:])
                for name, value in zip(names, rest, strict=True):
                    trace[name].append(value)
                for name in neighbours.rates:
                    trace[name].append(int(bool(strobes.get(name))))
                trace["valid"].append(valid)
                trace["token"].append(token)
                neighbours.observe(valid, swap, last, trace["free"][-1])
                quiet = quiet + 1 if trace["idle"][-1] else 0
                if quiet > 30 and not neighbours.outstanding:
                    break
            else:
                raise AssertionError(f"not idle after {limit} cycles, {sum(trace['valid'])} tokens")

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    result = SimpleNamespace(**{name: np.array(column) for name, column in trace.items() if name != "token"})
    result.cycles = np.flatnonzero(result.valid)
    result.tokens = codec.decode_ints([trace["token"][cycle] for cycle in result.cycles])
    return result


def check(dut, values, run, group_interval=1):
    """Tokens equal the model, and none was issued before what it needs."""
    expected = dut.model(**values)
    np.testing.assert_array_equal(run.tokens, expected.astype(run.tokens.dtype))
    issued = run.cycles - dut.latency
    np.testing.assert_array_equal(np.flatnonzero(run.busy), issued)

    def seen(strobe):
        """Strobes before each cycle."""
        return np.cumsum(strobe) - strobe

    # Tile rows: all of the block, and every block is freed once, with its last chunk.
    block_rows = [
        min(values["block_rows"], values["total_rows"] - top)
        for top in range(0, values["total_rows"], values["block_rows"])
    ]
    sizes = [rows * values["tile_cols"] * dut.fold * values["groups"] * values["output_groups"] for rows in block_rows]
    ends = np.cumsum(sizes) - 1
    needed = np.repeat(np.cumsum(block_rows), sizes)
    assert (seen(run.row_done)[issued] >= needed).all()
    np.testing.assert_array_equal(np.flatnonzero(run.free), issued[ends] + 2)
    np.testing.assert_array_equal(run.free[issued[ends] + 2], block_rows)

    # Weights: announced before the group starts, and time enough to load them.
    starts = issued[expected["swap"] == 1]
    assert (seen(run.weights_ready)[starts] >= 1 + np.arange(len(starts))).all()
    assert (np.diff(starts) >= max(group_interval, dut.least_group)).all()

    # Room: tiles begun with `last` and not yet drained, this cycle's included.
    spent = np.zeros(len(run.valid), int)
    spent[issued[:: dut.fold]] = expected["last"][:: dut.fold]
    outstanding = np.cumsum(spent) - seen(run.drained)
    assert outstanding.max() <= dut.drain_capacity

    # It waits only for what the next chunk needs.
    nexts = np.minimum(np.cumsum(run.busy), len(expected) - 1)
    assert np.isin(nexts[run.wait_pixels == 1], [0, *(ends + 1)]).all()
    assert expected["swap"][nexts[run.wait_weights == 1]].all()
    assert expected["last"][nexts[run.wait_drain == 1]].all()

    # Every cycle has one use at most; none when idle.
    uses = sum(getattr(run, name) for name in USES)
    assert uses.max() == 1
    assert not (uses & run.idle).any()
    assert not run.idle[1 : issued[-1] + 2].any()
    assert run.idle[issued[-1] + 2 :].all()
    assert (1 - run.idle).sum() - uses.sum() == 2 * len(block_rows) + 1
    return outstanding


GRID = [
    # parameters, layer
    ({"fold": 1, "max_tiles": 1, "drain_capacity": 1}, {}),
    ({"fold": 1, "max_tiles": 8, "drain_capacity": 5}, {"total_rows": 5, "block_rows": 2, "tile_cols": 3, "groups": 3}),
    (
        {"fold": 2, "max_tiles": 6, "drain_capacity": 1},
        {"total_rows": 7, "block_rows": 3, "tile_cols": 2, "groups": 2, "output_groups": 3, "slots": 5},
    ),
    (
        {"fold": 6, "max_tiles": 4, "drain_capacity": 3},
        {"total_rows": 4, "block_rows": 1, "tile_cols": 4, "groups": 1, "output_groups": 2, "slots": 3},
    ),
    (
        {"fold": 1, "max_tiles": 9, "drain_capacity": 2},
        {"total_rows": 9, "block_rows": 4, "tile_cols": 1, "groups": 4, "output_groups": 1, "slots": 7},
    ),
    (
        {"fold": 3, "max_tiles": 5, "drain_capacity": 14},
        {"total_rows": 3, "block_rows": 5, "tile_cols": 1, "groups": 1, "output_groups": 5},
    ),
]


@pytest.mark.parametrize("speed", ["all fast", "slow rows", "slow weights", "slow drain", "all slow"])
@pytest.mark.parametrize("case", GRID, ids=str)
def test_tokens_and_credits(case, speed):
    parameters, shape = case
    dut = Sequencer(least_group=3, dimension_bits=4, **parameters)
    sides = {
        "all fast": {},
        "slow rows": {"rows": 0.03},
        "slow weights": {"weights": 0.05},
        "slow drain": {"drain": 0.2},
    }
    sides = sides.get(speed, {"rows": 0.1, "weights": 0.1, "drain": 0.3})
    values = layer(dut, **shape)
    run = simulate(dut, values, group_interval=5, seed=1, **sides)
    outstanding = check(dut, values, run, group_interval=5)
    if speed == "slow drain" and values["total_rows"] > 1:
        # The room is used to the last tile.
        tiles = values["tile_cols"] * values["total_rows"] * values["output_groups"]
        assert outstanding.max() >= min(dut.drain_capacity, tiles // 2)


@pytest.mark.parametrize("fold", [1, 2])
def test_no_bubble(fold):
    """With everything at hand a layer takes its tokens and two cycles a block."""
    dut = Sequencer(fold=fold, max_tiles=8, least_group=4, drain_capacity=200)
    values = layer(dut, total_rows=6, block_rows=2, tile_cols=4, groups=3, output_groups=2, slots=6)
    run = simulate(dut, values, group_interval=8 * fold, waiting_groups=200)
    check(dut, values, run, 8 * fold)
    gaps = np.diff(run.cycles) - 1
    starts = np.flatnonzero(gaps) + 1
    block = 2 * 4 * fold * 3 * 2
    assert starts.tolist() == [block, 2 * block]
    assert gaps[starts - 1].tolist() == [2, 2]


def test_group_interval():
    """Short groups start exactly so far apart, the interval or the least group, whichever is longer."""
    for interval, least in [(1, 3), (1, 7), (9, 7), (2, 4), (5, 3), (300, 3), (2, 300)]:
        dut = Sequencer(fold=1, max_tiles=2, least_group=least, drain_capacity=50)
        values = layer(dut, total_rows=4, block_rows=2, groups=3, output_groups=2, slots=4)
        run = simulate(dut, values, group_interval=interval, waiting_groups=50)
        check(dut, values, run, interval)
        starts = run.cycles[run.tokens["swap"] == 1]
        # A block of two chunks and six groups; two cycles between blocks.
        apart = np.full(11, max(interval, least))
        apart[5] = max(apart[5], 4)
        assert np.diff(starts).tolist() == apart.tolist()


@pytest.mark.parametrize("side", ["row_done", "weights_ready", "drained"])
def test_answers_at_once(side):
    """A chunk that waits for a strobe is issued two cycles after it."""
    dut = Sequencer(fold=1, max_tiles=2, least_group=3, drain_capacity=2)
    values = layer(dut, total_rows=12, block_rows=1, tile_cols=2, groups=1, output_groups=2, slots=12)
    slow = {"row_done": "rows", "weights_ready": "weights", "drained": "drain"}[side]
    run = simulate(dut, values, seed=2, **{slow: 0.05})
    check(dut, values, run)
    uses = {"row_done": run.wait_pixels, "weights_ready": run.wait_weights, "drained": run.wait_drain}
    waits = np.flatnonzero(uses[side])
    ends = waits[np.flatnonzero(run.busy[waits + 1])] + 1  # cycles that issue after waiting
    assert len(ends) > 3
    assert getattr(run, side)[ends - 2].all()


def test_many_groups_wait():
    """255 groups may have been announced before the first one starts."""
    dut = Sequencer(fold=1, max_tiles=1, least_group=3, drain_capacity=4)
    values = layer(dut, total_rows=1, groups=17, output_groups=15)
    run = simulate(dut, values, rows=0.001, waiting_groups=255, seed=8)
    assert run.weights_ready[: run.cycles[0]].sum() == 255
    check(dut, values, run)


def test_next_layer():
    """Nothing of a layer is left when the next one starts."""
    dut = Sequencer(fold=2, max_tiles=4, least_group=3, drain_capacity=4, dimension_bits=4)
    values = layer(dut, total_rows=5, block_rows=2, tile_cols=2, groups=2, output_groups=2)
    run = simulate(dut, values, layers=3, rows=0.2, weights=0.2, drain=0.3, seed=4)
    check(dut, values, run)


def test_random_layers():
    rng = np.random.default_rng(6)
    for seed in range(20):
        fold = int(rng.choice([1, 2, 3, 4]))
        block_rows, tile_cols = int(rng.integers(1, 5)), int(rng.integers(1, 4))
        dut = Sequencer(
            fold=fold,
            max_tiles=block_rows * tile_cols,
            least_group=int(rng.integers(3, 10)),
            drain_capacity=int(rng.integers(1, 6)),
            dimension_bits=4,
        )
        total_rows = int(rng.integers(3, 10))
        values = layer(
            dut,
            total_rows=total_rows,
            block_rows=block_rows,
            tile_cols=tile_cols,
            groups=int(rng.integers(1, 4)),
            output_groups=int(rng.integers(1, 4)),
            slots=min(total_rows, block_rows + int(rng.integers(4))),
        )
        interval = int(rng.integers(1, 12))
        rates = dict(zip(("rows", "weights", "drain"), rng.choice([0.05, 0.3, 1.0], 3).tolist(), strict=True))
        run = simulate(dut, values, group_interval=interval, seed=seed, **rates)
        check(dut, values, run, interval)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fold": 0}, "fold must be 1 or more, not 0"),
        ({"max_tiles": 0}, "max_tiles must be 1 or more, not 0"),
        ({"least_group": 2}, "least_group must be 3 or more, not 2"),
        ({"dimension_bits": 0}, "dimension_bits must be 1 or more, not 0"),
        ({"drain_capacity": 0}, "drain_capacity must be 1 or more, not 0"),
    ],
)
def test_refuses_bad_parameters(change, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        Sequencer(**{"fold": 2, "max_tiles": 4, "least_group": 4, "drain_capacity": 4} | change)
