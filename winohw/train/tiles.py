"""The three steps in the Winograd domain as one differentiable operation, fast on a CPU.

Images are laid out with the batch innermost, ``[C, H, W, N]``, so that cutting them into tiles moves whole runs of
pixels; the two-dimensional transforms are matrix products with the Kronecker square of their matrix; and a few tiles
are finished before the next are begun, so that all of their intermediates stay in the cache.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Tiling", "winograd_domain"]

#: Numbers of each intermediate of a block of tiles; all intermediates of a block should fit the second-level cache.
_BLOCK = 1 << 17


@dataclass(frozen=True)
class Tiling:
    """How images are cut, and the widths of what the steps give.

    Parameters
    ----------
    tile_size, n
        Outputs and inputs of a tile each way.
    rows, columns
        Tiles of an image.
    input_limits, product_limits
        Least and greatest transformed pixel and narrowed product; None where nothing is narrowed.
    padding
        Zeros above and to the left of an image.
    stride, phases
        Phase (a, b) is every ``stride``-th pixel of the padded image from row a and column b on; the phases are the
        channels of the image that is cut, those of the first phase before those of the second.
    out_height, out_width
        What is kept of the tiles' outputs; None for all.
    """

    tile_size: int
    n: int
    rows: int
    columns: int
    input_limits: tuple[int, int] | None = None
    product_limits: tuple[int, int] | None = None
    padding: int = 0
    stride: int = 1
    phases: tuple[tuple[int, int], ...] = ((0, 0),)
    out_height: int | None = None
    out_width: int | None = None

    @property
    def height(self) -> int:
        """Rows of the image that is cut."""
        return self.rows * self.tile_size + self.n - self.tile_size

    @property
    def width(self) -> int:
        """Columns of the image that is cut."""
        return self.columns * self.tile_size + self.n - self.tile_size

    def _phase(self, x: Tensor, image: Tensor, number: int) -> tuple[Tensor, Tensor]:
        """The pixels of ``x`` that a phase takes, and where they stand in the image that is cut."""
        channels = x.shape[0]
        source, target = x, image[number * channels : (number + 1) * channels]
        for axis, start in zip((1, 2), self.phases[number], strict=True):
            first = (start - self.padding) % self.stride
            place = (first + self.padding - start) // self.stride
            count = min(-(-(x.shape[axis] - first) // self.stride), image.shape[axis] - place)
            taken = [slice(None)] * 4
            taken[axis] = slice(first, first + (count - 1) * self.stride + 1, self.stride)
            source, target = source[tuple(taken)], target.narrow(axis, place, count)
        return source, target

    def gather(self, x: Tensor) -> Tensor:
        """The image that is cut, ``[C · phases, height, width, N]``, of images ``[C, H, W, N]``."""
        image = x.new_zeros(x.shape[0] * len(self.phases), self.height, self.width, x.shape[3])
        for number in range(len(self.phases)):
            source, target = self._phase(x, image, number)
            target.copy_(source)
        return image

    def scatter(self, d_image: Tensor, shape: torch.Size) -> Tensor:
        """The gradient of images of a shape, given that of :meth:`gather`'s result."""
        inner = d_image[:, self.padding : self.padding + shape[1], self.padding : self.padding + shape[2]]
        if inner.shape == shape:
            return inner
        gradient = d_image.new_zeros(shape)
        for number in range(len(self.phases)):
            target, source = self._phase(gradient, d_image, number)
            target.copy_(source)
        return gradient

    def blocks(self, numbers: int) -> Iterator[tuple[int, int, int]]:
        """Row, first column and columns of each block of tiles, of which a column has so many numbers."""
        step = max(1, min(self.columns, _BLOCK // numbers))
        for row in range(self.rows):
            for column in range(0, self.columns, step):
                yield row, column, min(step, self.columns - column)

    def window(self, image: Tensor, block: tuple[int, int, int], i: slice, j: slice) -> Tensor:
        """A view of the pixels of a block's tiles that lie in rows i and columns j, ``[rows, columns, C, tiles, N]``.

        ``image`` is contiguous and has ``tile_size`` pixels for each step from tile to tile.
        """
        channels, height, width, images = image.shape
        row, column, count = block
        offset = (row * self.tile_size + i.start) * width + column * self.tile_size + j.start
        return image.as_strided(
            (i.stop - i.start, j.stop - j.start, channels, count, images),
            (width * images, images, height * width * images, self.tile_size * images, 1),
            offset * images,
        )


def _narrow_(x: Tensor, limits: tuple[int, int] | None) -> Tensor:
    """Round half up and saturate, in place."""
    return x if limits is None else x.add_(0.5).floor_().clamp_(*limits)


def _through_(gradient: Tensor, narrowed: Tensor, limits: tuple[int, int] | None) -> Tensor:
    """The gradient, in place, where a narrowed value is strictly inside its limits: it surely was not cut off."""
    if limits is None:
        return gradient
    return torch.ops.aten.hardtanh_backward.grad_input(gradient, narrowed, *limits, grad_input=gradient)


def _compact(x: Tensor, limits: tuple[int, int] | None) -> Tensor:
    """A copy of the values in the smallest type that holds them."""
    if limits is None:
        return x.clone()
    return x.to(torch.int8) if limits[1] < 128 else x.to(torch.int16) if limits[1] < 32768 else x.clone()


class _Scratch:
    """Memory of a block's intermediates, used again by the blocks that follow."""

    def __init__(self, like: Tensor) -> None:
        self.like = like
        self.buffers: dict[tuple[str, int], Tensor] = {}

    def __call__(self, name: str, *shape: int) -> Tensor:
        key = (name, shape[-1])
        if key not in self.buffers:
            self.buffers[key] = self.like.new_empty(shape)
        return self.buffers[key]


class _WinogradDomain(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weights: Tensor, input_map: Tensor, output_map: Tensor, tiling: Tiling) -> Tensor:
        taps, filters, channels = weights.shape
        image, images, m, n = tiling.gather(x), x.shape[-1], tiling.tile_size, tiling.n
        result = image.new_empty(filters, tiling.rows * m, tiling.columns * m, images)
        kept = []
        keep = any(ctx.needs_input_grad)
        # The products are needed for the gradient of the output transform, or to see which of them saturated.
        keep_products = keep and (tiling.product_limits is not None or ctx.needs_input_grad[3])
        scratch = _Scratch(image)
        for block in tiling.blocks(taps * max(channels, filters) * images):
            size = block[2] * images
            patches = scratch("patches", taps, channels * size)
            patches.view(n, n, channels, block[2], images).copy_(tiling.window(image, block, slice(0, n), slice(0, n)))
            v = scratch("v", taps, channels * size)
            _narrow_(torch.mm(input_map, patches, out=v), tiling.input_limits)
            products = scratch("products", taps, filters, size)
            _narrow_(torch.bmm(weights, v.view(taps, channels, size), out=products), tiling.product_limits)
            outputs = torch.mm(output_map, products.view(taps, -1), out=scratch("outputs", m * m, filters * size))
            tiling.window(result, block, slice(0, m), slice(0, m)).copy_(outputs.view(m, m, filters, block[2], images))
            if keep:
                kept.append(
                    (
                        block,
                        _compact(v, tiling.input_limits),
                        _compact(products, tiling.product_limits) if keep_products else None,
                    )
                )
        ctx.tiling, ctx.kept, ctx.shape = tiling, kept, x.shape
        ctx.save_for_backward(image if ctx.needs_input_grad[2] else None, weights, input_map, output_map)
        return result[:, : tiling.out_height, : tiling.out_width].contiguous()

    @staticmethod
    def backward(ctx, gradient: Tensor):
        image, weights, input_map, output_map = ctx.saved_tensors
        tiling: Tiling = ctx.tiling
        taps, filters, channels = weights.shape
        images, m, n = gradient.shape[-1], tiling.tile_size, tiling.n
        to_image, to_weights, to_input_map, to_output_map = ctx.needs_input_grad[:4]
        d_image = gradient.new_zeros(channels, tiling.height, tiling.width, images) if to_image else None
        d_weights = torch.zeros_like(weights)
        d_input_map = torch.zeros_like(input_map) if to_input_map else None
        d_output_map = torch.zeros_like(output_map) if to_output_map else None
        backward_weights = weights.transpose(1, 2).contiguous()
        backward_input, backward_output = input_map.t().contiguous(), output_map.t().contiguous()
        whole = (filters, tiling.rows * m, tiling.columns * m, images)
        if gradient.shape != whole:
            padded = gradient.new_zeros(whole)
            padded[:, : gradient.shape[1], : gradient.shape[2]] = gradient
            gradient = padded
        gradient = gradient.contiguous()
        scratch = _Scratch(gradient)
        pieces = [slice(start, min(start + m, n)) for start in range(0, n, m)]
        for block, kept_v, kept_products in ctx.kept:
            size = block[2] * images
            d_outputs = scratch("outputs", m * m, filters * size)
            d_outputs.view(m, m, filters, block[2], images).copy_(
                tiling.window(gradient, block, slice(0, m), slice(0, m))
            )
            d_products = scratch("d_products", taps, filters, size)
            torch.mm(backward_output, d_outputs, out=d_products.view(taps, -1))
            if kept_products is not None:
                products = scratch("products", taps, filters, size).copy_(kept_products)
                if to_output_map:
                    d_output_map += d_outputs @ products.view(taps, -1).t()
                _through_(d_products, products, tiling.product_limits)
            v = scratch("v", taps, channels * size).copy_(kept_v)
            if to_weights:
                d_weights += torch.bmm(d_products, v.view(taps, channels, size).transpose(1, 2))
            if not (to_image or to_input_map):
                continue
            d_v = scratch("d_v", taps, channels * size)
            torch.bmm(backward_weights, d_products, out=d_v.view(taps, channels, size))
            _through_(d_v, v, tiling.input_limits)
            patches = scratch("patches", taps, channels * size)
            if to_input_map:
                inside = tiling.window(image, block, slice(0, n), slice(0, n))
                patches.view(n, n, channels, block[2], images).copy_(inside)
                d_input_map += d_v @ patches.t()
            if to_image:
                d_patches = torch.mm(backward_input, d_v, out=patches).view(n, n, channels, block[2], images)
                # Neighbouring tiles overlap, the same piece of each does not.
                for i in pieces:
                    for j in pieces:
                        tiling.window(d_image, block, i, j).add_(d_patches[i, j])
        d_x = tiling.scatter(d_image, ctx.shape) if to_image else None
        return d_x, d_weights if to_weights else None, d_input_map, d_output_map, None


def winograd_domain(x: Tensor, weights: Tensor, input_map: Tensor, output_map: Tensor, tiling: Tiling) -> Tensor:
    """Input transform, elementwise product and output transform of all tiles.

    ``V = narrow(input_map · patch)``, ``M = narrow(Σ weights ⊙ V)``, ``output = output_map · M``, where narrowing
    rounds half up and saturates. Shifts are part of the maps and weights, as powers of two. All arguments are
    differentiable; the gradient does not pass a value that saturates.

    Parameters
    ----------
    x
        Images ``[C, H, W, N]``.
    weights
        ``[n², K, C · phases]``.
    input_map, output_map
        ``[n², n²]`` and ``[m², n²]``, taps and pixels counted row by row.

    Returns
    -------
    output
        ``[K, out_height, out_width, N]``.
    """
    return _WinogradDomain.apply(x, weights, input_map, output_map, tiling)
