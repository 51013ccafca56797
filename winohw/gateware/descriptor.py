"""The layer descriptor: its fields, its error codes, and the component that reads and checks it."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from types import SimpleNamespace
from typing import Any

from amaranth import Array, Cat, Module, Mux, Signal, Value, signed, unsigned
from amaranth.hdl import ValueLike
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from winohw.gateware.shift_table import shift_layout

__all__ = [
    "DESCRIPTOR_MAGIC",
    "DescriptorLimits",
    "DescriptorReader",
    "InputMode",
    "LayerError",
    "check_descriptor",
    "descriptor_fields",
    "descriptor_words",
    "rows_ahead",
    "status_layout",
]

#: Upper half of a descriptor's first word ("WN"); the lower half counts the words that follow.
DESCRIPTOR_MAGIC = 0x574E


class InputMode(IntEnum):
    """How the pixels of the input image become the channels that the array sees."""

    #: Stride 1 (or any stride on a direct engine): the image as it is.
    DENSE = 0
    #: Stride 2: the four input phases become four times the channels.
    POLYPHASE = 1
    #: Stride 2 with a 1x1 kernel: only the even pixels of the even rows count.
    SUBSAMPLE = 2


class LayerError(IntEnum):
    """Codes of the engine's status stream."""

    OK = 0
    #: The first word is not a descriptor's first word, or announces another length.
    BAD_HEADER = 1
    #: `last` came before the announced word.
    TRUNCATED = 2
    #: `last` did not come with the announced word.
    TOO_LONG = 3
    #: A field lies outside the limits of this instance.
    FIELD_RANGE = 4
    #: The kernel size or the mode is not one that this instance offers.
    UNSUPPORTED = 5
    #: The tile grid does not cover the output, or the padded input does not match it.
    GEOMETRY = 6
    #: More tiles a block than the accumulators hold.
    TOO_MANY_TILES = 7
    #: The block's patches do not fit the line buffer.
    LINE_BUFFER = 8
    #: More input channels than the accumulators' width allows.
    TOO_MANY_CHANNELS = 9


@dataclass(frozen=True)
class DescriptorLimits:
    """What one instance accepts.

    Parameters
    ----------
    input_tile : int
        n, the edge of the input tile, 1 or more.
    kernels : tuple of int
        Kernel sizes r on offer, each 1 … n; the tile size is n + 1 - r. A kernel of n (direct convolution) has to be
        the only one; if n > 1, its patches are a stride apart.
    max_groups : tuple of int
        For each kernel, the most groups of Pc input channels, 1 or more.
    fold : int
        Cycles a patch, 1 or more.
    max_tiles : int
        Tiles a block, 1 or more.
    line_words : int
        Words of a line buffer bank, 1 … 65536.
    output_lanes : int
        Pk, 1 or more.
    dimension_bits : int
        Width of every size and count field, 4 … 16.
    shift_taps : int
        n·n if the engine takes a shift table, else 0.
    max_shifts : tuple of int
        Greatest shifts of V, U and M, each 0 … 31.
    related : bool
        Whether fields are checked against each other. An engine without that check takes less than half of the logic
        here, and a host must not send a descriptor that does not fulfil it.

    Raises
    ------
    ValueError
        If one of them is out of its range, or the kernels do not go together.
    """

    input_tile: int
    kernels: tuple[int, ...]
    max_groups: tuple[int, ...]
    fold: int
    max_tiles: int
    line_words: int
    output_lanes: int
    dimension_bits: int
    shift_taps: int
    max_shifts: tuple[int, int, int] = (31, 31, 31)
    related: bool = True

    def __post_init__(self) -> None:
        for name, least, most in (
            ("input_tile", 1, 15),
            ("fold", 1, 15),
            ("max_tiles", 1, 1 << 16),
            ("line_words", 1, 1 << 16),
            ("output_lanes", 1, (1 << 16) - 1),
            ("dimension_bits", 4, 16),
            ("shift_taps", 0, 225),
        ):
            value = getattr(self, name)
            if not least <= value <= most:
                raise ValueError(f"{name} must be within {least} … {most}, not {value!r}")
        n = self.input_tile
        if not self.kernels or not all(1 <= kernel <= n for kernel in self.kernels):
            raise ValueError(f"kernels must be within 1 … {n}, not {self.kernels!r}")
        if n in self.kernels and len(self.kernels) > 1:
            raise ValueError(
                f"a kernel of {n} fills the input tile and must be the only one, not one of {self.kernels!r}"
            )
        if len(self.max_groups) != len(self.kernels) or any(groups < 1 for groups in self.max_groups):
            raise ValueError(f"max_groups must hold a positive number for each kernel, not {self.max_groups!r}")
        if len(self.max_shifts) != 3 or not all(0 <= shift <= 31 for shift in self.max_shifts):
            raise ValueError(f"max_shifts must be three numbers within 0 … 31, not {self.max_shifts!r}")

    @property
    def direct(self) -> bool:
        """Whether patches are a stride apart: direct convolution, with more than one tap."""
        return self.kernels == (self.input_tile,) and self.input_tile > 1

    def step(self, kernel: int, stride: int) -> int:
        """Distance between neighbouring patches, in pixels of a phase."""
        return stride if self.direct else self.input_tile + 1 - kernel


