# amaranth: UnusedElaboratable=no
import numpy as np
import pytest
from amaranth.sim import Simulator

from winohw.gateware.descriptor import InputMode
from winohw.gateware.line_buffer import LineBuffer
from winohw.sim.payload import PayloadCodec

#: input tile, step, fold, mode, tile rows and columns, groups, images
GRID = [
    (4, 2, 2, InputMode.DENSE, 4, 3, 2, 2),
    (6, 4, 6, InputMode.DENSE, 3, 2, 3, 1),
    (6, 4, 3, InputMode.POLYPHASE, 2, 2, 1, 1),
    (6, 4, 6, InputMode.SUBSAMPLE, 2, 1, 2, 2),
    (5, 3, 5, InputMode.DENSE, 2, 3, 1, 1),
]


def run(parameters, pixel_rate, seed):
    """Reads all of a layer, tile row by tile row, in times of `hold` that come and go."""
    n, step, fold, mode, rows, cols, groups, images = parameters
    dut = LineBuffer(input_tile=n, steps=(step,), lanes=1, fold=fold, words=512, dimension_bits=7, single_port=True)
    rng = np.random.default_rng(seed)
    scale = 1 if mode == InputMode.DENSE else 2
    grid = (rows - 1) * step + n, (cols - 1) * step + n
    pitch = cols * fold
    total = groups * (4 if mode == InputMode.POLYPHASE else 1)
    values = {
        "mode": int(mode),
        "images": images,
        "height": grid[0] * scale - 2,
        "width": grid[1] * scale - 3,
        "pad_top": 1,
        "pad_left": 1,
        "input_groups": groups,
        "tile_rows": rows,
        "tile_cols": cols,
        "slots": rows,
        "group_pitch": pitch,
        "slot_pitch": pitch * total,
        "grid_height": grid[0],
        "grid_width": grid[1],
        "pad_value": -9,
        "step": step,
    }
    pixels = rng.integers(-128, 128, (images, values["height"], values["width"], groups)).astype(np.int8)
    pixels.ravel()[:2] = -128, 127
    names = ("step", "mode", "pad_top", "pad_left", "pad_value", "tile_rows", "tile_cols")
    expected = dut.model(pixels, **{name: values[name] for name in names})
    # Chunks in the order they are read: tile row, group, column, phase.
    order = [
        (row, group, col, phase)
        for row in range(images * rows)
        for group in range(total)
        for col in range(cols)
        for phase in range(fold)
    ]
    sent, outputs, asked = pixels.reshape(-1).tolist(), [], []

    async def bench(ctx):
        for name, value in values.items():
            ctx.set(getattr(dut, name), value)
        await ctx.tick().repeat(3)
        position, complete, offered, held, free = 0, 0, False, 0, 0
        for cycle in range(60_000):
            offered = offered or (position < len(sent) and rng.random() < pixel_rate)
            ctx.set(dut.start, cycle == 0)
            ctx.set(dut.i.valid, offered)
            ctx.set(dut.i.payload[0], sent[position] if offered else 0)
            complete += ctx.get(dut.row_done)
            readable = len(asked) < len(order) and order[len(asked)][0] < complete
            hold = rng.random() < (0.9 if held else 0.2) and readable
            # From the cycle after the first one with `hold` on, to the cycle after the last one.
            read = held > 0 and readable and (not hold or rng.random() < 0.8)
            ctx.set(dut.hold, hold)
            ctx.set(dut.read.valid, read)
            ctx.set(dut.free, free)
            free = 0
            if read:
                row, group, col, phase = order[len(asked)]
                ctx.set(dut.read.payload, row % rows * values["slot_pitch"] + group * pitch + col * fold + phase)
                asked.append(order[len(asked)])
                # The last slots of an image are not taken again before the next one.
                free = int(len(asked) == len(order) or order[len(asked)][0] != row)
            held = held + 1 if hold else 0
            ready, valid, chunk = (await ctx.tick().sample(dut.i.ready, dut.o.valid, dut.o.payload.as_value()))[2:]
            assert not (hold and ready)
            if offered and ready:
                position, offered = position + 1, False
            if valid:
                outputs.append(chunk)
            if len(outputs) == len(order):
                break
        assert position == len(sent)

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    chunks = [expected[row, col, group, :, phase * dut.rows :][:, : dut.rows] for row, group, col, phase in order]
    np.testing.assert_array_equal(PayloadCodec(dut.o.payload.shape()).decode_ints(outputs), np.array(chunks))


@pytest.mark.parametrize("pixel_rate", [1.0, 0.5])
@pytest.mark.parametrize("parameters", GRID, ids=str)
def test_patches(parameters, pixel_rate):
    run(parameters, pixel_rate, seed=1)


def test_column_groups():
    """Columns that share a memory are never written together."""
    options = {"input_tile": 6, "lanes": 1, "fold": 6, "words": 256}
    pairs = (range(2), range(2, 4), range(4, 6))
    assert LineBuffer(**options, steps=(4,), single_port=True).column_groups == pairs
    assert LineBuffer(**options, steps=(4,), memory="ice40").column_groups == pairs
    assert LineBuffer(**options, steps=(4,), memory="ecp5").column_groups == (range(4), range(4, 6))
    alone = tuple(range(j, j + 1) for j in range(6))
    assert LineBuffer(**options, steps=(4,)).column_groups == alone
    assert LineBuffer(**options, steps=(2, 4), memory="ecp5").column_groups == alone
    assert LineBuffer(**options | {"words": 2048}, steps=(4,), memory="ecp5").column_groups == alone


@pytest.mark.parametrize(("fold", "steps"), [(1, (4,)), (2, (2, 4))])
def test_bad_parameters(fold, steps):
    message = f"single_port needs a fold and one step, not fold {fold} and steps {steps}"
    with pytest.raises(ValueError) as error:  # noqa: PT011
        LineBuffer(input_tile=6, steps=steps, lanes=1, fold=fold, words=64, single_port=True)
    assert str(error.value) == message


def test_nothing_is_written_back_to_two_ports():
    with pytest.raises(ValueError, match=r"^write_back needs single_port$"):
        LineBuffer(input_tile=4, steps=(2,), lanes=1, fold=2, words=64, write_back=True)
