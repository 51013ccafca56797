# amaranth: UnusedElaboratable=no
import os
import time
from dataclasses import replace

import numpy as np
import pytest
from random_layers import job_for, random_job, random_layer, random_pixels

from winohw.algorithm.geometry import ConvGeometry
from winohw.algorithm.toomcook import Winograd
from winohw.gateware.config import EngineConfig
from winohw.gateware.descriptor import LayerError
from winohw.gateware.job import Job
from winohw.numerics.formats import Narrowing, Quantized, Rounding
from winohw.numerics.layer import ConvLayer
from winohw.sim.compiled import Waveform
from winohw.sim.layer import EngineSimulation, LayerRefused, compare
from winohw.sim.stalls import Stalls

#: Learned matrices: dyadic, and not exact.
LEARNED = Winograd.from_matrices(
    bt=[[1, 0.25, -1, 0], [0, 1, 1, 0.125], [0.125, -1, 1, 0], [0, 0.75, 0, -1]],
    g=[[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0.125, 1]],
    at=[[1, 1, 1, 0], [0, 1, -1, -1]],
)

#: Small memories and buffers, so that every kind of wait occurs. Each engine is compiled once, by its own test.
ENGINES = {
    "direct 3x3": EngineConfig(
        tile_size=1, input_lanes=2, output_lanes=2, line_words=80, max_tiles=16, drain_tiles=2, dimension_bits=8
    ),
    "direct 1x1": EngineConfig(
        tile_size=1,
        kernel_size=1,
        input_lanes=3,
        output_lanes=2,
        line_words=40,
        max_tiles=20,
        drain_tiles=3,
        dimension_bits=8,
    ),
    "F(2,3), host weights, shift requantizer": EngineConfig(
        tile_size=2,
        input_lanes=2,
        weights="host",
        requantizer="shift",
        requantizer_lanes=2,
        output_columns=2,
        line_words=70,
        max_tiles=12,
        drain_tiles=3,
        dimension_bits=8,
    ),
    "F(3,3), fold 5": EngineConfig(
        tile_size=3, output_lanes=2, fold=5, line_words=200, max_tiles=10, drain_tiles=2, dimension_bits=8
    ),
    "n = 6, all kernels, fold 2": EngineConfig(
        kernels=(1, 2, 3, 4, 5),
        fold=2,
        output_lanes=2,
        output_columns=3,
        requantizer_lanes=3,
        line_words=200,
        max_tiles=14,
        drain_tiles=2,
        dimension_bits=8,
    ),
    "F(4,3), fold 6, host weights": EngineConfig(
        fold=6, weights="host", input_lanes=2, line_words=600, max_tiles=16, drain_tiles=2, dimension_bits=8
    ),
    "F(4,3), 8 bits": EngineConfig(
        profile=Quantized.uniform(8), line_words=150, max_tiles=9, drain_tiles=1, dimension_bits=8
    ),
    "F(6,3), fold 8, host weights, floor": EngineConfig(
        tile_size=6,
        fold=8,
        profile=Quantized(*(Narrowing(bits, 0, Rounding.FLOOR) for bits in (9, 8, 14))),
        weights="host",
        requantizer_lanes=2,
        line_words=600,
        max_tiles=16,
        drain_tiles=2,
        dimension_bits=8,
    ),
    "learned F(2,3), fold 2, 8 bits": EngineConfig(
        matrices=LEARNED,
        fold=2,
        profile=Quantized.uniform(8),
        output_lanes=2,
        output_columns=2,
        line_words=200,
        max_tiles=16,
        drain_tiles=2,
        dimension_bits=8,
    ),
}
LAYERS = 20  # of each engine
STALLS = (
    {},
    {"default": 0.3},
    {"default": 0.8},
    {"pixels": 0.95},
    {"weights": 0.95},
    {"o": 0.95},
    {"default": 0.3, "o": 0.9},
)


def worst_case(config, value):
    """A layer and pixels whose sums are as large as they get: equal extremes everywhere."""
    kernel = max(config.kernels)
    geometry = ConvGeometry(5, 7, 5, 3, kernel)
    weights = np.full((3, kernel, kernel, 5), value, np.int8)
    layer = replace(random_layer(np.random.default_rng(0), geometry, config.requantizer), weights=weights)
    pixels = np.full((2, *layer.input_shape), -128, np.int8)
    return job_for(config, layer, len(pixels), pixels), pixels


