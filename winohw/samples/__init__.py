"""Small files that ship with the package."""

from importlib.resources import files
from pathlib import Path

__all__ = ["cifar10_images", "photograph", "trained_resnet20"]


def photograph() -> Path:
    """Path of a small colour photograph, 256 x 192 pixels, in the public domain."""
    return Path(str(files(__package__) / "chelsea.png"))


def trained_resnet20() -> Path:
    """Path of a ResNet-20 for CIFAR-10 in int8, which :class:`winohw.train.integer.IntegerResNet` loads."""
    return Path(str(files(__package__) / "resnet20.npz"))


def cifar10_images() -> Path:
    """Path of 32 test images of CIFAR-10 and their labels: ``images`` [32, 32, 32, 3] of bytes and ``labels`` [32]."""
    return Path(str(files(__package__) / "cifar10.npz"))
