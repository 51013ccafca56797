# amaranth: UnusedElaboratable=no
import numpy as np
import pytest
from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from winohw.gateware.constant_store import ConstantMemory, ConstantRegisters
from winohw.gateware.pixel_serializer import PixelSerializer
from winohw.sim.stalls import Stalls
from winohw.sim.testbench import run_stream

INT32 = (-(1 << 31), (1 << 31) - 1)
#: tile size, output lanes, images, output height and width, tile rows a block, channels
LAYERS = [
    (2, 1, 1, (4, 4), 2, 1),
    (4, 1, 2, (5, 9), 1, 3),
    (4, 1, 1, (1, 1), 1, 2),
    (1, 1, 2, (3, 2), 4, 2),
    (3, 1, 3, (7, 4), 4, 2),
    (2, 2, 2, (5, 3), 1, 5),
    (3, 2, 1, (7, 4), 4, 4),
    (1, 3, 1, (2, 2), 2, 4),
]


class WithConstants(wiring.Component):
    """A serializer and where its constants wait."""

    def __init__(self, serializer, store):
        self.serializer, self.store = serializer, store
        members = dict(serializer.signature.members.items())
        super().__init__(members | {"constants": In(store.i.signature.flip())})

    def elaborate(self, platform):
        m = Module()
        m.submodules.serializer, m.submodules.store = self.serializer, self.store
        wiring.connect(m, wiring.flipped(self.constants), self.store.i)
        wiring.connect(m, self.store.constants, self.serializer.constants)
        for name in self.serializer.signature.members:
            inner, outer = getattr(self.serializer, name), getattr(self, name)
            if name in ("i", "o"):
                wiring.connect(m, *((inner, wiring.flipped(outer)) if name == "o" else (wiring.flipped(outer), inner)))
            elif name == "idle":
                m.d.comb += outer.eq(inner)
            elif name != "constants":
                m.d.comb += inner.eq(outer)
        return m


def layer(dut, store, images, size, block_rows, channels, seed=1):
    rng = np.random.default_rng(seed)
    rows, columns = (-(-edge // dut.tile_size) for edge in size)
    values = {
        "total_rows": images * rows,
        "block_rows": block_rows,
        "filters": channels,
        "output_height": size[0],
        "output_width": size[1],
    }
    groups = -(-channels // dut.output_lanes)
    sums = rng.integers(*INT32, images * rows * columns * groups * dut.output_lanes * dut.tile_size**2, endpoint=True)
    sums[:2] = INT32[: len(sums)]
    blocks = -(-images * rows // block_rows)
    beats = blocks * groups * dut.output_lanes * store.lane_beats
    return values, sums, rng.integers(-128, 128, (beats, store.beat_bytes)).astype(np.int8)


@pytest.mark.parametrize("stall", [{}, {"default": 0.5}, {"constants": 0.9}, {"o": 0.9}], ids=str)
@pytest.mark.parametrize(("kind", "beat_bytes"), [(ConstantRegisters, 1), (ConstantRegisters, 4), (ConstantMemory, 1)])
@pytest.mark.parametrize("parameters", LAYERS, ids=str)
def test_equals_model(parameters, kind, beat_bytes, stall):
    tile_size, lanes, *shape = parameters
    dut = PixelSerializer(tile_size=tile_size, output_lanes=lanes, dimension_bits=6)
    store = kind(beat_bytes=beat_bytes, output_lanes=lanes)
    values, sums, beats = layer(dut, store, *shape)
    constants = store.model(beats)
    expected = dut.model(sums, constants, **values)
    images, size, _, channels = shape
    assert len(expected["acc"]) == images * size[0] * size[1] * channels
    result = run_stream(
        WithConstants(dut, store),
        {"i": sums, "constants": beats, "start": [1, 0]},
        {"o": len(expected["acc"])},
        constants=values,
        stalls=Stalls(**stall, seed=2) if stall else None,
    )
    out = result.outputs["o"]
    np.testing.assert_array_equal(out["acc"], expected["acc"])
    np.testing.assert_array_equal(out["last"], expected["last"])
    for name in constants.dtype.names:
        np.testing.assert_array_equal(out["constants"][name], expected["constants"][name])
    assert result.status["idle"] == 1
    if not stall:
        blocks = -(-values["total_rows"] // values["block_rows"])
        assert (
            result.cycles <= max(len(sums), len(beats)) + (2 + len(beats) // len(constants)) * len(constants) + blocks
        )


@pytest.mark.parametrize("name", ["beat_bytes", "output_lanes"])
@pytest.mark.parametrize("kind", [ConstantRegisters, ConstantMemory])
def test_bad_parameters_of_a_store(kind, name):
    with pytest.raises(ValueError, match=f"^{name} must be 1 or more, not 0$"):
        kind(**{name: 0})


@pytest.mark.parametrize("name", ["tile_size", "output_lanes", "dimension_bits"])
def test_bad_parameters(name):
    with pytest.raises(ValueError, match=f"^{name} must be 1 or more, not 0$"):
        PixelSerializer(**{"tile_size": 2, "dimension_bits": 8} | {name: 0})
