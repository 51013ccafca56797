"""The layer descriptor: its fields, its error codes, and the component that reads and checks it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from amaranth import Array, Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = [
    "DESCRIPTOR_MAGIC",
    "DescriptorLimits",
    "DescriptorReader",
    "InputMode",
    "LayerError",
    "descriptor_fields",
    "descriptor_words",
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
    input_tile: n, the edge of the input tile.
    kernels: kernel sizes r on offer, each 1 ... n.
    max_groups: for each kernel, the most groups of input channels.
    fold, max_tiles, line_words: see `EngineConfig`.
    output_lanes: Pk.
    dimension_bits: width of every size and count field.
    shift_taps: n*n when the engine takes a shift table, else 0.
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
        "group_pitch",
        "slot_pitch",
        "grid_height",
        "grid_width",
        "output_height",
        "output_width",
        "pad_value",
        "output_zero_point",
        "act_min",
        "act_max",
        "reserved",
    )


def descriptor_words(limits: DescriptorLimits) -> int:
    """Words that follow the header word."""
    return len(descriptor_fields()) // 2 + limits.shift_taps


#: Fields that hold an int8.
_INT8_FIELDS = ("pad_value", "output_zero_point", "act_min", "act_max")


class DescriptorReader(wiring.Component):
    """Collects a layer descriptor, checks it, and offers it to the engine.

    Every field is checked against the instance's limits and against the others, products included (on a serial
    multiplier, a bit a cycle), so that no accepted descriptor can make the engine overrun a memory or wait for ever.
    A refused descriptor is dropped up to its `last`; the reader is then ready for the next one.

    Members
    -------
    i : stream of {word: 32 bits, last: 1 bit}.
    job : the accepted fields, stable while `valid`.
    shifts : the shift table, one entry a tap, row-major ({v, u, m}: 5 bits each), stable while `valid`.
    valid : a checked descriptor stands at `job`; it is dropped by `done`.
    error, error_strobe : code of a refused descriptor, for one cycle.
    busy : something of a descriptor has been received.
    """

    def __init__(self, limits: DescriptorLimits):
        self.limits = limits
        bits = limits.dimension_bits
        self._wide = {"group_pitch": 16, "slot_pitch": 16}
        self.job_layout = data.StructLayout(
            {
                name: 8 if name in _INT8_FIELDS else self._wide.get(name, bits)
                for name in descriptor_fields()
                if name != "reserved"
            }
        )
        self.shift_layout = data.ArrayLayout(data.StructLayout({"v": 5, "u": 5, "m": 5}), limits.shift_taps)
        super().__init__(
            {
                "i": In(stream.Signature(data.StructLayout({"word": 32, "last": 1}))),
                "job": Out(self.job_layout),
                "shifts": Out(self.shift_layout),
                "valid": Out(1),
                "done": In(1),
                "error": Out(8),
                "error_strobe": Out(1),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        limits = self.limits
        fields = descriptor_fields()
        words = descriptor_words(limits)
        word, last = self.i.p.word, self.i.p.last
        job = self.job
        index = Signal(range(words + 1))
        bad = Signal(8)

        field_words = len(fields) // 2
        out_of_range = Signal()
        with m.If(self.i.valid & self.i.ready & (index != 0)):
            for number, name in enumerate(fields):
                half = word[16 * (number % 2) :][:16]
                if name == "reserved":
                    continue
                with m.If(index == 1 + number // 2):
                    m.d.sync += job[name].eq(half)
            if limits.shift_taps:
                # The table arrives tap by tap and moves along a chain: no address decoder in front of it.
                with m.If(index > field_words):
                    m.d.sync += self.shifts.as_value().eq(
                        Cat(self.shifts.as_value()[15:], word[0:5], word[8:13], word[16:21])
                    )
        # Bits of a field that this instance does not keep must be zero.
        for number, name in enumerate(fields):
            if name in _INT8_FIELDS or name == "reserved":
                continue
            half = word[16 * (number % 2) :][:16]
            kept = self._wide.get(name, limits.dimension_bits)
            if kept < 16:
                with m.If((index == 1 + number // 2) & half[kept:].any()):
                    m.d.comb += out_of_range.eq(1)

        # Checks that need a product: a * b + c against d.
        step = Signal(range(limits.input_tile + 1))
        tile = Signal(range(limits.input_tile + 1))
        max_groups = Signal(limits.dimension_bits)
        known = Signal()
        for kernel, groups in zip(limits.kernels, limits.max_groups, strict=True):
            size = limits.input_tile + 1 - kernel
            with m.If(job.kernel == kernel):
                m.d.comb += [
                    known.eq(1),
                    tile.eq(size),
                    max_groups.eq(min(groups, 2**limits.dimension_bits - 1)),
                    # A direct engine steps by the stride itself.
                    step.eq(job.stride if size == 1 else size),
                ]
        direct = tile == 1
        phased = job.mode != InputMode.DENSE
        supported = Signal()
        m.d.comb += supported.eq(
            known
            & (job.stride >= 1)
            & (job.stride <= 2)
            & (job.mode <= InputMode.SUBSAMPLE)
            & Mux(direct, ~phased, phased == (job.stride == 2))
        )
        nonzero = Signal()
        m.d.comb += nonzero.eq(
            (job.images != 0)
            & (job.height != 0)
            & (job.width != 0)
            & (job.groups != 0)
            & (job.output_groups != 0)
            & (job.tile_rows != 0)
            & (job.tile_cols != 0)
            & (job.block_rows != 0)
            & (job.slots != 0)
            & (job.filters != 0)
        )
        groups_agree = Signal()
        m.d.comb += groups_agree.eq(
            job.groups == Mux(job.mode == InputMode.POLYPHASE, job.input_groups << 2, job.input_groups)
        )
        n, lanes = limits.input_tile, limits.output_lanes
        # (a, b, c, relation, d, code): a * b + c <relation> d
        checks = [
            (job.tile_rows, job.images, 0, "eq", job.total_rows, LayerError.GEOMETRY),
            (job.tile_cols, limits.fold, 0, "eq", job.group_pitch, LayerError.GEOMETRY),
            (job.group_pitch, job.groups, 0, "eq", job.slot_pitch, LayerError.LINE_BUFFER),
            (job.slot_pitch, job.slots, 0, "le", limits.line_words, LayerError.LINE_BUFFER),
            (job.tile_cols, job.block_rows, 0, "le", limits.max_tiles, LayerError.TOO_MANY_TILES),
            (job.tile_rows - 1, step, n, "eq", job.grid_height, LayerError.GEOMETRY),
            (job.tile_cols - 1, step, n, "eq", job.grid_width, LayerError.GEOMETRY),
            (job.tile_rows, tile, 0, "ge", job.output_height, LayerError.GEOMETRY),
            (job.tile_rows - 1, tile, 0, "lt", job.output_height, LayerError.GEOMETRY),
            (job.tile_cols, tile, 0, "ge", job.output_width, LayerError.GEOMETRY),
            (job.tile_cols - 1, tile, 0, "lt", job.output_width, LayerError.GEOMETRY),
            (job.output_groups, lanes, 0, "ge", job.filters, LayerError.GEOMETRY),
            (job.output_groups - 1, lanes, 0, "lt", job.filters, LayerError.GEOMETRY),
            (job.height, 1, job.pad_top, "le", job.grid_height << phased, LayerError.GEOMETRY),
            (job.width, 1, job.pad_left, "le", job.grid_width << phased, LayerError.GEOMETRY),
            (job.block_rows, 1, 0, "le", job.slots, LayerError.LINE_BUFFER),
            (job.groups, 1, 0, "le", max_groups, LayerError.TOO_MANY_CHANNELS),
        ]
        check = Signal(range(len(checks)))
        multiplicand, product = Signal(33), Signal(33)
        multiplier, bound = Signal(17), Signal(17)
        relation = Signal(2)
        code = Signal(8)
        relations = {"eq": 0, "le": 1, "ge": 2, "lt": 3}
        holds = Signal()
        m.d.comb += holds.eq(Array([product == bound, product <= bound, product >= bound, product < bound])[relation])

        m.d.comb += [self.busy.eq(1), self.error.eq(bad)]
        with m.FSM():
            with m.State("HEADER"):
                m.d.comb += [self.i.ready.eq(1), self.busy.eq(0)]
                m.d.sync += index.eq(1)
                with m.If(self.i.valid):
                    with m.If(word != (DESCRIPTOR_MAGIC << 16 | words)):
                        m.d.sync += bad.eq(LayerError.BAD_HEADER)
                        m.next = "DROP"
                        with m.If(last):
                            m.next = "REFUSE"
                    with m.Elif(last):
                        m.d.sync += bad.eq(LayerError.TRUNCATED)
                        m.next = "REFUSE"
                    with m.Else():
                        m.next = "COLLECT"
            with m.State("COLLECT"):
                m.d.comb += self.i.ready.eq(1)
                with m.If(self.i.valid):
                    m.d.sync += index.eq(index + 1)
                    with m.If(out_of_range):
                        m.d.sync += bad.eq(LayerError.FIELD_RANGE)
                        m.next = "DROP"
                        with m.If(last):
                            m.next = "REFUSE"
                    with m.Elif(last & (index != words)):
                        m.d.sync += bad.eq(LayerError.TRUNCATED)
                        m.next = "REFUSE"
                    with m.Elif(index == words):
                        m.next = "LIMITS"
                        with m.If(~last):
                            m.d.sync += bad.eq(LayerError.TOO_LONG)
                            m.next = "DROP"
            with m.State("DROP"):
                m.d.comb += self.i.ready.eq(1)
                with m.If(self.i.valid & last):
                    m.next = "REFUSE"
            with m.State("REFUSE"):
                m.d.comb += self.error_strobe.eq(1)
                m.next = "HEADER"
            with m.State("LIMITS"):
                m.d.sync += [check.eq(0), index.eq(0)]
                m.next = "LOAD"
                with m.If(~supported):
                    m.d.sync += bad.eq(LayerError.UNSUPPORTED)
                    m.next = "REFUSE"
                with m.Elif(~nonzero):
                    m.d.sync += bad.eq(LayerError.FIELD_RANGE)
                    m.next = "REFUSE"
                with m.Elif(~groups_agree):
                    m.d.sync += bad.eq(LayerError.GEOMETRY)
                    m.next = "REFUSE"
            with m.State("LOAD"):
                with m.Switch(check):
                    for number, (a, b, c, op, d, error) in enumerate(checks):
                        with m.Case(number):
                            m.d.sync += [
                                multiplicand.eq(a),
                                multiplier.eq(b),
                                product.eq(c),
                                bound.eq(d),
                                relation.eq(relations[op]),
                                code.eq(error),
                            ]
                m.next = "MULTIPLY"
            with m.State("MULTIPLY"):
                m.d.sync += [multiplicand.eq(multiplicand << 1), multiplier.eq(multiplier >> 1)]
                with m.If(multiplier[0]):
                    m.d.sync += product.eq(product + multiplicand)
                with m.If(multiplier == 0):
                    m.next = "COMPARE"
            with m.State("COMPARE"):
                m.d.sync += [check.eq(check + 1), bad.eq(code)]
                m.next = "LOAD"
                with m.If(~holds):
                    m.next = "REFUSE"
                with m.Elif(check == len(checks) - 1):
                    m.next = "OFFER"
            with m.State("OFFER"):
                m.d.comb += self.valid.eq(1)
                with m.If(self.done):
                    m.next = "HEADER"
        return m


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
