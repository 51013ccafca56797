"""The blocks of tile rows that a layer is cut into, one after the other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from amaranth.hdl import Module, Mux, Signal, Value

__all__ = ["Blocks", "blocks", "keep_for_next_block"]


class Blocks(NamedTuple):
    """The block at hand.

    Attributes
    ----------
    size : Signal
        Its tile rows.
    last : Signal
        It is the layer's last one.
    single : Signal
        It has one tile row only.
    reload : list of statements
        While the layer's values stand, before its first block.
    step : list of statements
        Go to the next block, or the first one: three cycles after the last `reload`, or after the step before.
    """

    size: Signal
    last: Signal
    single: Signal
    reload: list
    step: list


def blocks(m: Module, total_rows: Value, block_rows: Value, width: int) -> Blocks:
    """Runs through the blocks of a layer. What the next one will be is known ahead, and stands in registers.

    Parameters
    ----------
    m : Module
        Gets the statements that look ahead, in the domain ``sync``.
    total_rows, block_rows : Value
        Tile rows of the layer, and of a block but the last one; 1 or more.
    width : int
        Bits of both.
    """
    # Of the next block: tile rows from its first one on; its own.
    rows_after, size_after = Signal(width), Signal(width)
    is_more, last_after, single_after = Signal(), Signal(), Signal()
    block_size, block_last, block_single = Signal(width), Signal(), Signal()
    single_block = Signal()
    m.d.sync += [
        is_more.eq(rows_after > block_rows),
        size_after.eq(Mux(is_more, block_rows, rows_after)),
        last_after.eq(~is_more),
        single_after.eq(Mux(is_more, single_block, rows_after == 1)),
        single_block.eq(block_rows == 1),
    ]
    step = [
        block_size.eq(size_after),
        block_last.eq(last_after),
        block_single.eq(single_after),
        rows_after.eq(rows_after - size_after),
    ]
    return Blocks(block_size, block_last, block_single, [rows_after.eq(total_rows)], step)


def keep_for_next_block(m: Module, over: Value, places: Iterable[tuple[Signal, Signal]]) -> None:
    """Where the loops stand at a block's end is where the next one begins; kept a cycle later, in the domain ``sync``.

    Parameters
    ----------
    m : Module
        Gets the statements.
    over : Value
        The block's last step is done.
    places : iterable of pairs of signals
        What begins with the next block, and what it is if the loops go on from here.
    """
    block_over = Signal()
    m.d.sync += block_over.eq(over)
    for begin, following in places:
        kept = Signal.like(following)
        m.d.sync += kept.eq(following)
        with m.If(block_over):
            m.d.sync += begin.eq(kept)
