"""The engine of direct convolution that another one is compared with."""

from __future__ import annotations

from collections.abc import Iterable

from winohw.algorithm.geometry import ConvGeometry
from winohw.gateware.config import EngineConfig

__all__ = ["direct_engine"]


def direct_engine(
    config: EngineConfig, layers: Iterable[ConvGeometry] = (), kernel_size: int | None = None
) -> EngineConfig:
    """The engine of direct convolution, m = 1, with as many multipliers as `config` or the next fewer.

    It has the same memories: bits of line buffer, outputs a block. Of the possible lanes it has those that take the
    fewest cycles for the layers; it takes all columns of a tile at a time, and a fold is undone. One kernel is the
    least.

    Parameters
    ----------
    config : EngineConfig
        The engine to compare.
    layers : iterable of ConvGeometry
        What both are to compute.
    kernel_size : int, optional
        The one kernel that it has; default: the main one of `config`.
    """
    kernel_size = kernel_size or config.kernel_size
    geometries = tuple(layers)
    taps = kernel_size**2
    lanes = max(1, config.multipliers // taps)

    def cycles(split: tuple[int, int]) -> int:
        input_lanes, output_lanes = split
        # The row serializer hands on one output channel a cycle, the drain buffer half a chunk.
        return sum(
            layer.out_height
            * layer.out_width
            * -(-layer.filters // output_lanes)
            * max(-(-layer.channels // input_lanes), output_lanes, 2)
            for layer in geometries
        )

    splits = [(number, lanes // number) for number in range(1, lanes + 1) if lanes % number == 0]
    input_lanes, output_lanes = min(splits, key=cycles)
    bits = config.line_words * config.input_tile**2 * config.input_lanes
    outputs = config.tile_size**2
    return EngineConfig(
        tile_size=1,
        kernel_size=kernel_size,
        input_lanes=input_lanes,
        output_lanes=output_lanes,
        max_tiles=config.max_tiles * outputs,
        line_words=min(1 << 16, bits // (taps * input_lanes)),
        drain_tiles=config.drain_tiles * outputs,
        output_columns=kernel_size,
        max_products=config.max_products,
        requantizer=config.requantizer,
        dimension_bits=config.dimension_bits,
        family=config.family,
        multiplier=config.multiplier,
    )
