# amaranth: UnusedElaboratable=no
import functools
from dataclasses import dataclass, replace

import numpy as np
import pytest
from random_layers import job_for, random_job, random_layer, random_pixels

from winohw.algorithm.geometry import ConvGeometry
from winohw.gateware.config import EngineConfig
from winohw.gateware.descriptor import LayerError, check_descriptor, descriptor_fields
from winohw.gateware.engine import Engine
from winohw.gateware.job import Job
from winohw.numerics.formats import Quantized
from winohw.numerics.golden import GoldenModel
from winohw.sim.stalls import StallPattern, Stalls
from winohw.sim.testbench import run_stream

SMALL = {"line_words": 64, "max_tiles": 8, "drain_tiles": 2, "dimension_bits": 6}
F2 = EngineConfig(tile_size=2, max_products=27, **SMALL)
ENGINES = {
    "F(2,3)": F2,
    "direct, 2 × 2 lanes, two products a multiplier": EngineConfig(
        tile_size=1, kernel_size=2, input_lanes=2, output_lanes=2, family="ice40", multiplier="ice40_dual", **SMALL
    ),
    "F(2,3), 8 bits, fold 2": EngineConfig(
        tile_size=2, fold=2, profile=Quantized.uniform(8), output_lanes=2, requantizer_lanes=2, **SMALL
    ),
    "n = 4, three kernels, fold 4": EngineConfig(tile_size=2, kernels=(1, 2, 3), fold=4, **SMALL),
    "F(2,3), host weights, ECP5": EngineConfig(
        tile_size=2, fold=4, weights="host", input_lanes=2, output_lanes=2, family="ecp5", **SMALL
    ),
}
PORTS = ("layer", "weights", "pixels", "o", "status")


def expected(job, pixels):
    """The golden model's pixels; in the exact profile, direct convolution's as well."""
    model = GoldenModel(job.config.winograd(job.kernel), job.profile).run(job.engine_layer, pixels)
    if not job.config.quantized:
        np.testing.assert_array_equal(model, job.layer.reference(pixels))
    return model


def run(config, tasks, stalls=None, max_cycles=12_000):
    """Runs tasks one after another on one engine and checks what comes; the result.

    A task is a job with its pixels, or a malformed descriptor, an array of words.
    """
    words, weights, pixels = [], [np.zeros((0, config.weight_bytes), np.int8)], []
    pixels.append(np.zeros((0, config.input_lanes), np.int8))
    jobs = [task for task in tasks if isinstance(task, tuple)]
    for task in tasks:
        words.append(task[0].descriptor() if isinstance(task, tuple) else np.asarray(task, np.uint32))
    for job, images in jobs:
        weights.append(job.weight_beats())
        pixels.append(job.pixel_beats(images))
    last = np.concatenate([np.arange(len(part)) == len(part) - 1 for part in words])
    counts = [len(job.output_order) for job, _ in jobs]
    result = run_stream(
        Engine(config.behavioural),
        {
            "layer": {"word": np.concatenate(words), "last": last.astype(int)},
            "weights": np.concatenate(weights),
            "pixels": np.concatenate(pixels),
        },
        {"o": sum(counts), "status": len(tasks)},
        stalls=stalls,
        max_cycles=max_cycles,
    )
    out, ends = result.outputs["o"], np.cumsum(counts)
    assert np.flatnonzero(out["last"]).tolist() == (ends - 1).tolist()
    for (job, images), end, count in zip(jobs, ends, counts, strict=True):
        beats = out[end - count : end]
        np.testing.assert_array_equal(job.collect(beats["pixels"], beats["count"]), expected(job, images))
    codes = [check_descriptor(part.tolist(), config.limits()) for part in words]
    assert [LayerError(code) for code in result.outputs["status"]["code"]] == codes
    for status, task in zip(result.outputs["status"], tasks, strict=True):
        busy = task[0].array_chunks() if isinstance(task, tuple) else 0
        assert status["busy"] == busy
    return result


def draw(config, seed, largest=5):
    return random_job(np.random.default_rng(seed), config, largest=largest, channels=3, filters=3)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ENGINES)
def test_random_stalls(name, seed):
    """Two drawn layers, one after the other, with stalls everywhere or mostly at one port."""
    config = ENGINES[name]
    stalls = [Stalls(seed), Stalls(seed, 0.4), Stalls(seed, 0.1, **{PORTS[list(ENGINES).index(name)]: 0.85})][seed]
    run(config, [draw(config, 2 * seed), draw(config, 2 * seed + 1)], stalls)


def test_many_layers_one_after_another():
    """Kernels, strides, shapes and constants change from layer to layer; nothing of one is left for the next."""
    config = ENGINES["n = 4, three kernels, fold 4"]
    tasks = [draw(config, seed, 4) for seed in range(10, 17)]
    assert len({(job.kernel, job.mode) for job, _ in tasks}) > 4
    run(config, tasks, Stalls(1, 0.1))