def rows_ahead(input_tile: int, step: int) -> int:
    """Tile rows after a given one that must have begun before that one is complete.

    Neighbouring patches share pixels: the last of the n pixel rows of tile row t is pixel row t·step + n - 1, and
    tile row t + ⌊(n - 1) / step⌋ has begun by then. The line buffer needs a slot for each of them.
    """
    return (input_tile - 1) // step


def descriptor_fields() -> tuple[str, ...]:
    """Names of the 16-bit fields in order, two a word, the first in the lower half."""
    return (
        "kernel",
        "stride",
        "mode",
        "images",
        "height",
        "width",
        "pad_top",
        "pad_left",
        "input_groups",
        "groups",
        "output_groups",
        "filters",
        "tile_rows",
        "tile_cols",
        "total_rows",
        "block_rows",
        "slots",
        "grid_height",
        "grid_width",
        "output_height",
        "output_width",
        "pad_value",
        "output_zero_point",
        "act_min",
        "act_max",
        "reserved",
        # The widest ones last: what comes first passes all places on the way to its own.
        "group_pitch",
        "slot_pitch",
    )


def descriptor_words(limits: DescriptorLimits) -> int:
    """Words that follow the header word."""
    return len(descriptor_fields()) // 2 + limits.shift_taps


#: Fields that hold an int8, sign-extended to 16 bits.
_INT8_FIELDS = ("pad_value", "output_zero_point", "act_min", "act_max")

#: Fields that must not be 0; others follow from them.
_POSITIVE_FIELDS = (
    "images",
    "height",
    "width",
    "groups",
    "output_groups",
    "filters",
    "tile_rows",
    "tile_cols",
    "block_rows",
    "slots",
)

#: No bound at all, in a check.
_UNBOUNDED = 0x1FFFF


def _field_bits(name: str, limits: DescriptorLimits) -> int:
    """Bits that the engine keeps of a field."""
    if name in _INT8_FIELDS:
        return 8
    return {"group_pitch": 16, "slot_pitch": 16, "reserved": 0}.get(name, limits.dimension_bits)


