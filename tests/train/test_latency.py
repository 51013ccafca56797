import json

import pytest
from train_networks import Multiplications

from winohw.algorithm.geometry import ConvGeometry
from winohw.network.plan import plan_layer
from winohw.train.latency import Candidate, EngineLatency, LatencyTable

LAYER = ConvGeometry(32, 32, 16, 16, 3)


def test_a_table(tmp_path):
    path = tmp_path / "table.json"
    path.write_text(json.dumps({"32x32x16->16/1 F4-8bit-tap": 1234, "32x32x16->16/1 direct": 9999.5}))
    table = LatencyTable.load(path)
    assert table.cycles(LAYER, Candidate(4, 8, "tap")) == 1234
    assert table.cycles(LAYER, Candidate(None)) == 9999.5
    with pytest.raises(KeyError, match="F2-8bit-tap"):
        table.cycles(LAYER, Candidate(2, 8, "tap"))


@pytest.mark.parametrize("content", ["[1]", '{"a": 0}', '{"a": "b"}'])
def test_a_bad_table_is_refused(tmp_path, content):
    path = tmp_path / "table.json"
    path.write_text(content)
    with pytest.raises(ValueError, match="positive cycles by layer and candidate"):
        LatencyTable.load(path)


def test_engines_of_this_project():
    strided = ConvGeometry(32, 32, 16, 32, 3, 2, (1, 1, 1, 1))
    latency = EngineLatency([LAYER, LAYER, strided], multipliers=72)
    assert [latency.engine(m).multipliers for m in (None, 2, 4, 6)] == [72, 64, 72, 64]
    assert latency.engine(4).input_lanes == 2  # one output lane: pixels come in twice as fast
    for geometry in (LAYER, strided):
        for tile_size in (None, 2, 4, 6):
            least = Multiplications().cycles(geometry, Candidate(tile_size)) / 72
            assert latency.cycles(geometry, Candidate(tile_size)) > 0.9 * least
    # It is the plan's: the engine of F(4,3), two images.
    plan = plan_layer(latency.engine(4), LAYER)
    assert latency.cycles(LAYER, Candidate(4, 10, "stage")) == plan.cycles
    assert latency.cycles(LAYER, Candidate(4)) < 0.4 * latency.cycles(LAYER, Candidate(None))


def test_an_engine_needs_a_lane():
    with pytest.raises(ValueError, match="need at least 64 multipliers, not 63"):
        EngineLatency([LAYER], 63)
