# amaranth: UnusedElaboratable=no
from types import SimpleNamespace

import numpy as np
import pytest
from amaranth.sim import Simulator

from winohw.gateware.descriptor import InputMode, rows_ahead
from winohw.gateware.line_buffer import LineBuffer
from winohw.sim.payload import PayloadCodec

DENSE, POLYPHASE, SUBSAMPLE = InputMode


def layer(dut, *, step, mode=DENSE, tiles=(3, 3), pads=(1, 1), short=(0, 0), groups=1, images=1, slots=1, pad_value=-9):
    """Values of a layer; `short` counts the rows and columns of padding at the bottom and at the right."""
    scale = 1 if mode == DENSE else 2
    grid = [(count - 1) * step + dut.input_tile for count in tiles]
    pitch = tiles[1] * dut.fold
    values = {
        "mode": int(mode),
        "images": images,
        "height": grid[0] * scale - pads[0] - short[0],
        "width": grid[1] * scale - pads[1] - short[1],
        "pad_top": pads[0],
        "pad_left": pads[1],
        "input_groups": groups,
        "tile_rows": tiles[0],
        "tile_cols": tiles[1],
        "slots": slots,
        "group_pitch": pitch,
        "slot_pitch": pitch * groups * (4 if mode == POLYPHASE else 1),
        "grid_height": grid[0],
        "grid_width": grid[1],
        "pad_value": pad_value,
        "step": step,
    }
    assert values["slots"] * values["slot_pitch"] <= dut.words
    return values


def image(dut, values, seed=1):
    shape = (values["images"], values["height"], values["width"], values["input_groups"] * dut.lanes)
    pixels = np.random.default_rng(seed).integers(-128, 128, shape).astype(np.int8)
    pixels.ravel()[:2] = (-128, 127)[: pixels.size]
    return pixels


def patches(dut, values, pixels):
    names = ("step", "mode", "pad_top", "pad_left", "pad_value", "tile_rows", "tile_cols")
    return dut.model(pixels, **{name: values[name] for name in names})


def chunks(dut, values, expected, top, rows):
    """Addresses and contents of the chunks of some tile rows, in the sequencer's order."""
    addresses, contents = [], []
    for group in range(expected.shape[2]):
        for row in range(top, top + rows):
            for col in range(values["tile_cols"]):
                for phase in range(dut.fold):
                    base = row % values["slots"] * values["slot_pitch"] + group * values["group_pitch"]
                    addresses.append(base + col * dut.fold + phase)
                    contents.append(expected[row, col, group, :, phase * dut.rows :][:, : dut.rows])
    return addresses, contents


