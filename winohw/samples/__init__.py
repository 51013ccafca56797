"""Small files that ship with the package."""

from importlib.resources import files
from pathlib import Path

__all__ = ["cifar10_images", "photograph", "trained_resnet20"]


def photograph() -> Path:
    """Path of a small colour photograph, 256 x 192 pixels, in the public domain."""
    return Path(str(files(__package__) / "chelsea.png"))


def trained_resnet20(quantized: bool = False) -> Path:
    """Path of a ResNet-20 for CIFAR-10 in int8, which :class:`winohw.train.integer.IntegerResNet` loads.

    Parameters
    ----------
    quantized
        Whether its convolutions are computed by F(4×4, 3×3) in the ``quantized`` profile, 8 bits in all three steps,
        all with the same matrices; or directly, in the ``exact`` profile.
    """
    return Path(str(files(__package__) / ("resnet20-f4.npz" if quantized else "resnet20.npz")))


def cifar10_images() -> Path:
    """Path of 32 test images of CIFAR-10 and their labels: ``images`` [32, 32, 32, 3] of bytes and ``labels`` [32]."""
    return Path(str(files(__package__) / "cifar10.npz"))
