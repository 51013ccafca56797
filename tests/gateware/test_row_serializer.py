# amaranth: UnusedElaboratable=no
import numpy as np
import pytest
from amaranth.hdl import Assert, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from winohw.gateware.credit_queue import CreditQueue
from winohw.gateware.row_serializer import RowSerializer
from winohw.gateware.weight_loader import constants_layout
from winohw.sim.payload import PayloadCodec
from winohw.sim.stalls import Stalls
from winohw.sim.testbench import run_stream


class Queued(wiring.Component):
    """The serializer between a queue of rows and a receiver that has as much slack as it asks for."""

    def __init__(self, dut):
        self.dut = dut
        self.names = [name for name in dut.signature.members if name not in ("filled", "i", "pop", "o")]
        super().__init__(
            {
                "i": In(stream.Signature(dut.i.shape())),
                "o": Out(dut.o.signature),
                **{name: dut.signature.members[name] for name in self.names},
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.dut = dut = self.dut
        m.submodules.rows = rows = CreditQueue(dut.i.shape(), 8)
        depth = dut.slack + 5
        m.submodules.beats = beats = SyncFIFOBuffered(width=dut.o.payload.shape().size, depth=depth)
        for name in self.names:
            if name == "constants":
                wiring.connect(m, wiring.flipped(self.constants), dut.constants)
            elif name == "idle":
                m.d.comb += self.idle.eq(dut.idle & ~self.o.valid & (beats.level == 0))
            else:
                m.d.comb += getattr(dut, name).eq(getattr(self, name))
        credits = Signal(range(9), init=8)
        accepted = Signal()
        m.d.comb += [
            self.i.ready.eq(credits != 0),
            accepted.eq(self.i.valid & self.i.ready),
            rows.i.valid.eq(accepted),
            rows.i.payload.eq(self.i.payload),
            dut.filled.eq(rows.filled),
            dut.i.eq(rows.o),
            rows.pop.eq(dut.pop),
            beats.w_en.eq(dut.o.valid),
            beats.w_data.eq(dut.o.payload),
            Assert(beats.w_rdy | ~dut.o.valid),
            self.o.valid.eq(beats.r_rdy),
            self.o.payload.eq(beats.r_data),
            beats.r_en.eq(self.o.ready),
        ]
        m.d.sync += [
            credits.eq(credits - accepted + rows.freed),
            dut.o.ready.eq(beats.level < depth - dut.slack),
        ]
        return m


INT32 = (-(1 << 31), (1 << 31) - 1)


def shape(*, tile_size, images=1, size, block_rows, filters, output_lanes):
    tile_rows, tile_cols = (-(-edge // tile_size) for edge in size)
    return {
        "tile_size": tile_size,
        "total_rows": images * tile_rows,
        "block_rows": block_rows,
        "tile_rows": tile_rows,
        "tile_cols": tile_cols,
        "output_groups": -(-filters // output_lanes),
        "filters": filters,
        "output_height": size[0],
        "output_width": size[1],
    }


def layer(dut, values, seed=1):
    """Random rows, with the extremes among them, and constants."""
    rng = np.random.default_rng(seed)
    blocks = -(-values["total_rows"] // values["block_rows"])
    rows = values["total_rows"] * values["output_groups"] * values["tile_cols"] * values["tile_size"]
    pixels = rng.integers(*INT32, (rows, dut.output_lanes, dut.row_pixels), endpoint=True)
    extremes = np.resize([INT32[0], INT32[1], -1, 0, 1], pixels[:2].shape)
    pixels[:2] = extremes[: len(pixels)]
    constants = np.zeros((blocks * values["output_groups"], dut.output_lanes), PayloadCodec(constants_layout()).dtype)
    for name, bits in (("bias", 32), ("multiplier", 32), ("shift", 8)):
        constants[name] = rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), constants.shape)
    return pixels, constants


def run(dut, values, stalls=None, seed=1):
    pixels, constants = layer(dut, values, seed)
    expected = dut.model(pixels, constants, **values)
    result = run_stream(
        Queued(dut),
        {"i": pixels, "constants": constants, "start": [0, 0, 0, 1, 0]},
        {"o": len(expected["count"])},
        constants=values,
        stalls=stalls,
    )
    out = result.outputs["o"]
    np.testing.assert_array_equal(out["count"], expected["count"])
    np.testing.assert_array_equal(out["last"], expected["last"])
    np.testing.assert_array_equal(out["constants"], expected["constants"])
    pixel = np.arange(dut.lanes) < expected["count"][:, None]
    np.testing.assert_array_equal(np.where(pixel, out["acc"], 0), expected["acc"])
    assert result.status["idle"] == 1
    return result


def timeline(dut, values):
    """Cycles of the first and of the last beat after the first row, if nothing makes it wait."""
    now, last_beat, first_beat = 0, 0, None
    for first in range(0, values["total_rows"], values["block_rows"]):
        for group in range(values["output_groups"]):
            channels = min(dut.output_lanes, values["filters"] - group * dut.output_lanes)
            for tile_row in range(first, min(first + values["block_rows"], values["total_rows"])):
                for tile_col in range(values["tile_cols"]):
                    columns = min(values["tile_size"], values["output_width"] - tile_col * values["tile_size"])
                    for row in range(values["tile_size"]):
                        spent = 0
                        if tile_row % values["tile_rows"] * values["tile_size"] + row < values["output_height"]:
                            first_beat = now + 1 if first_beat is None else first_beat
                            last_beat = now + channels * -(-columns // dut.lanes)
                            spent = last_beat - now + dut.output_lanes - channels
                        now += max(1, spent)
    return first_beat, last_beat


GRID = [
    # output lanes, row pixels, lanes, then the layer
    (1, 4, 1, {"tile_size": 4, "size": (8, 8), "block_rows": 1, "filters": 2}),
    (2, 4, 1, {"tile_size": 4, "size": (9, 7), "block_rows": 2, "filters": 3}),
    (2, 4, 4, {"tile_size": 4, "size": (9, 7), "block_rows": 2, "filters": 3}),
    (2, 4, 3, {"tile_size": 4, "size": (5, 11), "block_rows": 3, "filters": 5, "images": 3}),
    (3, 6, 2, {"tile_size": 2, "size": (5, 3), "block_rows": 2, "filters": 4, "images": 2}),
    (3, 6, 4, {"tile_size": 6, "size": (7, 9), "block_rows": 9, "filters": 7, "images": 2}),
    (4, 1, 1, {"tile_size": 1, "size": (3, 4), "block_rows": 2, "filters": 9, "images": 2}),
    (1, 1, 1, {"tile_size": 1, "size": (1, 1), "block_rows": 1, "filters": 1}),
    (4, 2, 2, {"tile_size": 2, "size": (1, 1), "block_rows": 1, "filters": 1, "images": 3}),
]


@pytest.mark.parametrize("stalls", [0, 0.4])
@pytest.mark.parametrize("case", GRID, ids=str)
def test_equals_model(case, stalls):
    output_lanes, row_pixels, lanes, layer_values = case
    dut = RowSerializer(output_lanes=output_lanes, row_pixels=row_pixels, lanes=lanes, dimension_bits=6)
    values = shape(output_lanes=output_lanes, **layer_values)
    result = run(dut, values, Stalls(2, i=stalls, constants=stalls, o=stalls))
    if not stalls:
        activity = result.streams
        begin, end = timeline(dut, values)
        # A pause of the positions between blocks, if rows are as fast as they are.
        pauses = 2 * (-(-values["total_rows"] // values["block_rows"]) - 1)
        assert end - begin <= activity["o"].last - activity["o"].first <= end - begin + pauses


@pytest.mark.parametrize("slow", ["i", "constants", "o"])
def test_one_slow_side(slow):
    dut = RowSerializer(output_lanes=2, row_pixels=4, lanes=2, dimension_bits=6)
    values = shape(tile_size=4, size=(6, 6), block_rows=1, filters=3, output_lanes=2)
    run(dut, values, Stalls(3, **{slow: 0.85}))


def test_idle_and_next_layer():
    """`idle` is low from the start to the last beat or row, and another layer may follow."""
    dut = RowSerializer(output_lanes=2, row_pixels=4, lanes=1, dimension_bits=6)
    values = shape(tile_size=4, size=(8, 5), images=2, block_rows=3, filters=4, output_lanes=2)
    pixels, constants = layer(dut, values)
    expected = dut.model(pixels, constants, **values)
    pause = 1000
    result = run_stream(
        Queued(dut),
        {
            "i": np.concatenate([pixels, pixels]),
            "constants": np.concatenate([constants, constants]),
            "start": [0, 0, 0, 1, *[0] * pause, 1, 0],
        },
        {"o": 2 * len(expected["count"]), "idle": None},
        constants=values,
        stalls=Stalls(5, o=0.5),
    )
    np.testing.assert_array_equal(result.outputs["o"]["last"], np.tile(expected["last"], 2))
    np.testing.assert_array_equal(result.outputs["o"]["acc"], np.tile(expected["acc"], (2, 1)))
    idle = result.outputs["idle"]
    last = max(result.streams["o"].last, result.streams["i"].last)
    assert not idle[pause + 5 : last + 1].any()
    assert idle[last + 2 :].all()
    first_end = 4 + np.flatnonzero(idle[4:])[0]
    assert not idle[4:first_end].any()
    assert idle[first_end : pause + 2].all()


def test_random_layers():
    rng = np.random.default_rng(4)
    for seed in range(25):
        output_lanes, row_pixels = int(rng.integers(1, 4)), int(rng.integers(1, 6))
        dut = RowSerializer(
            output_lanes=output_lanes,
            row_pixels=row_pixels,
            lanes=int(rng.integers(1, row_pixels + 1)),
            dimension_bits=7,
        )
        values = shape(
            tile_size=int(rng.integers(1, row_pixels + 1)),
            images=int(rng.integers(1, 4)),
            size=rng.integers(1, 9, 2).tolist(),
            block_rows=int(rng.integers(1, 5)),
            filters=int(rng.integers(1, 7)),
            output_lanes=output_lanes,
        )
        run(dut, values, Stalls(seed, i=0.2, constants=0.5, o=0.3), seed)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"output_lanes": 0}, "output_lanes must be 1 or more, not 0"),
        ({"row_pixels": 0}, "row_pixels must be 1 or more, not 0"),
        ({"dimension_bits": 0}, "dimension_bits must be 1 or more, not 0"),
        ({"lanes": 5}, "lanes must be within 1 … 4, not 5"),
        ({"lanes": 0}, "lanes must be within 1 … 4, not 0"),
    ],
)
def test_refuses_bad_parameters(change, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        RowSerializer(**{"output_lanes": 1, "row_pixels": 4, "lanes": 1} | change)