def run(dut, values, pixels, *, block_rows=1, pixel_rate=1.0, read_rate=1.0, lag=2, seed=0, layers=1, limit=20_000):
    """Writes the images, reads every block as soon as it is complete, frees it `lag` cycles before its last chunk."""
    rng = np.random.default_rng(seed)
    expected = patches(dut, values, pixels)
    beats = pixels.reshape(-1, dut.lanes).astype(np.int64)
    sent = PayloadCodec(dut.i.payload.shape()).encode(beats)[:, 0].tolist()
    trace = SimpleNamespace(idle=[], reads=[], valids=[])
    outputs, contents = [], []

    async def one_layer(ctx):
        position, offered, complete, top, last_free = 0, False, 0, 0, 0
        waiting, delayed = [], [None] * lag
        for cycle in range(limit):
            # The pixels.
            if not offered and position < len(sent):
                offered = rng.random() < pixel_rate
            ctx.set(dut.i.valid, offered)
            ctx.set(dut.i.payload.as_value(), sent[position] if offered else int(rng.integers(1 << 8 * dut.lanes)))
            ctx.set(dut.start, cycle == 0)
            complete += ctx.get(dut.row_done)
            # The reader decides what comes `lag` cycles later.
            if not waiting and top < len(expected):
                rows = min(block_rows, len(expected) - top)
                if complete >= top + rows:
                    waiting, wanted = chunks(dut, values, expected, top, rows)
                    contents.extend(wanted)
                    top += rows
            address, free = None, 0
            if waiting and rng.random() < read_rate:
                address = waiting.pop(0)
                if not waiting:
                    free, last_free = rows, cycle
            delayed.append(address)
            address = delayed.pop(0)
            ctx.set(dut.free, free)
            ctx.set(dut.read.valid, address is not None)
            ctx.set(dut.read.payload, int(rng.integers(dut.words)) if address is None else address)
            ready, idle, valid, chunk = (
                await ctx.tick().sample(dut.i.ready, dut.idle, dut.o.valid, dut.o.payload.as_value())
            )[2:]
            if offered and ready:
                position, offered = position + 1, False
            trace.reads.append(address is not None)
            trace.valids.append(valid)
            trace.idle.append(idle)
            if valid:
                outputs.append(chunk)
            if idle and top == len(expected) and not waiting and cycle > last_free + 30:
                break
        else:
            raise AssertionError(f"{position} of {len(sent)} pixels taken, {complete} of {len(expected)} rows complete")
        assert position == len(sent)
        assert complete == len(expected)

    async def bench(ctx):
        for name, value in values.items():
            ctx.set(getattr(dut, name), value)
        await ctx.tick()
        for _ in range(layers):
            await one_layer(ctx)

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    np.testing.assert_array_equal(PayloadCodec(dut.o.payload.shape()).decode_ints(outputs), np.array(contents))
    assert trace.valids == [0] * dut.read_latency + trace.reads[: -dut.read_latency]
    return trace


def writing_cycles(dut, values):
    """Cycles from the start to the last pixel, if neither pixels nor slots are missing."""
    scale = 1 if values["mode"] == DENSE else 2
    step, total = values["step"], 0
    for row in range(values["grid_height"]):
        copies = dut.copies(row % step, step) if dut.fold > 1 else 1
        total += scale * scale * values["grid_width"] * values["input_groups"] * copies
    return dut.prefetch[False] - 1 + values["images"] * total


def buffer(n=6, steps=(4,), lanes=1, fold=1, words=128, **more):
    return LineBuffer(input_tile=n, steps=steps, lanes=lanes, fold=fold, words=words, dimension_bits=7, **more)


GRID = {
    # the buffer, the layer, tile rows a block
    "F(4,3)": ({}, {"step": 4, "groups": 2}, 1),
    "F(4,3), all round": ({}, {"step": 4, "tiles": (2, 3), "pads": (3, 5), "short": (5, 3), "pad_value": 77}, 1),
    "F(4,3), no padding": ({"lanes": 2}, {"step": 4, "pads": (0, 0), "images": 2, "slots": 3}, 2),
    "F(4,3), fold 2": ({"fold": 2, "lanes": 2}, {"step": 4, "groups": 2, "short": (1, 2)}, 1),
    "F(4,3), fold 3": ({"fold": 3}, {"step": 4, "images": 2, "tiles": (2, 2)}, 1),
    "F(4,3), fold 6": ({"fold": 6}, {"step": 4, "groups": 3, "tiles": (2, 2), "short": (0, 2)}, 1),
    "F(2,5)": ({"steps": (2, 4, 6)}, {"step": 2, "groups": 2, "tiles": (5, 4), "short": (2, 1)}, 1),
    "F(2,5), fold 2": ({"steps": (2, 4, 6), "fold": 2}, {"step": 2, "groups": 2, "tiles": (4, 3)}, 2),
    "F(6,1)": ({"steps": (2, 4, 6)}, {"step": 6, "pads": (0, 0), "short": (2, 3), "images": 2}, 2),
    "F(2,3)": ({"n": 4, "steps": (2,), "lanes": 3}, {"step": 2, "tiles": (4, 5), "groups": 2}, 1),
    "F(3,3), fold 5": ({"n": 5, "steps": (3,), "fold": 5}, {"step": 3, "tiles": (3, 2)}, 1),
    "direct": ({"n": 3, "steps": (1, 2)}, {"step": 1, "tiles": (6, 5), "groups": 2}, 1),
    "direct, stride 2": ({"n": 3, "steps": (1, 2), "fold": 3}, {"step": 2, "tiles": (4, 5), "images": 2}, 2),
    "direct 5x5": ({"n": 5, "steps": (1, 2)}, {"step": 1, "tiles": (4, 3), "pads": (2, 2), "short": (2, 2)}, 1),
    "pointwise": ({"n": 1, "steps": (1,), "lanes": 4}, {"step": 1, "tiles": (3, 4), "pads": (0, 0), "groups": 3}, 1),
    "pointwise, stride 2": (
        {"n": 1, "steps": (1,)},
        {"step": 1, "tiles": (3, 4), "pads": (0, 0), "short": (1, 1), "mode": SUBSAMPLE},
        1,
    ),
    "polyphase": ({}, {"step": 4, "mode": POLYPHASE, "tiles": (3, 2), "short": (3, 1)}, 1),
    "polyphase, fold 2": (
        {"fold": 2, "lanes": 2, "words": 256},
        {"step": 4, "mode": POLYPHASE, "tiles": (2, 1), "pads": (2, 3), "groups": 2, "images": 2},
        1,
    ),
    "polyphase, three copies": (
        {"steps": (2,)},
        {"step": 2, "mode": POLYPHASE, "tiles": (4, 2), "pads": (0, 1)},
        1,
    ),
    "subsample": ({"steps": (4, 6)}, {"step": 6, "mode": SUBSAMPLE, "tiles": (2, 1), "pads": (0, 0), "groups": 2}, 1),
    "subsample, fold 3": ({"fold": 3}, {"step": 4, "mode": SUBSAMPLE, "tiles": (2, 2), "short": (1, 3)}, 1),
}


