"""The line buffer: pixels in, whole input patches out, one address a patch."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from amaranth import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import NDArray

from winohw.gateware.descriptor import InputMode
from winohw.gateware.fan_out import FanOut
from winohw.gateware.memory import Memory
from winohw.gateware.single_port_memory import SinglePortMemory

__all__ = ["LineBuffer"]


class LineBuffer(wiring.Component):
    """Stores the input patch of every tile of a few tile rows, padding included.

    Bank (i, j) holds pixel (i, j) of every patch, so that one address reads a whole n×n patch and no multiplexer
    stands between the memory and the input transform. A pixel that belongs to several patches is written into
    several banks at once; with fold > 1, where rows of a patch share banks, its row copies are written one after
    another. Tile rows occupy slots, used circularly: a slot is filled as soon as it has been freed.

    Word address = slot · slot_pitch + group · group_pitch + tile column · fold + phase; phase p of a patch has its rows
    p · n / fold … (p + 1) · n / fold - 1. In the modes for stride 2 the writer walks over the pixels of the padded
    image; in POLYPHASE row phase a and column phase b of the image are the groups from (2a + b) · input_groups on, in
    SUBSAMPLE only phase (0, 0) is kept.

    Latency: `read_latency` cycles from an address to its chunk. Throughput: a chunk a cycle; while slots are free, a
    pixel group a cycle (fold > 1: copies(row) cycles), padding included, and a cycle more for each tile row that
    begins. Backpressure: `i` waits for a free slot and during padding.

    Parameters
    ----------
    input_tile : int
        n, edge of the patch, 1 or more.
    steps : tuple of int
        Distances between neighbouring patches to be supported, each 1 … n.
    lanes : int
        Pc, channels a pixel group, 1 or more.
    fold : int
        Phases a patch, divides n.
    words : int
        Words a bank, 1 … 65536.
    dimension_bits : int
        Width of counts and sizes, 1 or more.
    memory : str
        Kind of the banks, see `winohw.gateware.memory`.
    single_port : bool
        The banks are `winohw.gateware.single_port_memory`, of the same kind: nothing is written while `hold`, and
        nothing may be read unless it is.

    Attributes
    ----------
    rows : int
        Patch rows a chunk, n / fold.
    column_groups : tuple of range
        Columns of a patch that share a memory. With a single step, of the columns 0 … step - 1 only one is written at a
        time, and of those a step further: as many of them share a memory as it has write enables.
    read_latency : int
        Cycles: 3.

    Members
    -------
    i : In(stream.Signature(ArrayLayout(signed(8), lanes)))
        Pixel groups, in the order image, row, column, group of channels.
    start : In(1)
        Begins a layer whose values have stood at the inputs below for a cycle, and stand until `idle`.
    mode, images, height, width, pad_top, pad_left, input_groups, tile_rows, tile_cols, slots, group_pitch, slot_pitch,
    grid_height, grid_width, pad_value
        Fields of the layer descriptor; `DescriptorReader` says what they must fulfil.
    step : In(range(input_tile + 1))
        Distance between neighbouring patches, one of `steps`.
    hold : In(1)
        Only with `single_port`: the banks are read. A chunk may be read from 2 cycles after the first one on with
        `hold`, and until 2 cycles after the last one.
    free : In(dimension_bits)
        Slots that are released in this cycle, oldest first; addresses in them may still come for 2 cycles.
    row_done : Out(1)
        Strobe, a tile row has become complete and may be read from this cycle on.
    idle : Out(1)
        All pixels of the layer have been taken.
    read : In(stream.Signature(range(words), always_ready=True))
        Word addresses, of complete tile rows only.
    o : Out(stream.Signature(ArrayLayout(ArrayLayout(ArrayLayout(signed(8), n), n / fold), lanes), always_ready=True))
        Chunks, ``[lane][row in chunk][column]``.

    Raises
    ------
    ValueError
        If a parameter is out of its range, or the memory cannot be built.
    """

    def __init__(
        self,
        *,
        input_tile: int,
        steps: tuple[int, ...],
        lanes: int,
        fold: int,
        words: int,
        dimension_bits: int = 12,
        memory: str = "generic",
        single_port: bool = False,
    ):
        for name, value in (("input_tile", input_tile), ("lanes", lanes), ("dimension_bits", dimension_bits)):
            if value < 1:
                raise ValueError(f"{name} must be 1 or more, not {value!r}")
        if fold < 1 or input_tile % fold:
            raise ValueError(f"fold must divide the input tile {input_tile}, not {fold!r}")
        if not steps or any(not 1 <= step <= input_tile for step in steps):
            raise ValueError(f"steps must be within 1 … {input_tile}, not {steps!r}")
        if not 1 <= words <= 1 << 16:
            raise ValueError(f"words must be within 1 … {1 << 16}, not {words!r}")
        self._bank = SinglePortMemory if single_port else Memory
        self._bank.check_parameters(8 * lanes, words, memory)
        self.single_port = single_port
        self.input_tile = input_tile
        self.steps = tuple(sorted(set(steps)))
        self.lanes = lanes
        self.fold = fold
        self.words = words
        self.dimension_bits = dimension_bits
        self.memory = memory
        self.rows = input_tile // fold
        self.read_latency = FanOut.latency + self._bank.latency
        together = 2 if single_port else Memory.lanes_a_block(8 * lanes, words, memory)
        if len(self.steps) > 1:
            together = 1
        bounds = [*range(0, input_tile, self.steps[0]), input_tile]
        self.column_groups = tuple(
            range(low, min(low + together, end))
            for first, end in pairwise(bounds)
            for low in range(first, end, together)
        )
        address = range(words)
        count = dimension_bits
        chunk = data.ArrayLayout(data.ArrayLayout(data.ArrayLayout(signed(8), input_tile), self.rows), lanes)
        super().__init__(
            ({"hold": In(1)} if single_port else {})
            | {
                "i": In(stream.Signature(data.ArrayLayout(signed(8), lanes))),
                "start": In(1),
                "mode": In(2),
                "images": In(count),
                "height": In(count),
                "width": In(count),
                "pad_top": In(count),
                "pad_left": In(count),
                "input_groups": In(count),
                "tile_rows": In(count),
                "tile_cols": In(count),
                "slots": In(count),
                "group_pitch": In(16),
                "slot_pitch": In(16),
                "grid_height": In(count),
                "grid_width": In(count),
                "pad_value": In(signed(8)),
                "step": In(range(input_tile + 1)),
                "free": In(count),
                "row_done": Out(1),
                "idle": Out(1),
                "read": In(stream.Signature(address, always_ready=True)),
                "o": Out(stream.Signature(chunk, always_ready=True)),
            }
        )

    def copies(self, offset: int, step: int) -> int:
        """Patches of one dimension that hold a pixel at `offset` (0 … step - 1) from where a patch begins."""
        return -(-(self.input_tile - offset) // step)

    def model(
        self,
        pixels: NDArray[np.int8],
        *,
        step: int,
        mode: int,
        pad_top: int,
        pad_left: int,
        pad_value: int,
        tile_rows: int,
        tile_cols: int,
    ) -> NDArray[np.int8]:
        """The patches of a layer.

        Parameters
        ----------
        pixels : array, (images, height, width, channels) int8
            Channels are a multiple of Pc.

        Returns
        -------
        array, (images * tile_rows, tile_cols, groups, Pc, n, n) int8
        """
        n = self.input_tile
        images, height, width, channels = pixels.shape
        phases = 1 if mode == InputMode.DENSE else 2
        grid_h, grid_w = (tile_rows - 1) * step + n, (tile_cols - 1) * step + n
        padded = np.full((images, grid_h * phases, grid_w * phases, channels), pad_value, np.int8)
        padded[:, pad_top : pad_top + height, pad_left : pad_left + width] = pixels
        if mode == InputMode.POLYPHASE:
            padded = np.concatenate([padded[:, p::2, q::2] for p in range(2) for q in range(2)], axis=-1)
        elif mode == InputMode.SUBSAMPLE:
            padded = padded[:, ::2, ::2]
        patches = np.empty((images, tile_rows, tile_cols, padded.shape[-1], n, n), np.int8)
        for row in range(tile_rows):
            for col in range(tile_cols):
                patch = padded[:, row * step : row * step + n, col * step : col * step + n]
                patches[:, row, col] = patch.transpose(0, 3, 1, 2)
        return patches.reshape(images * tile_rows, tile_cols, -1, self.lanes, n, n)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        n, fold, rows = self.input_tile, self.fold, self.rows
        count, steps = self.dimension_bits, self.steps
        most_copies = max(-(-n // step) for step in steps)

        # --- where the writer stands -----------------------------------------------------------------------------
        image_left = Signal(count)
        row, col = Signal(count), Signal(count)  # of the phase's grid
        row_phase, col_phase = Signal(), Signal()
        y, x = Signal(count + 1), Signal(count + 1)  # of the padded image
        row_inside, col_inside = Signal(), Signal()
        group_left = Signal(count)
        row_offset, col_offset = Signal(range(n)), Signal(range(n))  # within a step
        tile_row, tile_col = Signal(count), Signal(count)
        row_valid, col_valid = Signal(most_copies), Signal(most_copies)  # copy k goes to tile row (column) now - k
        base = [Signal(16, name=f"base{k}") for k in range(most_copies)]
        slot, slot_base = Signal(count), Signal(16)
        credits = Signal(count + 1)
        copy = Signal(range(most_copies))
        offset, column = Signal(16), Signal(16)

        phased = Signal()
        m.d.comb += phased.eq(self.mode != InputMode.DENSE)
        phase_pitch = Signal(16)
        with m.If(self.mode == InputMode.POLYPHASE):
            m.d.comb += phase_pitch.eq(self.slot_pitch >> 2)
        bottom, right = Signal(count + 1), Signal(count + 1)
        m.d.sync += [bottom.eq(self.pad_top + self.height), right.eq(self.pad_left + self.width)]

        inside = Signal()
        m.d.comb += inside.eq(row_inside & col_inside)
        writing, take, last_copy = Signal(), Signal(), Signal()
        active = Signal(n)  # rows of a patch that are written in this cycle
        source = [Signal(16, name=f"source{i}") for i in range(n)]  # where row i of its patch lives
        with m.Switch(self.step):
            for step in steps:
                with m.Case(step):
                    for i in range(n):
                        k = i // step
                        chosen = row_valid[k] & (row_offset == i % step)
                        if fold > 1:
                            chosen = chosen & (copy == k)
                        m.d.comb += [active[i].eq(chosen), source[i].eq(base[k])]
                    if fold > 1:
                        for u in range(step):
                            with m.If(row_offset == u):
                                m.d.comb += last_copy.eq(copy == self.copies(u, step) - 1)
        if fold == 1:
            m.d.comb += last_copy.eq(1)
        m.d.comb += [
            self.i.ready.eq(writing & inside & last_copy),
            take.eq(writing & last_copy & (~inside | self.i.valid)),
        ]

        group_last, col_last, row_last = Signal(), Signal(), Signal()
        step_row_last, step_col_last = Signal(), Signal()
        m.d.comb += [
            group_last.eq(group_left == 0),
            col_last.eq((col == self.grid_width - 1) & (col_phase | ~phased)),
            row_last.eq((row == self.grid_height - 1) & (row_phase | ~phased)),
            step_row_last.eq(row_offset == self.step - 1),
            step_col_last.eq(col_offset == self.step - 1),
        ]

        next_x, next_y = Signal(count + 1), Signal(count + 1)
        m.d.comb += [next_x.eq(x + 1), next_y.eq(y + 1)]

        def begin_row() -> list:
            return [
                col.eq(0),
                col_phase.eq(0),
                x.eq(0),
                col_inside.eq(self.pad_left == 0),
                col_offset.eq(0),
                tile_col.eq(0),
                col_valid.eq(1),
                column.eq(0),
            ]

        def begin_image() -> list:
            return [
                row.eq(0),
                row_phase.eq(0),
                y.eq(0),
                row_inside.eq(self.pad_top == 0),
                row_offset.eq(0),
                tile_row.eq(0),
                row_valid.eq(0),
                group_left.eq(self.input_groups - 1),
                offset.eq(0),
                copy.eq(0),
            ]

        row_complete = Signal()
        finished = Signal()
        # A patch row that ends here completes a tile row: the last row of a patch, in the last of its phases.
        with m.Switch(self.step):
            for step in steps:
                with m.Case(step):
                    m.d.comb += finished.eq((row_offset == (n - 1) % step) & row_valid[(n - 1) // step])

        allocate = Signal()
        with m.If(allocate):
            m.d.sync += credits.eq(credits + self.free - 1)
        with m.Else():
            m.d.sync += credits.eq(credits + self.free)

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.idle.eq(1)
                m.d.sync += [image_left.eq(self.images), slot.eq(0), slot_base.eq(0), credits.eq(self.slots)]
                m.d.sync += begin_row() + begin_image()
                with m.If(self.start):
                    m.next = "ALLOCATE"
            with m.State("ALLOCATE"):
                # A new tile row begins with the current pixel row, unless the grid has no more of them.
                with m.If(tile_row == self.tile_rows):
                    m.d.sync += row_valid.eq(row_valid << 1)
                    m.d.sync += [b.eq(a) for a, b in pairwise(base)]
                    m.next = "WRITE"
                with m.Elif(credits != 0):
                    m.d.comb += allocate.eq(1)
                    m.d.sync += [
                        row_valid.eq(Cat(Const(1, 1), row_valid)),
                        base[0].eq(slot_base),
                        tile_row.eq(tile_row + 1),
                    ]
                    m.d.sync += [b.eq(a) for a, b in pairwise(base)]
                    with m.If(slot == self.slots - 1):
                        m.d.sync += [slot.eq(0), slot_base.eq(0)]
                    with m.Else():
                        m.d.sync += [slot.eq(slot + 1), slot_base.eq(slot_base + self.slot_pitch)]
                    m.next = "WRITE"
            with m.State("WRITE"):
                m.d.comb += writing.eq(~self.hold if self.single_port else 1)
                if fold > 1:
                    with m.If(writing & (~inside | self.i.valid)):
                        m.d.sync += copy.eq(Mux(last_copy, 0, copy + 1))
                with m.If(take):
                    m.d.sync += [group_left.eq(group_left - 1), offset.eq(offset + self.group_pitch)]
                    with m.If(group_last):
                        m.d.sync += [
                            group_left.eq(self.input_groups - 1),
                            x.eq(next_x),
                            col_inside.eq((next_x >= self.pad_left) & (next_x < right)),
                            col_phase.eq(phased & ~col_phase),
                            offset.eq(Mux(phased & ~col_phase, phase_pitch, 0) + Mux(row_phase, phase_pitch << 1, 0)),
                        ]
                        with m.If(col_phase | ~phased):
                            m.d.sync += [col.eq(col + 1), col_offset.eq(col_offset + 1)]
                            with m.If(step_col_last):
                                m.d.sync += [
                                    col_offset.eq(0),
                                    tile_col.eq(tile_col + 1),
                                    column.eq(column + fold),
                                    col_valid.eq(Cat(col_valid[0] & (tile_col != self.tile_cols - 1), col_valid)),
                                ]
                    with m.If(group_last & col_last):
                        m.d.sync += begin_row()
                        m.d.sync += [
                            y.eq(next_y),
                            row_inside.eq((next_y >= self.pad_top) & (next_y < bottom)),
                            row_phase.eq(phased & ~row_phase),
                            offset.eq(Mux(phased & ~row_phase, phase_pitch << 1, 0)),
                        ]
                        with m.If(row_phase | ~phased):
                            m.d.comb += row_complete.eq(finished)
                            m.d.sync += [row.eq(row + 1), row_offset.eq(row_offset + 1)]
                            with m.If(step_row_last):
                                m.d.sync += row_offset.eq(0)
                                m.next = "ALLOCATE"
                        with m.If(row_last):
                            m.d.sync += begin_image()
                            m.d.sync += image_left.eq(image_left - 1)
                            m.next = "ALLOCATE"
                            with m.If(image_left == 1):
                                m.next = "IDLE"

        # --- the write pipeline: address of each column copy, then from bank row to bank row -----------------------
        col_enable = Signal(n)
        with m.Switch(self.step):
            for step in steps:
                with m.Case(step):
                    for j in range(n):
                        m.d.comb += col_enable[j].eq(col_valid[j // step] & (col_offset == j % step))
        write = Signal()
        dropped = (self.mode == InputMode.SUBSAMPLE) & (row_phase | col_phase)
        m.d.comb += write.eq(writing & (~inside | self.i.valid) & ~dropped)

        stage = data.StructLayout(
            {
                "pixel": 8 * self.lanes,
                "cols": n,
                "words": data.ArrayLayout(16, most_copies),
                "bases": data.ArrayLayout(16, n),
            }
        )
        head, head_rows = Signal(stage, reset_less=True), Signal(n)
        m.d.sync += [
            head.pixel.eq(Mux(inside, self.i.payload.as_value(), Cat([self.pad_value] * self.lanes))),
            head.cols.eq(col_enable),
            head_rows.eq(Mux(write, active, 0)),
        ]
        m.d.sync += [head.words[k].eq(offset + column - k * fold) for k in range(most_copies)]
        m.d.sync += [head.bases[i].eq(source[i]) for i in range(n)]

        control_kind = "ecp5" if self.memory == "ecp5" else "generic"
        m.submodules.control = control = FanOut(1 + len(self.read.payload), rows, control_kind)
        m.d.comb += control.i.eq(Cat(self.read.valid, self.read.payload))

        previous, previous_rows = head, head_rows
        for a in range(rows):
            if a == 0 or not self.single_port:
                current, current_rows = Signal(stage, name=f"stage{a}", reset_less=True), Signal(n, name=f"rows{a}")
                m.d.sync += [current.eq(previous), current_rows.eq(previous_rows)]
            # Row i of a patch lives in bank row i mod (n / fold), phase i div (n / fold).
            address = [Signal(16, name=f"address{a}_{k}", reset_less=True) for k in range(most_copies)]
            enable = Signal(n, name=f"enable{a}")
            written = Signal(8 * self.lanes, name=f"written{a}", reset_less=True)
            here = Signal(16, name=f"here{a}")
            candidates = range(a, n, rows)
            if fold == 1:
                m.d.comb += here.eq(current.bases[a])
            else:
                for i in candidates:
                    with m.If(current_rows[i]):
                        m.d.comb += here.eq(current.bases[i] + i // rows)
            m.d.sync += [address[k].eq(current.words[k] + here) for k in range(most_copies)]
            m.d.sync += [
                enable.eq(Mux(Cat(current_rows[i] for i in candidates).any(), current.cols, 0)),
                written.eq(current.pixel),
            ]
            for columns in self.column_groups:
                j, size = columns.start, 8 * self.lanes
                m.submodules[f"bank_{a}_{j}"] = bank = self._bank(
                    size * len(columns), self.words, self.memory, len(columns)
                )
                chosen = Signal(16, name=f"chosen{a}_{j}")
                with m.Switch(self.step):
                    for step in steps:
                        with m.Case(step):
                            m.d.comb += chosen.eq(address[j // step])
                m.d.comb += [
                    bank.write_en.eq(enable[columns.start : columns.stop]),
                    bank.write_addr.eq(chosen),
                    bank.write_data.eq(written.replicate(len(columns))),
                    bank.read_en.eq(control.o[a][0]),
                    bank.read_addr.eq(control.o[a][1:]),
                ]
                for place, column in enumerate(columns):
                    pixels = bank.read_data[size * place :][:size]
                    m.d.comb += [
                        self.o.payload[c][a][column].eq(pixels[8 * c :][:8].as_signed()) for c in range(self.lanes)
                    ]
            previous, previous_rows = current, current_rows

        # The last pixel has reached the last bank row by then.
        completing = Signal(rows + 3)
        m.d.sync += completing.eq(Cat(row_complete, completing))
        m.d.comb += self.row_done.eq(completing[-1])

        valid = Signal(self.read_latency)
        m.d.sync += valid.eq(Cat(self.read.valid, valid))
        m.d.comb += self.o.valid.eq(valid[-1])
        return m
