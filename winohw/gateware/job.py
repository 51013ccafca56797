"""What the engine expects at its ports for a layer: descriptor, weight beats, pixel beats; the order of its output."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from winohw.gateware.config import EngineConfig
from winohw.gateware.descriptor import (
    DESCRIPTOR_MAGIC,
    InputMode,
    descriptor_fields,
    descriptor_words,
    rows_ahead,
)
from winohw.gateware.schedule import tile_row_times
from winohw.gateware.weight_loader import CONSTANT_BYTES
from winohw.numerics.formats import Profile, Quantized
from winohw.numerics.golden import transform
from winohw.numerics.layer import ConvLayer
from winohw.numerics.requantize import Requantization, ShiftRequantization

__all__ = ["Job", "UnsupportedLayer"]


class UnsupportedLayer(ValueError):
    """The instance cannot run the layer; the message says which limit is in the way."""


def _ceil(a: int, b: int) -> int:
    return -(-a // b)


@dataclass(frozen=True, eq=False)
class Job:
    """One layer, laid out for one engine.

    Parameters
    ----------
    config : EngineConfig
        The engine.
    layer : ConvLayer
        The layer.
    images : int
        Images of the batch, 1 or more. Tile rows of several images may share a block.
    profile : Exact or Quantized, optional
        The arithmetic; for a quantized engine it holds the shift tables, an exact one needs none.
    block_rows : int, optional
        Tile rows a block; None: the number that takes the fewest cycles, or on an engine with a stationary datapath the
        fewest blocks.

    Raises
    ------
    UnsupportedLayer
        A limit of the instance is in the way: kernel, channels, tiles a block, line buffer, kind of
        requantization.
    ValueError
        There is no image, or the profile is not that of the engine.
    """

    config: EngineConfig
    layer: ConvLayer
    images: int = 1
    profile: Profile | None = None
    block_rows: int | None = None

    def __post_init__(self) -> None:
        if self.images < 1:
            raise ValueError(f"images must be at least 1, not {self.images}")
        if self.profile is None:
            object.__setattr__(self, "profile", self.config.exact_profile())
        self.config.check_profile(self.profile)
        config = self.config
        kind = "tflite" if isinstance(self.layer.requantization, Requantization) else "shift"
        if kind != config.requantizer:
            raise UnsupportedLayer(f"the layer's requantization is {kind!r}, this engine's {config.requantizer!r}")
        sizes = {
            "images": self.images,
            "height": self.layer.geometry.height,
            "width": self.layer.geometry.width,
            "filters": self.layer.geometry.filters,
            "groups of input channels": self.groups,
            "tile rows": self.total_rows,
            "output height": self.layer.geometry.out_height,
            "output width": self.layer.geometry.out_width,
            "padded height": self.grid_height,
            "padded width": self.grid_width,
        }
        for what, size in sizes.items():
            if size >= 1 << config.dimension_bits:
                raise UnsupportedLayer(f"{what} {size} is more than this engine's {(1 << config.dimension_bits) - 1}")
        most = config.max_groups(self.kernel)
        if self.groups > most:
            raise UnsupportedLayer(
                f"{self.groups * config.input_lanes} input channels are more than this engine's accumulators allow: "
                f"{most * config.input_lanes} with a {self.kernel}x{self.kernel} kernel"
            )
        if self.tile_columns > config.max_tiles:
            raise UnsupportedLayer(
                f"{self.tile_columns} tiles a row are more than this engine's {config.max_tiles} tiles a block"
            )
        needed = min(1 + self._rows_ahead, self.total_rows)
        if needed * self.slot_pitch > config.line_words:
            raise UnsupportedLayer(
                f"{needed} tile rows take {needed * self.slot_pitch} words a bank, the line buffer has "
                f"{config.line_words}"
            )
        self._check_requantization()
        if self.block_rows is None:
            object.__setattr__(self, "block_rows", self._best_block())
        elif self.block_rows not in self.block_choices:
            raise UnsupportedLayer(
                f"block_rows must be within 1 ... {max(self.block_choices)} for this layer, not {self.block_rows}"
            )

    def _check_requantization(self) -> None:
        """What a requantization without multipliers has to fulfil beyond the range of its fields."""
        requantization, bits = self.layer.requantization, self.config.fraction_bits
        if isinstance(requantization, Requantization):
            return
        if self.config.quantized:
            try:
                requantization = self.requantization
            except ValueError:
                return  # it is told when the constants are asked for; a job may be for its shape alone
        most, least = int(requantization.shift.max()), int(requantization.shift.min())
        if most > bits or least < bits - 31:
            wrong = most if most > bits else least
            raise UnsupportedLayer(
                f"a sum would have to be multiplied by 2**{wrong}, this engine offers 2**{bits - 31} ... 2**{bits}"
            )
        largest = int(np.abs(requantization.bias.astype(np.int64)).max())
        if bits and largest > self.config.largest_bias:
            raise UnsupportedLayer(f"a bias of {largest} is more than this engine's {self.config.largest_bias}")

    # --- shape ---------------------------------------------------------------------------------------------------
    @cached_property
    def kernel(self) -> int:
        """Kernel size r that the engine runs, at least the layer's own (a phase's, with stride 2)."""
        geometry, config = self.layer.geometry, self.config
        if geometry.stride > 2:
            raise UnsupportedLayer(f"stride must be 1 or 2, not {geometry.stride}")
        needed = geometry.kernel if config.direct else geometry.effective_kernel
        for kernel in sorted(config.kernels):
            if kernel >= needed:
                return kernel
        raise UnsupportedLayer(
            f"a {geometry.kernel}x{geometry.kernel} kernel with stride {geometry.stride} needs kernels of {needed}, "
            f"this engine offers {', '.join(map(str, sorted(config.kernels)))}"
        )

    @property
    def tile_size(self) -> int:
        """m, edge of the output tile."""
        return self.config.input_tile + 1 - self.kernel

    @cached_property
    def mode(self) -> InputMode:
        """How pixels become channels."""
        geometry = self.layer.geometry
        if geometry.stride == 1 or self.config.direct:
            return InputMode.DENSE
        return InputMode.SUBSAMPLE if len(geometry.phases) == 1 else InputMode.POLYPHASE

    @property
    def step(self) -> int:
        """Distance between neighbouring patches, in pixels of a phase."""
        return self.layer.geometry.stride if self.config.direct else self.tile_size

    @property
    def phases(self) -> int:
        """Phases that become channels."""
        return 4 if self.mode == InputMode.POLYPHASE else 1

    @property
    def input_groups(self) -> int:
        """Groups of Pc channels of the image."""
        return _ceil(self.layer.geometry.channels, self.config.input_lanes)

    @property
    def groups(self) -> int:
        """Groups of Pc channels that the array accumulates."""
        return self.input_groups * self.phases

    @property
    def output_groups(self) -> int:
        """Groups of Pk output channels."""
        return _ceil(self.layer.geometry.filters, self.config.output_lanes)

    @property
    def tile_rows(self) -> int:
        """Tile rows of one image."""
        return self.layer.geometry.tile_rows(self.tile_size)

    @property
    def tile_columns(self) -> int:
        """Tile columns."""
        return self.layer.geometry.tile_columns(self.tile_size)

    @property
    def total_rows(self) -> int:
        """Tile rows of the whole batch."""
        return self.images * self.tile_rows

    @property
    def grid_height(self) -> int:
        """Rows of a phase of the padded image that the tiles cover."""
        return (self.tile_rows - 1) * self.step + self.config.input_tile

    @property
    def grid_width(self) -> int:
        """Columns of a phase of the padded image that the tiles cover."""
        return (self.tile_columns - 1) * self.step + self.config.input_tile

    @property
    def used_height(self) -> int:
        """Image rows that some tile covers; the others are not sent."""
        scale = 1 if self.mode == InputMode.DENSE else 2
        return min(self.layer.geometry.height, self.grid_height * scale - self.layer.geometry.pads.top)

    @property
    def used_width(self) -> int:
        """Image columns that some tile covers; the others are not sent."""
        scale = 1 if self.mode == InputMode.DENSE else 2
        return min(self.layer.geometry.width, self.grid_width * scale - self.layer.geometry.pads.left)

    @property
    def group_pitch(self) -> int:
        """Words of one channel group of one tile row in the line buffer."""
        return self.tile_columns * self.config.fold

    @property
    def slot_pitch(self) -> int:
        """Words of one tile row in the line buffer."""
        return self.group_pitch * self.groups

    @property
    def slots(self) -> int:
        """Tile rows that the line buffer holds."""
        return min(self.config.line_words // self.slot_pitch, self.total_rows)

    @property
    def blocks(self) -> int:
        """Blocks of the layer; the weights are sent once for each."""
        return _ceil(self.total_rows, self.block_rows)

    def group_cycles(self, rows: int) -> int:
        """Cycles of one pass over `rows` tile rows: as many as chunks, unless loading the weights takes longer."""
        config = self.config
        return max(rows * self.group_pitch, config.group_interval(self.kernel), config.least_group)

    @property
    def _rows_ahead(self) -> int:
        """Tile rows that must have begun for the one before them to be complete; they need slots too."""
        return min(rows_ahead(self.config.input_tile, self.step), self.tile_rows - 1)

    @property
    def block_choices(self) -> range:
        """Tile rows a block that line buffer and accumulators allow."""
        most = self.slots if self.slots == self.total_rows else self.slots - self._rows_ahead
        return range(1, min(most, self.config.max_tiles // self.tile_columns) + 1)

    def _best_block(self) -> int:
        """Tile rows a block unless told."""
        if self.config.datapath == "stationary":
            # Nothing overlaps, so that all take as long, but weights come once for each; equal ones leave none short.
            blocks = _ceil(self.total_rows, max(self.block_choices))
            return _ceil(self.total_rows, blocks)
        return min(self.block_choices, key=lambda rows: (self.estimate_cycles(rows), rows))

    @property
    def estimated_cycles(self) -> int:
        """Cycles of the job, but for latencies and what the edges of the image save."""
        return self.estimate_cycles(self.block_rows)

    def estimate_cycles(self, rows: int, weight_bandwidth: float | None = None) -> int:
        """The same with `rows` tile rows a block, and at most so many bytes of kernels a cycle."""
        config, m = self.config, self.tile_size
        row_beats = config.output_lanes * _ceil(m, config.requantizer_lanes)
        tile = max(_ceil(config.input_tile, config.output_columns), m * row_beats)
        # Weights come a row a cycle, or as fast as the memory can.
        supply = config.group_rows(self.kernel)
        if weight_bandwidth is not None:
            supply = max(supply, int(supply * config.row_bytes(self.kernel) / weight_bandwidth))
        freed: list[tuple[int, int]] = []
        times = tile_row_times(self, freed)
        end = 0
        for first in range(0, self.total_rows, rows):
            size = min(rows, self.total_rows - first)
            complete = [next(times) for _ in range(size)][-1]
            # What the last pass leaves behind has to be drained while the next ones are computed.
            group = max(self.group_cycles(size), supply)
            passes = max(group * self.groups, size * self.tile_columns * tile)
            end = max(end, complete) + passes * self.output_groups
            freed.append((first + size, end))
        return end

    @cached_property
    def engine_layer(self) -> ConvLayer:
        """The layer as the engine computes it: with a kernel of the engine's size, zeros at its bottom and right."""
        layer, geometry = self.layer, self.layer.geometry
        if self.config.direct:
            kernel = self.kernel
        else:
            effective = geometry.effective_kernel
            kernel = geometry.kernel + (self.kernel - effective) * geometry.stride
        if kernel == geometry.kernel:
            return layer
        more = kernel - geometry.kernel
        top, bottom, left, right = geometry.pads
        weights = np.zeros((geometry.filters, kernel, kernel, geometry.channels), np.int8)
        weights[:, : geometry.kernel, : geometry.kernel] = layer.weights
        extended = replace(geometry, kernel=kernel, padding=(top, bottom + more, left, right + more))
        return replace(layer, geometry=extended, weights=weights)

    # --- what goes in --------------------------------------------------------------------------------------------
    @cached_property
    def requantization(self) -> Requantization | ShiftRequantization:
        """Constants of the output channels as the engine applies them."""
        return self.layer.requantization_for(self.config.winograd(self.kernel), self.profile)

    def descriptor(self) -> NDArray[np.uint32]:
        """The words of the layer descriptor; `last` goes with the last one."""
        geometry, config = self.layer.geometry, self.config
        requantization = self.requantization
        values = {
            "kernel": self.kernel,
            "stride": geometry.stride,
            "mode": int(self.mode),
            "images": self.images,
            "height": self.used_height,
            "width": self.used_width,
            "pad_top": geometry.pads.top,
            "pad_left": geometry.pads.left,
            "input_groups": self.input_groups,
            "groups": self.groups,
            "output_groups": self.output_groups,
            "filters": geometry.filters,
            "tile_rows": self.tile_rows,
            "tile_cols": self.tile_columns,
            "total_rows": self.total_rows,
            "block_rows": self.block_rows,
            "slots": self.slots,
            "grid_height": self.grid_height,
            "grid_width": self.grid_width,
            "output_height": geometry.out_height,
            "output_width": geometry.out_width,
            "pad_value": self.layer.input_zero_point,
            "output_zero_point": requantization.output_zero_point,
            "act_min": requantization.act_min,
            "act_max": requantization.act_max,
            "reserved": 0,
            "group_pitch": self.group_pitch,
            "slot_pitch": self.slot_pitch,
        }
        fields = [values[name] & 0xFFFF for name in descriptor_fields()]
        words = [DESCRIPTOR_MAGIC << 16 | descriptor_words(config.limits())]
        words += [low | high << 16 for low, high in zip(fields[::2], fields[1::2], strict=True)]
        if isinstance(self.profile, Quantized):
            tables = [
                narrowing.table(config.input_tile).ravel().tolist()
                for narrowing in (self.profile.input, self.profile.weight, self.profile.product)
            ]
            words += [v | u << 8 | m << 16 for v, u, m in zip(*tables, strict=True)]
        return np.array(words, np.uint32)

    def kernels(self) -> NDArray[np.int8]:
        """Kernels of every lane, (output groups, groups, Pk, Pc, r, r) int8; lanes without a channel hold zeros."""
        geometry, config = self.layer.geometry, self.config
        weights = self.layer.weights
        if self.mode == InputMode.POLYPHASE:
            weights = geometry.polyphase_weights(weights)
        taps = weights.shape[1]
        weights = weights.reshape(geometry.filters, taps, taps, self.phases, geometry.channels)
        lanes = np.zeros(
            (
                self.output_groups * config.output_lanes,
                self.kernel,
                self.kernel,
                self.phases,
                self.input_groups * config.input_lanes,
            ),
            np.int8,
        )
        lanes[: geometry.filters, :taps, :taps, :, : geometry.channels] = weights
        lanes = lanes.reshape(
            self.output_groups, config.output_lanes, self.kernel, self.kernel, self.groups, config.input_lanes
        )
        return np.ascontiguousarray(lanes.transpose(0, 4, 1, 5, 2, 3))

    def constants(self) -> NDArray[np.uint8]:
        """Bytes of the requantization constants, (output groups, Pk, CONSTANT_BYTES)."""
        requantization = self.requantization
        filters = self.layer.geometry.filters
        table = np.zeros((self.output_groups * self.config.output_lanes, CONSTANT_BYTES), np.uint8)
        bias, shift = requantization.bias, requantization.shift
        if isinstance(requantization, ShiftRequantization):
            # The sums have bits behind the point.
            bias, shift = bias << self.config.fraction_bits, shift - self.config.fraction_bits
        table[:filters, 0:4] = np.ascontiguousarray(bias, "<i4").view(np.uint8).reshape(filters, 4)
        if isinstance(requantization, Requantization):
            multiplier = np.ascontiguousarray(requantization.multiplier, "<i4").view(np.uint8).reshape(filters, 4)
            table[:filters, 4:8] = multiplier
        table[:filters, 8] = shift.astype(np.int8).view(np.uint8)
        return table.reshape(self.output_groups, self.config.output_lanes, CONSTANT_BYTES)

    def weight_beats(self) -> NDArray[np.int8]:
        """The weight stream, (beats, bytes a beat) int8: once for every block."""
        config = self.config
        width = config.weight_bytes
        kernels = self.kernels()
        if config.weights == "host":
            u = transform(config.winograd(self.kernel).g, kernels)
            if isinstance(self.profile, Quantized):
                u = self.profile.weight.apply(u)
            size = config.u_bytes
            if config.small:
                # Multiplier by multiplier: the columns that one of them works on, then those of the next.
                u = u.reshape(*u.shape[:-1], config.fold, config.columns).swapaxes(-1, -2)
            rows = np.ascontiguousarray(u, f"<i{size}").view(np.int8)
            rows = rows.reshape(*kernels.shape[:4], config.kernel_rows(self.kernel), width)
        else:
            rows = np.zeros((*kernels.shape[:5], width), np.int8)
            rows[..., : self.kernel] = kernels
        constants = np.zeros((self.output_groups, config.output_lanes, _ceil(CONSTANT_BYTES, width) * width), np.uint8)
        constants[:, :, :CONSTANT_BYTES] = self.constants()
        once = np.concatenate(
            [
                constants.view(np.int8).reshape(self.output_groups, -1, width),
                rows.reshape(self.output_groups, -1, width),
            ],
            axis=1,
        )
        return np.tile(once.reshape(-1, width), (self.blocks, 1))

    def pixel_beats(self, pixels: NDArray[np.int8]) -> NDArray[np.int8]:
        """The pixel stream of a batch (images, height, width, channels): (beats, Pc) int8."""
        self.layer.check_pixels(pixels)
        if len(pixels) != self.images:
            raise ValueError(f"this job is for {self.images} images, not {len(pixels)}")
        lanes = self.input_groups * self.config.input_lanes
        beats = np.zeros((self.images, self.used_height, self.used_width, lanes), np.int8)
        beats[..., : self.layer.geometry.channels] = pixels[:, : self.used_height, : self.used_width]
        return beats.reshape(-1, self.config.input_lanes)

    # --- what comes out ------------------------------------------------------------------------------------------
    @cached_property
    def output_order(self) -> NDArray[np.int32]:
        """Where each output beat belongs: (beats, 5) with image, row, first column, channel, pixels."""
        geometry, config = self.layer.geometry, self.config
        size, lanes, output_lanes = self.tile_size, config.requantizer_lanes, config.output_lanes
        parts = []
        for first in range(0, self.total_rows, self.block_rows):
            block = []
            for tile_row in range(first, min(first + self.block_rows, self.total_rows)):
                image, local = divmod(tile_row, self.tile_rows)
                for left in range(0, geometry.out_width, size):
                    right = min(left + size, geometry.out_width)
                    for row in range(local * size, min(local * size + size, geometry.out_height)):
                        chunks = [(column, min(lanes, right - column)) for column in range(left, right, lanes)]
                        for lane in range(output_lanes):
                            block += [(image, row, column, lane, count) for column, count in chunks]
            pattern = np.array(block, np.int32)
            for channel in range(0, geometry.filters, output_lanes):
                part = pattern + np.array([0, 0, 0, channel, 0], np.int32)
                parts.append(part[part[:, 3] < geometry.filters])
        return np.concatenate(parts)

    def collect(self, pixels: NDArray[np.int8], counts: NDArray[np.integer]) -> NDArray[np.int8]:
        """Output images (images, out_height, out_width, filters) from the output stream's beats.

        Parameters
        ----------
        pixels: (beats, lanes) int8.
        counts: (beats,) pixels that each beat carries.

        Raises
        ------
        ValueError
            The number of beats or one of the counts is not that of this layer.
        """
        geometry, order = self.layer.geometry, self.output_order
        if len(pixels) != len(order):
            raise ValueError(f"the layer has {len(order)} output beats, not {len(pixels)}")
        if not np.array_equal(counts, order[:, 4]):
            beat = int(np.flatnonzero(counts != order[:, 4])[0])
            raise ValueError(f"output beat {beat} carries {counts[beat]} pixels instead of {order[beat, 4]}")
        output = np.zeros((self.images, geometry.out_height, geometry.out_width, geometry.filters), np.int8)
        image, row, column, channel, count = order.T
        for lane in range(self.config.requantizer_lanes):
            used = count > lane
            output[image[used], row[used], column[used] + lane, channel[used]] = pixels[used, lane]
        return output

    def effective_macs(self) -> int:
        """Multiply-accumulates of the direct convolution that the job replaces."""
        return self.layer.geometry.macs * self.images

    @property
    def used_lanes(self) -> float:
        """Share of the array's lanes that have a channel, over all groups."""
        geometry, config = self.layer.geometry, self.config
        lanes = self.groups * config.input_lanes * self.output_groups * config.output_lanes
        return self.phases * geometry.channels * geometry.filters / lanes

    def array_chunks(self) -> int:
        """Cycles in which the array works: patch chunks of the whole job."""
        return self.total_rows * self.group_pitch * self.groups * self.output_groups