def _product_checks(job: Any, limits: DescriptorLimits, *, tile: Any, step: Any, ahead: Any, most_groups: Any) -> list:
    """Checks (a, b, c, relation, d, error) that a·b + c <relation> d, on signals or on integers.

    `job` has the fields, and what `_derived` gives.
    """
    return [
        (job.input_groups, job.phases, 0, "eq", job.groups, LayerError.GEOMETRY),
        (job.tile_rows, job.images, 0, "eq", job.total_rows, LayerError.GEOMETRY),
        (job.tile_cols, limits.fold, 0, "eq", job.group_pitch, LayerError.GEOMETRY),
        (job.group_pitch, job.groups, 0, "eq", job.slot_pitch, LayerError.LINE_BUFFER),
        (job.slot_pitch, job.slots, 0, "le", limits.line_words, LayerError.LINE_BUFFER),
        (job.tile_cols, job.block_rows, 0, "le", limits.max_tiles, LayerError.TOO_MANY_TILES),
        (job.last_tile_row, step, limits.input_tile, "eq", job.grid_height, LayerError.GEOMETRY),
        (job.last_tile_col, step, limits.input_tile, "eq", job.grid_width, LayerError.GEOMETRY),
        (job.tile_rows, tile, 0, "ge", job.output_height, LayerError.GEOMETRY),
        (job.last_tile_row, tile, 0, "lt", job.output_height, LayerError.GEOMETRY),
        (job.tile_cols, tile, 0, "ge", job.output_width, LayerError.GEOMETRY),
        (job.last_tile_col, tile, 0, "lt", job.output_width, LayerError.GEOMETRY),
        (job.output_groups, limits.output_lanes, 0, "ge", job.filters, LayerError.GEOMETRY),
        (job.last_output_group, limits.output_lanes, 0, "lt", job.filters, LayerError.GEOMETRY),
        (job.height, 1, job.pad_top, "le", job.full_height, LayerError.GEOMETRY),
        (job.width, 1, job.pad_left, "le", job.full_width, LayerError.GEOMETRY),
        (job.block_rows, 1, ahead, "le", job.room, LayerError.LINE_BUFFER),
        (job.groups, 1, 0, "le", most_groups, LayerError.TOO_MANY_CHANNELS),
    ]


def _derived(job: Any, doubled: Any, choose: Callable[[Any, Any, Any], Any]) -> dict[str, Any]:
    """What `_product_checks` takes beside the fields, on signals or on integers.

    `doubled` : whether an image pixel row is half a row of a phase; `choose`: the first if a condition holds, else the
    second.
    """
    return {
        # Of an image: each has channels of its own.
        "phases": choose(job.mode == InputMode.POLYPHASE, 4, 1),
        "last_tile_row": job.tile_rows - 1,
        "last_tile_col": job.tile_cols - 1,
        "last_output_group": job.output_groups - 1,
        # Of the padded image.
        "full_height": job.grid_height << doubled,
        "full_width": job.grid_width << doubled,
        # For the rows of a block: nothing has to be given up if all tile rows of the layer fit.
        "room": choose(job.total_rows <= job.slots, _UNBOUNDED, job.slots),
    }


def check_descriptor(words: Sequence[int], limits: DescriptorLimits) -> LayerError:
    """What becomes of the words of one descriptor, the one with `last` included, on an instance with these limits."""
    header, *body = (int(word) for word in words)
    count = descriptor_words(limits)
    if header != (DESCRIPTOR_MAGIC << 16 | count):
        return LayerError.BAD_HEADER
    if not body:
        return LayerError.TRUNCATED
    fields: dict[str, int] = {}
    for index, word in enumerate(body[:count]):
        values = dict(zip(descriptor_fields()[2 * index :][:2], (word & 0xFFFF, word >> 16), strict=False))
        fits = all(_fits(name, value, limits) for name, value in values.items())
        if not values:
            fits = word >> 24 == 0 and all(
                word >> 8 * number & 0xFF <= most for number, most in enumerate(limits.max_shifts)
            )
        if not fits:
            return LayerError.FIELD_RANGE
        fields |= values
    if len(body) < count:
        return LayerError.TRUNCATED
    if len(body) > count:
        return LayerError.TOO_LONG
    return _check_fields(SimpleNamespace(**fields), limits)


