"""Small files that ship with the package."""

from importlib.resources import files
from pathlib import Path

__all__ = ["photograph"]


def photograph() -> Path:
    """Path of a small colour photograph, 256 x 192 pixels, in the public domain."""
    return Path(str(files(__package__) / "chelsea.png"))
