"""Direct convolution in integers: what every other way of computing a layer is held to."""

import numpy as np
from numpy.typing import NDArray

from winohw.algorithm.geometry import ConvGeometry, Padding

__all__ = ["direct_convolution"]

#: Integers up to here are exact in double precision, whatever order they are added in.
_EXACT_IN_DOUBLE = 2**53


def direct_convolution(
    pixels: NDArray[np.int8],
    weights: NDArray[np.int8],
    stride: int = 1,
    padding: Padding = "same",
    pad_value: int = 0,
) -> NDArray[np.int32]:
    """Sums ``y[b, i, j, k] = Σ w[k, u, v, c] · x[b, s·i + u - top, s·j + v - left, c]`` of an int8 layer.

    Parameters
    ----------
    pixels
        ``[N, H, W, C]``.
    weights
        ``[K, r, r, C]``.
    stride
        Step in pixels each way.
    padding
        As in :class:`~winohw.algorithm.geometry.ConvGeometry`.
    pad_value
        What stands outside the image, -128 to 127: the zero point of the pixels, if they have one.

    Returns
    -------
    sums
        ``[N, out_height, out_width, K]``.

    Raises
    ------
    TypeError
        If pixels or weights are not int8.
    ValueError
        If shapes disagree, the padding value is not int8, or a sum does not fit 32 bits.
    """
    for name, array, axes in (("pixels", pixels, "[N, H, W, C]"), ("weights", weights, "[K, r, r, C]")):
        if array.dtype != np.int8:
            raise TypeError(f"The {name} must be int8, not {array.dtype}")
        if array.ndim != 4:
            raise ValueError(f"The {name} must have the axes {axes}, not the shape {array.shape}")
    filters, kernel, columns, channels = weights.shape
    if kernel != columns or channels != pixels.shape[3]:
        raise ValueError(f"Weights of shape {weights.shape} do not fit pixels of shape {pixels.shape}")
    if not -128 <= pad_value <= 127:
        raise ValueError(f"The padding value must be between -128 and 127, not {pad_value}")
    geometry = ConvGeometry(pixels.shape[1], pixels.shape[2], channels, filters, kernel, stride, padding)
    top, bottom, left, right = geometry.pads
    margins = ((0, 0), (top, bottom), (left, right), (0, 0))
    padded = np.pad(pixels, margins, constant_values=pad_value).astype(np.float64)
    height, width = geometry.out_height, geometry.out_width
    sums = np.zeros((pixels.shape[0], height, width, filters))
    assert kernel**2 * channels << 14 < _EXACT_IN_DOUBLE
    for row in range(kernel):
        for column in range(kernel):
            part = padded[:, row : row + stride * height : stride, column : column + stride * width : stride]
            sums += part[:, :height, :width] @ weights[:, row, column].T.astype(np.float64)
    if sums.size and (sums.max() >= 2**31 or sums.min() < -(2**31)):
        raise ValueError(f"Sums of {kernel}×{kernel}×{channels} products do not fit 32 bits")
    return sums.astype(np.int32)
