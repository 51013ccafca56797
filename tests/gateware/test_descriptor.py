# amaranth: UnusedElaboratable=no
from collections import deque
from dataclasses import replace

import numpy as np
import pytest
from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from winohw.gateware.descriptor import (
    DESCRIPTOR_MAGIC,
    DescriptorLimits,
    DescriptorReader,
    InputMode,
    LayerError,
    descriptor_fields,
    descriptor_words,
    rows_ahead,
    status_layout,
)
from winohw.gateware.shift_table import ShiftTable
from winohw.sim.stalls import Stalls
from winohw.sim.testbench import run_stream

MANY = DescriptorLimits(
    input_tile=6,
    kernels=(1, 3, 5),
    max_groups=(40, 30, 20),
    fold=2,
    max_tiles=24,
    line_words=700,
    output_lanes=2,
    dimension_bits=8,
    shift_taps=0,
)
TABLE = replace(MANY, kernels=(3,), max_groups=(30,), fold=1, shift_taps=36, max_shifts=(7, 6, 20))
DIRECT = replace(MANY, input_tile=3, kernels=(3,), max_groups=(30,), fold=1)
POINTWISE = replace(MANY, input_tile=1, kernels=(1,), max_groups=(1 << 16,), fold=1, output_lanes=1)
WIDE = replace(MANY, dimension_bits=16, max_groups=(1 << 14,) * 3, max_tiles=1 << 16, line_words=1 << 16, fold=1)
ALL_LIMITS = {"many": MANY, "table": TABLE, "direct": DIRECT, "pointwise": POINTWISE, "wide": WIDE}


