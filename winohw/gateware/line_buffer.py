"""The line buffer: pixels in, whole input patches out, one address a patch."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from amaranth import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.hdl import ValueLike
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import NDArray

from winohw.gateware.countdown import countdown
from winohw.gateware.descriptor import InputMode
from winohw.gateware.fan_out import FanOut
from winohw.gateware.memory import Memory
from winohw.gateware.single_port_memory import SinglePortMemory

__all__ = ["LineBuffer"]

#: Cycles that read addresses take to the banks.
_CONTROL = 1
#: Adjacent columns of a bank row that share the registers in front of their write ports.
_NEIGHBOURS = 2


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
        nothing may be read unless it is. For a fold of 2 or more and a single step.

    Attributes
    ----------
    rows : int
        Patch rows a chunk, n / fold.
    write_latency : int
        Cycles from the last pixel of a tile row to `row_done`.
    column_groups : tuple of range
        Columns of a patch that share a memory. With a single step, of the columns 0 … step - 1 only one is written at a
        time, and of those a step further: as many of them share a memory as it has write enables.
    read_latency : int
        Cycles: 3, with `single_port` 2.

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
        Only with `single_port`: the banks are read. A chunk may be read from the cycle after the first one on with
        `hold`, and until the cycle after the last one.
    free : In(dimension_bits)
        Slots that are released in this cycle, oldest first; addresses in them may still come for 3 cycles.
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
        if single_port and (fold == 1 or len(steps) > 1):
            raise ValueError(f"single_port needs a fold and one step, not fold {fold!r} and steps {steps!r}")
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
        self.read_latency = self._bank.latency + (0 if single_port else _CONTROL)
        self.write_latency = 2 if single_port else self.rows + 4
        self._address_bits = max(1, (words - 1).bit_length())
        together = 2 if single_port else Memory.lanes_a_block(8 * lanes, words, memory)
        if len(self.steps) > 1:
            together = 1
        # Columns that hold the same copy of a pixel, whatever the step.
        bounds = [j for j in range(input_tile) if any(j % step == 0 for step in self.steps)]
        self._alike = tuple(range(first, end) for first, end in pairwise([*bounds, input_tile]))
        self.column_groups = tuple(part for columns in self._alike for part in _parts(columns, together))
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
        n, fold = self.input_tile, self.fold
        count, steps, bits = self.dimension_bits, self.steps, self._address_bits
        most_copies = max(-(-n // step) for step in steps)

        # --- where the writer stands -----------------------------------------------------------------------------
        image_last, image_reload, image_step = countdown("image", self.images, count)
        grid_row_last, grid_row_reload, grid_row_step = countdown("row", self.grid_height, count)  # of the phase's grid
        grid_col_last, grid_col_reload, grid_col_step = countdown("col", self.grid_width, count)
        row_phase, col_phase = Signal(), Signal()
        row_inside, row_reload, row_step = self._edges(m, "row", self.pad_top, self.height)
        col_inside, col_reload, col_step = self._edges(m, "col", self.pad_left, self.width)
        group_last, group_reload, group_step = countdown("group", self.input_groups, count)
        row_offset, col_offset = Signal(range(n)), Signal(range(n))  # within a step
        tile_rows_over, tile_row_reload, tile_row_step = countdown("tile_row", self.tile_rows, count, flagged=0)
        tile_col_last, tile_col_reload, tile_col_step = countdown("tile_col", self.tile_cols, count)
        row_valid, col_valid = Signal(most_copies), Signal(most_copies)  # copy k goes to tile row (column) now - k
        base = [Signal(bits, name=f"base{k}") for k in range(most_copies)]
        slot_last, slot_reload, slot_step = countdown("slot", self.slots, count)
        slot_base = Signal(bits)
        credits, has_credit = Signal(count + 1), Signal()
        copy = Signal(range(most_copies))
        offset, column = Signal(bits), Signal(bits)

        phased = Signal()
        m.d.sync += phased.eq(self.mode != InputMode.DENSE)
        polyphase = Signal()
        m.d.sync += polyphase.eq(self.mode == InputMode.POLYPHASE)

        inside = Signal()
        m.d.comb += inside.eq(row_inside & col_inside)
        writing, take, last_copy = Signal(), Signal(), Signal()
        active = Signal(n)  # rows of a patch that are written in this cycle
        source = [Signal(bits, name=f"source{i}") for i in range(n)]  # where row i of its patch lives
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

        col_last, row_last = Signal(), Signal()
        step_row_last, step_col_last = Signal(), Signal()
        m.d.comb += [
            col_last.eq(grid_col_last & (col_phase | ~phased)),
            row_last.eq(grid_row_last & (row_phase | ~phased)),
            step_row_last.eq(row_offset == self.step - 1),
            step_col_last.eq(col_offset == self.step - 1),
        ]

        def begin_row() -> list:
            return [
                *grid_col_reload,
                col_phase.eq(0),
                *col_reload,
                col_offset.eq(0),
                *tile_col_reload,
                col_valid.eq(1),
                column.eq(0),
            ]

        def begin_image() -> list:
            return [
                *grid_row_reload,
                row_phase.eq(0),
                *row_reload,
                row_offset.eq(0),
                *tile_row_reload,
                row_valid.eq(0),
                *group_reload,
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
        # The flag is a cycle late; after an allocation that long passes before the next one.
        m.d.sync += [
            credits.eq(credits + self.free + allocate.replicate(len(credits))),
            has_credit.eq((credits != 0) & ~allocate),
        ]

        is_writing = Signal()  # a register: nothing has to be decoded before pixels are taken
        m.d.comb += writing.eq(is_writing & ~self.hold if self.single_port else is_writing)
        if fold > 1:
            with m.If(writing & (~inside | self.i.valid)):
                m.d.sync += copy.eq(Mux(last_copy, 0, copy + 1))
        with m.If(take):
            m.d.sync += [*group_step, offset.eq(offset + self.group_pitch)]
            with m.If(group_last):
                m.d.sync += [
                    *group_reload,
                    *col_step,
                    col_phase.eq(phased & ~col_phase),
                ]
                # The second column phase goes on where the first one ends; then the row phase begins again.
                with m.If(~(polyphase & ~col_phase)):
                    next_row_phase = row_phase ^ (col_last & phased)
                    m.d.sync += offset.eq(Mux(polyphase & next_row_phase, self.slot_pitch >> 1, 0))
                with m.If(col_phase | ~phased):
                    m.d.sync += [*grid_col_step, col_offset.eq(col_offset + 1)]
                    with m.If(step_col_last):
                        m.d.sync += [
                            col_offset.eq(0),
                            *tile_col_step,
                            column.eq(column + fold),
                            col_valid.eq(Cat(col_valid[0] & ~tile_col_last, col_valid)),
                        ]
            with m.If(group_last & col_last):
                m.d.sync += begin_row()
                m.d.sync += [
                    *row_step,
                    row_phase.eq(phased & ~row_phase),
                ]
                with m.If(row_phase | ~phased):
                    m.d.comb += row_complete.eq(finished)
                    m.d.sync += [*grid_row_step, row_offset.eq(row_offset + 1)]
                    with m.If(step_row_last):
                        m.d.sync += row_offset.eq(0)
                with m.If(row_last):
                    m.d.sync += begin_image()
                    m.d.sync += image_step

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.idle.eq(1)
                m.d.sync += image_reload + slot_reload + [slot_base.eq(0), credits.eq(self.slots)]
                m.d.sync += begin_row() + begin_image()
                with m.If(self.start):
                    m.next = "ALLOCATE"
            with m.State("ALLOCATE"):
                # A new tile row begins with the current pixel row, unless the grid has no more of them.
                with m.If(tile_rows_over):
                    m.d.sync += row_valid.eq(row_valid << 1)
                    m.d.sync += [b.eq(a) for a, b in pairwise(base)]
                    m.d.sync += is_writing.eq(1)
                    m.next = "WRITE"
                with m.Elif(has_credit):
                    m.d.comb += allocate.eq(1)
                    m.d.sync += [
                        row_valid.eq(Cat(Const(1, 1), row_valid)),
                        base[0].eq(slot_base),
                        *tile_row_step,
                    ]
                    m.d.sync += [b.eq(a) for a, b in pairwise(base)]
                    with m.If(slot_last):
                        m.d.sync += [*slot_reload, slot_base.eq(0)]
                    with m.Else():
                        m.d.sync += [*slot_step, slot_base.eq(slot_base + self.slot_pitch)]
                    m.d.sync += is_writing.eq(1)
                    m.next = "WRITE"
            with m.State("WRITE"):
                line_over = group_last & col_last & (row_phase | ~phased)
                with m.If(take & line_over & (step_row_last | grid_row_last)):
                    m.d.sync += is_writing.eq(0)
                    m.next = "ALLOCATE"
                    with m.If(grid_row_last & image_last):
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

        fresh = Mux(inside, self.i.payload.as_value(), Cat([self.pad_value] * self.lanes))
        if self.single_port:
            self._write_single(
                m, fresh, col_enable, [Mux(write, row_active, 0) for row_active in active], source, offset + column
            )
        else:
            self._write_dual(m, fresh, col_enable, Mux(write, active, 0), source, offset + column)
        # The last pixel has reached the last bank row by then.
        completing = Signal(self.write_latency)
        m.d.sync += completing.eq(Cat(row_complete, completing))
        m.d.comb += self.row_done.eq(completing[-1])

        valid = Signal(self.read_latency)
        m.d.sync += valid.eq(Cat(self.read.valid, valid))
        m.d.comb += self.o.valid.eq(valid[-1])
        return m

    def _edges(self, m: Module, name: str, before: Value, size: Value) -> tuple[Signal, list, list]:
        """Whether a row or column of the padded image lies inside the image.

        Returns
        -------
        inside : Signal
        reload, step : what to do for the first one and for the next one
        """
        width = self.dimension_bits + 1
        inside, left, last = (Signal(name=f"{name}_inside"), Signal(width, name=f"{name}_edge_left"), Signal())
        # Of the layer: the first edge, and whether it comes with the first step; the same for the second one.
        at_once, first, first_last, size_last = Signal(), Signal(width), Signal(), Signal()
        m.d.sync += [
            at_once.eq(before == 0),
            first.eq(Mux(before == 0, size, before)),
            first_last.eq(Mux(before == 0, size == 1, before == 1)),
            size_last.eq(size == 1),
        ]
        reload = [inside.eq(at_once), left.eq(first), last.eq(first_last)]
        # Behind the image no edge follows.
        step = [
            inside.eq(inside ^ last),
            left.eq(Mux(last, Mux(inside, 0, size), left - 1)),
            last.eq(Mux(last, ~inside & size_last, left == 2)),
        ]
        return inside, reload, step

    def _write_dual(
        self, m: Module, pixel: Value, columns: Signal, active: Value, source: list[Signal], word: Value
    ) -> None:
        """The write pipeline: address of each column copy, then from bank row to bank row.

        Parameters
        ----------
        pixel : what is written.
        columns, active : columns and rows of a patch that it is written to.
        source : where each row of its patch begins.
        word : from there, the place of the column copy that comes first.
        """
        n, fold, rows, steps, bits = self.input_tile, self.fold, self.rows, self.steps, self._address_bits
        stage = data.StructLayout(
            {
                "pixel": 8 * self.lanes,
                "cols": n,
                "words": data.ArrayLayout(bits, len(self._alike)),
                "bases": data.ArrayLayout(bits, n),
            }
        )
        head, head_rows = Signal(stage, reset_less=True), Signal(n)
        m.d.sync += [
            head.pixel.eq(pixel),
            head.cols.eq(columns),
            head_rows.eq(active),
        ]
        for k, columns in enumerate(self._alike):
            distance: ValueLike = columns.start // steps[0] * fold
            if len(steps) > 1:
                distance = Signal(range(n * fold), name=f"distance{k}")  # of the layer
                with m.Switch(self.step):
                    for step in steps:
                        with m.Case(step):
                            m.d.sync += distance.eq(columns.start // step * fold)
            m.d.sync += head.words[k].eq(word - distance)
        m.d.sync += [head.bases[i].eq(source[i]) for i in range(n)]

        copies = "ecp5" if self.memory == "ecp5" else "generic"
        m.submodules.control = control = FanOut(1 + len(self.read.payload), rows, copies, _CONTROL)
        m.d.comb += control.i.eq(Cat(self.read.valid, self.read.payload))

        previous, previous_rows = head, head_rows
        for a in range(rows):
            current, current_rows = Signal(stage, name=f"stage{a}", reset_less=True), Signal(n, name=f"rows{a}")
            m.d.sync += [current.eq(previous), current_rows.eq(previous_rows)]
            # Row i of a patch lives in bank row i mod (n / fold), phase i div (n / fold).
            enable, write_en = Signal(n, name=f"enable{a}"), Signal(n, name=f"write_en{a}")
            written = Signal(8 * self.lanes, name=f"written{a}", reset_less=True)
            here = Signal(bits, name=f"here{a}")
            candidates = range(a, n, rows)
            if fold == 1:
                m.d.comb += here.eq(current.bases[a])
            else:
                for i in candidates:
                    with m.If(current_rows[i]):
                        m.d.comb += here.eq(current.bases[i] + i // rows)
            m.d.sync += [
                enable.eq(Mux(Cat(current_rows[i] for i in candidates).any(), current.cols, 0)),
                write_en.eq(enable),
                written.eq(current.pixel),
            ]
            for k, columns in enumerate(self._alike):
                address = Signal(bits, name=f"address{a}_{k}", reset_less=True)
                m.d.sync += address.eq(current.words[k] + here)
                # No net reaches all banks: a few of them have registers of their own.
                groups = [group for group in self.column_groups if group.start in columns]
                near = max(1, _NEIGHBOURS // len(groups[0]))
                write = FanOut(bits + 8 * self.lanes, -(-len(groups) // near), copies)
                m.submodules[f"write_{a}_{columns.start}"] = write
                m.d.comb += write.i.eq(Cat(address, written))
                for number, group in enumerate(groups):
                    bank = self._add_bank(m, a, group)
                    m.d.comb += [
                        bank.write_en.eq(write_en[group.start : group.stop]),
                        bank.write_addr.eq(write.o[number // near][:bits]),
                        bank.write_data.eq(write.o[number // near][bits:].replicate(len(group))),
                        bank.read_en.eq(control.o[a][0]),
                        bank.read_addr.eq(control.o[a][1:]),
                    ]
            previous, previous_rows = current, current_rows

    def _write_single(
        self, m: Module, pixel: Value, columns: Signal, active: list[Value], source: list[Signal], word: Value
    ) -> None:
        """The same for memories that register what they are given; one row at a time."""
        n, fold, rows, steps, bits = self.input_tile, self.fold, self.rows, self.steps, self._address_bits
        written, enable = Signal(8 * self.lanes, reset_less=True), Signal(n, reset_less=True)
        bank_rows = Signal(rows)
        first = Signal(bits, reset_less=True)
        copies = -(-n // steps[0])
        base = [Signal(bits, name=f"copy_base{k}", reset_less=True) for k in range(copies)]
        m.d.sync += [
            written.eq(pixel),
            enable.eq(columns),
            bank_rows.eq(Cat(Cat(active[a::rows]).any() for a in range(rows))),
            first.eq(word),
        ]
        # Row i of a patch lives in bank row i mod (n / fold), phase i div (n / fold).
        here, phase = Signal(bits), Signal(range(fold))
        for i in range(n):
            with m.If(active[i]):
                m.d.comb += [here.eq(source[i]), phase.eq(i // rows)]
        m.d.sync += [base[k].eq(here + (phase - k * fold)) for k in range(copies)]
        for a in range(rows):
            for group in self.column_groups:
                bank = self._add_bank(m, a, group)
                m.d.comb += [
                    bank.write_en.eq(Mux(bank_rows[a], enable[group.start : group.stop], 0)),
                    bank.write_addr.eq(first + base[group.start // steps[0]]),
                    bank.write_data.eq(written.replicate(len(group))),
                    bank.read_en.eq(self.read.valid),
                    bank.read_addr.eq(self.read.payload),
                ]

    def _add_bank(self, m: Module, row: int, group: range) -> wiring.Component:
        """The memory of some columns of a bank row, its output joined to the chunk."""
        size = 8 * self.lanes
        bank = self._bank(size * len(group), self.words, self.memory, len(group))
        m.submodules[f"bank_{row}_{group.start}"] = bank
        for place, column in enumerate(group):
            pixels = bank.read_data[size * place :][:size]
            for lane in range(self.lanes):
                m.d.comb += self.o.payload[lane][row][column].eq(pixels[8 * lane :][:8].as_signed())
        return bank


def _parts(columns: range, together: int) -> list[range]:
    """Columns cut into parts of `together`, the last one perhaps shorter."""
    return [range(low, min(low + together, columns.stop)) for low in range(columns.start, columns.stop, together)]
