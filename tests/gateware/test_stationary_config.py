# amaranth: UnusedElaboratable=no
import re
from dataclasses import replace

import numpy as np
import pytest
from random_layers import random_layer

from winohw.algorithm.geometry import ConvGeometry
from winohw.algorithm.toomcook import winograd
from winohw.gateware.capabilities import Capabilities
from winohw.gateware.config import EngineConfig
from winohw.gateware.job import Job, UnsupportedLayer
from winohw.numerics.formats import Exact, Quantized

STATIONARY = EngineConfig(
    matrices=winograd(2, 3).lifted(),
    fold=2,
    output_lanes=2,
    profile=Quantized.uniform(8),
    datapath="stationary",
    weights="host",
    line_memory="single",
    requantizer="shift",
    max_products=9 * 32,
)


def test_sixteen_products():
    assert (STATIONARY.multipliers, STATIONARY.v_bits, STATIONARY.u_bits, STATIONARY.m_bits) == (16, 8, 8, 8)
    part = replace(STATIONARY, family="ice40", multiplier="")
    assert (part.multiplier, part.multiplier_cells) == ("ice40_dual", 8)
    # A shift of one more than what avoids all saturation.
    assert STATIONARY.max_shifts[0] == STATIONARY.v_exact_bits - 8 + 1
    assert STATIONARY.max_shifts[2] == STATIONARY.acc_bits - 8 + 1


def test_behavioural_twin():
    twin = replace(STATIONARY, family="ice40", multiplier="").behavioural
    assert (twin.family, twin.multiplier, twin.line_memory) == ("generic", "generic", "single")


def test_told_by_a_board():
    config = replace(STATIONARY, statistics=False, descriptor_checks=False)
    assert Capabilities.decode(Capabilities(config).encode()).config == config


def constants(bias, shift):
    """A job whose sums are to be multiplied by 2**shift, with a bias in their units."""
    layer = random_layer(np.random.default_rng(1), ConvGeometry(6, 6, 2, 1, 3), "shift")
    layer = replace(layer, input_zero_point=0)
    profile = Quantized.uniform(8, 1, 1, 4)
    total = profile.total_shift(4) - 2  # less the divisor's square
    requantization = replace(
        layer.requantization, bias=np.array([bias]) << total, shift=np.array([shift - total], np.int32)
    )
    return Job(STATIONARY, replace(layer, requantization=requantization), profile=profile)


def test_fraction_bits():
    """Sums are shifted to the left as well; bias and shift are sent in units of the sums' last bit."""
    bits = STATIONARY.fraction_bits
    job = constants(-100, bits)
    assert job.requantization.shift.tolist() == [bits]
    bias, shift = job.constants()[0, 0, :4].view("<i4")[0], job.constants()[0, 0, 8:].view(np.int8)[0]
    assert (bias, shift) == (-100 << bits, 0)
    constants(STATIONARY.largest_bias, -20)


@pytest.mark.parametrize(
    ("bias", "shift", "message"),
    [
        (0, 8, r"a sum would have to be multiplied by 2**8, this engine offers 2**-24 ... 2**7"),
        (0, -25, r"a sum would have to be multiplied by 2**-25, this engine offers 2**-24 ... 2**7"),
        (-64512, 0, "a bias of 64512 is more than this engine's 64383"),
    ],
)
def test_constants_out_of_range(bias, shift, message):
    with pytest.raises(UnsupportedLayer) as raised:
        constants(bias, shift)
    assert str(raised.value) == message


def test_no_shift_to_the_left_elsewhere():
    wide = EngineConfig(matrices=winograd(2, 3).lifted(), profile=Quantized.uniform(8), requantizer="shift")
    job = constants(0, 1)
    refused = r"by 2\*\*1, this engine offers 2\*\*-31 ... 2\*\*0$"
    with pytest.raises(UnsupportedLayer, match=refused):
        Job(wide, job.layer, profile=job.profile)
    exact = replace(job.layer, requantization=replace(job.layer.requantization, shift=np.array([1], np.int32)))
    for datapath, weights in (("wide", "chip"), ("compact", "host")):
        config = EngineConfig(tile_size=2, requantizer="shift", datapath=datapath, weights=weights)
        with pytest.raises(UnsupportedLayer, match=refused):
            Job(config, exact)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": "chip"}, "a stationary datapath needs weights 'host', not 'chip'"),
        ({"input_lanes": 2}, "a stationary datapath needs input_lanes 1, not 2"),
        ({"requantizer_lanes": 2}, "a stationary datapath needs requantizer_lanes 1, not 2"),
        ({"line_memory": "dual"}, "a stationary datapath needs line_memory 'single', not 'dual'"),
        ({"profile": Exact()}, "a stationary datapath needs a quantized profile, not Exact"),
        ({"profile": Quantized.uniform(9)}, "a stationary datapath needs V of at most 8 bits, not 9"),
        ({"fold": 4}, "a stationary datapath needs a fold of at most 2, not 4"),
        ({"fold": 1}, "the line_memory 'single' needs a fold of 2 or more, and is not for direct engines"),
    ],
)
def test_bad_parameters(change, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        replace(STATIONARY, **change)
