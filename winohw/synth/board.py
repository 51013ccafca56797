"""Boards: what a board's file says, and where the files are."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType

from amaranth.build.plat import TemplatedPlatform

import winohw
from winohw.gateware.capabilities import Capabilities
from winohw.gateware.config import EngineConfig
from winohw.synth.parts import PARTS, Part, find_part
from winohw.synth.place import PlaceOptions
from winohw.synth.synthesis import SynthesisOptions

__all__ = ["Board", "BoardError", "board_names", "boards_folder", "find_board", "load_board", "part_of"]

#: Packages as nextpnr calls them, by the names that Amaranth's platforms use.
_PACKAGES = MappingProxyType(
    {
        "BG256": "CABGA256",
        "MG285": "CSFBGA285",
        "BG381": "CABGA381",
        "BG554": "CABGA554",
        "BG756": "CABGA756",
    }
)


class BoardError(ValueError):
    """A board is unknown, or its file or its platform cannot be used; the message says why."""


@dataclass(frozen=True)
class Board:
    """A board with a serial port, and the engine that it carries.

    Parameters
    ----------
    title : str
        The board's name for people.
    platform : callable
        Gives a new platform of `amaranth.build`, with a `default_clk` and a serial port among its resources.
    config : EngineConfig
        The engine.
    frequency : float
        MHz that the engine runs at. Where it is not that of the platform's clock, a PLL makes it.
    seed : int
        Placement seed that is known to meet the clock.
    baud : int
        Bits a second of the serial line.
    uart : tuple[str, int]
        Name and number of the platform's resource with the subsignals ``rx`` and ``tx``.
    placement : PlaceOptions
        How nextpnr is called for it.
    synthesis : SynthesisOptions
        How Yosys is called for it.
    programmer : tuple[str, ...]
        What openFPGALoader needs to know: ``("--board", "ulx3s")``; empty if it does not know the board.
    notes : str
        What its owner has to know: adapters, jumpers.
    name : str
        As on the command line; given by the name of its file.

    Raises
    ------
    ValueError
        The clock is not at least twice the bits a second, or they do not divide well enough.
    """

    title: str
    platform: Callable[[], TemplatedPlatform]
    config: EngineConfig
    frequency: float
    seed: int = 1
    baud: int = 1_000_000
    uart: tuple[str, int] = ("uart", 0)
    placement: PlaceOptions = field(default_factory=PlaceOptions)
    synthesis: SynthesisOptions = field(default_factory=SynthesisOptions)
    programmer: tuple[str, ...] = ()
    notes: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        if not self.frequency > 0:
            raise ValueError(f"frequency must be more than 0 MHz, not {self.frequency!r}")
        error = abs(self.clock / self.divisor / self.baud - 1) if self.divisor >= 2 else 1.0
        if error > 0.02:
            raise ValueError(f"{self.frequency:g} MHz cannot be divided into {self.baud} bits a second")

    @property
    def clock(self) -> int:
        """Hz that the engine runs at."""
        return round(self.frequency * 1e6)

    @property
    def divisor(self) -> int:
        """Clock cycles a bit of the serial line."""
        return round(self.clock / self.baud)

    @property
    def capabilities(self) -> Capabilities:
        """What the board says about itself."""
        return Capabilities(self.config, self.name, self.clock)

    @property
    def effective_gops(self) -> float:
        """Giga-operations of direct convolution a second, two a multiply-accumulate, with the array always at work."""
        return 2 * self.config.effective_macs_per_cycle * self.frequency / 1000

    @property
    def part(self) -> Part:
        """What the platform is built around."""
        return part_of(self.platform())


def part_of(platform: TemplatedPlatform) -> Part:
    """The part of a platform.

    Raises
    ------
    BoardError
        It is not among `winohw.synth.parts.PARTS`.
    """
    known = f"known are {', '.join(PARTS)}"
    whole = getattr(platform, "part", None)
    if whole is not None:
        for part in PARTS.values():
            if whole in part.device:
                return part
        raise BoardError(f"The part {whole!r} of {type(platform).__name__} is unknown; {known}")
    try:
        part = find_part(platform.device)
    except ValueError:
        raise BoardError(f"The part {platform.device!r} of {type(platform).__name__} is unknown; {known}") from None
    package = _PACKAGES.get(platform.package, platform.package.lower())
    speed = platform.speed if part.speed else None
    return part.variant(package=package, speed=speed)


def boards_folder() -> Path:
    """Where the files of the boards are: in the installed package, or beside it in a checkout."""
    inside = Path(winohw.__file__).parent / "boards"
    return inside if inside.is_dir() else inside.parents[1] / "boards"


@cache
def board_names() -> tuple[str, ...]:
    """Names of all boards that come with winohw."""
    return tuple(sorted(path.stem.replace("_", "-") for path in boards_folder().glob("*.py")))


def find_board(name: str) -> Board:
    """The board of that name, or of a file of one's own.

    Parameters
    ----------
    name : str
        One of `board_names`, or the path of a Python file that ends with ``.py``.

    Raises
    ------
    BoardError
        It is unknown, or its file cannot be used; the message says why.
    """
    if name.endswith(".py"):
        return load_board(Path(name))
    if name not in board_names():
        raise BoardError(
            f"there is no board {name!r}; there are {', '.join(board_names())}, and any file of your own: ./my_board.py"
        )
    return load_board(boards_folder() / f"{name.replace('-', '_')}.py")


def load_board(path: Path) -> Board:
    """The object ``board`` that a Python file makes; its name is that of the file.

    Raises
    ------
    BoardError
        There is no such file, it fails, or it makes no board.
    """
    if not path.is_file():
        raise BoardError(f"there is no file {path}")
    spec = importlib.util.spec_from_file_location(f"winohw_board_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise BoardError(f"{path}: {error}") from error
    board = getattr(module, "board", None)
    if not isinstance(board, Board):
        raise BoardError(f"{path} makes no Board by the name of board")
    return replace(board, name=path.stem.replace("_", "-"))