def layer(limits, *, kernel=None, mode=InputMode.DENSE, stride=None, images=1, size=(9, 11), pads=(1, 1), channels=3,
          filters=5, block_rows=1, slots=None, int8=(0, 3, -128, 127)):  # fmt: skip
    """Fields of a layer whose output has the given size."""
    kernel = kernel or limits.kernels[0]
    tile = limits.input_tile + 1 - kernel
    stride = stride or (1 if mode == InputMode.DENSE else 2)
    step = stride if tile == 1 and limits.input_tile > 1 else tile
    scale = 1 if mode == InputMode.DENSE else 2
    tiles = [-(-edge // tile) for edge in size]
    grid = [(count - 1) * step + limits.input_tile for count in tiles]
    pads = [min(pad, edge * scale - 1) for pad, edge in zip(pads, grid, strict=True)]
    groups = channels * (4 if mode == InputMode.POLYPHASE else 1)
    ahead = min(rows_ahead(limits.input_tile, step), tiles[0] - 1)
    fields = {
        "kernel": kernel,
        "stride": stride,
        "mode": int(mode),
        "images": images,
        "height": max(1, grid[0] * scale - pads[0] - 1),
        "width": max(1, grid[1] * scale - pads[1]),
        "pad_top": pads[0],
        "pad_left": pads[1],
        "input_groups": channels,
        "groups": groups,
        "output_groups": -(-filters // limits.output_lanes),
        "filters": filters,
        "tile_rows": tiles[0],
        "tile_cols": tiles[1],
        "total_rows": images * tiles[0],
        "block_rows": block_rows,
        "slots": slots or min(block_rows + ahead, images * tiles[0]),
        "grid_height": grid[0],
        "grid_width": grid[1],
        "output_height": size[0],
        "output_width": size[1],
        **dict(zip(("pad_value", "output_zero_point", "act_min", "act_max"), int8, strict=True)),
        "reserved": 0,
        "group_pitch": tiles[1] * limits.fold,
        "slot_pitch": tiles[1] * limits.fold * groups,
    }
    assert tuple(fields) == descriptor_fields()
    return fields


def good_layers(limits):
    if limits is DIRECT:
        yield layer(limits, pads=(0, 0))
        yield layer(limits, stride=2, size=(4, 5))
        yield layer(limits, block_rows=2, images=3, size=(2, 2), pads=(0, 0))
        return
    for kernel in limits.kernels:
        yield layer(limits, kernel=kernel)
        yield layer(limits, kernel=kernel, mode=InputMode.POLYPHASE, channels=1)
        yield layer(limits, kernel=kernel, mode=InputMode.SUBSAMPLE, images=2, block_rows=2)
    yield layer(limits, images=3, size=(1, 1), block_rows=3, slots=3, pads=(2, 2), int8=(-128, 127, -1, 1))
    yield layer(limits, size=(1, 7), filters=1, channels=1, pads=(0, 0), int8=(127, -128, 0, 0))


def encode(limits, fields, table=None):
    halves = [fields[name] & 0xFFFF for name in descriptor_fields()]
    words = [DESCRIPTOR_MAGIC << 16 | descriptor_words(limits)]
    words += [low | high << 16 for low, high in zip(halves[::2], halves[1::2], strict=True)]
    if limits.shift_taps:
        rng = np.random.default_rng(3)
        if table is None:
            table = [[int(rng.integers(most + 1)) for most in limits.max_shifts] for _ in range(limits.shift_taps)]
        words += [v | u << 8 | m << 16 for v, u, m in table]
    return words


class WithTable(wiring.Component):
    """A reader and the registers of its shift table."""

    def __init__(self, limits):
        self.reader, self.table = DescriptorReader(limits), ShiftTable(limits.shift_taps)
        members = {name: member for name, member in self.reader.signature.members.items() if name != "tap"}
        super().__init__(members | {"shifts": Out(self.table.o.shape())})

    def elaborate(self, platform):
        m = Module()
        m.submodules.reader, m.submodules.table = self.reader, self.table
        wiring.connect(m, self.reader.tap, self.table.i)
        wiring.connect(m, wiring.flipped(self.i), self.reader.i)
        m.d.comb += [self.shifts.eq(self.table.o), self.reader.done.eq(self.done)]
        for name in ("job", "valid", "error", "error_strobe", "busy"):
            m.d.comb += getattr(self, name).eq(getattr(self.reader, name))
        return m


def read(limits, descriptors, stalls=0.0):
    """(error, job, shifts) for each descriptor, in order; `done` comes at once."""
    beats = {
        "word": np.array([word for words in descriptors for word in words]),
        "last": np.array([k == len(words) - 1 for words in descriptors for k in range(len(words))], np.int64),
    }
    names = ["valid", "error_strobe", "error", "job", *(["shifts"] if limits.shift_taps else [])]
    result = run_stream(
        (WithTable if limits.shift_taps else DescriptorReader)(limits),
        {"i": beats},
        dict.fromkeys(names),
        constants={"done": 1},
        stalls=Stalls(1, i=stalls),
        idle=330,
        max_cycles=500 * len(descriptors) + 1000,
    )
    out = result.outputs
    events = []
    for cycle in np.flatnonzero(out["valid"] | out["error_strobe"]):
        assert out["valid"][cycle] ^ out["error_strobe"][cycle]
        code = LayerError.OK if out["valid"][cycle] else LayerError(int(out["error"][cycle]))
        events.append((code, out["job"][cycle], out["shifts"][cycle] if limits.shift_taps else None))
    return events


def check_all(limits, descriptors, stalls=0.0):
    """The reader says of every descriptor what its model says; the codes."""
    model = DescriptorReader(limits).model
    expected = [model(words) for words in descriptors]
    events = read(limits, descriptors, stalls)
    assert [code for code, _, _ in events] == expected
    for words, (code, job, shifts) in zip(descriptors, events, strict=True):
        if code == LayerError.OK:
            halves = [half for word in words[1:15] for half in (word & 0xFFFF, word >> 16)]
            for name, half in zip(descriptor_fields(), halves, strict=True):
                if name == "reserved":
                    continue
                assert job[name] == (half & 0xFF if half >= 0xFF00 else half), name
            if limits.shift_taps:
                table = [[shift >> 8 * k & 0xFF for k in range(3)] for shift in words[15:]]
                assert [[*map(int, entry)] for entry in shifts] == table
    return expected


def runs_to_end(limits, fields):
    """Walks through the layer, row by row, in the way of the line buffer and of the sequencer."""
    f = dict(fields)
    tile = limits.input_tile + 1 - f["kernel"]
    step = f["stride"] if tile == 1 and limits.input_tile > 1 else tile
    phases = 1 if f["mode"] == InputMode.DENSE else 2
    n = limits.input_tile
    assert f["kernel"] in limits.kernels
    assert 1 <= step <= n
    # Every pixel that is sent is taken, every output is computed, nothing is computed in vain.
    for edge, pad, tiles, out in (
        ("height", "pad_top", "tile_rows", "output_height"),
        ("width", "pad_left", "tile_cols", "output_width"),
    ):
        covered = (f[tiles] - 1) * step + n
        assert covered == f[f"grid_{edge}"]
        assert 0 < f[edge] <= f[edge] + f[pad] <= covered * phases
        assert -(-f[out] // tile) == f[tiles]
    assert -(-f["filters"] // limits.output_lanes) == f["output_groups"]
    assert f["groups"] == f["input_groups"] * (4 if f["mode"] == InputMode.POLYPHASE else 1)
    assert f["groups"] <= limits.max_groups[limits.kernels.index(f["kernel"])]
    assert f["block_rows"] * f["tile_cols"] <= limits.max_tiles
    # No two chunks share a word.
    words = {
        slot * f["slot_pitch"] + group * f["group_pitch"] + column
        for slot in range(f["slots"])
        for group in range(f["groups"])
        for column in range(f["tile_cols"] * limits.fold)
    }
    assert len(words) == f["slots"] * f["groups"] * f["tile_cols"] * limits.fold
    assert max(words) < limits.line_words
    # Every block becomes complete: pixel rows come in, tile rows begin only if a slot is free.
    events = deque()
    for _ in range(f["images"]):
        for row in range((f["tile_rows"] - 1) * step + n):
            if row % step == 0 and row // step < f["tile_rows"]:
                events.append("begin")
            if row >= n - 1 and (row - n + 1) % step == 0:
                events.append("complete")
    free, complete, left = f["slots"], 0, f["images"] * f["tile_rows"]
    assert left == f["total_rows"] < 1 << limits.dimension_bits
    while left:
        while events and (events[0] == "complete" or free):
            if events.popleft() == "begin":
                free -= 1
            else:
                complete += 1
        block = min(left, f["block_rows"])
        assert complete >= block, "the sequencer waits for ever"
        complete, free, left = complete - block, free + block, left - block


@pytest.mark.parametrize("name", ALL_LIMITS)
def test_accepts_sound_layers(name):
    limits = ALL_LIMITS[name]
    layers = list(good_layers(limits))
    for fields in layers:
        runs_to_end(limits, fields)
    codes = check_all(limits, [encode(limits, fields) for fields in layers], stalls=0.3)
    assert set(codes) == {LayerError.OK}


CODES = [
    # A change of a sound layer, and what it is refused with.
    ({"kernel": 2}, LayerError.UNSUPPORTED),
    ({"kernel": 0}, LayerError.UNSUPPORTED),
    ({"stride": 0}, LayerError.UNSUPPORTED),
    ({"stride": 2}, LayerError.UNSUPPORTED),
    ({"mode": 1}, LayerError.UNSUPPORTED),
    ({"mode": 3, "stride": 2}, LayerError.UNSUPPORTED),
    ({"images": 0}, LayerError.FIELD_RANGE),
    ({"filters": 0}, LayerError.FIELD_RANGE),
    ({"height": 256}, LayerError.FIELD_RANGE),
    ({"pad_value": 0x80}, LayerError.FIELD_RANGE),
    ({"act_min": -129}, LayerError.FIELD_RANGE),
    ({"reserved": 1}, LayerError.FIELD_RANGE),
    ({"input_groups": 4}, LayerError.GEOMETRY),
    ({"total_rows": 2}, LayerError.GEOMETRY),
    ({"group_pitch": 5}, LayerError.GEOMETRY),
    ({"grid_height": 13}, LayerError.GEOMETRY),
    ({"grid_width": 13}, LayerError.GEOMETRY),
    ({"output_height": 13}, LayerError.GEOMETRY),
    ({"output_height": 8}, LayerError.GEOMETRY),
    ({"output_width": 13}, LayerError.GEOMETRY),
    ({"output_width": 8}, LayerError.GEOMETRY),
    ({"filters": 7}, LayerError.GEOMETRY),
    ({"filters": 4}, LayerError.GEOMETRY),
    ({"pad_top": 3}, LayerError.GEOMETRY),
    ({"pad_left": 3}, LayerError.GEOMETRY),
    ({"slot_pitch": 17}, LayerError.LINE_BUFFER),
    ({"slots": 39}, LayerError.LINE_BUFFER),
    ({"slots": 1}, LayerError.LINE_BUFFER),
    ({"block_rows": 2}, LayerError.LINE_BUFFER),
    ({"block_rows": 9}, LayerError.TOO_MANY_TILES),
    (
        {"input_groups": 31, "groups": 31, "slot_pitch": 31 * 6, "slots": 3},
        LayerError.TOO_MANY_CHANNELS,
    ),
]


def test_every_code():
    base = layer(MANY, kernel=3)
    assert (base["height"], base["width"], base["tile_rows"], base["slots"]) == (12, 13, 3, 2)
    descriptors, expected = [], []
    for change, code in CODES:
        descriptors += [encode(MANY, base | change), encode(MANY, base)]
        expected += [code, LayerError.OK]  # the reader has recovered
    good = encode(MANY, base)
    for words, code in (
        ([good[0] ^ 1 << 31, *good[1:]], LayerError.BAD_HEADER),
        ([good[0] + 1, *good[1:]], LayerError.BAD_HEADER),
        ([good[0] + 1], LayerError.BAD_HEADER),
        (good[:1], LayerError.TRUNCATED),
        (good[:2], LayerError.TRUNCATED),
        (good[:-1], LayerError.TRUNCATED),
        ([*good, 0], LayerError.TOO_LONG),
        (good * 3, LayerError.TOO_LONG),
        ([*good[:3], 0xFFFFFFFF, *good], LayerError.FIELD_RANGE),
    ):
        descriptors += [words, good]
        expected += [code, LayerError.OK]
    assert set(expected) == set(LayerError)
    assert check_all(MANY, descriptors) == expected


def test_slots_suffice_exactly():
    """A block needs the slots that complete it, no more, and none beyond the end of the layer."""
    descriptors, expected = [], []
    for kernel, images, rows, block_rows in [(1, 2, 4, 2), (3, 1, 4, 2), (3, 3, 1, 2), (5, 2, 4, 1), (5, 1, 2, 2)]:
        fields = layer(MANY, kernel=kernel, images=images, size=(rows * (7 - kernel), 2), block_rows=block_rows)
        runs_to_end(MANY, fields)
        fewer = fields | {"slots": fields["slots"] - 1}
        with pytest.raises(AssertionError, match="waits for ever"):
            runs_to_end(MANY, fewer)
        descriptors += [encode(MANY, fields), encode(MANY, fewer)]
        expected += [LayerError.OK, LayerError.LINE_BUFFER]
    assert check_all(MANY, descriptors) == expected


def test_shift_table():
    fields = layer(TABLE)
    table = [[0, 0, 0]] * 36
    descriptors = [encode(TABLE, fields, table), encode(TABLE, fields, [list(TABLE.max_shifts)] * 36)]
    expected = [LayerError.OK] * 2
    for tap, entry in [(0, [8, 0, 0]), (35, [0, 7, 0]), (17, [0, 0, 21]), (3, [0, 0, 256]), (9, [255, 0, 0])]:
        descriptors.append(encode(TABLE, fields, [*table[:tap], entry, *table[tap + 1 :]]))
        expected.append(LayerError.FIELD_RANGE)
    assert check_all(TABLE, [*descriptors, encode(TABLE, fields)]) == [*expected, LayerError.OK]


@pytest.mark.parametrize("name", ALL_LIMITS)
def test_random_changes(name):
    """One or two fields at a time take extreme or neighbouring values; whatever is accepted can run to its end."""
    limits = ALL_LIMITS[name]
    rng = np.random.default_rng(5)
    layers = list(good_layers(limits))
    most = (1 << limits.dimension_bits) - 1
    changed = []
    for _ in range(400):
        fields = dict(layers[rng.integers(len(layers))])
        for field in rng.choice([name for name in descriptor_fields() if name != "reserved"], rng.integers(1, 4)):
            old = fields[field]
            fields[field] = int(rng.choice([0, 1, 2, old - 1, old + 1, 2 * old, old, most, most + 1, 0x7FFF])) & 0xFFFF
        changed.append(fields)
    model = DescriptorReader(limits).model
    accepted = 0
    for fields in changed:
        if model(encode(limits, fields)) == LayerError.OK:
            runs_to_end(limits, fields)
            accepted += 1
    assert accepted > 20
    # The gateware sees a part of them, or the simulation takes too long.
    check_all(limits, [encode(limits, fields) for fields in changed[:60]])


def test_random_words():
    """Noise, cut and spliced descriptors: refused, and the reader is ready again every time."""
    rng = np.random.default_rng(6)
    good = encode(MANY, layer(MANY))
    descriptors = []
    for _ in range(150):
        kind = rng.integers(4)
        words = list(good)
        if kind == 0:
            words = rng.integers(1 << 32, size=rng.integers(1, 40)).tolist()
        elif kind == 1:
            words = [good[0], *rng.integers(1 << 32, size=rng.integers(1, 20)).tolist()]
        elif kind == 2:
            words[rng.integers(len(words))] ^= 1 << int(rng.integers(32))
        else:
            words = words[: rng.integers(1, len(words) + 1)] + words[rng.integers(1, len(words)) :]
        descriptors += [words, good]
    codes = check_all(MANY, descriptors, stalls=0.1)
    assert set(codes[1::2]) == {LayerError.OK}
    assert {LayerError.BAD_HEADER, LayerError.TRUNCATED, LayerError.TOO_LONG, LayerError.FIELD_RANGE} <= set(codes)


def test_waits_for_done():
    """Without `done` the accepted descriptor stands, and no further word is taken."""
    words = encode(MANY, layer(MANY))
    beats = {"word": np.array(words), "last": np.array([0] * (len(words) - 1) + [1])}
    result = run_stream(DescriptorReader(MANY), {"i": beats}, {"valid": None, "job": None, "busy": None}, idle=600)
    first = int(np.flatnonzero(result.outputs["valid"])[0])
    assert first < 4 * len(words) + 200
    assert result.outputs["valid"][first:].all()
    assert (result.outputs["job"][first:] == result.outputs["job"][first]).all()
    assert result.outputs["busy"].tolist() == [0] + [1] * (len(result.outputs["busy"]) - 1)


def test_longest_check():
    """The latency that the docstring gives holds for the widest fields."""
    limits = replace(WIDE, max_groups=(1 << 16,) * 3, output_lanes=65535)
    fields = layer(limits, images=65535, size=(1, 1), channels=1, filters=65535, block_rows=65535, slots=65535)
    words = encode(limits, fields)
    beats = {"word": np.array(words), "last": np.array([0] * (len(words) - 1) + [1])}
    result = run_stream(DescriptorReader(limits), {"i": beats}, {"valid": None}, idle=400)
    assert 100 < int(np.flatnonzero(result.outputs["valid"])[0]) - result.streams["i"].last < 300


def test_rows_ahead():
    assert [rows_ahead(6, step) for step in range(1, 7)] == [5, 2, 1, 1, 1, 0]
    assert rows_ahead(3, 2) == 1
    assert rows_ahead(1, 1) == 0


def test_status_layout():
    assert list(status_layout().members) == ["code", "cycles", "busy", "wait_pixels", "wait_weights", "wait_drain"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_tile": 16}, "input_tile must be within 1 … 15, not 16"),
        ({"fold": 0}, "fold must be within 1 … 15, not 0"),
        ({"max_tiles": 0}, "max_tiles must be within 1 … 65536, not 0"),
        ({"line_words": 65537}, "line_words must be within 1 … 65536, not 65537"),
        ({"output_lanes": 0}, "output_lanes must be within 1 … 65535, not 0"),
        ({"dimension_bits": 3}, "dimension_bits must be within 4 … 16, not 3"),
        ({"shift_taps": -1}, "shift_taps must be within 0 … 225, not -1"),
        ({"kernels": ()}, "kernels must be within 1 … 6, not ()"),
        ({"kernels": (1, 3, 7)}, "kernels must be within 1 … 6, not (1, 3, 7)"),
        ({"kernels": (1, 3, 6)}, "a kernel of 6 fills the input tile and must be the only one, not one of (1, 3, 6)"),
        ({"max_groups": (1, 2)}, "max_groups must hold a positive number for each kernel, not (1, 2)"),
        ({"max_groups": (1, 2, 0)}, "max_groups must hold a positive number for each kernel, not (1, 2, 0)"),
        ({"max_shifts": (1, 2, 32)}, "max_shifts must be three numbers within 0 … 31, not (1, 2, 32)"),
    ],
)
def test_refuses_bad_limits(change, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        replace(MANY, **change)
    assert str(error.value) == message


def test_needs_limits():
    with pytest.raises(TypeError, match=r"^limits must be DescriptorLimits, not 3$"):
        DescriptorReader(3)
