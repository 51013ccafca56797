"""Shapes of a convolution layer: outputs, padding, tiles, and the phases of a strided one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

Padding = Literal["same", "valid"] | tuple[int, int, int, int]


class Pads(NamedTuple):
    """Rows and columns of padding at each side of an image."""

    top: int
    bottom: int
    left: int
    right: int


@dataclass(frozen=True)
class ConvGeometry:
    """A two-dimensional convolution layer, NHWC, with square kernels and one stride for both axes.

    A stride s is turned into stride 1 by polyphase decomposition: phase (a, b) is the padded image's pixels
    (s·i + a, s·j + b), convolved with the kernel's taps of the same phase, at most ⌈r/s⌉ each way. The phases add up
    like further input channels.

    Parameters
    ----------
    height, width : int
        Size of the input in pixels, at least 1.
    channels, filters : int
        Input and output channels, at least 1.
    kernel : int
        Taps of the kernel each way, at least 1.
    stride : int
        Step in pixels each way, at least 1.
    padding : "same", "valid" or (top, bottom, left, right)
        ``same`` gives ⌈size / stride⌉ outputs; an odd pixel of padding goes to the bottom and right, as in TFLite.

    Raises
    ------
    TypeError, ValueError
        A parameter is no integer or out of range, the padding is none of these, or no output is left.
    """

    height: int
    width: int
    channels: int
    filters: int
    kernel: int
    stride: int = 1
    padding: Padding = "same"

    def __post_init__(self) -> None:
        for name in ("height", "width", "channels", "filters", "kernel", "stride"):
            _check_integer(name.capitalize(), getattr(self, name), least=1)
        if not isinstance(self.padding, str):
            if not isinstance(self.padding, tuple | list) or len(self.padding) != 4:
                raise TypeError(f"Padding must be 'same', 'valid' or (top, bottom, left, right), not {self.padding!r}")
            for pad in self.padding:
                _check_integer("Padding", pad, least=0)
            object.__setattr__(self, "padding", tuple(self.padding))
        elif self.padding not in ("same", "valid"):
            raise ValueError(f"Padding must be 'same', 'valid' or (top, bottom, left, right), not {self.padding!r}")
        if self.out_height < 1 or self.out_width < 1:
            raise ValueError(
                f"A kernel of {self.kernel} does not fit an image of {self.padded_height}×{self.padded_width} "
                "pixels with its padding"
            )

    @property
    def pads(self) -> Pads:
        """Padding at each side."""
        if self.padding == "same":
            top, bottom = self._same(self.height)
            return Pads(top, bottom, *self._same(self.width))
        return Pads(0, 0, 0, 0) if self.padding == "valid" else Pads(*self.padding)

    @property
    def padded_height(self) -> int:
        """Rows of the image and its padding."""
        return self.height + self.pads.top + self.pads.bottom

    @property
    def padded_width(self) -> int:
        """Columns of the image and its padding."""
        return self.width + self.pads.left + self.pads.right

    @property
    def out_height(self) -> int:
        """Rows of the output."""
        return (self.padded_height - self.kernel) // self.stride + 1

    @property
    def out_width(self) -> int:
        """Columns of the output."""
        return (self.padded_width - self.kernel) // self.stride + 1

    @property
    def outputs(self) -> int:
        """Output values, over all filters."""
        return self.out_height * self.out_width * self.filters

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the direct convolution, those with padding included: the effective MACs."""
        return self.outputs * self.channels * self.kernel**2

    @property
    def effective_kernel(self) -> int:
        """Taps each way of one phase's kernel, ⌈kernel / stride⌉."""
        return -(-self.kernel // self.stride)

    @property
    def phases(self) -> tuple[tuple[int, int], ...]:
        """Phases (row, column) that the kernel touches, row by row: stride² of them unless the kernel is smaller."""
        count = min(self.stride, self.kernel)
        return tuple((row, column) for row in range(count) for column in range(count))

    @property
    def effective_channels(self) -> int:
        """Input channels of the stride-1 convolution that the phases add up to."""
        return len(self.phases) * self.channels

    def tile_rows(self, tile_size: int) -> int:
        """Tiles of ``tile_size`` outputs that cover the output's rows; the last may be partial."""
        return -(-self.out_height // tile_size)

    def tile_columns(self, tile_size: int) -> int:
        """Tiles of ``tile_size`` outputs that cover the output's columns; the last may be partial."""
        return -(-self.out_width // tile_size)

    def tiles(self, tile_size: int) -> int:
        """Tiles of the whole image."""
        return self.tile_rows(tile_size) * self.tile_columns(tile_size)

    def multiplications(self, tile_size: int) -> int:
        """Elementwise products of the layer by F(m×m, r×r), r the effective kernel and m = ``tile_size``."""
        input_tile = tile_size + self.effective_kernel - 1
        return self.tiles(tile_size) * input_tile**2 * self.effective_channels * self.filters

    def polyphase_weights(self, weights: npt.NDArray[np.integer]) -> npt.NDArray[np.integer]:
        """Kernels of the equivalent stride-1 convolution, zero where a phase has fewer taps.

        Parameters
        ----------
        weights : array, (filters, kernel, kernel, channels)
            Any integer type, which the result keeps.

        Returns
        -------
        array, (filters, effective_kernel, effective_kernel, effective_channels)
            Channel ``p · channels + c`` is channel c of phase number p of :attr:`phases`.

        Raises
        ------
        ValueError
            The shape is another.
        """
        wanted = (self.filters, self.kernel, self.kernel, self.channels)
        if weights.shape != wanted:
            raise ValueError(f"Weights must have the shape {wanted}, not {weights.shape}")
        taps = self.effective_kernel
        result = np.zeros((self.filters, taps, taps, len(self.phases), self.channels), weights.dtype)
        for number, (row, column) in enumerate(self.phases):
            part = weights[:, row :: self.stride, column :: self.stride]
            result[:, : part.shape[1], : part.shape[2], number] = part
        return result.reshape(self.filters, taps, taps, self.effective_channels)

    def polyphase_input(self, image: npt.NDArray[np.integer], pad_value: int = 0) -> npt.NDArray[np.integer]:
        """Padded input of the equivalent stride-1 convolution, whose own padding is ``valid``.

        Parameters
        ----------
        image : array, (height, width, channels)
            Any integer type, which the result keeps.
        pad_value : int
            Value of the padding, the input's zero point.

        Returns
        -------
        array, (out_height + effective_kernel - 1, out_width + effective_kernel - 1, effective_channels)
            Channels as in :meth:`polyphase_weights`. Positions beyond the padding, which meet only zero weights, hold
            ``pad_value``.

        Raises
        ------
        ValueError
            The shape is another, or the padding value does not fit the type.
        """
        wanted = (self.height, self.width, self.channels)
        if image.shape != wanted:
            raise ValueError(f"Input must have the shape {wanted}, not {image.shape}")
        limits = np.iinfo(image.dtype)
        if not limits.min <= pad_value <= limits.max:
            raise ValueError(f"Padding value must fit {image.dtype}, not {pad_value}")
        rows = self.out_height + self.effective_kernel - 1
        columns = self.out_width + self.effective_kernel - 1
        canvas = np.full(
            (
                max(rows * self.stride, self.padded_height),
                max(columns * self.stride, self.padded_width),
                self.channels,
            ),
            pad_value,
            image.dtype,
        )
        top, _, left, _ = self.pads
        canvas[top : top + self.height, left : left + self.width] = image
        parts = [canvas[row :: self.stride, column :: self.stride][:rows, :columns] for row, column in self.phases]
        return np.concatenate(parts, axis=2)

    def _same(self, size: int) -> tuple[int, int]:
        """Padding before and after that yields ⌈size / stride⌉ outputs."""
        outputs = -(-size // self.stride)
        total = max((outputs - 1) * self.stride + self.kernel - size, 0)
        return total // 2, total - total // 2


def _check_integer(what: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what} must be an integer, not {value!r}")
    if value < least:
        raise ValueError(f"{what} must be at least {least}, not {value}")