def build(name):
    parameters, shape, block_rows = GRID[name]
    dut = buffer(**parameters)
    ahead = min(shape.get("tiles", (3, 3))[0] - 1, rows_ahead(dut.input_tile, shape["step"]))
    values = layer(dut, **{"slots": block_rows + ahead} | shape)
    return dut, values, image(dut, values), block_rows


@pytest.mark.parametrize("name", GRID)
def test_patches(name):
    """With the fewest slots that do, so that every slot is used again, and stalls at both ends."""
    dut, values, pixels, block_rows = build(name)
    run(dut, values, pixels, block_rows=block_rows, pixel_rate=0.7, read_rate=0.6)


@pytest.mark.parametrize(
    "name", ["F(4,3)", "F(4,3), fold 2", "F(2,5), fold 2", "direct", "polyphase", "subsample, fold 3"]
)
def test_full_speed(name):
    """Nothing missing: a pixel group a cycle, padding included."""
    parameters, shape, block_rows = GRID[name]
    dut = buffer(**parameters | {"words": 512})
    values = layer(dut, **shape | {"slots": shape.get("images", 1) * shape.get("tiles", (3, 3))[0]})
    trace = run(dut, values, image(dut, values), block_rows=block_rows)
    assert trace.idle[0]
    assert trace.idle.count(0) == writing_cycles(dut, values)


def test_slots_run_out():
    """A slow reader makes the pixels wait, and no patch is overwritten before it has been read."""
    dut = buffer()
    values = layer(dut, step=4, images=2, slots=2)
    run(dut, values, image(dut, values), read_rate=0.05, seed=3)


def test_next_layer():
    dut = buffer(n=4, steps=(2,), fold=2)
    values = layer(dut, step=2, groups=2, images=2, slots=4)
    run(dut, values, image(dut, values), block_rows=2, pixel_rate=0.9, layers=3, seed=5)


@pytest.mark.parametrize("fold", [1, 3])
def test_early_reads(fold):
    """A tile row may be read in the cycle of `row_done`, the tile that was completed last too."""
    dut = buffer(fold=fold)
    values = layer(dut, step=4, tiles=(2, 1), pads=(0, 0), images=2, slots=3)
    run(dut, values, image(dut, values), lag=0)


