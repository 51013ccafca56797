"""A small simulated board for the tests of the host side."""

import functools

import numpy as np
from random_layers import random_job

from winohw.gateware.capabilities import Capabilities
from winohw.gateware.config import EngineConfig
from winohw.host.board_sim import SimulatedBoard

#: F(2,3), exact. Small memories, so that it compiles fast and waits for everything.
CONFIG = EngineConfig(tile_size=2, max_products=27, line_words=64, max_tiles=8, drain_tiles=2, dimension_bits=6)
CAPABILITIES = Capabilities(CONFIG, "tiny", 1_000_000)


@functools.cache
def _board():
    return SimulatedBoard(CAPABILITIES)


def new_board():
    """After power-on. There is only one of it, so that it is compiled once."""
    _board().power_cycle()
    return _board()


@functools.cache
def drawn_job(seed):
    """A job, its pixels, and what must come out."""
    job, pixels = random_job(np.random.default_rng(seed), CONFIG, largest=5, channels=3, filters=3)
    return job, pixels, job.layer.reference(pixels)
