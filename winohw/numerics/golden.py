"""The golden model: what the hardware computes, stage by stage, in numpy."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from winohw.algorithm.modular import ExactDivision, wrap
from winohw.algorithm.toomcook import Winograd
from winohw.numerics.formats import Exact, Int64Array, Narrowing, Profile, Quantized
from winohw.numerics.layer import ConvLayer

__all__ = ["Difference", "GoldenModel", "Stages", "input_patches", "layer_kernels", "multiply_taps", "transform"]

#: What the axes of each stage count, in the order in which the hardware computes the stages.
STAGE_AXES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "patches": ("image", "tile row", "tile column", "channel", "patch row", "patch column"),
        "input_transform": ("image", "tile row", "tile column", "channel", "tap row", "tap column"),
        "weight_transform": ("filter", "channel", "tap row", "tap column"),
        "product": ("image", "tile row", "tile column", "filter", "tap row", "tap column"),
        "output_transform": ("image", "tile row", "tile column", "filter", "output row", "output column"),
        "accumulators": ("image", "row", "column", "filter"),
        "pixels": ("image", "row", "column", "filter"),
    }
)


@dataclass(frozen=True)
class Difference:
    """Where an observed stage first departs from the golden model.

    Parameters
    ----------
    stage
        Name of the stage, an attribute of :class:`Stages`.
    place
        Index of the first wrong value, by what the axis counts.
    expected, observed
        The two values there.
    wrong, total
        How many values of the stage differ, and how many it has.
    """

    stage: str
    place: Mapping[str, int]
    expected: int
    observed: int
    wrong: int
    total: int

    def __str__(self) -> str:
        place = ", ".join(f"{axis} {position}" for axis, position in self.place.items())
        return (
            f"{self.stage} differs first at {place}: expected {self.expected}, observed {self.observed} "
            f"({self.wrong} of {self.total} values differ)"
        )


@dataclass(frozen=True, eq=False)
class Stages:
    """Every intermediate of one layer. N images, R×S tiles, C' effective channels (phases included), K filters.

    Parameters
    ----------
    patches
        ``[N, R, S, C', n, n]`` raw pixels; the input's zero point outside the image.
    input_transform
        V, ``[N, R, S, C', n, n]``.
    weight_transform
        U, ``[K, C', n, n]``.
    product
        M, ``[N, R, S, K, n, n]``: sums over all channels. In the ``exact`` profile they are modular, as the
        accumulators hold them; in the ``quantized`` profile they are narrowed.
    output_transform
        Y, ``[N, R, S, K, m, m]``, before division; modular like M in the ``exact`` profile.
    accumulators
        int32 ``[N, out_height, out_width, K]``: after division in the ``exact`` profile, Y itself in the ``quantized``
        one; no bias added.
    pixels
        int8 ``[N, out_height, out_width, K]``.
    """

    patches: NDArray[np.int8]
    input_transform: Int64Array
    weight_transform: Int64Array
    product: Int64Array
    output_transform: Int64Array
    accumulators: NDArray[np.int32]
    pixels: NDArray[np.int8]

    def first_difference(self, observed: "Stages | Mapping[str, ArrayLike]") -> Difference | None:
        """The first stage, in the order of computation, that was observed to hold something else.

        Parameters
        ----------
        observed
            Values of stages, by name; stages that are missing are not compared.

        Returns
        -------
        difference
            None if all of them are equal.

        Raises
        ------
        ValueError
            If a name is not that of a stage, or a shape is another.
        """
        if isinstance(observed, Stages):
            observed = {field.name: getattr(observed, field.name) for field in fields(observed)}
        if unknown := sorted(set(observed) - set(STAGE_AXES)):
            raise ValueError(f"There is no stage {unknown[0]!r}; the stages are {', '.join(STAGE_AXES)}")
        for stage, axes in STAGE_AXES.items():
            if stage not in observed:
                continue
            expected, actual = getattr(self, stage), np.asarray(observed[stage])
            if expected.shape != actual.shape:
                raise ValueError(f"The stage {stage} has the shape {expected.shape}, but observed was {actual.shape}")
            if (wrong := np.argwhere(expected != actual)).size:
                index = tuple(wrong[0].tolist())
                place = dict(zip(axes, index, strict=True))
                return Difference(stage, place, int(expected[index]), int(actual[index]), len(wrong), expected.size)
        return None


@dataclass(frozen=True)
class GoldenModel:
    """Bit-exact model of the datapath for one pair of matrices and one profile.

    Parameters
    ----------
    winograd
        Matrices. Their kernel size is the layer's effective one, ``⌈kernel / stride⌉``; those of direct convolution
        may have the layer's own kernel size instead.
    profile
        Arithmetic in the Winograd domain.

    Raises
    ------
    ValueError
        If the ``exact`` profile is asked of matrices that are not exact, a shift table has another number of taps, or
        the output transform of the ``quantized`` profile does not fit 32 bits.
    """

    winograd: Winograd
    profile: Profile

    def __post_init__(self) -> None:
        if isinstance(self.profile, Exact):
            if not self.winograd.is_exact():
                raise ValueError(f"The exact profile needs exact matrices, but those of {self.winograd} are not")
            return
        if not isinstance(self.profile, Quantized):
            raise TypeError(f"The profile must be Exact or Quantized, not {self.profile!r}")
        for step in (self.profile.input, self.profile.weight, self.profile.product):
            step.table(self.winograd.n)
        growth = int(np.abs(self.winograd.at).sum(axis=1).max()) ** 2
        if growth << (self.profile.product.bits - 1) > 2**31 - 1:
            raise ValueError(
                f"Products of {self.profile.product.bits} bits, which the output transform of {self.winograd} "
                f"multiplies by up to {growth}, do not fit 32 bits"
            )

    @property
    def division(self) -> ExactDivision:
        """The exact division of the ``exact`` profile, and with it the width of the modular accumulators."""
        if not isinstance(self.profile, Exact):
            raise ValueError("Only the exact profile divides")
        return ExactDivision(self.winograd.divisor**2, self.profile.result_bits)

    def run(
        self, layer: ConvLayer, pixels: NDArray[np.int8], transformed_weights: ArrayLike | None = None
    ) -> NDArray[np.int8]:
        """Output pixels of a layer; parameters and errors as :meth:`stages`."""
        return self.stages(layer, pixels, transformed_weights).pixels

    def stages(
        self, layer: ConvLayer, pixels: NDArray[np.int8], transformed_weights: ArrayLike | None = None
    ) -> Stages:
        """Run a layer and keep every intermediate.

        Parameters
        ----------
        layer
            The layer, of any shape.
        pixels
            int8 ``[N, height, width, C]``.
        transformed_weights
            ``[K, C', n, n]``, for weights that are transformed beforehand by other means; as the weight transform on
            chip gives them unless told.

        Raises
        ------
        TypeError
            If pixels are not int8, or transformed weights not integers.
        ValueError
            If the layer's effective kernel is not that of the matrices, a shape is wrong, transformed weights do not
            fit their width, or a result could exceed the width of the ``exact`` profile.
        """
        layer.check_pixels(pixels)
        self.check_layer(layer)
        patches = input_patches(self.winograd, layer, pixels)
        v = self.transform_input(patches)
        if transformed_weights is None:
            u = self.transform_weights(layer)
        else:
            u = self._check_transformed_weights(layer, transformed_weights)
        m = self.sum_products(v, u)
        y = self.transform_output(m)
        accumulators = self.accumulate(layer, y)
        pixels_out = layer.requantization_for(self.winograd, self.profile).apply(accumulators)
        return Stages(patches, v, u, m, y, accumulators, pixels_out)

    def check_layer(self, layer: ConvLayer) -> None:
        """Raise ValueError unless this model can compute ``layer``."""
        geometry = layer.geometry
        if geometry.effective_kernel != self.winograd.kernel_size and not _strides_directly(self.winograd, layer):
            raise ValueError(
                f"A {geometry.kernel}×{geometry.kernel} layer of stride {geometry.stride} needs matrices for kernels "
                f"of {geometry.effective_kernel}, not {self.winograd}"
            )
        if isinstance(self.profile, Exact):
            low, high = layer.accumulator_range()
            if max(high, ~low) >> (self.profile.result_bits - 1):
                raise ValueError(
                    f"Sums of this layer lie between {low} and {high}: they do not fit the "
                    f"{self.profile.result_bits} bits of the exact profile"
                )

    def transform_input(self, patches: ArrayLike) -> Int64Array:
        """V of patches ``[..., n, n]``, narrowed in the ``quantized`` profile."""
        v = transform(self.winograd.bt, patches)
        return self.profile.input.apply(v) if isinstance(self.profile, Quantized) else v

    def transform_weights(self, layer: ConvLayer) -> Int64Array:
        """U of a layer, ``[K, C', n, n]``, narrowed in the ``quantized`` profile."""
        u = transform(self.winograd.g, layer_kernels(self.winograd, layer))
        return self.profile.weight.apply(u) if isinstance(self.profile, Quantized) else u

    def sum_products(self, v: Int64Array, u: Int64Array) -> Int64Array:
        """M: products summed over channels, modulo the accumulators' width or narrowed.

        Parameters
        ----------
        v
            ``[..., C', n, n]``.
        u
            ``[K, C', n, n]``.
        """
        m = multiply_taps(v, u)
        return self.profile.product.apply(m) if isinstance(self.profile, Quantized) else wrap(m, self.division.acc_bits)

    def transform_output(self, m: ArrayLike) -> Int64Array:
        """Y of products ``[..., n, n]``, before division; modulo the accumulators' width in the ``exact`` profile."""
        y = transform(self.winograd.at, m)
        return y if isinstance(self.profile, Quantized) else wrap(y, self.division.acc_bits)

    def accumulate(self, layer: ConvLayer, y: Int64Array) -> NDArray[np.int32]:
        """Accumulators of tiles ``[N, R, S, K, m, m]``: divided in the ``exact`` profile, joined and cut to size."""
        values = y if isinstance(self.profile, Quantized) else self.division.divide(y)
        joined = values.transpose(0, 1, 4, 2, 5, 3)
        images, rows, height, columns, width, filters = joined.shape
        image = joined.reshape(images, rows * height, columns * width, filters)
        return image[:, : layer.geometry.out_height, : layer.geometry.out_width].astype(np.int32)

    def _check_transformed_weights(self, layer: ConvLayer, weights: ArrayLike) -> Int64Array:
        u = np.asarray(weights)
        shape = (*layer_kernels(self.winograd, layer).shape[:2], self.winograd.n, self.winograd.n)
        if u.dtype.kind not in "iu":
            raise TypeError(f"Transformed weights must be integers, not {u.dtype}")
        if u.shape != shape:
            raise ValueError(f"Transformed weights must have the shape {shape}, not {u.shape}")
        if isinstance(self.profile, Quantized):
            bits = self.profile.weight.bits
            if not np.array_equal(Narrowing(bits).apply(u), u):
                raise ValueError(f"Transformed weights must fit {bits} bits, but lie between {u.min()} and {u.max()}")
        return u.astype(np.int64)


def input_patches(winograd: Winograd, layer: ConvLayer, pixels: NDArray[np.int8]) -> NDArray[np.int8]:
    """Input tiles of a layer, ``[N, R, S, C', n, n]``; whatever lies outside the image is the input's zero point.

    A strided layer is a stride-1 layer over its phases: channel ``p · C + c`` is channel c of phase p of
    :attr:`~winohw.algorithm.geometry.ConvGeometry.phases`. Matrices of direct convolution may also have the layer's
    whole kernel, and then step over the image as it is.
    """
    geometry, n = layer.geometry, winograd.n
    stride, step = (1, geometry.stride) if _strides_directly(winograd, layer) else (geometry.stride, winograd.tile_size)
    phases = geometry.phases if stride > 1 else ((0, 0),)
    tiles = geometry.tile_rows(winograd.tile_size), geometry.tile_columns(winograd.tile_size)
    rows, columns = (stride * ((count - 1) * step + n) for count in tiles)
    canvas = np.full((len(pixels), rows, columns, geometry.channels), np.int8(layer.input_zero_point))
    top, _, left, _ = geometry.pads
    seen = pixels[:, : max(rows - top, 0), : max(columns - left, 0)]
    canvas[:, top : top + seen.shape[1], left : left + seen.shape[2]] = seen
    image = np.concatenate([canvas[:, row::stride, column::stride] for row, column in phases], axis=3)
    windows = np.lib.stride_tricks.sliding_window_view(image, (n, n), axis=(1, 2))
    return np.ascontiguousarray(windows[:, ::step, ::step])


def layer_kernels(winograd: Winograd, layer: ConvLayer) -> NDArray[np.int8]:
    """Kernels of the equivalent stride-1 layer, ``[K, C', r, r]``."""
    dense = _strides_directly(winograd, layer)
    return (layer.weights if dense else layer.geometry.polyphase_weights(layer.weights)).transpose(0, 3, 1, 2)


def transform(matrix: NDArray[np.int64], x: ArrayLike) -> Int64Array:
    """``matrix · x · matrixᵀ`` of each square in the last two axes of ``x``; exact modulo 2**64."""
    x = np.asarray(x)
    rows, columns = matrix.shape
    flat = np.ascontiguousarray(x.reshape(-1, columns**2).T)
    result = _matmul(np.kron(matrix, matrix), flat)
    return np.ascontiguousarray(result.T).reshape(*x.shape[:-2], rows, rows)


def multiply_taps(v: Int64Array, u: Int64Array) -> Int64Array:
    """``Σ over channels of U ⊙ V``: v ``[..., C', n, n]`` and u ``[K, C', n, n]`` give ``[..., K, n, n]``."""
    *tiles, channels, n, _ = v.shape
    per_tap_v = np.ascontiguousarray(v.reshape(-1, channels, n * n).transpose(2, 0, 1))
    per_tap_u = np.ascontiguousarray(u.reshape(-1, channels, n * n).transpose(2, 1, 0))
    sums = _matmul(per_tap_v, per_tap_u)
    return np.ascontiguousarray(sums.transpose(1, 2, 0)).reshape(*tiles, len(u), n, n)


def _strides_directly(winograd: Winograd, layer: ConvLayer) -> bool:
    return winograd.direct and winograd.kernel_size == layer.geometry.kernel


def _matmul(a: NDArray[np.integer], b: NDArray[np.integer]) -> Int64Array:
    """Matrix product of integers: in double precision where that is exact (fast), else in 64-bit integers, wrapping."""
    if a.size and b.size:
        largest = int(np.abs(a.astype(np.int64)).sum(axis=-1).max()) * max(int(b.max()), -int(b.min()))
        if largest < 2**53:
            return (a.astype(np.float64) @ b.astype(np.float64)).astype(np.int64)
    return a.astype(np.int64) @ b.astype(np.int64)