def _check_fields(job: SimpleNamespace, limits: DescriptorLimits) -> LayerError:
    if job.kernel not in limits.kernels or job.stride not in (1, 2) or job.mode not in list(InputMode):
        return LayerError.UNSUPPORTED
    tile_size = limits.input_tile + 1 - job.kernel
    step = limits.step(job.kernel, job.stride)
    doubled = job.mode != InputMode.DENSE
    if doubled != (job.stride == 2 and not limits.direct):
        return LayerError.UNSUPPORTED
    if not all(getattr(job, name) for name in _POSITIVE_FIELDS):
        return LayerError.FIELD_RANGE
    if not limits.related:
        return LayerError.OK
    derived = _derived(job, doubled, lambda condition, first, second: first if condition else second)
    checks = _product_checks(
        SimpleNamespace(**vars(job), **derived),
        limits,
        tile=tile_size,
        step=step,
        ahead=min(rows_ahead(limits.input_tile, step), job.tile_rows - 1),
        most_groups=limits.max_groups[limits.kernels.index(job.kernel)],
    )
    holds = {"eq": operator.eq, "le": operator.le, "ge": operator.ge, "lt": operator.lt}
    for a, b, c, relation, d, error in checks:
        if not holds[relation](a * b + c, d):
            return error
    return LayerError.OK


