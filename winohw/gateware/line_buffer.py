"""The line buffer: pixels in, whole input patches out, one address a patch."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import ClassVar

import numpy as np
from amaranth import Cat, Module, Mux, Signal, Value, signed
from amaranth.hdl import ValueLike
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import NDArray

from winohw.gateware.countdown import countdown
from winohw.gateware.descriptor import InputMode
from winohw.gateware.fan_out import FanOut
from winohw.gateware.head_queue import HeadQueue
from winohw.gateware.memory import Memory
from winohw.gateware.single_port_memory import SinglePortMemory

__all__ = ["LineBuffer"]

#: Cycles that read addresses take to the banks.
_CONTROL = 2
#: Places that wait for pixels and slots.
_QUEUE = 16
#: Adjacent columns of a bank row that share the registers in front of their ports.
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

    But for `single_port`, the loops of the writer run ahead; the places of the next pixels wait in a short queue, and
    only its end looks at pixels and slots.

    Latency: `read_latency` cycles from an address to its chunk. Throughput: a chunk a cycle; while slots are free, a
    pixel group a cycle (fold > 1: copies(row) cycles), padding included, but two cycles between the begins of two tile
    rows. Backpressure: `i` waits for a free slot and during padding.

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
    write_back : bool
        Whether words may be replaced. For `single_port`.

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
        Cycles: 4, with `single_port` 2.

    Members
    -------
    i : In(stream.Signature(ArrayLayout(signed(8), lanes)))
        Pixel groups, in the order image, row, column, group of channels.
    start : In(1)
        Begins a layer whose values have stood at the inputs below for three cycles of `idle`, and stand until the next
        one.
    mode, images, height, width, pad_top, pad_left, input_groups, tile_rows, tile_cols, slots, group_pitch, slot_pitch,
    grid_height, grid_width, pad_value
        Fields of the layer descriptor; `DescriptorReader` says what they must fulfil.
    step : In(range(input_tile + 1))
        Distance between neighbouring patches, one of `steps`.
    hold : In(1)
        Only with `single_port`: the banks are read. A chunk may be read from the cycle after the first one on with
        `hold`, and until the cycle after the last one.
    back : In(StructLayout({valid: 1, word: range(words), chunk: …}))
        Only with `write_back`: a word of a complete tile row gets another chunk. `hold` has been set for a cycle or
        more, and nothing is read in this one.
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

    #: Cycles from `start` to the first pixel, at least; by `single_port`.
    prefetch: ClassVar = {False: 6, True: 1}

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
        write_back: bool = False,
    ):
        for name, value in (("input_tile", input_tile), ("lanes", lanes), ("dimension_bits", dimension_bits)):
            if value < 1:
                raise ValueError(f"{name} must be 1 or more, not {value!r}")
        if single_port and (fold == 1 or len(steps) > 1):
            raise ValueError(f"single_port needs a fold and one step, not fold {fold!r} and steps {steps!r}")
        if write_back and not single_port:
            raise ValueError("write_back needs single_port")
        if fold < 1 or input_tile % fold:
            raise ValueError(f"fold must divide the input tile {input_tile}, not {fold!r}")
        if not steps or any(not 1 <= step <= input_tile for step in steps):
            raise ValueError(f"steps must be within 1 … {input_tile}, not {steps!r}")
        if not 1 <= words <= 1 << 16:
            raise ValueError(f"words must be within 1 … {1 << 16}, not {words!r}")
        self._bank = SinglePortMemory if single_port else Memory
        self._bank.check_parameters(8 * lanes, words, memory)
        self.single_port = single_port
        self.write_back = write_back
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
        # Columns, and rows, of a patch that hold the same copy of a pixel, whatever the step.
        bounds = [j for j in range(input_tile) if any(j % step == 0 for step in self.steps)]
        self._alike = tuple(range(first, end) for first, end in pairwise([*bounds, input_tile]))
        self.column_groups = tuple(part for columns in self._alike for part in _parts(columns, together))
        address = range(words)
        count = dimension_bits
        chunk = data.ArrayLayout(data.ArrayLayout(data.ArrayLayout(signed(8), input_tile), self.rows), lanes)
        super().__init__(
            ({"hold": In(1)} if single_port else {})
            | ({"back": In(data.StructLayout({"valid": 1, "word": address, "chunk": chunk}))} if write_back else {})
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
        n, fold, bits = self.input_tile, self.fold, self._address_bits
        most_copies = max(-(-n // step) for step in self.steps)
        place = data.StructLayout(
            {
                "inside": 1,  # the image, not its padding
                "rows": n,  # of a patch that its pixel is written to
                "cols": n,
                "word": bits,  # from where a slot begins, of the column copy that comes first
                "copies": range(most_copies if fold > 1 else 1),  # of its row, less one
                "completes": 1,  # a tile row
                "moves": 1,  # the last one of a step: other tile rows come behind it
                "begins": 1,  # another tile row begins behind it
            }
        )

        # --- a place is taken when there is a pixel for it and a slot ----------------------------------------------
        there, front = Signal(), Signal(place)
        pop = Signal()
        run = self._run_in_step if self.single_port else self._run_ahead
        run(m, there, front, pop)
        begins = Signal(init=1)  # so does a layer
        credits, blocked = Signal(self.dimension_bits + 1), Signal(init=1)
        next_begins = Mux(pop, front.begins, begins)
        copy, last_copy = Signal(range(most_copies)), Signal()
        allowed, write, take_slot = Signal(), Signal(), Signal()
        m.d.comb += [
            allowed.eq(there & ~blocked & (~self.hold if self.single_port else 1)),
            write.eq(allowed & (~front.inside | self.i.valid)),
            last_copy.eq(copy == front.copies if fold > 1 else 1),
            self.i.ready.eq(allowed & front.inside & last_copy),
            pop.eq(write & last_copy),
            take_slot.eq(pop & begins),
        ]
        # The flag is a cycle late: nothing is allowed to begin in the one after a slot has been taken.
        m.d.sync += [
            credits.eq(credits + self.free - take_slot),
            blocked.eq(next_begins & ((credits == 0) | take_slot)),
            begins.eq(next_begins),
        ]
        with m.If(self.idle):
            m.d.sync += credits.eq(self.slots)
        if fold > 1:
            with m.If(write):
                m.d.sync += copy.eq(Mux(last_copy, 0, copy + 1))

        pixel = Mux(front.inside, self.i.payload.as_value(), Cat([self.pad_value] * self.lanes))
        pipeline = self._write_single if self.single_port else self._write_dual
        pipeline(m, pixel, front, copy, write, pop)
        # The last pixel has reached the last bank row by then.
        completing = Signal(self.write_latency)
        m.d.sync += completing.eq(Cat(pop & front.completes, completing))
        m.d.comb += self.row_done.eq(completing[-1])

        valid = Signal(self.read_latency)
        m.d.sync += valid.eq(Cat(self.read.valid, valid))
        m.d.comb += self.o.valid.eq(valid[-1])
        return m

    def _run_in_step(self, m: Module, there: Signal, front: data.View, pop: Signal) -> None:
        """The loops wait for what is taken."""
        over = self._loops(m, front, pop, ~there)
        with m.If(~there):
            m.d.comb += self.idle.eq(1)
            m.d.sync += there.eq(self.start)
        with m.Elif(over):
            m.d.sync += there.eq(0)

    def _run_ahead(self, m: Module, there: Signal, front: data.View, pop: Signal) -> None:
        """The loops run ahead; their places wait in a queue."""
        place = front.shape()
        m.submodules.queue = queue = HeadQueue(place, _QUEUE)
        m.d.comb += [there.eq(queue.filled), front.eq(queue.head), queue.pop.eq(pop)]
        here, valid = Signal(place), Signal()
        go, running = Signal(), Signal()
        over = self._loops(m, here, go, ~running)
        # A late answer leaves some places of the queue unused; what comes behind a layer's last place is dropped.
        waiting, room, enter = Signal(range(_QUEUE + 1)), Signal(), Signal()
        m.d.comb += enter.eq(self._later(m, go, 2) & running)
        m.d.sync += [
            waiting.eq(waiting + enter - pop),
            room.eq(waiting <= _QUEUE - 6),
            go.eq(running & room),
        ]
        with m.If(~running):
            m.d.comb += self.idle.eq(waiting == 0)
            m.d.sync += [running.eq(self.start), go.eq(self.start)]
        with m.Elif(over):
            m.d.sync += [running.eq(0), go.eq(0)]

        token = Signal(place, reset_less=True)
        m.d.sync += [valid.eq(enter), token.eq(here)]
        m.d.comb += [queue.i.valid.eq(valid), queue.i.payload.eq(token)]

    def _loops(self, m: Module, place: data.View, go: Value, rest: Value) -> Value:
        """Where the writer stands; `go`: it goes on; `rest`: it stands before the first place of a layer.

        There are flags beside all counts. When the loops run ahead, those over columns follow the ones inside them a
        cycle later, and those over rows another one.

        Returns
        -------
        Whether a layer's last place is left.
        """
        n, fold, bits = self.input_tile, self.fold, self._address_bits
        most_copies = max(-(-n // step) for step in self.steps)
        step = self._of_step(lambda step: step)
        image_last, image_reload, image_step = self._countdown(m, "image", self.images)
        grid_row_last, grid_row_reload, grid_row_step = self._countdown(
            m, "row", self.grid_height
        )  # of the phase's grid
        grid_col_last, grid_col_reload, grid_col_step = self._countdown(m, "col", self.grid_width)
        row_inside, row_reload, row_step = self._edges(m, "row", self.pad_top, self.height)
        col_inside, col_reload, col_step = self._edges(m, "col", self.pad_left, self.width)
        group_last, group_reload, group_step = self._countdown(m, "group", self.input_groups)
        row_offset, step_row_last, offset_row_reload, offset_row_step = self._offset("row", step)
        col_offset, step_col_last, offset_col_reload, offset_col_step = self._offset("col", step)
        tile_row_last, tile_row_reload, tile_row_step = self._countdown(m, "tile_row", self.tile_rows)
        tile_col_last, tile_col_reload, tile_col_step = self._countdown(m, "tile_col", self.tile_cols)
        row_valid, col_valid = Signal(most_copies), Signal(most_copies)  # copy k goes to tile row (column) now - k
        offset, column = Signal(bits), Signal(bits)
        # In the modes for stride 2 the second phase is the last one.
        phased, subsample = Signal(), Signal()
        row_phase_last, col_phase_last = Signal(), Signal()
        m.d.sync += [
            phased.eq(self.mode != InputMode.DENSE),
            subsample.eq(self.mode == InputMode.SUBSAMPLE),
        ]

        # Whatever makes a loop step also makes it begin anew.
        rest_cols = self._later(m, rest)
        rest_rows = self._later(m, rest_cols)
        group_over = self._later(m, (go & group_last) | rest)
        pixel_over = self._later(m, (go & group_last & col_phase_last) | rest)
        line_over = pixel_over & grid_col_last
        last_col, last_row = grid_col_last | rest_cols, grid_row_last | rest_rows
        next_line = self._later(m, pixel_over & last_col)
        row_over = self._later(m, (line_over & row_phase_last) | rest_cols)
        image_over = row_over & grid_row_last & ~rest_rows
        next_tile_row = row_valid[0] & ~tile_row_last
        begin_row = [
            *grid_col_reload,
            *offset_col_reload,
            *tile_col_reload,
            col_valid.eq(1),
        ]
        begin_image = [
            *grid_row_reload,
            *offset_row_reload,
            *tile_row_reload,
            row_valid.eq(1),
        ]
        with m.If(go):
            m.d.sync += [*group_step, offset.eq(offset + self.group_pitch)]
            with m.If(group_last):
                m.d.sync += [*group_reload, col_phase_last.eq(~(phased & col_phase_last))]
            # The second column phase goes on where the first one ends; then the row phase begins again.
            with m.If(group_last & col_phase_last):
                m.d.sync += offset.eq(0)
        with m.If(rest):
            m.d.sync += [*group_reload, col_phase_last.eq(~phased), offset.eq(0)]
        with m.If(pixel_over):
            m.d.sync += [*grid_col_step, *offset_col_step]
            with m.If(step_col_last):
                m.d.sync += [
                    *tile_col_step,
                    col_valid.eq(Cat(col_valid[0] & ~tile_col_last, col_valid)),
                ]
            with m.If(last_col):
                m.d.sync += [*begin_row, row_phase_last.eq(~(phased & (row_phase_last | rest_cols)))]
        # Whether it is inside, and the column's address, are not needed before another cycle.
        with m.If(self._later(m, group_over)):
            m.d.sync += col_step
        with m.If(self._later(m, pixel_over & step_col_last)):
            m.d.sync += column.eq(column + fold)
        # What is written in the second row phase of SUBSAMPLE does not matter.
        row_begin = self._later(m, Mux(row_phase_last | rest_cols, 0, self.slot_pitch >> 1))
        with m.If(next_line):
            m.d.sync += [*col_reload, column.eq(row_begin)]
        with m.If(next_line):
            m.d.sync += row_step
            with m.If(row_over & last_row):
                m.d.sync += row_reload
        with m.If(row_over):
            m.d.sync += [*grid_row_step, *offset_row_step]
            with m.If(step_row_last):
                m.d.sync += [*tile_row_step, row_valid.eq(Cat(next_tile_row, row_valid))]
            with m.If(last_row):
                m.d.sync += begin_image
        with m.If(rest_rows):
            m.d.sync += image_reload
        with m.Elif(image_over):
            m.d.sync += image_step

        # A patch row that ends here completes a tile row: the last row of a patch, in the last of its phases.
        finished = self._of_step(lambda step: (row_offset == (n - 1) % step) & row_valid[(n - 1) // step])
        dropped = subsample & (self._later(m, row_phase_last) | self._later(m, col_phase_last, 2))
        for i in range(n):
            chosen = self._of_step(lambda step, i=i: row_valid[i // step] & (row_offset == i % step))
            m.d.comb += place.rows[i].eq(chosen & ~dropped)
            col_chosen = self._of_step(lambda step, i=i: col_valid[i // step] & (col_offset == i % step))
            m.d.comb += place.cols[i].eq(self._later(m, col_chosen))
        m.d.comb += [
            place.inside.eq(row_inside & col_inside),
            place.word.eq((self._later(m, offset, 2) + column)[:bits]),
            place.completes.eq(row_over & finished),
            place.moves.eq(row_over & (step_row_last | grid_row_last) & ~(grid_row_last & image_last)),
            place.begins.eq(row_over & (grid_row_last | (step_row_last & next_tile_row))),
        ]
        if fold > 1:
            m.d.comb += place.copies.eq(
                self._of_step(
                    lambda step: Cat(
                        Cat(row_offset == u for u in range(step) if self.copies(u, step) - 1 >> bit & 1).any()
                        for bit in range(len(place.copies))
                    )
                )
            )
        return image_over & image_last

    def _later(self, m: Module, value: Value, cycles: int = 1) -> Value:
        """A value some cycles later if the loops run ahead, else the value itself."""
        for _ in range(0 if self.single_port else cycles):
            previous, value = value, Signal(len(value))
            m.d.sync += value.eq(previous)
        return value

    def _of_step(self, function: Callable[[int], ValueLike]) -> Value:
        """What depends on the distance of the patches."""
        value = Value.cast(function(self.steps[0]))
        for step in self.steps[1:]:
            value = Mux(self.step == step, function(step), value)
        return value

    def _countdown(self, m: Module, name: str, turns: Signal) -> tuple[Signal, list, list]:
        """A loop of the layer, see `countdown`."""
        return countdown(name, turns, self.dimension_bits, single=self._later(m, turns == 1))

    def _offset(self, name: str, step: Value) -> tuple[Signal, Signal, list, list]:
        """A place within a step.

        Returns
        -------
        offset : Signal
            From 0 on.
        last : Signal
            It is the last one.
        reload, step : what to do for the first one and for the next one
        """
        offset, last = Signal(range(self.input_tile), name=f"{name}_offset"), Signal(name=f"{name}_offset_last")
        reload = [offset.eq(0), last.eq(step == 1)]
        return (
            offset,
            last,
            reload,
            [offset.eq(Mux(last, 0, offset + 1)), last.eq(Mux(last, step == 1, offset + 2 == step))],
        )

    def _slots(self, m: Module, move: Value, begin: Value) -> list[Signal]:
        """Where the slots begin that are written, copy 0 first.

        Parameters
        ----------
        move : each tile row becomes the one before.
        begin : and another one begins.
        """
        bits = self._address_bits
        base = [Signal(bits, name=f"base{k}") for k in range(max(-(-self.input_tile // step) for step in self.steps))]
        slot_last, slot_reload, slot_step = self._countdown(m, "slot", self.slots)
        slot_base = Signal(bits)
        with m.If(self._later(m, self.idle)):
            m.d.sync += [*slot_reload, slot_base.eq(0)]
        with m.If(move & begin):
            m.d.sync += [*slot_step, slot_base.eq(slot_base + self.slot_pitch)]
            with m.If(slot_last):
                m.d.sync += [*slot_reload, slot_base.eq(0)]
        with m.If(move):
            m.d.sync += [after.eq(before) for before, after in pairwise([slot_base, *base])]
        return base

    def _edges(self, m: Module, name: str, before: Value, size: Value) -> tuple[Signal, list, list]:
        """Whether a row or column of the padded image lies inside the image.

        Returns
        -------
        inside : Signal
        reload, step : what to do for the first one and for the next one
        """
        width = self.dimension_bits + 1
        inside, left, last = (Signal(name=f"{name}_inside"), Signal(width, name=f"{name}_edge_left"), Signal())
        over = Signal(name=f"{name}_over")  # behind the image, where edges do not count
        # Of the layer: the first edge, and whether it comes with the first step; the same for the second one.
        at_once, first, first_last, size_last = Signal(), Signal(width), Signal(), Signal()
        before_last = Signal()
        m.d.sync += [
            at_once.eq(before == 0),
            before_last.eq(before == 1),
            size_last.eq(size == 1),
            first.eq(Mux(at_once, size, before)),
            first_last.eq(Mux(at_once, size_last, before_last)),
        ]
        reload = [inside.eq(at_once), over.eq(0), left.eq(first), last.eq(first_last)]
        step = [
            inside.eq(Mux(last, ~inside & ~over, inside)),
            over.eq(over | (last & inside)),
            left.eq(Mux(last, size, left - 1)),
            last.eq(Mux(last, size_last, left == 2)),
        ]
        return inside, reload, step

    def _rows(self, rows: Value, copy: Value) -> Value:
        """Which of the rows of a patch a copy is written to."""
        if self.fold == 1:
            return rows
        return rows & Cat(self._of_step(lambda step, i=i: copy == i // step) for i in range(self.input_tile))

    def _write_dual(self, m: Module, pixel: Value, front: data.View, copy: Value, write: Value, pop: Value) -> None:
        """The write pipeline: address of each column copy, then from bank row to bank row.

        Parameters
        ----------
        pixel : what is written.
        front : where.
        copy : of its row.
        write : whether it is written.
        pop : whether this is the last copy.
        """
        n, fold, rows, bits = self.input_tile, self.fold, self.rows, self._address_bits
        stage = data.StructLayout(
            {
                "pixel": 8 * self.lanes,
                "cols": n,
                "words": data.ArrayLayout(bits, len(self._alike)),
                "bases": data.ArrayLayout(bits, len(self._alike)),
            }
        )
        taken, copied = Signal(front.shape(), reset_less=True), Signal.like(copy, reset_less=True)
        taken_rows, taken_pixel = Signal(n), Signal.like(pixel, reset_less=True)
        move, begin = Signal(), Signal()
        m.d.sync += [
            taken.eq(front),
            taken_rows.eq(Mux(write, front.rows, 0)),
            taken_pixel.eq(pixel),
            copied.eq(copy),
            move.eq(self.start | (pop & front.moves)),
            begin.eq(self.start | front.begins),
        ]
        base = self._slots(m, move, begin)
        head, head_rows = Signal(stage), Signal(n)
        m.d.comb += [head.pixel.eq(taken_pixel), head.cols.eq(taken.cols), head_rows.eq(self._rows(taken_rows, copied))]
        for k, columns in enumerate(self._alike):
            distance: Value = self._of_step(lambda step, columns=columns: columns.start // step * fold)
            m.d.comb += [
                head.words[k].eq(taken.word - distance),
                head.bases[k].eq(self._of_step(lambda step, columns=columns: base[columns.start // step])),
            ]

        # No net reaches all banks: a few of them have registers of their own, for both ports.
        near = max(1, _NEIGHBOURS // len(self.column_groups[0]))
        shares = -(-len(self.column_groups) // near)  # of a bank row
        control = FanOut(1 + len(self.read.payload), rows * shares, self.memory, _CONTROL)
        m.submodules.control = control
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
                m.d.comb += here.eq(current.bases[self._kind(a)])
            else:
                for i in candidates:
                    with m.If(current_rows[i]):
                        m.d.comb += here.eq(current.bases[self._kind(i)] + i // rows)
            m.d.sync += [
                enable.eq(Mux(Cat(current_rows[i] for i in candidates).any(), current.cols, 0)),
                write_en.eq(enable),
                written.eq(current.pixel),
            ]
            for k, columns in enumerate(self._alike):
                address = Signal(bits, name=f"address{a}_{k}", reset_less=True)
                m.d.sync += address.eq(current.words[k] + here)
                groups = [group for group in self.column_groups if group.start in columns]
                write = FanOut(bits + 8 * self.lanes, -(-len(groups) // near), self.memory)
                m.submodules[f"write_{a}_{columns.start}"] = write
                m.d.comb += write.i.eq(Cat(address, written))
                for number, group in enumerate(groups):
                    bank = self._add_bank(m, a, group)
                    read = control.o[a * shares + self.column_groups.index(group) // near]
                    m.d.comb += [
                        bank.write_en.eq(write_en[group.start : group.stop]),
                        bank.write_addr.eq(write.o[number // near][:bits]),
                        bank.write_data.eq(write.o[number // near][bits:].replicate(len(group))),
                        bank.read_en.eq(read[0]),
                        bank.read_addr.eq(read[1:]),
                    ]
            previous, previous_rows = current, current_rows

    def _write_single(self, m: Module, pixel: Value, front: data.View, copy: Value, write: Value, pop: Value) -> None:
        """The same for memories that register what they are given; one row at a time."""
        n, fold, rows, steps, bits = self.input_tile, self.fold, self.rows, self.steps, self._address_bits
        source = self._slots(m, self.start | (pop & front.moves), self.start | front.begins)
        active = Signal(n)
        written, enable = Signal(8 * self.lanes, reset_less=True), Signal(n, reset_less=True)
        bank_rows = Signal(rows)
        first = Signal(bits, reset_less=True)
        base = [Signal(bits, name=f"copy_base{k}", reset_less=True) for k in range(len(self._alike))]
        m.d.comb += active.eq(Mux(write, self._rows(front.rows, copy), 0))
        m.d.sync += [
            written.eq(pixel),
            enable.eq(front.cols),
            bank_rows.eq(Cat(Cat(active[a::rows]).any() for a in range(rows))),
            first.eq(front.word),
        ]
        # Row i of a patch lives in bank row i mod (n / fold), phase i div (n / fold).
        here, phase = Signal(bits), Signal(range(fold))
        for i in range(n):
            with m.If(active[i]):
                m.d.comb += [here.eq(source[i // steps[0]]), phase.eq(i // rows)]
        m.d.sync += [base[k].eq(here + (phase - k * fold)) for k in range(len(base))]
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
                if self.write_back:
                    chunk = self.back.chunk
                    with m.If(self.back.valid):
                        m.d.comb += [
                            bank.write_en.eq((1 << len(group)) - 1),
                            bank.write_addr.eq(self.back.word),
                            bank.write_data.eq(
                                Cat(chunk[lane][a][column] for column in group for lane in range(self.lanes))
                            ),
                        ]

    def _kind(self, line: int) -> int:
        """Which of the ranges of `_alike` has it."""
        return next(k for k, lines in enumerate(self._alike) if line in lines)

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
