"""What pipelined components have in common: delays, and the layout of a matrix of lanes."""

from amaranth.hdl import Module, ShapeLike, Signal, Value
from amaranth.lib import data

__all__ = ["delayed", "matrix_layout"]


def delayed(
    m: Module, value: Value | data.View, cycles: int, *, name: str, reset_less: bool = False
) -> Value | data.View:
    """The value some cycles later; the value itself for none. ``reset_less`` is for data, not for strobes."""
    for cycle in range(cycles):
        later = Signal(value.shape(), name=f"{name}{cycle}", reset_less=reset_less)
        m.d.sync += later.eq(value)
        value = later
    return value


def matrix_layout(shape: ShapeLike, rows: int, columns: int) -> data.ArrayLayout:
    """Layout of ``[row][column]``."""
    return data.ArrayLayout(data.ArrayLayout(shape, columns), rows)