class DescriptorReader(wiring.Component):
    """Collects a layer descriptor, checks it, and offers it to the engine.

    A descriptor is a header word (`DESCRIPTOR_MAGIC` above the number of words that follow), the fields of
    `descriptor_fields` in pairs, and, if the instance takes a shift table, a word a tap, row-major, with the shifts of
    V, U and M in its three lower bytes. Every field is checked against the instance's limits and against the others,
    products included (on a serial multiplier, a bit a cycle), so that no accepted descriptor can make the engine
    overrun a memory or wait for ever. What is checked, in this order, with m = n + 1 - r, s the step of a patch and p
    the pixels of the image a pixel of a phase (2 in the modes for stride 2):

    * every field fits its width, an int8 field holds an int8, no shift exceeds its maximum, and `reserved` is 0;
    * the kernel is one of those on offer; the stride is 1 or 2; stride 2 is POLYPHASE or SUBSAMPLE, unless the engine
      is a direct one with n > 1, which is always DENSE;
    * no count or size is 0, and `groups` is `input_groups`, times 4 if POLYPHASE;
    * `total_rows` = `images` · `tile_rows`;
    * `group_pitch` = `tile_cols` · fold, `slot_pitch` = `group_pitch` · `groups`;
    * `slots` · `slot_pitch` fit the line buffer, `block_rows` · `tile_cols` the accumulators;
    * `grid_height` = (`tile_rows` - 1) · s + n, (`tile_rows` - 1) · m < `output_height` ≤ `tile_rows` · m,
      `pad_top` + `height` ≤ p · `grid_height`; the same for columns;
    * the last of the `output_groups` groups of Pk channels is the one that holds the last of the `filters`;
    * a block can become complete: its `block_rows` tile rows and those that begin before its last one is complete
      (`rows_ahead`, at most `tile_rows` - 1) are at most `slots`, unless the line buffer holds all `total_rows`;
    * there are no more `groups` than the accumulators' width allows.

    A refused descriptor is dropped up to its `last`; the reader is then ready for the next one.

    Without `related`, the checks end with those for 0.

    Latency: fewer than 300 cycles from the last word to `valid`. Throughput: a word each four cycles; the next
    descriptor is taken after `done`.

    Parameters
    ----------
    limits : DescriptorLimits
        What the instance accepts.

    Members
    -------
    i : In(stream.Signature(StructLayout({"word": 32, "last": 1})))
        Words; `last` comes with the last one of a descriptor.
    job : Out(StructLayout)
        The fields but `reserved`, stable while `valid`.
    tap : Out(stream.Signature(shift_layout(), always_ready=True))
        The shift table, row-major, as it comes; only if there are taps. The last one comes before `valid`, or before
        `error_strobe` those that came before the error.
    valid : Out(1)
        A checked descriptor stands at `job` until `done`.
    done : In(1)
        Drops it.
    error : Out(8)
        The `LayerError` of a refused descriptor, together with `error_strobe`.
    error_strobe : Out(1)
        For one cycle.
    busy : Out(1)
        Something of a descriptor has been received.

    Raises
    ------
    TypeError
        If the limits are not `DescriptorLimits`.
    """

    def __init__(self, limits: DescriptorLimits):
        if not isinstance(limits, DescriptorLimits):
            raise TypeError(f"limits must be DescriptorLimits, not {limits!r}")
        self.limits = limits
        self.job_layout = data.StructLayout(
            {name: _field_bits(name, limits) for name in descriptor_fields() if name != "reserved"}
        )
        members = {
            "i": In(stream.Signature(data.StructLayout({"word": 32, "last": 1}))),
            "job": Out(self.job_layout),
            "valid": Out(1),
            "done": In(1),
            "error": Out(8),
            "error_strobe": Out(1),
            "busy": Out(1),
        }
        if limits.shift_taps:
            members["tap"] = Out(stream.Signature(shift_layout(), always_ready=True))
        super().__init__(members)

    def model(self, words: Sequence[int]) -> LayerError:
        """What becomes of the words of one descriptor, the one with `last` included."""
        return check_descriptor(words, self.limits)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        limits = self.limits
        fields = descriptor_fields()
        field_words = len(fields) // 2
        words = descriptor_words(limits)
        job = self.job
        index, is_final = Signal(range(words + 1)), Signal()  # of the word; 0 is the header
        here = Signal(2)  # fields, or an entry of the table
        collect = Signal()
        code = Signal(8)

        # --- a word at a time: what is known of it stands in registers before it is judged ---------------------------
        word, last = Signal(32), Signal()
        waiting, take = Signal(), Signal()
        settling = Signal(2)  # cycles for that
        judged = settling[-1]
        fits, is_header = Signal(), Signal()
        m.d.comb += self.i.ready.eq(~waiting)
        m.d.sync += [
            settling.eq(Mux(take, 0, Cat(waiting, settling))),
            is_final.eq(index == words),
            here.eq(Cat(index <= field_words, index > field_words)),
        ]
        with m.If(~waiting):
            m.d.sync += [word.eq(self.i.p.word), last.eq(self.i.p.last), waiting.eq(self.i.valid)]
        with m.Elif(take):
            m.d.sync += waiting.eq(0)

        # --- every word is kept, and checked by itself ---------------------------------------------------------------
        pairs = [fields[2 * number :][:2] for number in range(field_words)]
        halves = [word[16 * half :][:16] for half in range(2)]
        is_empty = Signal(2)
        m.d.sync += is_empty.eq(Cat(~half.any() for half in halves))
        # Whether a half is a field of some kind; then, of the fields that this word has.
        kinds = {(half, _kind(name, limits)) for pair in pairs for half, name in enumerate(pair)}
        is_kind = {key: Signal(name="half{}_is_{}".format(*key)) for key in sorted(kinds, key=str)}
        m.d.sync += [flag.eq(_is_kind(halves[half], kind)) for (half, kind), flag in is_kind.items()]
        header_halves = Signal(2)
        m.d.sync += [
            header_halves.eq(Cat(halves[0] == words, halves[1] == DESCRIPTOR_MAGIC)),
            is_header.eq(header_halves.all()),
        ]
        fits_now, positive_now = Signal(init=1), Signal(init=1)
        entries = [word[8 * number :][:8] for number in range(4)]
        with m.Switch(index):
            for number, pair in enumerate(pairs):
                with m.Case(number + 1):
                    m.d.comb += fits_now.eq(
                        Cat(is_kind[half, _kind(name, limits)] for half, name in enumerate(pair)).all()
                    )
                    m.d.comb += positive_now.eq(
                        ~Cat(is_empty[half] for half, name in enumerate(pair) if name in _POSITIVE_FIELDS).any()
                    )
            if limits.shift_taps:
                most = (*limits.max_shifts, 0)
                shifts_fit = Signal(len(most))
                m.d.sync += shifts_fit.eq(Cat(a <= b for a, b in zip(entries, most, strict=True)))
                with m.Default():
                    m.d.comb += fits_now.eq(shifts_fit.all())
        is_positive, positive = Signal(), Signal()  # this word; all so far
        m.d.sync += [fits.eq(fits_now), is_positive.eq(positive_now)]
        with m.If(take):
            m.d.sync += positive.eq(~collect | (positive & is_positive))
        # The word stands for one cycle more than it is waiting.
        keep = Signal(len(here))
        m.d.sync += keep.eq(Mux(collect, here, 0))
        # All move along chains: no word has to reach every place, and there is no decoder in front of them.
        places = [
            [Signal(bits, name=f"place{number}_{half}") for half, bits in enumerate(widths)]
            for number, widths in enumerate(_chain_bits(pairs, limits))
        ]
        with m.If(keep[0]):
            for place, following in zip(places, [*places[1:], halves], strict=True):
                m.d.sync += [register.eq(value) for register, value in zip(place, following, strict=True)]
        for pair, place in zip(pairs, places, strict=True):
            m.d.comb += [job[name].eq(value) for name, value in zip(pair, place, strict=True) if name != "reserved"]
        if limits.shift_taps:
            m.d.comb += [self.tap.valid.eq(keep[1]), Value.cast(self.tap.payload).eq(Cat(e[:5] for e in entries[:3]))]

        # --- what follows from the fields ----------------------------------------------------------------------------
        n = limits.input_tile
        # A register for each thing that a field may be, before anything is chosen by it.
        step, tile, ahead = Signal(range(n + 1)), Signal(range(n + 1)), Signal(range(n + 1))
        most_groups = Signal(limits.dimension_bits)
        supported, known_mode, phased = Signal(), Signal(), Signal()
        m.d.sync += [
            known_mode.eq(job.mode <= InputMode.SUBSAMPLE),
            phased.eq(job.mode != InputMode.DENSE),
            *(register.eq(0) for register in (supported, tile, step, ahead, most_groups)),
        ]
        rows_before_last = Signal(limits.dimension_bits)
        m.d.sync += rows_before_last.eq(job.tile_rows - 1)
        for kernel, groups in zip(limits.kernels, limits.max_groups, strict=True):
            for stride in (1, 2):
                distance = limits.step(kernel, stride)
                begun = rows_ahead(n, distance)
                is_chosen, is_more = (Signal(name=f"is_{name}_{kernel}_{stride}") for name in ("chosen", "more"))
                m.d.sync += [
                    is_chosen.eq((job.kernel == kernel) & (job.stride == stride)),
                    is_more.eq(job.tile_rows > begun),
                ]
                with m.If(is_chosen):
                    m.d.sync += [
                        supported.eq(known_mode & (phased == (stride == 2 and not limits.direct))),
                        tile.eq(n + 1 - kernel),
                        step.eq(distance),
                        ahead.eq(Mux(is_more, begun, rows_before_last)),
                        most_groups.eq(min(groups, 2**limits.dimension_bits - 1)),
                    ]
        if limits.related:
            compare = self._comparison(
                m, code, phased=phased, tile=tile, step=step, ahead=ahead, most_groups=most_groups
            )

        m.d.comb += [self.busy.eq(1), self.error.eq(code)]
        with m.FSM():
            with m.State("HEADER"):
                m.d.comb += [take.eq(judged), self.busy.eq(waiting)]
                m.d.sync += index.eq(1)
                with m.If(judged):
                    with m.If(~is_header):
                        m.d.sync += code.eq(LayerError.BAD_HEADER)
                        m.next = "DROP"
                        with m.If(last):
                            m.next = "REFUSE"
                    with m.Elif(last):
                        m.d.sync += code.eq(LayerError.TRUNCATED)
                        m.next = "REFUSE"
                    with m.Else():
                        m.next = "COLLECT"
            with m.State("COLLECT"):
                m.d.comb += [take.eq(judged), collect.eq(judged)]
                with m.If(judged):
                    m.d.sync += index.eq(index + 1)
                    with m.If(~fits):
                        m.d.sync += code.eq(LayerError.FIELD_RANGE)
                        m.next = "DROP"
                        with m.If(last):
                            m.next = "REFUSE"
                    with m.Elif(last & ~is_final):
                        m.d.sync += code.eq(LayerError.TRUNCATED)
                        m.next = "REFUSE"
                    with m.Elif(is_final):
                        m.next = "SETTLE"
                        with m.If(~last):
                            m.d.sync += code.eq(LayerError.TOO_LONG)
                            m.next = "DROP"
            with m.State("DROP"):
                m.d.comb += take.eq(judged)
                with m.If(judged & last):
                    m.next = "REFUSE"
            with m.State("REFUSE"):
                m.d.comb += self.error_strobe.eq(1)
                m.next = "HEADER"
            with m.State("SETTLE"):
                # What follows from the fields stands two cycles after them, and they a cycle after the last word.
                m.next = "SETTLE_2"
            with m.State("SETTLE_2"):
                m.next = "SETTLE_3"
            with m.State("SETTLE_3"):
                m.next = "JUDGE"
            with m.State("JUDGE"):
                m.next = "SELECT" if limits.related else "OFFER"
                with m.If(~supported):
                    m.d.sync += code.eq(LayerError.UNSUPPORTED)
                    m.next = "REFUSE"
                with m.Elif(~positive):
                    m.d.sync += code.eq(LayerError.FIELD_RANGE)
                    m.next = "REFUSE"
            if limits.related:
                compare()
            with m.State("OFFER"):
                m.d.comb += self.valid.eq(1)
                with m.If(self.done):
                    m.next = "HEADER"
        return m

    @staticmethod
    def _choose(m: Module, rows: list, number: Value, registers: Sequence[Signal]) -> list[list[Signal]]:
        """The row of that number of each part of as many rows as it can count, a cycle later."""
        size = 1 << len(number)
        parts = [rows[first : first + size] for first in range(0, len(rows), size)]
        chosen = [[Signal(len(register)) for register in registers] for _ in parts]
        for part, values in zip(parts, chosen, strict=True):
            with m.Switch(number):
                for place, row in enumerate(part):
                    with m.Case(place):
                        m.d.sync += [value.eq(operand) for value, operand in zip(values, row, strict=True)]
        return chosen

    def _comparison(
        self, m: Module, code: Signal, *, phased: Value, tile: Value, step: Value, ahead: Value, most_groups: Value
    ) -> Callable[[], None]:
        """Makes one product of two fields after another, and compares it with a third; gives the states for it."""
        limits, job = self.limits, self.job
        fields = {name: job[name] for name in self.job_layout.members}

        def choose(condition: Value, first: ValueLike, second: ValueLike) -> Value:
            flag = Signal(name="condition")
            m.d.sync += flag.eq(condition)
            return Mux(flag, first, second)

        derived = {}
        for name, value in _derived(SimpleNamespace(**fields), phased, choose).items():
            bits = limits.dimension_bits if name.startswith("last") else len(value)
            derived[name] = Signal(bits, name=name)
            m.d.sync += derived[name].eq(value)
        values = SimpleNamespace(**fields, **derived)
        checks = _product_checks(values, limits, tile=tile, step=step, ahead=ahead, most_groups=most_groups)
        check = Signal(range(len(checks)))
        # Bits of a and of b; as c < 2^4, the shifted multiplicand and the sum have a bit more than both together.
        first, second = (max(len(Value.cast(check[place])) for check in checks) for place in range(2))
        multiplicand, product = Signal(max(first, 4) + second + 1), Signal(max(first, 4) + second + 1)
        multiplier = Signal(second)
        bound = Signal(17)
        relations = ("eq", "le", "ge", "lt")
        relation = Signal(range(len(relations)))
        check_code = Signal(8)
        difference = Signal(signed(1 + max(len(product), len(bound))))
        less, equal, holds, is_done = Signal(), Signal(), Signal(), Signal()
        loading = Signal()
        m.d.sync += [
            difference.eq(product - bound),
            less.eq(difference < 0),
            equal.eq(difference == 0),
            is_done.eq((multiplier == 0) & ~loading),
            loading.eq(0),
        ]
        is_last = Signal()
        m.d.sync += [
            holds.eq(Array([equal, less | equal, ~less, less])[relation]),
            is_last.eq(check == len(checks) - 1),
        ]
        # The operands of a check stand three cycles after its number: chosen among four, then among two, then three.
        registers = (multiplicand, multiplier, product, bound, relation, check_code)
        rows = [(a, b, c, d, relations.index(op), error) for a, b, c, op, d, error in checks]
        for low, high in ((0, 2), (2, 3)):
            rows = self._choose(m, rows, check[low:high], registers)
        (operands,) = self._choose(m, rows, check[3:], registers)
        m.d.comb += [register.eq(operand) for register, operand in zip(registers[3:], operands[3:], strict=True)]

        with m.If(loading):
            m.d.sync += [register.eq(operand) for register, operand in zip(registers[:3], operands[:3], strict=True)]
        with m.Else():
            m.d.sync += [multiplicand.eq(multiplicand << 1), multiplier.eq(multiplier >> 1)]
            with m.If(multiplier[0]):
                m.d.sync += product.eq(product + multiplicand)

        def states() -> None:
            with m.State("SELECT"):
                m.next = "SELECTING"
            with m.State("SELECTING"):
                m.next = "SELECTED"
            with m.State("SELECTED"):
                m.d.sync += loading.eq(1)
                m.next = "LOAD"
            with m.State("LOAD"):
                m.next = "MULTIPLY"
            with m.State("MULTIPLY"), m.If(is_done):
                m.next = "WEIGH"
            with m.State("WEIGH"):
                m.next = "COMPARE"
            with m.State("COMPARE"):
                m.d.sync += [check.eq(check + 1), code.eq(check_code)]
                m.next = "SELECT"
                with m.If(~holds):
                    m.d.sync += check.eq(0)
                    m.next = "REFUSE"
                with m.Elif(is_last):
                    m.d.sync += check.eq(0)
                    m.next = "OFFER"

        return states


