"""Images to pixels and back."""

import numpy as np
import pytest
from PIL import Image

from winohw.network.image import contact_sheet, load_image, save_image, to_grey_levels
from winohw.samples import photograph


@pytest.mark.parametrize("channels", [1, 3])
def test_round_trip(tmp_path, channels: int) -> None:
    pixels = np.random.default_rng(3).integers(-128, 128, (7, 5, channels)).astype(np.int8)
    path = tmp_path / "picture.png"
    save_image(path, pixels)
    np.testing.assert_array_equal(load_image(path, channels), pixels)


def test_extremes() -> None:
    np.testing.assert_array_equal(to_grey_levels(np.array([-128, -1, 0, 127], np.int8)), [0, 127, 128, 255])


def test_photograph_ships() -> None:
    assert load_image(photograph()).shape == (192, 256, 3)


def test_errors_name_the_file(tmp_path) -> None:
    with pytest.raises(ValueError, match="there is no image"):
        load_image(tmp_path / "absent.png")
    text = tmp_path / "text.png"
    text.write_text("no image")
    with pytest.raises(ValueError, match="cannot be read as an image"):
        load_image(text)


def test_contact_sheet_shows_every_picture() -> None:
    colours = [np.full((4, 6, 1), value, np.int8) for value in (-100, 0, 100)]
    sheet = contact_sheet([(str(k), picture) for k, picture in enumerate(colours)], columns=2)
    levels = set(np.unique(np.asarray(sheet.convert("L"))))
    assert {28, 128, 228} <= levels
    assert isinstance(sheet, Image.Image)
