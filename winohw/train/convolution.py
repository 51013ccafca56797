"""Quantized convolutions to train with, whose rounded output is exactly that of the integer layer they export."""

import math
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from winohw.algorithm.geometry import ConvGeometry
from winohw.algorithm.toomcook import Winograd, winograd
from winohw.numerics.formats import Exact, Narrowing, Profile, Quantized, signed_range
from winohw.numerics.layer import ConvLayer
from winohw.numerics.requantize import Requantization, quantize_multiplier
from winohw.train.fake_quantization import inside, narrow, on_grid, round_through
from winohw.train.fast import requantized
from winohw.train.matrices import Transforms
from winohw.train.matrices import balanced as balanced_matrices
from winohw.train.shifts import Granularity, ShiftTable
from winohw.train.tiles import Tiling, winograd_domain

__all__ = ["DirectConv2d", "QuantizedConv2d", "WinogradConv2d"]

#: Whole numbers below this are exact in single precision.
_EXACT_IN_SINGLE = 2**24
_MAX_SHIFT = 31
_MAX_TOTAL_SHIFT = 62
#: Places of the requantization's right shift up to which its two roundings are told from one in training.
_SECOND_ROUNDING_MATTERS = 6


class _Requantize(torch.autograd.Function):
    """``saturate(round(sums · multiplier + bias)) · step``, channels on axis 1; gradient 0 where it saturates.

    The step is that of the output; where the lower limit is 0, the gradient is ReLU's.
    """

    @staticmethod
    def forward(ctx, sums: Tensor, multiplier: Tensor, bias: Tensor, low: int, high: int, step: float) -> Tensor:
        shape = (1, -1, 1, 1)
        factor, offset = multiplier.view(shape), (bias + 0.5).view(shape)
        # The reference kernels round to a whole number before they shift to the right: half of its unit, up or down.
        right = (-torch.frexp(multiplier.detach()).exponent).clamp_min(0)
        half = torch.where(right > 0, torch.exp2(-right - 1.0), 0.0).to(sums.dtype).view(shape)
        if int(right.min()) > _SECOND_ROUNDING_MATTERS:
            scaled = torch.addcmul(offset, sums, factor)
        elif low >= 0:
            scaled = torch.addcmul(offset + half, sums, factor)
        else:
            scaled = torch.addcmul(bias.view(shape), sums, factor)
            scaled = scaled.add_(torch.copysign(half, scaled)).add_(0.5)
        pixels = scaled.floor_().clamp_(low, high).mul_(step)
        ctx.save_for_backward(sums if ctx.needs_input_grad[1] else None, multiplier, pixels)
        ctx.limits, ctx.step = (low * step, high * step), step
        return pixels

    @staticmethod
    def backward(ctx, gradient: Tensor):
        sums, multiplier, pixels = ctx.saved_tensors
        gradient = inside(gradient, pixels, *ctx.limits)
        d_bias = gradient.sum(dim=(0, 2, 3)) * ctx.step
        d_multiplier = (gradient * sums).sum(dim=(0, 2, 3)) * ctx.step if ctx.needs_input_grad[1] else None
        return gradient.mul_(multiplier.view(1, -1, 1, 1) * ctx.step), d_multiplier, d_bias, None, None, None


