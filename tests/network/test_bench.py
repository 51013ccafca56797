# amaranth: UnusedElaboratable=no
import json
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from winohw.algorithm.geometry import ConvGeometry
from winohw.gateware.config import EngineConfig
from winohw.gateware.direct_engine import direct_engine
from winohw.gateware.job import Job
from winohw.network.bench import bench
from winohw.network.networks import NamedLayer
from winohw.numerics.formats import Quantized
from winohw.sim.layer import EngineSimulation

ENGINE = EngineConfig(
    tile_size=2,
    kernels=(1, 2, 3),
    fold=2,
    output_lanes=2,
    output_columns=2,
    drain_tiles=4,
    max_tiles=16,
    line_words=256,
    dimension_bits=8,
)
#: One of each kind: phases, strip, mosaic, and one that the direct engine cannot run.
LAYERS = (
    NamedLayer("stem", ConvGeometry(12, 12, 3, 4, 5, 2)),
    NamedLayer("middle", ConvGeometry(7, 7, 4, 6, 3)),
    NamedLayer("again", ConvGeometry(7, 7, 4, 6, 3)),
    NamedLayer("shortcut", ConvGeometry(9, 9, 4, 6, 1, 2, "valid")),
)


@pytest.fixture(scope="module")
def simulated():
    return bench(LAYERS, ENGINE, images=4, simulate=True)


def test_simulated_equals_modelled(simulated):
    modelled = bench(LAYERS, ENGINE, images=4)
    assert (simulated.simulated, simulated.exact) == (True, True)
    assert (modelled.simulated, modelled.exact) == (False, None)
    assert [layer.cycles for layer in simulated.layers] == [layer.cycles for layer in modelled.layers]
    assert simulated.ratio_to_ideal == modelled.ratio_to_ideal
    layouts = " ".join(str(layer.plan.arrangement) for layer in simulated.layers)
    assert "mosaic" in layouts
    assert "subsampled, strip" in layouts


def test_wrong_results_are_seen(monkeypatch):
    collect = Job.collect

    def flipped(self, pixels, counts):
        result = collect(self, pixels, counts)
        result[0, 0, 0, 0] ^= 1
        return result

    monkeypatch.setattr(Job, "collect", flipped)
    report = bench(LAYERS[1:2], ENGINE, simulate=True)
    assert report.exact is False
    assert "wrong" in text(report)


def test_quantized_engine():
    config = EngineConfig(
        tile_size=2, fold=2, profile=Quantized.uniform(8), max_tiles=16, line_words=256, dimension_bits=8
    )
    assert bench(LAYERS[1:2], config, simulate=True, compiled=False).exact is True


def test_figures(simulated):
    report = simulated
    stem, middle = report.layers[:2]
    assert stem.direct is None
    assert middle.macs == 49 * 4 * 6 * 9
    assert middle.ideal_cycles == middle.macs / ENGINE.multipliers
    assert middle.efficiency == pytest.approx(middle.macs / middle.cycles / ENGINE.multipliers)
    assert report.cycles == sum(layer.cycles for layer in report.layers)
    assert report.macs == sum(layer.geometry.macs for layer in LAYERS)
    both = [layer for layer in report.layers if layer.direct is not None]
    scale = report.direct_config.multipliers / ENGINE.multipliers
    expected = sum(layer.direct.cycles for layer in both) / 4 * scale / sum(layer.cycles for layer in both)
    assert report.ratio_to_direct == pytest.approx(expected)
    assert len(both) == 3
    assert all(0 < layer.utilisation < 1 for layer in report.layers)


def text(report):
    console = Console(width=200)
    with console.capture() as capture:
        console.print(report.table())
    return capture.get()


def test_table(simulated):
    table = text(simulated)
    for layer in simulated.layers:
        row = next(line for line in table.splitlines() if layer.name in line)
        assert f"{layer.cycles:,.0f}" in row
        assert f"{layer.efficiency:.2f}" in row
    assert "all layers" in table
    lines = simulated.markdown().splitlines()
    assert len(lines) == len(LAYERS) + 3
    assert len({line.count("|") for line in lines}) == 1


def test_json(simulated):
    report = json.loads(simulated.to_json())
    assert report["bit_exact"] is True
    assert report["cycles"] == simulated.cycles
    assert [layer["name"] for layer in report["layers"]] == [layer.name for layer in LAYERS]
    assert {layer["source"] for layer in report["layers"]} == {"simulation"}


def test_plot(simulated, tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "bench.png"
    simulated.plot(path)
    with Image.open(path) as image:
        assert image.width > 1000
        assert len(np.unique(np.asarray(image.convert("L")))) > 50


def test_progress():
    names = []

    @contextmanager
    def progress(description):
        names.append(description)
        yield None

    bench(LAYERS[1:3], ENGINE, simulate=True, progress=progress)
    assert names == ["middle", "again"]


def test_direct_engine_runs_the_layers():
    direct = direct_engine(ENGINE, [layer.geometry for layer in LAYERS])
    report = bench(LAYERS[1:2], direct, simulate=True, compiled=False)
    assert report.exact
    assert report.cycles == bench(LAYERS[1:2], ENGINE).layers[0].direct.cycles
    assert report.layers[0].plan.cost.job.config == direct


def test_whole_networks_by_the_model():
    board = EngineConfig(kernels=(1, 2, 3, 4), input_lanes=4, requantizer_lanes=3, output_columns=2)
    report = bench("resnet-18", board, images=4)
    assert report.ratio_to_ideal > 2.7
    for layer in report.layers:
        source = layer.plan.arrangement.source
        if (source.kernel, source.stride) == (3, 1):
            assert layer.utilisation > 0.95
            assert layer.efficiency > (3.9 if source.height >= 28 else 2.9)


def test_errors(monkeypatch):
    with pytest.raises(ValueError, match=r"^images must be at least 1, not 0$"):
        bench("resnet-18", ENGINE, images=0)
    with pytest.raises(ValueError, match=r"^network must be one of "):
        bench("lenet", ENGINE)
    monkeypatch.setattr(EngineSimulation, "run", None)
    bench(LAYERS, ENGINE)
