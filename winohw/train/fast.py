"""Whole layers in whole numbers, as fast as floating-point matrix products that stay exact allow.

The same numbers as :class:`winohw.numerics.golden.GoldenModel`, some ten times faster on many images: single precision
holds whole numbers up to 2**24, double precision up to 2**53, and every sum of a layer has a bound.
"""

import numpy as np
from numpy.typing import NDArray

from winohw.algorithm.geometry import ConvGeometry
from winohw.algorithm.toomcook import Winograd
from winohw.numerics.formats import Narrowing, Profile, Quantized, Rounding, signed_range
from winohw.numerics.golden import GoldenModel, layer_kernels
from winohw.numerics.layer import ConvLayer
from winohw.numerics.requantize import Requantization, ShiftRequantization

__all__ = ["layer_pixels", "requantized"]

_SINGLE, _DOUBLE = 2**24, 2**53


def layer_pixels(layer: ConvLayer, winograd: Winograd, profile: Profile, pixels: NDArray[np.int8]) -> NDArray[np.int8]:
    """Output pixels ``[N, out_height, out_width, K]``, those of ``GoldenModel(winograd, profile).run(layer, pixels)``.

    Raises
    ------
    TypeError, ValueError
        As the golden model does; and if a sum could leave double precision, or a narrowing does not saturate.
    """
    layer.check_pixels(pixels)
    GoldenModel(winograd, profile).check_layer(layer)
    constants = layer.requantization_for(winograd, profile)
    if winograd.direct and winograd.kernel_size == layer.geometry.kernel and not isinstance(profile, Quantized):
        sums = _direct_sums(layer, pixels)
    else:
        sums = _winograd_sums(layer, winograd, profile, pixels)
    return np.ascontiguousarray(requantized(constants, sums).transpose(3, 1, 2, 0))


def _number(largest: int) -> type[np.floating]:
    """The floating-point type that holds all whole numbers up to ``largest``."""
    if largest > _DOUBLE:
        raise ValueError(f"Sums up to {largest} are not exact in double precision: use the golden model")
    return np.float32 if largest <= _SINGLE else np.float64


def _direct_sums(layer: ConvLayer, pixels: NDArray[np.int8]) -> NDArray[np.floating]:
    """Sums over raw pixels ``[K, out_height, out_width, N]``, a row of outputs at a time."""
    geometry, kernel, stride = layer.geometry, layer.geometry.kernel, layer.geometry.stride
    number = _number(int(np.abs(layer.weights.astype(np.int64)).sum(axis=(1, 2, 3)).max()) * 128)
    weights = layer.weights.reshape(geometry.filters, -1).astype(number)
    rows = (geometry.out_height - 1) * stride + kernel
    columns = (geometry.out_width - 1) * stride + kernel
    image = _padded(geometry, pixels, rows, columns, layer.input_zero_point)
    patches = np.empty((kernel, kernel, geometry.channels, geometry.out_width, len(pixels)), number)
    sums = np.empty((geometry.filters, geometry.out_height, geometry.out_width, len(pixels)), number)
    last = (geometry.out_width - 1) * stride + 1
    for row in range(geometry.out_height):
        for i in range(kernel):
            for j in range(kernel):
                patches[i, j] = image[:, row * stride + i, j : j + last : stride]
        sums[:, row] = (weights @ patches.reshape(weights.shape[1], -1)).reshape(sums[:, row].shape)
    return sums


def _winograd_sums(
    layer: ConvLayer, winograd: Winograd, profile: Profile, pixels: NDArray[np.int8]
) -> NDArray[np.floating]:
    """Accumulators ``[K, out_height, out_width, N]``, a row of tiles at a time."""
    geometry, n, m, taps = layer.geometry, winograd.n, winograd.tile_size, winograd.n**2
    on_input, on_weight, on_output = (np.kron(matrix, matrix) for matrix in (winograd.bt, winograd.g, winograd.at))
    kernels = layer_kernels(winograd, layer).astype(np.int64)
    filters, channels = kernels.shape[:2]
    u = np.einsum("kcr,tr->kct", kernels.reshape(filters, channels, -1), on_weight)
    v_limit = int(np.abs(on_input).sum(axis=1).max()) * 128
    if isinstance(profile, Quantized):
        u = profile.weight.apply(u.reshape(filters, channels, n, n)).reshape(u.shape)
        sum_limit = int(np.abs(u).sum(axis=1).max()) << (profile.input.bits - 1)
        limits = [v_limit, sum_limit, int(np.abs(on_output).sum(axis=1).max()) << (profile.product.bits - 1)]
    else:
        sum_limit = int(np.abs(u).sum(axis=1).max()) * v_limit
        limits = [v_limit, sum_limit, int(np.abs(on_output).sum(axis=1).max()) * sum_limit]
    # Twice as much: a half is added before rounding, which is one more digit.
    number = _number(2 * max(limits))
    on_input, on_output = on_input.astype(number), on_output.astype(number)
    u = np.ascontiguousarray(u.transpose(2, 0, 1)).astype(number)
    rows, columns = geometry.tile_rows(m), geometry.tile_columns(m)
    image = _phases(geometry, pixels, rows * m + n - m, columns * m + n - m, layer.input_zero_point)
    patches = np.empty((n, n, channels, columns, len(pixels)), number)
    result = np.empty((filters, rows * m, columns * m, len(pixels)), number)
    last = (columns - 1) * m + 1
    for row in range(rows):
        for i in range(n):
            for j in range(n):
                patches[i, j] = image[:, row * m + i, j : j + last : m]
        v = on_input @ patches.reshape(taps, -1)
        if isinstance(profile, Quantized):
            _narrow(v, profile.input, n)
        products = (u @ v.reshape(taps, channels, -1)).reshape(taps, -1)
        if isinstance(profile, Quantized):
            _narrow(products, profile.product, n)
        outputs = (on_output @ products).reshape(m, m, filters, columns, len(pixels))
        for i in range(m):
            for j in range(m):
                result[:, row * m + i, j::m] = outputs[i, j]
    sums = result[:, : geometry.out_height, : geometry.out_width]
    return sums if isinstance(profile, Quantized) else sums / number(winograd.divisor**2)


