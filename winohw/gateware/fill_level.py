"""Whether something waits, known in a register; the count itself follows a cycle later."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, Value

__all__ = ["fill_level"]


def fill_level(m: Module, depth: int, enter: Value, leave: Value) -> tuple[Signal, Signal]:
    """Counts what enters and leaves in the domain ``sync``. No carry chain stands behind ``enter`` and ``leave``.

    Parameters
    ----------
    m : Module
        Gets the statements.
    depth : int
        The most that wait.
    enter, leave : Value, 1 bit
        Something does; it may only leave while ``filled``.

    Returns
    -------
    filled : Signal
        Something has entered by the cycle before and has not left.
    left : Signal
        ``leave``, a cycle later.
    """
    filled, left = Signal(), Signal()
    level, entered = Signal(range(depth + 1)), Signal()  # a cycle late
    m.d.sync += [
        entered.eq(enter),
        left.eq(leave),
        level.eq(level + entered - left),
        filled.eq(
            enter
            | (level > 2)
            | ((level == 2) & (entered | ~left))
            | ((level == 1) & entered & ~left)
            | (filled & ~leave)
        ),
    ]
    return filled, left
