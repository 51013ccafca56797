"""Narrowing with straight-through gradients: forward as in :mod:`winohw.numerics.formats`, backward as if not there."""

import torch
from torch import Tensor

__all__ = ["narrow", "round_through"]


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
        return torch.ops.aten.hardtanh_backward(gradient, rounded, *ctx.limits), None, None


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


def round_through(x: Tensor) -> Tensor:
    """Round half up to integers; the gradient is 1."""
    return _Round.apply(x)