def test_frees_while_rows_begin():
    """No slot is lost when one is freed in the very cycle in which another is taken."""
    dut = buffer(n=1, steps=(1,))
    values = layer(dut, step=1, tiles=(100, 1), pads=(0, 0), slots=6)
    rng = np.random.default_rng(9)
    complete = freed = 0

    async def bench(ctx):
        nonlocal complete, freed
        for name, value in values.items():
            ctx.set(getattr(dut, name), value)
        await ctx.tick().repeat(3)
        for cycle in range(600):
            free = freed < 60 and complete > freed and rng.random() < 0.7
            ctx.set(dut.start, cycle == 0)
            ctx.set(dut.i.valid, bool(rng.random() < 0.6))
            ctx.set(dut.free, free)
            (done,) = (await ctx.tick().sample(dut.row_done))[2:]
            freed += free
            complete += done

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    assert (freed, complete) == (60, 66)


def test_late_reads():
    """An address may follow its release by 3 cycles; one more does no harm either, so nothing collides at 3."""
    values = layer(buffer(), step=4, tiles=(3, 1), pads=(0, 0), images=2, slots=2)
    pixels = image(buffer(), values)
    run(buffer(), values, pixels, read_rate=0.02, lag=4, seed=4)
    with pytest.raises(AssertionError, match="not equal"):
        run(buffer(), values, pixels, read_rate=0.02, lag=6, seed=4)


@pytest.mark.parametrize("slots", [1, 2])
def test_too_few_slots(slots):
    """One slot less than `rows_ahead` asks for, and the buffer waits for ever."""
    dut = buffer(n=5, steps=(2,))
    values = layer(dut, step=2, tiles=(4, 2), slots=slots)
    assert rows_ahead(5, 2) == 2
    with pytest.raises(AssertionError, match="0 of 4 rows complete"):
        run(dut, values, image(dut, values), limit=500)


def test_random_layers():
    rng = np.random.default_rng(8)
    for seed in range(8):
        n = int(rng.integers(2, 7))
        folds = [fold for fold in range(1, n + 1) if n % fold == 0]
        step = int(rng.integers(1, n + 1))
        dut = buffer(n=n, steps=tuple({step, n}), fold=int(rng.choice(folds)), lanes=int(rng.integers(1, 3)), words=256)
        tiles = rng.integers(1, 4, 2).tolist()
        block_rows = int(rng.integers(1, 3))
        mode = InputMode(int(rng.integers(3)))
        ahead = min(tiles[0] - 1, rows_ahead(n, step))
        values = layer(
            dut,
            step=step,
            mode=mode,
            tiles=tiles,
            pads=rng.integers(0, n, 2).tolist(),
            short=[0, 0],
            groups=int(rng.integers(1, 3)),
            images=int(rng.integers(1, 3)),
            slots=block_rows + ahead + int(rng.integers(2)),
        )
        pixels = image(dut, values, seed)
        run(dut, values, pixels, block_rows=block_rows, pixel_rate=0.8, read_rate=0.5, seed=seed)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_tile": 0}, "input_tile must be 1 or more, not 0"),
        ({"lanes": 0}, "lanes must be 1 or more, not 0"),
        ({"dimension_bits": 0}, "dimension_bits must be 1 or more, not 0"),
        ({"fold": 4}, "fold must divide the input tile 6, not 4"),
        ({"fold": 0}, "fold must divide the input tile 6, not 0"),
        ({"steps": ()}, "steps must be within 1 … 6, not ()"),
        ({"steps": (4, 7)}, "steps must be within 1 … 6, not (4, 7)"),
        ({"words": 0}, "words must be within 1 … 65536, not 0"),
        ({"words": 65537}, "words must be within 1 … 65536, not 65537"),
        ({"memory": "tape"}, "Memory kind must be one of generic, ecp5, ice40, not 'tape'"),
    ],
)
def test_refuses_bad_parameters(change, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        LineBuffer(**{"input_tile": 6, "steps": (4,), "lanes": 1, "fold": 1, "words": 64} | change)
    assert str(error.value) == message
