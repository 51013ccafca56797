"""The three steps in the Winograd domain as one differentiable operation, fast on a CPU.

Images are laid out with the batch innermost, ``[C, H, W, N]``, so that cutting them into tiles moves whole runs of
pixels; the two-dimensional transforms are matrix products with the Kronecker square of their matrix; and one row of
tiles is finished before the next is begun, so that it stays in the cache.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Tiling", "winograd_domain"]


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
    """

    tile_size: int
    n: int
    rows: int
    columns: int
    input_limits: tuple[int, int] | None = None
    product_limits: tuple[int, int] | None = None

    @property
    def height(self) -> int:
        """Rows of the padded image."""
        return self.rows * self.tile_size + self.n - self.tile_size

    @property
    def width(self) -> int:
        """Columns of the padded image."""
        return self.columns * self.tile_size + self.n - self.tile_size

    def patch_pixels(self, image: Tensor, row: int) -> list[Tensor]:
        """Views of pixel (i, j) of every patch of a row of tiles, row-major, each ``[C, columns, N]``."""
        last = (self.columns - 1) * self.tile_size + 1
        return [
            image[:, row * self.tile_size + i, j : j + last : self.tile_size]
            for i in range(self.n)
            for j in range(self.n)
        ]

    def output_pixels(self, image: Tensor, row: int) -> list[Tensor]:
        """Views of output (i, j) of every tile of a row, row-major, each ``[K, columns, N]``."""
        return [
            image[:, row * self.tile_size + i, j :: self.tile_size]
            for i in range(self.tile_size)
            for j in range(self.tile_size)
        ]


def _narrow_(x: Tensor, limits: tuple[int, int] | None) -> Tensor:
    """Round half up and saturate, in place."""
    return x if limits is None else x.add_(0.5).floor_().clamp_(*limits)


def _through(gradient: Tensor, narrowed: Tensor, limits: tuple[int, int] | None) -> Tensor:
    """The gradient where a narrowed value is strictly inside its limits, so that it surely was not cut off."""
    return gradient if limits is None else torch.ops.aten.hardtanh_backward(gradient, narrowed, *limits)


class _WinogradDomain(torch.autograd.Function):
    @staticmethod
    def forward(ctx, image: Tensor, weights: Tensor, input_map: Tensor, output_map: Tensor, tiling: Tiling) -> Tensor:
        taps, filters, channels = weights.shape
        images = image.shape[-1]
        m = tiling.tile_size
        result = image.new_empty(filters, tiling.rows * m, tiling.columns * m, images)
        kept = []
        keep = any(ctx.needs_input_grad)
        patches = image.new_empty(taps, channels, tiling.columns, images)
        for row in range(tiling.rows):
            for target, source in zip(patches, tiling.patch_pixels(image, row), strict=True):
                target.copy_(source)
            v = _narrow_(input_map @ patches.view(taps, -1), tiling.input_limits).view(taps, channels, -1)
            products = _narrow_(torch.bmm(weights, v), tiling.product_limits)
            outputs = (output_map @ products.view(taps, -1)).view(m * m, filters, tiling.columns, images)
            for target, source in zip(tiling.output_pixels(result, row), outputs, strict=True):
                target.copy_(source)
            if keep:
                # The products are needed for the gradient of the output transform, or to see which of them saturated.
                needed = tiling.product_limits is not None or ctx.needs_input_grad[3]
                kept.append(
                    (
                        _compact(v, tiling.input_limits),
                        _compact(products, tiling.product_limits) if needed else None,
                    )
                )
        ctx.tiling, ctx.kept = tiling, kept
        ctx.save_for_backward(image, weights, input_map, output_map)
        return result

    @staticmethod
    def backward(ctx, gradient: Tensor):
        image, weights, input_map, output_map = ctx.saved_tensors
        tiling: Tiling = ctx.tiling
        taps, filters, channels = weights.shape
        images = image.shape[-1]
        to_image, to_weights, to_input_map, to_output_map = ctx.needs_input_grad[:4]
        d_image = torch.zeros_like(image) if to_image else None
        d_weights = torch.zeros_like(weights)
        d_input_map = torch.zeros_like(input_map) if to_input_map else None
        d_output_map = torch.zeros_like(output_map) if to_output_map else None
        backward_weights = weights.transpose(1, 2).contiguous()
        backward_input, backward_output = input_map.t().contiguous(), output_map.t().contiguous()
        m = tiling.tile_size
        d_outputs = gradient.new_empty(m * m, filters, tiling.columns, images)
        for row, (kept_v, kept_products) in enumerate(ctx.kept):
            for target, source in zip(d_outputs, tiling.output_pixels(gradient, row), strict=True):
                target.copy_(source)
            d_flat = d_outputs.view(m * m, -1)
            d_products = (backward_output @ d_flat).view(taps, filters, -1)
            if kept_products is not None:
                products = kept_products.to(weights.dtype)
                if to_output_map:
                    d_output_map += d_flat @ products.view(taps, -1).t()
                d_products = _through(d_products, products, tiling.product_limits)
            v = kept_v.to(weights.dtype)
            if to_weights:
                d_weights += torch.bmm(d_products, v.transpose(1, 2))
            if not (to_image or to_input_map):
                continue
            d_v = torch.bmm(backward_weights, d_products)
            d_v = _through(d_v, v, tiling.input_limits).view(taps, -1)
            if to_input_map:
                patches = torch.stack(tiling.patch_pixels(image, row)).view(taps, -1)
                d_input_map += d_v @ patches.t()
            if to_image:
                d_patches = (backward_input @ d_v).view(taps, channels, tiling.columns, images)
                for target, source in zip(tiling.patch_pixels(d_image, row), d_patches, strict=True):
                    target += source
        return d_image, d_weights if to_weights else None, d_input_map, d_output_map, None


def _compact(x: Tensor, limits: tuple[int, int] | None) -> Tensor:
    """The same values in the smallest type that holds them."""
    if limits is None:
        return x
    return x.to(torch.int8) if limits[1] < 128 else x.to(torch.int16) if limits[1] < 32768 else x


def winograd_domain(image: Tensor, weights: Tensor, input_map: Tensor, output_map: Tensor, tiling: Tiling) -> Tensor:
    """Input transform, elementwise product and output transform of all tiles.

    ``V = narrow(input_map · patch)``, ``M = narrow(Σ weights ⊙ V)``, ``output = output_map · M``, where narrowing
    rounds half up and saturates. Shifts are part of the maps and weights, as powers of two. All arguments are
    differentiable; the gradient does not pass a value that saturates.

    Parameters
    ----------
    image
        Padded, ``[C, tiling.height, tiling.width, N]``.
    weights
        ``[n², K, C]``.
    input_map, output_map
        ``[n², n²]`` and ``[m², n²]``, taps and pixels counted row by row.

    Returns
    -------
    output
        ``[K, rows · m, columns · m, N]``.
    """
    return _WinogradDomain.apply(image.contiguous(), weights, input_map, output_map, tiling)
