# amaranth: UnusedElaboratable=no
from dataclasses import replace

import pytest

from winohw.gateware.capabilities import Capabilities
from winohw.gateware.config import EngineConfig
from winohw.gateware.descriptor import LayerError, check_descriptor, descriptor_fields
from winohw.numerics.formats import Quantized

COMPACT = EngineConfig(datapath="compact", weights="host", fold=6, line_words=2048)


def test_weights_come_one_by_one():
    assert (COMPACT.weight_bytes, COMPACT.kernel_rows(3), COMPACT.group_rows(3)) == (2, 36, 36)
    assert replace(COMPACT, tile_size=1, fold=3).weight_bytes == 1
    assert replace(COMPACT, datapath="wide").weight_bytes == 12


def test_behavioural_twin():
    """Nothing of it is a primitive; the line buffer's memories keep their one port."""
    twin = replace(COMPACT, family="ice40", multiplier="", line_memory="single").behavioural
    assert (twin.family, twin.multiplier, twin.line_memory) == ("generic", "generic", "single")


def test_told_by_a_board():
    config = replace(COMPACT, line_memory="single", statistics=False, descriptor_checks=False)
    assert Capabilities.decode(Capabilities(config).encode()).config == config


def test_descriptor_without_relations():
    """Each field is still checked by itself."""
    names = [name for name in descriptor_fields() if name != "reserved"]

    def words(limits, **changes):
        values = dict.fromkeys(names, 1) | {"kernel": 3, "mode": 0, "pad_top": 0} | changes
        fields = [values.get(name, 0) & 0xFFFF for name in descriptor_fields()]
        pairs = [low | high << 16 for low, high in zip(fields[::2], fields[1::2], strict=True)]
        return [0x574E << 16 | len(pairs), *pairs]

    strict = COMPACT.limits()
    trusting = replace(COMPACT, descriptor_checks=False).limits()
    assert check_descriptor(words(strict), strict) == LayerError.GEOMETRY
    assert check_descriptor(words(trusting), trusting) == LayerError.OK
    assert check_descriptor(words(trusting, height=1 << 12), trusting) == LayerError.FIELD_RANGE
    assert check_descriptor(words(trusting, groups=0), trusting) == LayerError.FIELD_RANGE
    assert check_descriptor(words(trusting, kernel=2), trusting) == LayerError.UNSUPPORTED


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"weights": "chip"}, ValueError, "a compact datapath needs weights 'host', not 'chip'"),
        ({"input_lanes": 2}, ValueError, "a compact datapath needs input_lanes 1, not 2"),
        ({"output_lanes": 3}, ValueError, "a compact datapath needs output_lanes 1, not 3"),
        ({"requantizer_lanes": 2}, ValueError, "a compact datapath needs requantizer_lanes 1, not 2"),
        ({"kernels": (2, 3)}, ValueError, "a compact datapath needs kernels (3,), not (2, 3)"),
        ({"profile": Quantized.uniform(8)}, ValueError, "a compact datapath needs the exact profile, not Quantized"),
        (
            {"tile_size": 1, "kernel_size": 2, "kernels": (), "fold": 1},
            ValueError,
            "a compact datapath needs an input tile of 3 or more, not 2",
        ),
        ({"datapath": "long"}, ValueError, "datapath must be one of wide, compact, stationary, not 'long'"),
        ({"line_memory": "tape"}, ValueError, "line_memory must be one of dual, single, not 'tape'"),
        (
            {"datapath": "wide", "line_memory": "single"},
            ValueError,
            "a wide datapath needs the line_memory 'dual' and statistics, not 'single' and True",
        ),
        (
            {"datapath": "wide", "statistics": False},
            ValueError,
            "a wide datapath needs the line_memory 'dual' and statistics, not 'dual' and False",
        ),
        (
            {"fold": 1, "line_memory": "single"},
            ValueError,
            "the line_memory 'single' needs a fold of 2 or more, and is not for direct engines",
        ),
        (
            {"line_memory": "single", "family": "ice40", "multiplier": "", "line_words": 16385},
            ValueError,
            "line_words must be at most 16384 with the line_memory 'single', not 16385",
        ),
        ({"statistics": 1}, TypeError, "statistics must be True or False, not 1"),
        ({"descriptor_checks": None}, TypeError, "descriptor_checks must be True or False, not None"),
    ],
)
def test_bad_parameters(change, error, message):
    with pytest.raises(error) as raised:
        replace(COMPACT, **change)
    assert str(raised.value) == message