def check_run(run, pixels):
    """Every stage is the golden model's, the result direct convolution's, and the counters agree with the job."""
    job = run.job
    assert compare(run, pixels) is None
    if not job.config.quantized:
        np.testing.assert_array_equal(run.pixels, job.layer.reference(pixels))
    assert run.busy == job.array_chunks()
    # Two cycles pass between blocks, and the last tiles leave after the last chunk.
    tail = run.cycles - run.busy - run.wait_pixels - run.wait_weights - run.wait_drain - 2 * job.blocks
    assert tail > 0
    return tail


@pytest.mark.parametrize("name", ENGINES)
def test_drawn_layers(name):
    config = ENGINES[name]
    simulation = EngineSimulation(config, probe=True)
    for value in (-128, 127):
        job, pixels = worst_case(config, value)
        check_run(simulation.run(job, pixels), pixels)
    waits = np.zeros(3, int)
    drawn = set()
    for seed in range(LAYERS):
        rng = np.random.default_rng(seed)
        job, pixels = random_job(rng, config)
        geometry = job.layer.geometry
        stalls = STALLS[seed % len(STALLS)]
        run = simulation.run(job, pixels, stalls=Stalls(seed, **stalls), max_cycles=1_000_000)
        try:
            tail = check_run(run, pixels)
        except Exception as error:
            error.add_note(f"seed {seed}, {geometry}, {job.images} images, {job.block_rows} tile rows a block")
            raise
        if not stalls:
            tiles = config.drain_tiles + 4
            beats = config.output_lanes * -(-job.tile_size // config.requantizer_lanes)
            assert tail < 100 + tiles * job.tile_size * beats
        waits += run.wait_pixels > 0, run.wait_weights > 0, run.wait_drain > 0
        drawn |= {job.kernel, f"stride {geometry.stride}"}
    assert waits.all()
    assert drawn == {*config.kernels, "stride 1", "stride 2"}


TINY = EngineConfig(tile_size=1, kernel_size=1, line_words=64, max_tiles=8, drain_tiles=2, dimension_bits=6)


def tiny_job(**changes):
    rng = np.random.default_rng(1)
    layer = random_layer(rng, ConvGeometry(3, 5, 2, 3, 1))
    return Job(TINY, layer, **changes), random_pixels(rng, layer)


def test_refused_layer(monkeypatch):
    """A malformed descriptor is refused by both simulators, with the code of the model."""
    job, pixels = tiny_job()
    words = job.descriptor()
    for index, word, code in (
        (0, 0x12345678, LayerError.BAD_HEADER),
        (3, 0, LayerError.FIELD_RANGE),
        (1, 2 << 16 | 3, LayerError.UNSUPPORTED),
    ):
        bad = words.copy()
        bad[index] = word
        monkeypatch.setattr(Job, "descriptor", lambda self, bad=bad: bad)
        for compiled in (True, False):
            with pytest.raises(LayerRefused, match=f"^the engine refused the layer: {code.name}$") as caught:
                EngineSimulation(TINY, compiled=compiled).run(job, pixels)
            assert caught.value.code == code


def test_both_simulators_agree(tmp_path):
    job, pixels = tiny_job(block_rows=1)
    assert job.blocks == 3
    seen = []
    stalls = Stalls(5, 0.3)
    path = tmp_path / "wave.vcd"
    # The compiled simulation without waveforms is that of the other test.
    fast = EngineSimulation(TINY, waveform=True).run(
        job, pixels, stalls=stalls, progress=seen.append, waveform=Waveform(path, 10, 20)
    )
    slow = EngineSimulation(TINY, compiled=False).run(job, pixels, stalls=stalls)
    for run in (fast, slow):
        np.testing.assert_array_equal(run.pixels, job.layer.reference(pixels))
        assert compare(run, pixels) is None
    figures = ("cycles", "busy", "wait_pixels", "wait_weights", "wait_drain")
    assert [getattr(fast, name) for name in figures] == [getattr(slow, name) for name in figures]
    assert seen[-1].done == 1
    assert path.read_text().startswith("$")
    assert fast.effective_macs_per_cycle == 3 * 5 * 2 * 3 / fast.cycles
    assert fast.utilisation == 3 * 5 * 2 * 3 / fast.cycles


def test_utilisation_leaves_idle_lanes_out():
    """On an engine of vendor's primitives, which are simulated by their twins."""
    config = replace(TINY, input_lanes=4, output_lanes=2, family="ecp5", multiplier="ecp5")
    job = Job(config, tiny_job()[0].layer)
    pixels = random_pixels(np.random.default_rng(2), job.layer)
    run = EngineSimulation(config, compiled=False).run(job, pixels)
    np.testing.assert_array_equal(run.pixels, job.layer.reference(pixels))
    assert run.busy == 3 * 5 * 2
    assert run.utilisation == pytest.approx(run.busy * (2 * 3) / (4 * 4) / run.cycles, rel=1e-12)


def test_other_engine():
    job, pixels = tiny_job()
    with pytest.raises(ValueError, match=r"^the job is for another engine$"):
        EngineSimulation(replace(TINY, drain_tiles=3), compiled=False).run(job, pixels)


@pytest.fixture(scope="module")
def probed():
    """A recorded run of several blocks, groups, images and phases: job, pixels, run."""
    config = EngineConfig(
        tile_size=2, fold=2, input_lanes=2, output_lanes=2, line_words=256, max_tiles=8, drain_tiles=2, dimension_bits=6
    )
    rng = np.random.default_rng(3)
    layer = random_layer(rng, ConvGeometry(5, 9, 3, 3, 3, 2))
    job = Job(config, layer, 2, block_rows=2)
    assert (job.blocks, job.groups, job.output_groups, job.tile_columns, job.tile_rows) == (2, 8, 2, 3, 2)
    pixels = random_pixels(rng, layer, 2)
    run = EngineSimulation(config, probe=True, compiled=False).run(job, pixels)
    assert compare(run, pixels) is None
    return job, pixels, run


def altered(run, stage, *index):
    """The run with one recorded value changed."""
    outputs = dict(run.result.outputs)
    outputs[stage] = outputs[stage].copy()
    outputs[stage][index] ^= 1
    return replace(run, result=replace(run.result, outputs=outputs))


# Beats count, outermost first, as the sequencer does; with two blocks of 2 tile rows, that is image = block:
# 2 groups of output channels, 8 groups of input channels (2 for each of 4 phases), 2 tile rows, 3 tile columns, fold 2.
@pytest.mark.parametrize("output_group", [0, 1])
def test_compare_names_a_wrong_transformed_pixel(probed, output_group):
    _, pixels, run = probed
    # Image 1, group 5 (phase 2, channels 2 and 3 of it), tile row 1, tile column 2, tap columns 2 and 3.
    beat = ((((1 * 2 + output_group) * 8 + 5) * 2 + 1) * 3 + 2) * 2 + 1
    difference = compare(altered(run, "input_transform", beat, 0, 3, 0), pixels)
    assert difference.stage == "input_transform"
    channel = 2 * 3 + 2  # of three channels a phase; lane 1 has none
    assert list(difference.place.values()) == [1, 1, 2, channel, 3, 2]
    assert (difference.wrong, abs(difference.expected - difference.observed)) == (1, 1)
    assert (
        "input_transform differs first at image 1, tile row 1, tile column 2, channel 8, tap row 3, tap column 2"
        in (str(difference))
    )


def test_compare_ignores_lanes_without_a_channel(probed):
    _, pixels, run = probed
    beat = 5 * 2 * 3 * 2
    assert compare(altered(run, "input_transform", beat, 1, 0, 0), pixels) is None


@pytest.mark.parametrize("block", [0, 1])
def test_compare_names_a_wrong_transformed_weight(probed, block):
    _, pixels, run = probed
    # Group 6 (phase 3, channels 0 and 1), output lane 0 of group 1 and input lane 1.
    beat = ((block * 2 + 1) * 8 + 6) * 4 + 1
    difference = compare(altered(run, "weight_transform", beat, 1, 2), pixels)
    assert difference.stage == "weight_transform"
    assert list(difference.place.values()) == [2, 3 * 3 + 1, 1, 2]
    assert difference.wrong == 1


def test_compare_names_a_wrong_sum(probed):
    _, pixels, run = probed
    beat = (((1 * 2 + 0) * 2 + 0) * 3 + 1) * 2 + 1
    difference = compare(altered(run, "product", beat, 1, 2, 1), pixels)
    assert difference.stage == "product"
    assert list(difference.place.values()) == [1, 0, 1, 1, 2, 3]
    assert difference.wrong == 1


def test_compare_names_a_wrong_output_of_a_tile(probed):
    _, pixels, run = probed
    # A beat is a row of a tile: image 1, output group 1, tile row 0, tile column 2, row 1. Column 4 is the last.
    beat = (((1 * 2 + 1) * 2 + 0) * 3 + 2) * 2 + 1
    difference = compare(altered(run, "output_transform", beat, 0, 0), pixels)
    assert difference.stage == "accumulators"
    assert list(difference.place.values()) == [1, 1, 4, 2]
    assert difference.wrong == 1
    assert compare(altered(run, "output_transform", beat, 0, 1), pixels) is None  # beyond the image


def test_compare_names_a_wrong_pixel(probed):
    _, pixels, run = probed
    wrong = run.pixels.copy()
    wrong[1, 2, 3, 0] ^= 1
    difference = compare(replace(run, pixels=wrong), pixels)
    assert difference.stage == "pixels"
    assert list(difference.place.values()) == [1, 2, 3, 0]
    assert difference.wrong == 1


def test_compare_refuses_missing_beats(probed):
    _, pixels, run = probed
    outputs = dict(run.result.outputs)
    outputs["product"] = outputs["product"][:-1]
    with pytest.raises(ValueError, match=r"reshape|recorded"):
        compare(replace(run, result=replace(run.result, outputs=outputs)), pixels)


def test_compare_without_probes(probed):
    """Only the output is compared, and any wrong weight shows there."""
    job, pixels, run = probed
    bare = replace(run, result=replace(run.result, outputs={}))
    assert compare(bare, pixels) is None
    assert compare(replace(bare, job=other_weights(job)), pixels).stage == "pixels"


def other_weights(job):
    """The job with another weight for filter 2, row 1, column 2, channel 0: phase 2, row 0, column 1 of it."""
    weights = job.layer.weights.copy()
    weights[2, 1, 2, 0] += 1
    layer = ConvLayer(job.layer.geometry, weights, job.layer.requantization, job.layer.input_zero_point)
    return Job(job.config, layer, job.images, block_rows=job.block_rows)


def test_compare_with_other_weights_than_the_engine_had(probed):
    job, pixels, run = probed
    difference = compare(replace(run, job=other_weights(job)), pixels)
    assert difference.stage == "weight_transform"
    assert difference.place["filter"] == 2
    assert difference.place["channel"] == 2 * 3


def test_compare_with_other_pixels_than_the_engine_had(probed):
    _, pixels, run = probed
    other = pixels.copy()
    other[1, 4, 8, 1] += 1  # the last pixel is in phase (1, 1) of `same` padding by 1, in the last tile only
    difference = compare(run, other)
    assert difference.stage == "input_transform"
    assert difference.place["image"] == 1
    assert difference.place["channel"] % 3 == 1


def cpu_seconds():
    """CPU time of this process and of the compilers that it has called."""
    return sum(os.times()[:4])


@pytest.mark.slow
def test_large_layer_in_two_minutes(tmp_path, monkeypatch, capsys):
    """56×56, 64 to 64 channels, F(4,3) on 144 multipliers: bit-exact, compilation included."""
    monkeypatch.setenv("WINOHW_CACHE_DIR", str(tmp_path))
    config = EngineConfig(input_lanes=4)
    assert config.multipliers == 144
    rng = np.random.default_rng(0)
    layer = random_layer(rng, ConvGeometry(56, 56, 64, 64, 3))
    pixels = random_pixels(rng, layer)
    before, began = cpu_seconds(), time.perf_counter()
    simulation = EngineSimulation(config)
    compiled = time.perf_counter()
    run = simulation.run(Job(config, layer), pixels)
    ended = time.perf_counter()
    spent = cpu_seconds() - before
    with capsys.disabled():
        print(
            f"\n56x56x64->64, {config.describe()}: compiled in {compiled - began:.1f} s, {run.cycles} cycles in "
            f"{ended - compiled:.1f} s ({run.cycles / (ended - compiled) / 1000:.0f} thousand a second), "
            f"{spent:.1f} s of CPU time in all, utilisation {run.utilisation:.3f}, "
            f"{run.effective_macs_per_cycle:.1f} effective MAC a cycle"
        )
    np.testing.assert_array_equal(run.pixels, layer.reference(pixels))
    assert run.utilisation > 0.9
    # CPU time, lest a busy machine fail the test; on an idle one it is no less than what the clock says.
    assert spent < 120