def requantized(constants: Requantization | ShiftRequantization, sums: NDArray[np.floating]) -> NDArray[np.int8]:
    """``constants.apply`` of sums with the channels first, in single precision where that cannot differ.

    A product that is not near the middle between two pixels rounds to the same pixel, however it is rounded; the few
    others go through :meth:`~winohw.numerics.requantize.Requantization.apply` itself.

    Parameters
    ----------
    sums
        Whole numbers of 32 bits ``[K, …]`` as floating-point numbers.
    """
    bias = constants.bias.astype(np.int64)
    bound = max(float(sums.max()), -float(sums.min())) + int(np.abs(bias).max()) if sums.size else 0
    if not isinstance(constants, Requantization) or constants.shift.max() > 0 or bound >= 2**31:
        return np.moveaxis(constants.apply(np.moveaxis(sums, 0, -1).astype(np.int64)), -1, 0)
    flat = sums.reshape(len(bias), -1)
    scale = constants.multiplier * 2.0 ** (constants.shift - 31.0)
    offset = bias * scale
    scaled = flat * scale.astype(np.float32)[:, None] if flat.dtype == np.float32 else flat * scale[:, None]
    scaled = scaled.astype(np.float32, copy=False)
    scaled += (offset + 0.5).astype(np.float32)[:, None]
    nearest = np.floor(scaled)
    scaled -= nearest
    # How far the middle may be off: half a unit of the first of the two roundings; and what single precision loses of
    # two addends whose sum is a pixel. Sums beyond all pixels are cut off in any case.
    doubt = 2.0 ** (constants.shift - 1.0) + (512 + 4 * np.abs(offset)) * 2.0**-24
    scaled -= np.float32(0.5)
    np.abs(scaled, out=scaled)
    doubtful = scaled >= (0.5 - doubt).astype(np.float32)[:, None]
    nearest += constants.output_zero_point
    pixels = np.clip(nearest, constants.act_min, constants.act_max, out=nearest).astype(np.int8)
    channel, place = np.nonzero(doubtful)
    if len(channel):
        parts = (getattr(constants, name)[channel] for name in ("bias", "multiplier", "shift"))
        exact = Requantization(*parts, constants.output_zero_point, constants.act_min, constants.act_max)
        pixels[channel, place] = exact.apply(flat[channel, place].astype(np.int64))
    return pixels.reshape(sums.shape)


def _narrow(values: NDArray[np.floating], step: Narrowing, n: int) -> None:
    """``step.apply`` in place, on taps ``[n², …]``."""
    if not step.saturate:
        raise ValueError("Narrowing that loses high bits is not offered here: use the golden model")
    values *= np.exp2(-step.table(n).reshape(-1, 1)).astype(values.dtype)
    if step.rounding is Rounding.HALF_UP:
        values += values.dtype.type(0.5)
    np.floor(values, out=values)
    np.clip(values, *map(values.dtype.type, signed_range(step.bits)), out=values)


def _padded(
    geometry: ConvGeometry, pixels: NDArray[np.int8], rows: int, columns: int, pad_value: int
) -> NDArray[np.int8]:
    """Padded image with the batch innermost, ``[C, rows, columns, N]``."""
    canvas = np.full((geometry.channels, rows, columns, len(pixels)), np.int8(pad_value))
    top, _, left, _ = geometry.pads
    inner = pixels.transpose(3, 1, 2, 0)[:, : rows - top, : columns - left]
    canvas[:, top : top + inner.shape[1], left : left + inner.shape[2]] = inner
    return canvas


def _phases(
    geometry: ConvGeometry, pixels: NDArray[np.int8], rows: int, columns: int, pad_value: int
) -> NDArray[np.int8]:
    """Padded image of the equivalent stride-1 layer, ``[C', rows, columns, N]``."""
    stride = geometry.stride
    image = _padded(geometry, pixels, stride * rows, stride * columns, pad_value)
    if stride == 1:
        return image
    return np.concatenate([image[:, row::stride, column::stride] for row, column in geometry.phases])
