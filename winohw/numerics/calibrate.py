"""Calibration of the ``quantized`` profile: shifts from sample data, and the signal to noise that they yield."""

from enum import Enum
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from winohw.algorithm.toomcook import Winograd
from winohw.numerics.formats import Int64Array, Narrowing, Quantized, Rounding, rounding_shift
from winohw.numerics.golden import GoldenModel, input_patches, layer_kernels, multiply_taps, transform
from winohw.numerics.layer import ConvLayer, fold_zero_point

__all__ = ["Criterion", "calibrate", "layer_signal_to_noise", "signal_to_noise"]

Float64Array: TypeAlias = NDArray[np.float64]


class Criterion(Enum):
    """What a shift is chosen by."""

    #: The least shift with which no sample saturates.
    LARGEST_MAGNITUDE = "largest_magnitude"
    #: The shift that adds the least squared error to the result: a few samples may saturate, the others are finer.
    LEAST_SQUARES = "least_squares"


def calibrate(
    winograd: Winograd,
    layer: ConvLayer,
    pixels: NDArray[np.int8],
    bits: int | tuple[int, int, int] = (8, 8, 16),
    criterion: Criterion = Criterion.LEAST_SQUARES,
    per_tap: bool = True,
    max_shift: int | tuple[int, int, int] = 31,
    rounding: Rounding = Rounding.HALF_UP,
) -> Quantized:
    """Shifts of the ``quantized`` profile for one layer.

    Input and weights come first, each tap by itself. The product then sees what they leave, and has a single choice,
    the sum of the three shifts, since that must be the same for every tap.

    Parameters
    ----------
    winograd
        Matrices for the layer's effective kernel.
    layer
        The layer; its weights are calibrated as they are.
    pixels
        Sample inputs, int8 ``[N, height, width, C]``.
    bits
        Widths of transformed input, transformed weights and product, or one for all three.
    criterion
        What shifts are chosen by.
    per_tap
        Whether each tap has its own shifts, or a stage one for all.
    max_shift
        Greatest shifts of transformed input, transformed weights and product that the hardware takes, or one for all
        three, 0 to 62.
    rounding
        Rounding of all three steps.

    Raises
    ------
    ValueError
        If no shifts up to ``max_shift`` avoid saturation (by largest magnitude) or make the sums of all taps equal.
    """
    layer.check_pixels(pixels)
    widths = (bits,) * 3 if isinstance(bits, int) else bits
    most = (max_shift,) * 3 if isinstance(max_shift, int) else max_shift
    on_input, on_weight, on_product = (Narrowing(width, 0, rounding) for width in widths)
    v = transform(winograd.bt, input_patches(winograd, layer, pixels))
    u = transform(winograd.g, layer_kernels(winograd, layer))
    # The output transform amplifies an error of a product; that of a factor is multiplied by the other factor before.
    gain = (winograd.at.astype(np.float64) ** 2).sum(axis=0)
    amplification = np.outer(gain, gain)
    input_costs = _costs(on_input, v, criterion, most[0], amplification * _mean_square(u))
    on_input = on_input.with_shift(_factor_shifts(input_costs, per_tap, "input"))
    weight_costs = _costs(on_weight, u, criterion, most[1], amplification * _mean_square(v))
    on_weight = on_weight.with_shift(_factor_shifts(weight_costs, per_tap, "weights"))
    scale = on_input.table(winograd.n) + on_weight.table(winograd.n)
    products = multiply_taps(on_input.apply(v), on_weight.apply(u))
    product_costs = _costs(on_product, products, criterion, most[2], amplification * 4.0**scale)
    return Quantized(on_input, on_weight, on_product.with_shift(_product_shifts(product_costs, scale)))


def signal_to_noise(signal: ArrayLike, result: ArrayLike) -> float:
    """Power of ``signal`` over that of its difference to ``result``, in dB; infinite where they are equal."""
    signal = np.asarray(signal, dtype=np.float64)
    noise = float(np.square(signal - np.asarray(result, dtype=np.float64)).sum())
    if not noise:
        return float("inf")
    return float(10 * np.log10(max(float(np.square(signal).sum()), np.finfo(float).tiny) / noise))


def layer_signal_to_noise(model: GoldenModel, layer: ConvLayer, pixels: NDArray[np.int8]) -> float:
    """Signal to noise of a layer's sums against direct convolution, in dB, before bias and requantization.

    The signal is ``Σ weight · (pixel - input_zero_point)``: what the zero point alone would contribute is no signal.
    """
    offset = fold_zero_point(np.zeros(layer.geometry.filters, dtype=np.int64), layer.weights, layer.input_zero_point)
    sums = model.stages(layer, pixels).accumulators.astype(np.float64)
    if isinstance(model.profile, Quantized):
        sums *= 2.0 ** model.profile.total_shift(model.winograd.n) / model.winograd.divisor**2
    return signal_to_noise(layer.accumulators(pixels) + offset.astype(np.float64), sums + offset)


def _costs(
    step: Narrowing, values: Int64Array, criterion: Criterion, max_shift: int, importance: Float64Array
) -> Float64Array:
    """What each shift costs at each tap, ``[shift, n, n]``; infinite where it must not be chosen."""
    n = values.shape[-1]
    taps = values.reshape(-1, n, n)
    costs = np.empty((max_shift + 1, n, n))
    for shift in range(max_shift + 1):
        narrowed = step.with_shift(shift).apply(taps)
        if criterion is Criterion.LARGEST_MAGNITUDE:
            saturates = (narrowed != rounding_shift(taps, shift, step.rounding)).any(axis=0)
            costs[shift] = np.where(saturates, np.inf, shift)
        else:
            error = (narrowed << shift) - taps
            costs[shift] = importance * np.square(error.astype(np.float64)).sum(axis=0)
    return costs


def _factor_shifts(costs: Float64Array, per_tap: bool, what: str) -> ArrayLike:
    """The cheapest shift of each tap, or of all of them together."""
    if not per_tap:
        costs = np.broadcast_to(costs.sum(axis=(1, 2), keepdims=True), costs.shape)
    if not np.isfinite(costs.min(axis=0)).all():
        raise ValueError(f"The transformed {what} saturate even with a shift of {len(costs) - 1}")
    return _simplest(costs.argmin(axis=0))


def _product_shifts(costs: Float64Array, scale: Int64Array) -> ArrayLike:
    """The cheapest shifts that make up, with the factors' shifts ``scale``, the same sum at every tap."""
    rows, columns = np.indices(scale.shape)
    totals = range(int(scale.max()), int(scale.min()) + len(costs))
    sums = [costs[total - scale, rows, columns].sum() for total in totals]
    if not sums or not np.isfinite(min(sums)):
        raise ValueError(f"The products saturate, or their taps differ in scale, even with a shift of {len(costs) - 1}")
    return _simplest(totals[int(np.argmin(sums))] - scale)


def _simplest(shifts: Int64Array) -> ArrayLike:
    """One shift if that of every tap is the same, else the table."""
    return shifts[0, 0] if (shifts == shifts[0, 0]).all() else shifts


def _mean_square(values: Int64Array) -> Float64Array:
    """Mean square of each tap, the last two axes."""
    return np.square(values.astype(np.float64)).mean(axis=tuple(range(values.ndim - 2)))