def test_the_extremes():
    """Sums as large as `max_products` allows, and as small."""
    geometry = ConvGeometry(3, 4, 3, 1, 3)
    tasks = []
    for value in (-128, 127):
        base = random_layer(np.random.default_rng(1), geometry)
        layer = replace(base, weights=np.full((1, 3, 3, 3), value, np.int8), input_zero_point=-128)
        tasks.append((Job(F2, layer), np.full((1, 3, 4, 3), -128, np.int8)))
    run(F2, tasks)


def good(**changes):
    rng = np.random.default_rng(5)
    layer = random_layer(rng, ConvGeometry(3, 3, 2, 1, 3))
    return Job(F2, layer, **changes), random_pixels(rng, layer)


def words_with(**values):
    """The good layer's descriptor with other fields."""
    words = good()[0].descriptor()
    for name, value in values.items():
        index, half = divmod(descriptor_fields().index(name), 2)
        words[1 + index] = words[1 + index] & (0xFFFF0000 >> 16 * half) | value << 16 * half
    return words


def test_malformed_descriptors_are_refused():
    """Each code, and after each the engine runs a good layer."""
    words = good()[0].descriptor()
    malformed = {
        LayerError.BAD_HEADER: np.concatenate([[0x12340000], words[1:]]),
        LayerError.TRUNCATED: words[:-1],
        LayerError.TOO_LONG: np.concatenate([words, [0, 0]]),
        LayerError.FIELD_RANGE: words_with(height=64),
        LayerError.UNSUPPORTED: words_with(kernel=2),
        LayerError.GEOMETRY: words_with(output_width=5),
        LayerError.TOO_MANY_TILES: words_with(block_rows=5),
        LayerError.LINE_BUFFER: words_with(slots=32),
        LayerError.TOO_MANY_CHANNELS: words_with(input_groups=4, groups=4, slot_pitch=8),
    }
    assert set(malformed) == set(LayerError) - {LayerError.OK}
    for code, bad in malformed.items():
        assert check_descriptor(bad.tolist(), F2.limits()) == code
    tasks = [task for bad in malformed.values() for task in (bad, good())]
    run(F2, tasks, Stalls(7, 0.2))
    run(F2, [words_with(height=0), words[:1], words_with(width=0), good()])


@dataclass(frozen=True)
class HeldPattern(StallPattern):
    """Stalls in every cycle up to one."""

    until: int = 0

    def stalled(self, cycle):
        return cycle < self.until


class Held(Stalls):
    """One port that does not move for a long time; the others never stall."""

    def __init__(self, port, until):
        super().__init__()
        self.port, self.until = port, until

    def pattern(self, name, *, can_stall=True):
        plain = super().pattern(name, can_stall=can_stall)
        return HeldPattern(plain.seed, plain.threshold, self.until if name == self.port else 0)


@functools.cache
def held_task():
    """A layer of several blocks and groups, and the cycles that it takes if nothing stalls."""
    config = replace(F2, output_lanes=2)
    rng = np.random.default_rng(9)
    layer = random_layer(rng, ConvGeometry(8, 6, 1, 5, 3))
    task = job_for(config, layer, block_rows=1), random_pixels(rng, layer)
    assert task[0].blocks == 4
    return config, task, run(config, [task]).cycles


@pytest.mark.parametrize("port", PORTS)
def test_one_port_held_for_long(port):
    """The engine fills up, waits however long it takes, and goes on as if nothing had been."""
    config, task, cycles = held_task()
    until = 2 * cycles
    held = run(config, [task], Held(port, until))
    assert held.streams[port].first == until
    reason = {"weights": "wait_weights", "pixels": "wait_pixels", "o": "wait_drain"}.get(port)
    assert reason is None or held.outputs["status"][reason][0] > cycles
    assert held.cycles <= until + cycles


def test_cycles_are_counted():
    """Status against what is seen at the ports, and a layer that keeps the array busy."""
    config = replace(F2, max_tiles=16, drain_tiles=16, line_words=128, max_products=99)
    rng = np.random.default_rng(2)
    layer = random_layer(rng, ConvGeometry(8, 8, 6, 3, 3))
    job = Job(config, layer, block_rows=4)
    result = run(config, [(job, random_pixels(rng, layer))])
    status = result.outputs["status"][0]
    assert status["busy"] == 16 * 6 * 3
    streams = result.streams
    checking = streams["o"].last - streams["layer"].last - int(status["cycles"])
    assert 0 < checking < 200  # the descriptor reader's
    # All pixels come first, then a group follows the other without a gap.
    assert status["wait_pixels"] >= 8 * 8 * 6
    assert status["wait_weights"] < 5
    assert status["wait_drain"] == 0


def test_no_layer_no_output():
    """Weights and pixels are not taken before there is a layer."""
    result = run_stream(Engine(F2), {}, {"o": 0, "status": 0}, idle=100)
    assert not result.streams["o"].beats
    with pytest.raises(Exception, match="weights 0 of 1 beats, pixels 0 of 1 beats"):
        run_stream(Engine(F2), {"weights": [[0, 0, 0]], "pixels": [[0]]}, {"o": 0, "status": 0}, max_cycles=300)
