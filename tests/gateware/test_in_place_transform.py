# amaranth: UnusedElaboratable=no
import numpy as np
import pytest
from amaranth.sim import Simulator

from winohw.gateware.config import EngineConfig
from winohw.gateware.in_place_transform import InPlaceTransform
from winohw.numerics.formats import Narrowing, Quantized

STATIONARY = {"datapath": "stationary", "weights": "host", "line_memory": "single", "requantizer": "tflite"}
CONFIGS = {
    "F(2,3), fold 2": EngineConfig(tile_size=2, fold=2, profile=Quantized.uniform(8), line_words=64, **STATIONARY),
    "F(4,3), fold 3": EngineConfig(fold=3, profile=Quantized.uniform(7), line_words=64, **STATIONARY),
    "F(4,3), fold 2": EngineConfig(
        fold=2, profile=Quantized(Narrowing(8), Narrowing(8), Narrowing(12)), line_words=64, **STATIONARY
    ),
}


@pytest.mark.parametrize("read_latency", [1, 2])
@pytest.mark.parametrize("name", CONFIGS)
def test_replaces_patches(name, read_latency):
    config = CONFIGS[name]
    n, slots, patches = config.input_tile, 3, 4
    pitch = patches * config.fold
    dut = InPlaceTransform(config, read_latency)
    rng = np.random.default_rng(1)
    table = rng.integers(0, config.max_shifts[0] + 1, (n, n))
    memory: list = [None] * 64
    expected, rows_done, latencies = [], 8, []

    async def bench(ctx):
        ctx.set(dut.slots, slots)
        ctx.set(dut.slot_pitch, pitch)
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        words, column, cycle, number = [None] * read_latency, 0, 0, 0
        done_at, idle = None, 5
        while number < rows_done or done_at is not None:
            ctx.set(dut.row_done, 0)
            if done_at is None and idle == 0:
                # Another row of patches stands in the next slot.
                rows = rng.integers(-128, 128, (pitch, dut.rows, n))
                rows[0] = 127
                base = number % slots * pitch
                memory[base : base + pitch] = rows
                expected.append((base, dut.model(rows, table)))
                ctx.set(dut.row_done, 1)
                done_at, number, idle = cycle, number + 1, int(rng.integers(1, 4))
            elif done_at is None:
                idle -= 1
            word = words.pop(0)
            if word is not None:
                ctx.set(dut.i, memory[word].tolist())
            ctx.set(dut.shift, table[:, column].tolist())
            reads, writes = ctx.get(dut.read.valid), ctx.get(dut.write.valid)
            assert not (reads and writes)
            assert not (reads or writes) or ctx.get(dut.hold)
            words.append(ctx.get(dut.read.payload) if reads else None)
            if writes:
                v = [[ctx.get(entry) for entry in row] for row in dut.write.v]
                memory[ctx.get(dut.write.word)] = np.array(v)
            column = ctx.get(dut.column)
            if ctx.get(dut.row_ready):
                latencies.append(cycle - done_at)
                base, words_v = expected[-1]
                np.testing.assert_array_equal(memory[base : base + pitch], words_v)
                done_at = None
            await ctx.tick()
            cycle += 1

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    assert latencies == [dut.latency + dut.rows * pitch] * rows_done