class QuantizedConv2d(nn.Module):
    """What all quantized convolutions share: int8 weights with a scale per filter, int8 pixels with a power of two.

    The input is expected on the grid ``2**-input_exponent · (-128 … 127)``, and the output is on that of
    ``output_exponent``. In training mode gradients are straight-through; in evaluation mode the output is computed
    from whole numbers, by the constants that :meth:`to_layer` exports, and is exactly what the integer layer gives.

    Parameters
    ----------
    channels, filters
        Input and output channels.
    kernel_size
        Taps each way.
    stride, padding
        As of :class:`torch.nn.Conv2d`, one number for both axes.
    rectified
        Whether the output is cut off at zero, ReLU.
    quantize_input
        Whether the input is rounded to its grid first; leave it out where the producer has done so.

    Raises
    ------
    ValueError
        If a size is out of range.
    """

    def __init__(
        self,
        channels: int,
        filters: int,
        kernel_size: int = 3,
        stride: int = 1,
        padding: int = 1,
        *,
        rectified: bool = False,
        quantize_input: bool = True,
    ) -> None:
        super().__init__()
        for name, value, least in (("channels", channels, 1), ("filters", filters, 1), ("padding", padding, 0)):
            if value < least:
                raise ValueError(f"The {name} of a convolution must be at least {least}, not {value!r}")
        self.channels, self.filters, self.kernel_size = channels, filters, kernel_size
        self.stride, self.padding, self.quantize_input = stride, padding, quantize_input
        self.limits = (0 if rectified else -128, 127)
        self.weight = nn.Parameter(torch.empty(filters, channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(filters))
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")
        self.register_buffer("input_exponent", torch.tensor(4))
        self.register_buffer("output_exponent", torch.tensor(4))

    def weight_scales(self) -> Tensor:
        """Scale of each filter ``[K]``: its greatest weight becomes ±127."""
        return self.weight.detach().abs().amax(dim=(1, 2, 3)).clamp_min(2.0**-24) / 127

    def integer_weights(self) -> tuple[Tensor, Tensor]:
        """Weights as whole numbers -127 … 127, ``[K, C, r, r]``, with gradients, and the scales ``[K]``."""
        scales = self.weight_scales()
        return narrow(self.weight / scales[:, None, None, None], -127, 127), scales

    def geometry(self, height: int, width: int) -> ConvGeometry:
        """Shape of the layer for images of a size."""
        return ConvGeometry(
            height, width, self.channels, self.filters, self.kernel_size, self.stride, (self.padding,) * 4
        )

    def forward(self, x: Tensor) -> Tensor:
        """Output ``[N, K, H', W']`` of images ``[N, C, H, W]``."""
        exponent_in, exponent_out = int(self.input_exponent), int(self.output_exponent)
        if self.quantize_input:
            x = on_grid(x, exponent_in, -128, 127)
        if not self.training:
            return self._evaluate(x, exponent_in, exponent_out)
        weights, scales = self.integer_weights()
        sums, unit = self.sums(x, 2.0**exponent_in, weights)
        multiplier = scales * 2.0 ** (exponent_out - exponent_in) * unit
        # The hardware adds the bias to the sums, as a whole number of their unit.
        step = multiplier.detach()
        bias = round_through(self.bias * 2.0**exponent_out / step) * step
        return _Requantize.apply(sums, multiplier, bias, *self.limits, 2.0**-exponent_out)

    @torch.no_grad()
    def _evaluate(self, x: Tensor, exponent_in: int, exponent_out: int) -> Tensor:
        weights, _ = self.integer_weights()
        dtype = torch.float32 if self.largest_sum() < _EXACT_IN_SINGLE else torch.float64
        sums, _ = self.sums(x.to(dtype), 2.0**exponent_in, weights.to(dtype))
        layer, matrices, profile = self.to_layer(x.shape[2], x.shape[3])
        constants = layer.requantization_for(matrices, profile)
        pixels = requantized(constants, sums.permute(1, 2, 3, 0).numpy())
        return torch.from_numpy(pixels).permute(3, 0, 1, 2).to(x.dtype) * 2.0**-exponent_out

    def to_layer(self, height: int, width: int) -> tuple[ConvLayer, Winograd, Profile]:
        """The integer layer for images of a size, with the matrices and the profile that it is computed with.

        Raises
        ------
        ValueError
            If a constant leaves the range of its format.
        """
        with torch.no_grad():
            weights, scales = self.integer_weights()
            input_step = 2.0 ** -int(self.input_exponent)
            biases = self.bias.double() / (scales.double() * input_step)
        constants = [quantize_multiplier(s * input_step * 2.0 ** int(self.output_exponent)) for s in scales.tolist()]
        multiplier, shift = zip(*constants, strict=True)
        bias = np.floor(biases.numpy() + 0.5).clip(-(2**31), 2**31 - 1).astype(np.int64)
        requantization = Requantization(bias, np.array(multiplier), np.array(shift), 0, *self.limits)
        kernels = weights.permute(0, 2, 3, 1).numpy().astype(np.int8)
        layer = ConvLayer(self.geometry(height, width), kernels, requantization)
        return layer, *self.arithmetic()

    def sums(self, x: Tensor, scale: float, weights: Tensor) -> tuple[Tensor, float | Tensor]:
        """Sums of pixels ``x · scale`` times weights as the datapath has them, and what their unit is in true sums."""
        raise NotImplementedError

    def arithmetic(self) -> tuple[Winograd, Profile]:
        """Matrices and profile."""
        raise NotImplementedError

    def largest_sum(self) -> float:
        """Bound of every intermediate of :meth:`sums`, counted in steps of its finest digit."""
        raise NotImplementedError

    def calibrate(self, x: Tensor) -> None:
        """Choose from sample images ``[N, C, H, W]`` whatever the arithmetic has to choose."""

    @torch.no_grad()
    def load_conv(self, weight: Tensor, bias: Tensor) -> None:
        """Take over the weights ``[K, C, r, r]`` and biases ``[K]`` of another convolution."""
        self.weight.copy_(weight)
        self.bias.copy_(bias)


class DirectConv2d(QuantizedConv2d):
    """Quantized convolution, computed directly; what exact Winograd convolution gives, too."""

    def sums(self, x: Tensor, scale: float, weights: Tensor) -> tuple[Tensor, float]:
        return functional.conv2d(x, weights * scale, stride=self.stride, padding=self.padding), 1.0

    def arithmetic(self) -> tuple[Winograd, Profile]:
        return winograd(1, self.kernel_size), Exact()

    def largest_sum(self) -> float:
        return 128 * 127 * self.channels * self.kernel_size**2


class WinogradConv2d(QuantizedConv2d):
    """Drop-in for :class:`torch.nn.Conv2d` that computes as the ``quantized`` profile does.

    A layer of stride s is computed by its s² phases with kernels of ⌈r / s⌉ taps, in tiles of the same n.

    Parameters
    ----------
    tile_size
        m of F(m×m, r×r), which fixes n = m + r - 1: 2, 3, 4 or 6 (with kernels of 3).
    transforms
        ``static``: Toom-Cook matrices. ``flex``: learned, from there.
    granularity
        How many scales each of the three steps has.
    bits
        Widths of transformed pixels, transformed weights and products.
    learned_scales
        Whether the shifts are learned, or stay as :meth:`calibrate` chose them.
    fraction_bits
        See :class:`~winohw.train.matrices.Transforms`.
    balanced
        Whether the matrices are, or start from, those of :func:`~winohw.train.matrices.balanced`. The phases of a
        strided layer are then computed by the same matrices, as kernels of r taps, some of which are zero: one engine
        runs the whole network.

    Sources: J. Fernandez-Marques et al., MLSys 2020 (Winograd-aware layers, flex); P. Mori et al., *WinoTrain*, DAC
    2023 (all three steps in 8 bits, power-of-two scales).
    """

    def __init__(
        self,
        channels: int,
        filters: int,
        kernel_size: int = 3,
        stride: int = 1,
        padding: int = 1,
        *,
        tile_size: int = 4,
        transforms: Literal["static", "flex"] = "static",
        granularity: Granularity = Granularity.TAP,
        bits: tuple[int, int, int] = (8, 8, 8),
        learned_scales: bool = False,
        fraction_bits: int = 4,
        balanced: bool = False,
        rectified: bool = False,
        quantize_input: bool = True,
    ) -> None:
        super().__init__(
            channels, filters, kernel_size, stride, padding, rectified=rectified, quantize_input=quantize_input
        )
        if transforms not in ("static", "flex"):
            raise ValueError(f"Transforms must be 'static' or 'flex', not {transforms!r}")
        self.n = tile_size + kernel_size - 1
        self.effective_kernel = kernel_size if balanced else -(-kernel_size // stride)
        self.tile_size = self.n + 1 - self.effective_kernel
        initial = (balanced_matrices if balanced else winograd)(self.tile_size, self.effective_kernel)
        self.transforms = Transforms(initial, transforms == "flex", fraction_bits)
        self.bits = bits
        self.input_shift = ShiftTable(self.n, granularity, learned_scales)
        self.weight_shift = ShiftTable(self.n, granularity, learned_scales)
        self.total_shift = ShiftTable(self.n, Granularity.STAGE, learned_scales)

    def largest_sum(self) -> float:
        with torch.no_grad():
            bt, g, at = (float(matrix.abs().sum(dim=1).max()) for matrix in self.transforms.integers())
        v_bits, u_bits, m_bits = self.bits
        channels = self.channels * min(self.stride, self.kernel_size) ** 2
        return max(
            2 * 128 * bt**2, 2 * 127 * g**2, 2.0 ** (v_bits + u_bits - 1) * channels, 2.0 ** (m_bits - 1) * at**2
        )

    def _tiling(self, x: Tensor) -> Tiling:
        """How images ``[N, C, H, W]`` are cut."""
        geometry = self.geometry(x.shape[2], x.shape[3])
        return Tiling(
            self.tile_size,
            self.n,
            geometry.tile_rows(self.tile_size),
            geometry.tile_columns(self.tile_size),
            signed_range(self.bits[0]),
            signed_range(self.bits[2]),
            self.padding,
            self.stride,
            tuple(geometry.phases),
            geometry.out_height,
            geometry.out_width,
        )

    def _kernels(self, weights: Tensor) -> Tensor:
        """Kernels of all phases ``[r'², K, C']``."""
        if self.stride > 1:
            r, s = self.effective_kernel, self.stride
            phases = range(min(s, self.kernel_size))
            parts = [weights[:, :, row::s, column::s] for row in phases for column in phases]
            parts = [functional.pad(part, (0, r - part.shape[3], 0, r - part.shape[2])) for part in parts]
            weights = torch.cat(parts, dim=1)
        return weights.permute(2, 3, 0, 1).reshape(self.effective_kernel**2, weights.shape[0], weights.shape[1])

    def sums(self, x: Tensor, scale: float, weights: Tensor) -> tuple[Tensor, float | Tensor]:
        tiling = self._tiling(x)
        bt, g, at = (matrix.to(x.dtype) for matrix in self.transforms.integers())
        kernels = self._kernels(weights)
        on_input = self.input_shift(_gradient_scale(x, self.bits[0])).reshape(-1)
        on_weight = self.weight_shift(_gradient_scale(kernels, self.bits[1])).reshape(-1)
        total = self.total_shift(_gradient_scale(x, self.bits[2])).reshape(-1)
        taps, count = self.n**2, kernels.shape[0]
        input_map = torch.kron(bt, bt) * (torch.exp2(-on_input) * scale)[:, None]
        u = (torch.kron(g, g) * torch.exp2(-on_weight)[:, None]) @ kernels.view(count, -1)
        u = narrow(u, *signed_range(self.bits[1])) * torch.exp2(on_input + on_weight - total)[:, None]
        u = u.view(taps, *kernels.shape[1:])
        output = winograd_domain(x.permute(1, 2, 3, 0), u, input_map, torch.kron(at, at), tiling)
        return output.permute(3, 0, 1, 2), torch.exp2(total[0]) / float(self.transforms.divisor) ** 2

    def to_layer(self, height: int, width: int) -> tuple[ConvLayer, Winograd, Profile]:
        layer, matrices, profile = super().to_layer(height, width)
        more = (self.effective_kernel - layer.geometry.effective_kernel) * self.stride
        if more:
            # As the engine takes it: zeros below and to the right until the phases have as many taps as the matrices.
            pads = layer.geometry.pads
            geometry = replace(
                layer.geometry,
                kernel=self.kernel_size + more,
                padding=(pads.top, pads.bottom + more, pads.left, pads.right + more),
            )
            weights = np.pad(layer.weights, ((0, 0), (0, more), (0, more), (0, 0)))
            layer = replace(layer, geometry=geometry, weights=weights)
        return layer, matrices, profile

    def arithmetic(self) -> tuple[Winograd, Profile]:
        with torch.no_grad():
            on_input, on_weight, total = (
                table().numpy().astype(np.int64) for table in (self.input_shift, self.weight_shift, self.total_shift)
            )
        steps = (on_input, on_weight, total - on_input - on_weight)
        narrowings = [
            Narrowing(bits, int(shift[0, 0]) if (shift == shift[0, 0]).all() else shift)
            for bits, shift in zip(self.bits, steps, strict=True)
        ]
        return self.transforms.export(), Quantized(*narrowings)

    @torch.no_grad()
    def calibrate(self, x: Tensor) -> None:
        """Choose the shifts that add the least squared error to the result on sample images ``[N, C, H, W]``.

        Transformed pixels and weights come first, each weighed by what it is multiplied with; then the products, which
        have one choice: their scale must be the same for every tap, since the output transform adds them up.
        """
        tiling = self._tiling(x)
        image = tiling.gather((x * 2.0 ** int(self.input_exponent)).permute(1, 2, 3, 0))
        bt, g, at = self.transforms.integers()
        whole = slice(0, self.n)
        windows = [tiling.window(image, (row, 0, tiling.columns), whole, whole) for row in range(tiling.rows)]
        patches = torch.stack(windows, dim=3).reshape(self.n**2, -1)
        kernels = self._kernels(self.integer_weights()[0])
        v = torch.kron(bt, bt) @ patches
        u = torch.kron(g, g) @ kernels.reshape(kernels.shape[0], -1)
        gain = at.double().square().sum(dim=0)
        amplification = torch.kron(gain, gain)
        v_costs = _costs(v, self.bits[0], amplification * u.double().square().mean(dim=1))
        self.input_shift.set_cheapest(v_costs.numpy().reshape(-1, self.n, self.n))
        u_costs = _costs(u, self.bits[1], amplification * v.double().square().mean(dim=1))
        self.weight_shift.set_cheapest(u_costs.numpy().reshape(-1, self.n, self.n))
        sums = [(self.input_shift().reshape(-1, 1)), self.weight_shift().reshape(-1, 1)]
        v = narrow(v * torch.exp2(-sums[0]), *signed_range(self.bits[0]))
        u = narrow(u * torch.exp2(-sums[1]), *signed_range(self.bits[1])).view(-1, *kernels.shape[1:])
        products = torch.bmm(u, v.view(len(u), u.shape[2], -1)).view(len(u), -1)
        before = (sums[0] + sums[1]).view(-1)
        least = int(before.max())
        low, high = signed_range(self.bits[2])
        prices = []
        for total in range(least, _MAX_TOTAL_SHIFT + 1):
            step = torch.exp2(total - before)[:, None]
            error = (products / step).add_(0.5).floor_().clamp_(low, high).mul_(step).sub_(products)
            squares = error.square_().sum(dim=1, dtype=torch.float64)
            prices.append(float((squares * amplification * 4.0 ** before.double()).sum()))
        self.total_shift.values.fill_(float(least + int(np.argmin(prices))))


def _gradient_scale(values: Tensor, bits: int) -> float:
    """What tames the gradient of a scale that many values share (S. Esser et al., LSQ, ICLR 2020, section 2.2)."""
    return 1 / math.sqrt(values.numel() * (1 << (bits - 1)))


def _costs(values: Tensor, bits: int, importance: Tensor) -> Tensor:
    """Weighted squared error of narrowing each tap, ``[shift, taps]``, of values ``[taps, …]``."""
    low, high = signed_range(bits)
    costs = []
    for shift in range(_MAX_SHIFT):
        step = 2.0**shift
        error = (values / step).add_(0.5).floor_().clamp_(low, high).mul_(step).sub_(values)
        costs.append(error.square_().sum(dim=1, dtype=torch.float64) * importance)
        if shift and float(values.abs().max()) < step:
            costs.extend([costs[-1]] * (_MAX_SHIFT - 1 - shift))
            break
    return torch.stack(costs)