def _chain_bits(pairs: Sequence[Sequence[str]], limits: DescriptorLimits) -> list[list[int]]:
    """Bits of each half of a word at each place of the chain: a word passes the places of those after it."""
    most = [0, 0]
    bits = []
    for pair in pairs:
        most = [max(least, _field_bits(name, limits)) for least, name in zip(most, pair, strict=True)]
        bits.append(most)
    return bits


def _kind(name: str, limits: DescriptorLimits) -> int | str:
    """What 16 bits must be to be a value of the field: an int8, or a number of so many bits."""
    return "int8" if name in _INT8_FIELDS else _field_bits(name, limits)


def _is_kind(half: Value, kind: int | str) -> Value:
    """Whether 16 bits are of a `_kind`; bits are compared with each other, not numbers."""
    if kind == "int8":
        return half[7:].all() | ~half[7:].any()
    return ~half[kind:].any()


def _fits(name: str, value: int, limits: DescriptorLimits) -> bool:
    """Whether 16 bits, as an integer, are a value of the field."""
    if name not in _INT8_FIELDS:
        return value < 1 << _field_bits(name, limits)
    return value < 0x80 or value >= 0xFF80


def status_layout() -> data.StructLayout:
    """Payload of the engine's status stream, one beat a descriptor.

    `code` is a `LayerError`; the counters are clock cycles and wrap at 2^32: `cycles` from the accepted descriptor to
    the last pixel out, `busy` with a patch chunk entering the array, and the cycles in which the array waited for
    pixels, for weights, and for room behind the accumulators.
    """
    return data.StructLayout(
        {
            "code": 8,
            "cycles": unsigned(32),
            "busy": unsigned(32),
            "wait_pixels": unsigned(32),
            "wait_weights": unsigned(32),
            "wait_drain": unsigned(32),
        }
    )
