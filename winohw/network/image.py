"""Images as int8 pixels, and pictures of results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, UnidentifiedImageError

__all__ = ["contact_sheet", "load_image", "save_image", "to_grey_levels"]

_MARGIN, _CAPTION = 8, 18


def load_image(path: Path, channels: int = 3) -> NDArray[np.int8]:
    """An image file as pixels (height, width, channels) int8: grey level 0 ... 255 becomes -128 ... 127.

    Parameters
    ----------
    channels: 3 for red, green, blue; 1 for luminance.

    Raises
    ------
    ValueError
        The file does not exist or is no image that Pillow reads.
    """
    try:
        with Image.open(path) as image:
            levels = np.asarray(image.convert("RGB" if channels == 3 else "L"), np.uint8)
    except FileNotFoundError:
        raise ValueError(f"there is no image {path}") from None
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"{path} cannot be read as an image: {error}") from None
    levels = levels.reshape(*levels.shape[:2], channels)
    return (levels.astype(np.int16) - 128).astype(np.int8)


def to_grey_levels(pixels: NDArray[np.int8]) -> NDArray[np.uint8]:
    """int8 pixels as levels 0 ... 255."""
    return (pixels.astype(np.int16) + 128).astype(np.uint8)


def save_image(path: Path, pixels: NDArray[np.int8]) -> None:
    """Write pixels (height, width, 1 or 3) as an image file."""
    _picture(pixels).save(path)


def contact_sheet(pictures: Sequence[tuple[str, NDArray[np.int8]]], columns: int = 4) -> Image.Image:
    """Pictures side by side with captions.

    Parameters
    ----------
    pictures: caption and pixels (height, width, 1 or 3) of each; sizes may differ.
    columns: pictures a row.
    """
    width = max(pixels.shape[1] for _, pixels in pictures) + _MARGIN
    height = max(pixels.shape[0] for _, pixels in pictures) + _MARGIN + _CAPTION
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * width + _MARGIN, rows * height + _MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=12)
    for number, (caption, pixels) in enumerate(pictures):
        row, column = divmod(number, columns)
        left, top = _MARGIN + column * width, _MARGIN + row * height
        draw.text((left, top), caption, fill="black", font=font)
        sheet.paste(_picture(pixels), (left, top + _CAPTION))
    return sheet


def _picture(pixels: NDArray[np.int8]) -> Image.Image:
    levels = to_grey_levels(pixels)
    return Image.fromarray(levels[:, :, 0] if levels.shape[2] == 1 else levels)
