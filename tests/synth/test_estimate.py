# amaranth: UnusedElaboratable=no
import json

import pytest
from click.testing import CliRunner

from winohw.cli import main
from winohw.gateware.config import EngineConfig
from winohw.gateware.multiplier import Multiplier
from winohw.gateware.requantizer import Requantizer
from winohw.gateware.weight_loader import WeightLoader
from winohw.numerics.formats import Quantized
from winohw.synth.estimate import estimate
from winohw.synth.flow import synthesize

PARTS = {"ecp5": "LFE5U-25F", "ice40": "iCE40UP5K"}
SMALL = {"max_tiles": 16, "line_words": 128, "drain_tiles": 4, "dimension_bits": 9, "max_products": 9 * 32}
#: None of them was used to fit the constants.
ENGINES = [
    EngineConfig(tile_size=2, kernels=(1, 2, 3), fold=2, requantizer_lanes=2, family="ecp5", **SMALL),
    EngineConfig(fold=3, weights="host", profile=Quantized.uniform(8), family="ecp5", **SMALL),
    EngineConfig(tile_size=3, fold=5, requantizer="shift", family="ice40", **SMALL),
    EngineConfig(tile_size=2, fold=2, profile=Quantized.uniform(8), multiplier="ice40_dual", family="ice40", **SMALL),
]


def check(design, part):
    """Lookup tables within 15 %, registers within 5 %, multipliers and block memories exact."""
    estimated, real = estimate(design, part).total, synthesize(design, part, seeds=()).total
    assert estimated.multipliers == real.multipliers
    assert estimated.block_rams == real.block_rams
    assert estimated.flip_flops == pytest.approx(real.flip_flops, rel=0.05)
    assert estimated.luts == pytest.approx(real.luts, rel=0.15)


@pytest.mark.parametrize("family", PARTS)
def test_components(family):
    check(Requantizer(2, "shift", family), PARTS[family])
    check(WeightLoader(beat_bytes=3, output_lanes=2, fifo_rows=12), PARTS[family])


@pytest.mark.slow
@pytest.mark.parametrize("config", ENGINES, ids=EngineConfig.describe)
def test_engines(config):
    check(config, PARTS[config.family])


def test_stages_and_excess():
    config = EngineConfig(input_lanes=4, family="ecp5", line_words=512)
    result = estimate(config, "LFE5U-25F")
    assert result.stages["mac_array"].multipliers == config.multipliers
    assert set(result.stages) >= {"input_transform", "line_buffer", "sequencer", "(own)"}
    assert result.total.multipliers == sum(stage.multipliers for stage in result.stages.values())
    assert any(line.startswith("148 multiplier of 28") for line in result.excess)
    assert 20 < result.frequency < 400


def test_wrong_parts():
    with pytest.raises(ValueError, match=r"^There are estimates for ecp5 and ice40, not for gowin$"):
        estimate(Multiplier(8, 8), "GW1NR-9")
    with pytest.raises(ValueError, match=r"^An engine of family 'ecp5' cannot be built for iCE40UP5K$"):
        estimate(EngineConfig(family="ecp5"), "iCE40UP5K")


def test_command():
    engine = ["--tile", "2", "--kernel", "1", "--requantizer", "shift", "--line-words", "64"]
    arguments = ["estimate", "iCE40UP5K", *engine]
    small = ["--max-tiles", "8", "--drain-tiles", "2"]
    plain = CliRunner().invoke(main, [*arguments, *small])
    assert plain.exit_code == 0
    assert "of the part" in plain.output
    assert "MHz" in plain.output
    record = json.loads(CliRunner().invoke(main, [*arguments, *small, "--json"]).output)
    assert record["total"]["multipliers"] == 4
    assert record["stages"]["line_buffer"]["block_rams"]
    assert record["excess"] == []
