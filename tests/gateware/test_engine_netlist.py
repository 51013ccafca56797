# amaranth: UnusedElaboratable=no
"""Whole engines as Yosys maps them to the cells of a family, on whole layers.

The models of the cells are Yosys' own, but for MULT18X18D, DP16KD and SB_SPRAM256KA, which are ours: ``ecp5_cells.v``
and ``ice40_cells.v``.
"""

from collections import Counter

import numpy as np
import pytest
from netlist import NetlistSimulation
from random_layers import random_job

from winohw.algorithm.toomcook import winograd
from winohw.gateware.config import EngineConfig
from winohw.gateware.engine import Engine
from winohw.network.cost import layer_cost
from winohw.numerics.formats import Quantized
from winohw.numerics.golden import GoldenModel
from winohw.sim.layer import EngineSimulation
from winohw.sim.stalls import Stalls

SMALL = {"max_tiles": 8, "line_words": 64, "drain_tiles": 2, "dimension_bits": 6, "max_products": 72}
SMALL_PART = {**SMALL, "weights": "host", "line_memory": "single", "requantizer": "shift", "family": "ice40"}
ENGINES = {
    "F(2,3), fold 4, on ECP5": EngineConfig(tile_size=2, fold=4, family="ecp5", **SMALL),
    "direct, fold 3, on ECP5": EngineConfig(tile_size=1, fold=3, requantizer="shift", family="ecp5", **SMALL),
    "F(2,3), fold 4, on iCE40": EngineConfig(tile_size=2, fold=4, requantizer="shift", family="ice40", **SMALL),
    "direct, fold 3, on iCE40": EngineConfig(tile_size=1, fold=3, requantizer="shift", family="ice40", **SMALL),
    "F(2,3), compact, fold 2, on iCE40UP": EngineConfig(
        tile_size=2, fold=2, datapath="compact", **SMALL_PART | {"line_words": 16384}
    ),
    "F(2,3), 8 bits, 16 products, on iCE40UP": EngineConfig(
        matrices=winograd(2, 3).lifted(),
        fold=2,
        output_lanes=2,
        profile=Quantized.uniform(8),
        datapath="stationary",
        **SMALL_PART | {"line_words": 16384},
    ),
}
STALLS = [{}, {"default": 0.3}, {"pixels": 0.9}, {"weights": 0.9}, {"o": 0.9}, {}]


class NetlistEngine(EngineSimulation):
    """An `EngineSimulation` of what synthesis makes of the engine, the family's own cells in it."""

    def __init__(self, config: EngineConfig):
        super().__init__(config, compiled=False)
        self._compiled = NetlistSimulation(Engine(config), config.family)
        self.cells = Counter(self._compiled.cells)


@pytest.mark.slow
@pytest.mark.parametrize("name", ENGINES)
def test_layers_on_the_netlist(name):
    """Pixels are the golden model's and direct convolution's, whatever stalls; cycles are the cost model's."""
    config = ENGINES[name]
    simulation = NetlistEngine(config)
    multiplier, memory = {"ecp5": ("MULT18X18D", "DP16KD"), "ice40": ("SB_MAC16", "SB_RAM40_4K")}[config.family]
    requantizer = 4 if config.requantizer == "tflite" else 0
    assert simulation.cells[multiplier] == config.multiplier_cells + requantizer
    assert simulation.cells[memory]
    kinds = set()
    for seed, rates in enumerate(STALLS):
        job, pixels = random_job(np.random.default_rng(seed), config, largest=9, channels=5, filters=4)
        kinds.add((job.kernel, job.mode, job.layer.geometry.stride))
        run = simulation.run(job, pixels, stalls=Stalls(seed, **rates))
        expected = GoldenModel(config.winograd(job.kernel), job.profile).run(job.engine_layer, pixels)
        np.testing.assert_array_equal(run.pixels, expected)
        if not config.quantized:
            np.testing.assert_array_equal(run.pixels, job.layer.reference(pixels))
        if not rates:
            assert run.cycles == layer_cost(job).cycles
    assert len(kinds) > 1
