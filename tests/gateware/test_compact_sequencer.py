# amaranth: UnusedElaboratable=no
from types import SimpleNamespace

import numpy as np
import pytest
from amaranth.sim import Simulator

from winohw.gateware.compact_sequencer import RECURRENCE, CompactSequencer

USES = ("busy", "wait_pixels", "wait_weights", "wait_drain")
RATES = {"row_done": 1.0, "weights_ready": 1.0, "drained": 1.0}
#: of the sequencer, then of the layer
GRID = {
    "one tile": ({"fold": 2}, {}),
    "blocks": ({"fold": 2}, {"total_rows": 7, "block_rows": 3, "tile_cols": 3, "groups": 2, "output_groups": 3}),
    "one tile a block": ({"fold": 6}, {"total_rows": 3, "groups": 3, "output_groups": 2}),
    "one pass": ({"fold": 3}, {"total_rows": 4, "block_rows": 2, "tile_cols": 4, "output_groups": 3}),
    "no fold": ({"fold": 1}, {"total_rows": 4, "block_rows": 4, "tile_cols": 5, "groups": 4, "output_groups": 2}),
}


def build(fold, **shape):
    dut = CompactSequencer(fold=fold, max_tiles=20, line_words=200, room=2 * fold, apart=3 * fold + 2, dimension_bits=5)
    values = {"total_rows": 1, "block_rows": 1, "tile_cols": 1, "groups": 1, "output_groups": 1} | shape
    pitch = values["tile_cols"] * fold
    slots = min(values["total_rows"], values["block_rows"] + 1)
    values |= {"slots": slots, "group_pitch": pitch, "slot_pitch": pitch * values["groups"]}
    return dut, values


def simulate(dut, values, seed=0, limit=30_000, **rates):
    """A layer, with neighbours that do something with a given probability a cycle."""
    rates = RATES | rates
    rng = np.random.default_rng(seed)
    names = ["free", "hold", "idle", *USES]
    trace = {name: [] for name in ("valid", "fetch", "start", "first", "line", *names, *rates)}
    passes = -(-values["total_rows"] // values["block_rows"]) * values["output_groups"] * values["groups"]
    chunks = values["total_rows"] * values["tile_cols"] * dut.fold * values["output_groups"]
    count = dict.fromkeys(("rows", "freed", "weights", "started", "fetched", "drained"), 0)

    async def bench(ctx):
        for name, value in values.items():
            ctx.set(getattr(dut, name), value)
        for cycle in range(limit):
            possible = {
                "row_done": count["rows"] < values["total_rows"] and count["rows"] - count["freed"] < values["slots"],
                "weights_ready": count["weights"] < min(passes, count["started"] + 3),
                "drained": count["drained"] < count["fetched"] // dut.fold,
            }
            strobes = {name: cycle > 0 and possible[name] and rng.random() < rates[name] for name in rates}
            ctx.set(dut.start, cycle == 0)
            for name, strobe in strobes.items():
                ctx.set(getattr(dut, name), bool(strobe))
                trace[name].append(int(strobe))
            token = dut.o.payload
            watched = [dut.o.valid, token.fetch, token.start, token.first, token.line]
            watched += [getattr(dut, name) for name in names]
            sample = [int(value) for value in (await ctx.tick().sample(*watched))[2:]]
            now = dict(zip(("valid", "fetch", "start", "first", "line", *names), sample, strict=True))
            for name, value in now.items():
                trace[name].append(value)
            count["rows"] += strobes["row_done"]
            count["weights"] += strobes["weights_ready"]
            count["drained"] += strobes["drained"]
            count["freed"] += now["free"]
            count["started"] += now["valid"] and now["start"]
            count["fetched"] += now["fetch"]
            if count["fetched"] == chunks and count["drained"] == chunks // dut.fold and cycle > 40:
                break
        else:
            raise AssertionError(f"{count} after {limit} cycles")

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    return SimpleNamespace(**{name: np.array(column) for name, column in trace.items()})


def check(dut, values, run):
    expected = dut.model(**values)
    tokens = np.flatnonzero(run.valid)
    for name in expected.dtype.names:
        np.testing.assert_array_equal(getattr(run, name)[tokens], expected[name])
    issued = tokens - dut.latency
    np.testing.assert_array_equal(np.flatnonzero(run.busy), issued)
    assert (sum(getattr(run, name) for name in USES) <= 1).all()

    # Patches are whole, and are held; the first of a pass comes after its weights and long after the one before.
    fold = dut.fold
    np.testing.assert_array_equal(
        issued.reshape(-1, fold) - issued[::fold, None], np.tile(np.arange(fold), (len(issued) // fold, 1))
    )
    assert run.hold[issued].all()
    starts = issued[expected["start"] == 1]
    assert (np.diff(starts) >= RECURRENCE).all()
    assert (np.cumsum(run.weights_ready)[starts - 1] >= 1 + np.arange(len(starts))).all()

    # Each round is fetched after it is complete, and before the last patch of the next one.
    size = [
        min(values["block_rows"], values["total_rows"] - top) * values["tile_cols"] * fold
        for top in range(0, values["total_rows"], values["block_rows"])
        for _ in range(values["output_groups"])
    ]
    ends = np.cumsum([count * values["groups"] for count in size])
    fetched = np.flatnonzero(run.fetch) - dut.latency
    bounds = np.cumsum(size)
    assert len(fetched) == bounds[-1]
    assert not (run.busy[fetched]).any()
    assert (np.diff(fetched) >= dut.apart).all()
    np.testing.assert_array_equal(np.flatnonzero(run.start[fetched + dut.latency]), np.array([0, *bounds[:-1]]))
    for number, (end, bound) in enumerate(zip(ends, bounds, strict=True)):
        assert fetched[bound - size[number]] > issued[end - 1] + RECURRENCE
        if number + 1 < len(ends):
            assert fetched[bound - 1] < issued[ends[number + 1] - fold]
    # Room: chunks fetched and not drained.
    room = np.cumsum(run.fetch)[dut.latency :] - fold * np.cumsum(run.drained)[: -dut.latency]
    assert room.max() <= dut.room
    assert run.free.sum() == values["total_rows"]


@pytest.mark.parametrize("name", GRID)
def test_full_speed(name):
    parameters, shape = GRID[name]
    dut, values = build(**parameters, **shape)
    check(dut, values, simulate(dut, values))


@pytest.mark.parametrize(
    "rates", [{"row_done": 0.05}, {"weights_ready": 0.1}, {"drained": 0.05}, dict.fromkeys(RATES, 0.2)], ids=str
)
@pytest.mark.parametrize("name", ["blocks", "one tile a block", "one pass"])
def test_slow_neighbours(name, rates):
    parameters, shape = GRID[name]
    dut, values = build(**parameters, **shape)
    check(dut, values, simulate(dut, values, seed=3, **rates))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fold": 0}, "fold must be 1 or more, not 0"),
        ({"max_tiles": 0}, "max_tiles must be 1 or more, not 0"),
        ({"line_words": 0}, "line_words must be 1 or more, not 0"),
        ({"apart": 1}, "apart must be 2 or more, not 1"),
        ({"room": 9}, "room must be a multiple of the fold 6, not 9"),
        ({"dimension_bits": 0}, "dimension_bits must be 1 or more, not 0"),
    ],
)
def test_bad_parameters(change, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        CompactSequencer(**{"fold": 6, "max_tiles": 9, "line_words": 99, "room": 12, "apart": 11} | change)
