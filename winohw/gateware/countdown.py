"""Loop counters that tell their last turn by a flag."""

from __future__ import annotations

from amaranth.hdl import ShapeLike, Signal, Value, ValueLike

__all__ = ["countdown"]


def countdown(
    name: str, turns: ValueLike, width: ShapeLike, *, single: ValueLike | None = None
) -> tuple[Signal, list, list]:
    """Counts the turns of a loop down, with a register beside the count that is set on the last one: no comparison
    stands between a count and the enables of others.

    Parameters
    ----------
    name : str
        Of its signals.
    turns : value-castable
        Turns of the loop, 1 or more; taken with `reload`.
    width : ShapeLike
        Holds the turns.
    single : value-castable, optional
        Whether there is one turn only, if somebody knows; compared on `reload` otherwise.

    Returns
    -------
    last : Signal
        The flag, set on the last turn.
    reload, step : list of statements
        For the domain of one's choice: begin anew, and go to the next turn.
    """
    left, last = Signal(width, name=f"{name}_left"), Signal(name=f"{name}_last")
    reload = [left.eq(turns), last.eq(Value.cast(turns) == 1 if single is None else single)]
    return last, reload, [left.eq(left - 1), last.eq(left == 2)]
