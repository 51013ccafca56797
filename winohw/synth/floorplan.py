"""Places for multipliers and block memories of an engine, following its taps.

nextpnr crowds a whole engine into a corner of a large part, where its buses find no way. With the multipliers and the
memories of each tap fixed beside each other, and the taps spread over the part, the rest follows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from winohw.gateware.config import EngineConfig
from winohw.synth.parts import Part

__all__ = ["GRIDS", "Grid", "floorplan", "places"]

_DSP_SLOTS = ((0, "MULT18_0"), (1, "MULT18_1"), (4, "MULT18_4"), (5, "MULT18_5"))
_RAM_SLOTS = ((0, "EBR0"), (2, "EBR1"), (4, "EBR2"), (6, "EBR3"))

#: Multipliers a tap from which on the wires of a part are scarce.
_CROWDED = 3


@dataclass(frozen=True)
class Grid:
    """Where the blocks of four multipliers and of four memories are on an ECP5.

    Attributes
    ----------
    columns : tuple of int
        Columns in which a block begins, the same for both.
    dsp_rows : tuple of int
        Rows of multipliers.
    ram_rows : tuple of tuple of int
        For each of them, the rows of memories for its taps, nearest first.
    bank_rows : tuple of int
        Rows of memories among which the line buffer of a large array is shared out, if there are such arrays. The row
        in the middle is not one of them: what the taps' sums go to is there.

    Source: the names of the cells' places as nextpnr-ecp5 gives them.
    """

    columns: tuple[int, ...]
    dsp_rows: tuple[int, ...]
    ram_rows: tuple[tuple[int, ...], ...]
    bank_rows: tuple[int, ...] = ()


_25K = Grid((4, 13, 22, 33, 42, 51, 60), (13,), ((25, 37),))
_45K = Grid((4, 13, 22, 31, 42, 51, 60, 69, 78), (22, 46), ((34, 10), (58, 34)))
_85K = Grid(
    (4, 13, 22, 31, 40, 49, 58, 69, 78, 87, 96, 105, 114), (10, 34, 58), ((22, 46), (46, 22), (70, 82)), (22, 70, 82)
)

#: By the part, as nextpnr calls it; the smallest one is sold with the next one's die.
GRIDS = {
    "--12k": _25K,
    "--25k": _25K,
    "--45k": _45K,
    "--um5g-45k": _45K,
    "--85k": _85K,
    "--um5g-85k": _85K,
}

_MULTIPLIER = re.compile(r"(?:.*\.)?mac_array\.cell(\d+)\.cell")
_SUMS = re.compile(r"(?:.*\.)?accumulator\.memory(\d+)\.block(\d+)_(\d+)")
_BANK = re.compile(r"(?:.*\.)?line_buffer\.bank_(\d+)_(\d+)\.block(\d+)_(\d+)")
_DRAIN = re.compile(r"(?:.*\.)?drain_buffer\.memory(\d+)_(\d+)\.block(\d+)_(\d+)")


def places(cells: Iterable[str], config: EngineConfig, part: Part) -> dict[str, str]:
    """Places of cells.

    Tap rows are dealt to the rows of multipliers, tap columns to places along them. The multipliers of a tap, one for
    each pair of input and output channel, have a block of their own where there are enough, or share one with the tap
    that has the same control signals (see `MacArray`), and its memories are in the blocks next to it; what finds no
    room there is left to nextpnr. With three or four multipliers a tap, the banks of the line buffer are spread over
    the part as well: in its middle, where nextpnr would have them, there are too few wires across.

    Parameters
    ----------
    cells : iterable of str
        Names of the netlist's multipliers and block memories, the engine's with any prefix.
    config : EngineConfig
    part : Part

    Returns
    -------
    dict of str to str
        For each cell that has one, its place as nextpnr calls it; empty if there is no plan for such a part, or the
        engine has no array of taps.
    """
    grid = next((GRIDS[flag] for flag in part.device if flag in GRIDS), None)
    if grid is None or config.family != "ecp5" or config.datapath != "wide":
        return {}
    n, columns = config.input_tile, config.columns
    lanes = config.input_lanes * config.output_lanes
    sites = _sites(n, columns, lanes, grid)
    if sites is None:
        return {}
    taken: set[str] = set()
    found: dict[str, str] = {}
    cells = list(cells)
    for cell in sorted(cells, key=_natural):
        if match := _MULTIPLIER.fullmatch(cell):
            lane, tap = divmod(int(match[1]), n * columns)
            site = sites[divmod(tap, columns)]
            block, options = site.block, [(grid.dsp_rows[site.band], _DSP_SLOTS[site.slot + lane :][:1])]
        elif match := _SUMS.fullmatch(cell):
            row, column = divmod(int(match[1]) % (n * columns), columns)
            options, block = _memories(sites, grid, row, column)
        elif match := _DRAIN.fullmatch(cell):
            column = int(match[2]) * config.output_columns + min(int(match[4]), config.output_columns - 1)
            options, block = _memories(sites, grid, int(match[1]) % n, column)
        else:
            continue
        for row, slots in options:
            free = [f"X{grid.columns[block] + offset}/Y{row}/{name}" for offset, name in slots]
            place = next((place for place in free if place not in taken), None)
            if place is not None:
                taken.add(place)
                found[cell] = place
                break
    if lanes >= _CROWDED:
        found |= _banks(cells, n, grid, taken)
    return found


def _banks(cells: Iterable[str], n: int, grid: Grid, taken: set[str]) -> dict[str, str]:
    """Places of the line buffer's memories: rows of a patch are dealt to rows of memories, its columns along them."""
    found: dict[str, str] = {}
    bands = len(grid.bank_rows)
    banks = [(match, cell) for cell in cells if (match := _BANK.fullmatch(cell))]
    order = sorted((int(match[2]), int(match[1]), int(match[3]), int(match[4]), cell) for match, cell in banks)
    for band, y in enumerate(grid.bank_rows):
        of_band = [cell for _, row, _, _, cell in order if row * bands // n == band]
        free = [f"X{x + offset}/Y{y}/{slot}" for x in grid.columns for offset, slot in _RAM_SLOTS]
        free = [place for place in free if place not in taken]
        if len(of_band) <= len(free):
            found |= {cell: free[number * len(free) // len(of_band)] for number, cell in enumerate(of_band)}
    return found


@dataclass(frozen=True)
class _Site:
    """Of a tap: its row of multipliers, the block along it, and the first of its places there."""

    band: int
    block: int
    slot: int


def _sites(n: int, columns: int, lanes: int, grid: Grid) -> dict[tuple[int, int], _Site] | None:
    """The sites of all taps (row, column) of the array; None if they have no room."""
    bands, width = len(grid.dsp_rows), len(grid.columns)
    everything = [(pair, a) for pair in range(-(-n // 2)) for a in range(columns)]
    result: dict[tuple[int, int], _Site] = {}
    for band in range(bands):
        of_band = [place for k, place in enumerate(everything) if k * bands // len(everything) == band]
        places = sorted(of_band, key=lambda place: place[::-1])
        taps = [(i, a) for pair, a in places for i in (2 * pair, 2 * pair + 1) if i < n]
        # With a single lane, pairs of taps fill the blocks in the middle: apart, their wires would be longer.
        if len(taps) <= width and 1 < lanes <= 4:
            for number, tap in enumerate(taps):
                result[tap] = _Site(band, number * width // len(taps), 0)
            continue
        # A pair of taps in a block, or in half of one.
        shares = 1 if len(places) <= width else 2
        if len(places) > width * shares or lanes * shares > 2:
            return None
        first = (width * shares - len(places)) // 2
        for number, (pair, a) in enumerate(places, start=first):
            block, share = divmod(number, shares)
            for i in (2 * pair, 2 * pair + 1):
                result[i, a] = _Site(band, block, (2 * share + i % 2) if shares == 2 else 2 * (i % 2))
    return result


def _memories(
    sites: dict[tuple[int, int], _Site], grid: Grid, row: int, column: int
) -> tuple[list[tuple[int, tuple[tuple[int, str], ...]]], int]:
    site = sites[row, column]
    return [(y, _RAM_SLOTS) for y in grid.ram_rows[site.band]], site.block


def _natural(name: str) -> list[str | int]:
    return [int(piece) if piece.isdigit() else piece for piece in re.split(r"(\d+)", name)]


def floorplan(module: dict[str, Any], config: EngineConfig, part: Part) -> dict[str, str]:
    """Give the cells of a mapped netlist, the top module of Yosys's JSON, their `places` as attributes."""
    cells = module["cells"]
    fixed = places((name for name, cell in cells.items() if cell["type"] in ("MULT18X18D", "DP16KD")), config, part)
    for name, place in fixed.items():
        cells[name]["attributes"]["BEL"] = place
    return fixed
