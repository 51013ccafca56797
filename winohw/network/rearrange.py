"""Other layouts of a layer that give the same results: done by the host, with no arithmetic, where they pay.

* Phases: a layer of stride 2 becomes one of stride 1 with the four input phases as channels. An image of 3 channels
  fills the lanes better that way, and the pixels that a 1×1 kernel skips need not be sent.
* Strip: a 1×1 layer does not care where a pixel stands. All pixels of all images become one image of whole tiles.
* Mosaic: small images stand side by side, their padding shared, so that fewer tiles reach beyond an edge.
* Slices: images too wide for the line buffer, or for blocks of several tile rows in it, are cut into columns.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from winohw.algorithm.geometry import ConvGeometry
from winohw.numerics.layer import ConvLayer

__all__ = ["Arrangement", "Mosaic", "Phases", "Slices", "Step", "Strip"]


class Step(Protocol):
    """One change of layout.

    Attributes
    ----------
    source, source_images : what it is made for.
    geometry, images : what it gives.
    """

    source: ConvGeometry
    source_images: int

    @property
    def geometry(self) -> ConvGeometry: ...
    @property
    def images(self) -> int: ...
    def weights(self, weights: NDArray[np.int8]) -> NDArray[np.int8]:
        """The kernels of the new layer."""
        ...

    def pixels(self, pixels: NDArray[np.int8], pad_value: int) -> NDArray[np.int8]:
        """The images of the new layer."""
        ...

    def results(self, pixels: NDArray[np.int8]) -> NDArray[np.int8]:
        """The output images of the source from those of the new layer."""
        ...


@dataclass(frozen=True)
class Phases:
    """Input phases as channels: a layer of stride s becomes one of stride 1 on an image that holds its padding.

    Raises
    ------
    ValueError
        The stride is 1.
    """

    source: ConvGeometry
    source_images: int

    def __post_init__(self) -> None:
        if self.source.stride == 1:
            raise ValueError("a layer of stride 1 has no phases")

    @cached_property
    def geometry(self) -> ConvGeometry:
        source, taps = self.source, self.source.effective_kernel
        height, width = source.out_height + taps - 1, source.out_width + taps - 1
        return ConvGeometry(height, width, source.effective_channels, source.filters, taps, 1, "valid")

    @property
    def images(self) -> int:
        return self.source_images

    def weights(self, weights: NDArray[np.int8]) -> NDArray[np.int8]:
        return self.source.polyphase_weights(weights)

    def pixels(self, pixels: NDArray[np.int8], pad_value: int) -> NDArray[np.int8]:
        return np.stack([self.source.polyphase_input(image, pad_value) for image in pixels])

    def results(self, pixels: NDArray[np.int8]) -> NDArray[np.int8]:
        return pixels

    def __str__(self) -> str:
        return f"{len(self.source.phases)} phases" if len(self.source.phases) > 1 else "subsampled"


@dataclass(frozen=True)
class Strip:
    """All pixels of all images of a 1×1 layer in one image of another size; what is left over is filled.

    Raises
    ------
    ValueError
        The layer is not 1×1 with stride 1 and without padding, or the image is too small.
    """

    source: ConvGeometry
    source_images: int
    height: int
    width: int

    def __post_init__(self) -> None:
        source = self.source
        if (source.kernel, source.stride, *source.pads) != (1, 1, 0, 0, 0, 0):
            raise ValueError(f"only 1x1 layers of stride 1 without padding make a strip, not {source}")
        if self.height * self.width < self.count:
            raise ValueError(f"{self.height}x{self.width} pixels do not hold {self.count}")

    @property
    def count(self) -> int:
        """Pixels of all images."""
        return self.source_images * self.source.height * self.source.width

    @property
    def geometry(self) -> ConvGeometry:
        return replace(self.source, height=self.height, width=self.width)

    @property
    def images(self) -> int:
        return 1

    def weights(self, weights: NDArray[np.int8]) -> NDArray[np.int8]:
        return weights

    def pixels(self, pixels: NDArray[np.int8], pad_value: int) -> NDArray[np.int8]:
        channels = self.source.channels
        strip = np.full((self.height * self.width, channels), pad_value, np.int8)
        strip[: self.count] = pixels.reshape(-1, channels)
        return strip.reshape(1, self.height, self.width, channels)

    def results(self, pixels: NDArray[np.int8]) -> NDArray[np.int8]:
        source = self.source
        used = pixels.reshape(-1, source.filters)[: self.count]
        return used.reshape(self.source_images, source.height, source.width, source.filters)

    def __str__(self) -> str:
        return f"strip {self.height}×{self.width}"


@dataclass(frozen=True)
class Mosaic:
    """Rows × columns images in one, with as much padding between them as either neighbour needs.

    Raises
    ------
    ValueError
        The stride is not 1.
    """

    source: ConvGeometry
    source_images: int
    rows: int
    columns: int

    def __post_init__(self) -> None:
        if self.source.stride != 1:
            raise ValueError(f"only layers of stride 1 make a mosaic, not {self.source}")

    @property
    def pitch(self) -> tuple[int, int]:
        """Distance of neighbouring images, in pixels down and across."""
        pads = self.source.pads
        return self.source.height + max(pads.top, pads.bottom), self.source.width + max(pads.left, pads.right)

    @property
    def geometry(self) -> ConvGeometry:
        down, across = self.pitch
        source = self.source
        return replace(
            source,
            height=(self.rows - 1) * down + source.height,
            width=(self.columns - 1) * across + source.width,
            padding=tuple(source.pads),
        )

    @property
    def images(self) -> int:
        return -(-self.source_images // (self.rows * self.columns))

    def weights(self, weights: NDArray[np.int8]) -> NDArray[np.int8]:
        return weights

    def pixels(self, pixels: NDArray[np.int8], pad_value: int) -> NDArray[np.int8]:
        geometry = self.geometry
        shape = (self.images, geometry.height, geometry.width, geometry.channels)
        mosaic = np.full(shape, pad_value, np.int8)
        for image, (target, top, left) in zip(pixels, self._places(), strict=False):
            mosaic[target, top : top + self.source.height, left : left + self.source.width] = image
        return mosaic

    def results(self, pixels: NDArray[np.int8]) -> NDArray[np.int8]:
        height, width = self.source.out_height, self.source.out_width
        parts = [pixels[n, top : top + height, left : left + width] for n, top, left in self._places()]
        return np.stack(parts[: self.source_images])

    def _places(self) -> list[tuple[int, int, int]]:
        """Mosaic, top and left of each image, those that are missing included."""
        down, across = self.pitch
        return [
            (image, row * down, column * across)
            for image in range(self.images)
            for row in range(self.rows)
            for column in range(self.columns)
        ]

    def __str__(self) -> str:
        return f"mosaic {self.rows}×{self.columns}"


@dataclass(frozen=True)
class Slices:
    """Every image cut into slices, which overlap by what the kernel reaches over and hold their padding.

    Parameters
    ----------
    width, height : int
        Columns and rows of the output that a slice gives; what the last ones give too many is dropped. Without a height
        a slice has all rows, and leaves the padding above and below to the engine.

    Raises
    ------
    ValueError
        The width or the height is not positive.
    """

    source: ConvGeometry
    source_images: int
    width: int
    height: int | None = None

    def __post_init__(self) -> None:
        for what, size in (("column wide", self.width), ("row high", self.height)):
            if size is not None and size < 1:
                raise ValueError(f"a slice must be at least 1 {what}, not {size!r}")

    @property
    def _rows(self) -> int:
        """Rows of the output that a slice gives."""
        return self.source.out_height if self.height is None else self.height

    @property
    def _grid(self) -> tuple[int, int]:
        """Slices of an image below each other and side by side."""
        return -(-self.source.out_height // self._rows), -(-self.source.out_width // self.width)

    @property
    def count(self) -> int:
        """Slices of an image."""
        down, across = self._grid
        return down * across

    @cached_property
    def geometry(self) -> ConvGeometry:
        source = self.source
        width = (self.width - 1) * source.stride + source.kernel
        if self.height is None:
            return replace(source, width=width, padding=(*source.pads[:2], 0, 0))
        height = (self.height - 1) * source.stride + source.kernel
        return replace(source, height=height, width=width, padding=(0, 0, 0, 0))

    @property
    def images(self) -> int:
        return self.source_images * self.count

    def weights(self, weights: NDArray[np.int8]) -> NDArray[np.int8]:
        return weights

    def pixels(self, pixels: NDArray[np.int8], pad_value: int) -> NDArray[np.int8]:
        source, (down, across) = self.source, self._grid
        height, width = self.geometry.height, self.geometry.width
        row_pitch, pitch = self._rows * source.stride, self.width * source.stride
        top, left = 0 if self.height is None else source.pads[0], source.pads[2]
        rows = max((down - 1) * row_pitch + height, top + source.height)
        columns = max((across - 1) * pitch + width, left + source.width)
        canvas = np.full((len(pixels), rows, columns, source.channels), pad_value, np.int8)
        canvas[:, top : top + source.height, left : left + source.width] = pixels
        slices = [
            canvas[:, row_pitch * row :, pitch * column :][:, :height, :width]
            for row in range(down)
            for column in range(across)
        ]
        return np.stack(slices, axis=1).reshape(-1, height, width, source.channels)

    def results(self, pixels: NDArray[np.int8]) -> NDArray[np.int8]:
        source, (down, across) = self.source, self._grid
        slices = pixels.reshape(self.source_images, down, across, self._rows, self.width, source.filters)
        images = np.moveaxis(slices, 3, 2).reshape(self.source_images, down * self._rows, -1, source.filters)
        return images[:, : source.out_height, : source.out_width]

    def __str__(self) -> str:
        return f"{self.count} slices"


@dataclass(frozen=True)
class Arrangement:
    """Several changes of layout, one after the other; none leaves everything as it is.

    Parameters
    ----------
    source : the layer's shape.
    source_images : images of the batch.
    steps : each made for what the one before gives.

    Raises
    ------
    ValueError
        A step is made for something else.
    """

    source: ConvGeometry
    source_images: int
    steps: tuple[Step, ...] = ()

    def __post_init__(self) -> None:
        geometry, images = self.source, self.source_images
        for step in self.steps:
            if (step.source, step.source_images) != (geometry, images):
                raise ValueError(
                    f"{step} is made for {step.source_images} of {step.source}, not {images} of {geometry}"
                )
            geometry, images = step.geometry, step.images

    @property
    def geometry(self) -> ConvGeometry:
        """Shape of the new layer."""
        return self.steps[-1].geometry if self.steps else self.source

    @property
    def images(self) -> int:
        """Images of the new batch."""
        return self.steps[-1].images if self.steps else self.source_images

    def layer(self, layer: ConvLayer) -> ConvLayer:
        """The layer on the new layout; its results are the same integers."""
        if layer.geometry != self.source:
            raise ValueError(f"the arrangement is for {self.source}, not {layer.geometry}")
        weights = layer.weights
        for step in self.steps:
            weights = step.weights(weights)
        return replace(layer, geometry=self.geometry, weights=weights)

    def pixels(self, pixels: NDArray[np.int8], pad_value: int) -> NDArray[np.int8]:
        """The images (images, height, width, channels) on the new layout; `pad_value` is the input's zero point."""
        for step in self.steps:
            pixels = step.pixels(pixels, pad_value)
        return pixels

    def results(self, pixels: NDArray[np.int8]) -> NDArray[np.int8]:
        """The output images (images, out_height, out_width, filters) from those of the new layout."""
        for step in reversed(self.steps):
            pixels = step.results(pixels)
        return pixels

    def __str__(self) -> str:
        return ", ".join(map(str, self.steps))
