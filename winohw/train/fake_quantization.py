"""Narrowing with straight-through gradients: forward as in :mod:`winohw.numerics.formats`, backward as if not there."""

import torch
from torch import Tensor

__all__ = ["inside", "narrow", "on_grid", "round_through"]


def inside(gradient: Tensor, values: Tensor, low: float, high: float) -> Tensor:
    """The gradient where ``low < values < high`` and 0 elsewhere, laid out in memory as the values are."""
    return torch.ops.aten.hardtanh_backward.grad_input(gradient, values, low, high, grad_input=torch.empty_like(values))


class _Narrow(torch.autograd.Function):
    """``saturate(floor(x + 1/2))``; the gradient passes wherever the result does not saturate."""

    @staticmethod
    def forward(ctx, x: Tensor, low: int, high: int) -> Tensor:
        rounded = torch.floor(x + 0.5)
        ctx.save_for_backward(rounded)
        # Between these limits lies what need not be cut off.
        ctx.limits = low - 0.5, high + 0.5
        return rounded.clamp(low, high)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        (rounded,) = ctx.saved_tensors
        return inside(gradient, rounded, *ctx.limits), None, None


class _OnGrid(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, exponent: int, low: int, high: int) -> Tensor:
        step = 2.0**-exponent
        pixels = (x * 2.0**exponent).add_(0.5).floor_().clamp_(low, high).mul_(step)
        ctx.save_for_backward(pixels)
        ctx.limits = low * step, high * step
        return pixels

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (pixels,) = ctx.saved_tensors
        return inside(gradient, pixels, *ctx.limits), None, None, None


class _Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return torch.floor(x + 0.5)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return gradient


def narrow(x: Tensor, low: int, high: int) -> Tensor:
    """Round half up to integers and saturate to ``low`` … ``high``; the gradient is 0 where it saturates, else 1."""
    return _Narrow.apply(x, low, high)


def on_grid(x: Tensor, exponent: int, low: int, high: int) -> Tensor:
    """Round half up to steps of ``2**-exponent`` and saturate to ``low`` … ``high`` steps.

    The gradient is 1 strictly between the limits, else 0: where ``low`` is 0 this is ReLU's.
    """
    return _OnGrid.apply(x, exponent, low, high)


def round_through(x: Tensor) -> Tensor:
    """Round half up to integers; the gradient is 1."""
    return _Round.apply(x)
