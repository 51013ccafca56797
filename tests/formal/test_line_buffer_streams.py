# amaranth: UnusedElaboratable=no
"""Every patch that the line buffer gives consists of the right pixels of the stream, whatever stalls and is freed."""

import pytest
from amaranth.asserts import AnyConst, AnySeq
from amaranth.hdl import Array, Assert, Assume, Elaboratable, Module, Mux, Signal
from formal import Stream, check, count, recorded

from winohw.gateware import line_buffer
from winohw.gateware.descriptor import InputMode
from winohw.gateware.line_buffer import LineBuffer
from winohw.gateware.memory import Memory

#: One image of 3×2 pixels, padded above and at the left to 4×3: three tile rows of two patches of 2×2, and two slots.
TILE, TILE_ROWS, TILE_COLS, SLOTS, HEIGHT, WIDTH, PAD = 2, 3, 2, 2, 3, 2, 1
LAYER = {
    "mode": InputMode.DENSE,
    "images": 1,
    "height": HEIGHT,
    "width": WIDTH,
    "pad_top": PAD,
    "pad_left": PAD,
    "input_groups": 1,
    "tile_rows": TILE_ROWS,
    "tile_cols": TILE_COLS,
    "slots": SLOTS,
    "group_pitch": TILE_COLS,
    "slot_pitch": TILE_COLS,
    "grid_height": HEIGHT + PAD,
    "grid_width": WIDTH + PAD,
    "pad_value": 77,
    "step": 1,
}


class LineBufferPatches(Elaboratable):
    def elaborate(self, platform):
        m = Module()
        m.submodules.dut = dut = LineBuffer(
            input_tile=TILE, steps=(1,), lanes=1, fold=1, words=SLOTS * TILE_COLS, dimension_bits=3
        )
        i = Stream(dut.i)
        cycle = Signal(2)
        with m.If(cycle != 3):
            m.d.sync += cycle.eq(cycle + 1)
        m.d.comb += [dut.start.eq(cycle == 2)] + [getattr(dut, name).eq(value) for name, value in LAYER.items()]
        m.d.comb += [dut.i.valid.eq(AnySeq(1)), dut.i.payload[0].eq(AnySeq(8))]

        done, freed = Signal(3), Signal(3)
        m.d.sync += [done.eq(done + dut.row_done), freed.eq(freed + dut.free)]
        complete = done + dut.row_done
        m.d.comb += [dut.free.eq(AnySeq(1)), Assume(freed + dut.free <= complete), Assert(complete <= TILE_ROWS)]
        m.d.comb += Assert(complete <= freed + SLOTS)
        taken = count(m, "taken", i.moved, 4)
        with m.If(taken == HEIGHT * WIDTH):
            m.d.comb += Assert(~i.ready)

        # Any pixel of any patch, read at any time while it is there.
        row, column, y, x = AnyConst(2), AnyConst(1), AnyConst(1), AnyConst(1)
        m.d.comb += Assume(row < TILE_ROWS)
        image_y, image_x = row + y - PAD, column + x - PAD
        inside = (image_y >= 0) & (image_x >= 0)
        number = Signal(3)
        m.d.comb += number.eq(Mux(image_y == 1, WIDTH, Mux(image_y == 2, 2 * WIDTH, 0)) + image_x)
        _, kept = recorded(m, "pixel", i.moved & (taken == number), i.payload)
        slot = Mux(row == 2, 0, row[:1])
        there = (complete > row) & (freed <= row)
        m.d.comb += [dut.read.valid.eq(AnySeq(1)), dut.read.payload.eq(slot * TILE_COLS + column)]
        m.d.comb += Assume(~dut.read.valid | there)
        asked = Signal(dut.read_latency)
        m.d.sync += asked.eq((asked << 1) | dut.read.valid)
        m.d.comb += Assert(dut.o.valid == asked[-1])
        with m.If(dut.o.valid):
            pixel = Array([Array(dut.o.payload[0][i]) for i in range(TILE)])[y][x]
            m.d.comb += Assert(pixel == Mux(inside, kept.as_signed(), 77))
        return m


class Forgetful(Memory):
    """A mutant that never writes its word 1."""

    def elaborate(self, platform):
        m = Module()
        m.submodules.inner = inner = Memory(self.width, self.depth, self.kind)
        m.d.comb += [
            inner.write_en.eq(self.write_en & (self.write_addr != 1)),
            inner.write_addr.eq(self.write_addr),
            inner.write_data.eq(self.write_data),
            inner.read_en.eq(self.read_en),
            inner.read_addr.eq(self.read_addr),
            self.read_data.eq(inner.read_data),
        ]
        return m


@pytest.mark.slow
def test_every_pixel_of_every_patch():
    assert check(LineBufferPatches(), 40) == "PASS"


@pytest.mark.slow
def test_a_lost_pixel_is_seen(monkeypatch):
    monkeypatch.setattr(line_buffer, "Memory", Forgetful)
    assert check(LineBufferPatches(), 26) == "FAIL"
