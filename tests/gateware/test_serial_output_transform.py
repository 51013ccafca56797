# amaranth: UnusedElaboratable=no
import numpy as np
import pytest
from amaranth.sim import Simulator

from winohw.algorithm.toomcook import winograd
from winohw.gateware.serial_output_transform import SerialOutputTransform, program
from winohw.numerics.formats import signed_range
from winohw.sim.payload import PayloadCodec

#: tile size, kernel size, fold, result bits, adders
GRID = [(2, 3, 2, 24, 2), (4, 3, 6, 24, 2), (4, 3, 3, 20, 1), (3, 3, 5, 18, 2), (1, 3, 3, 20, 2), (4, 3, 6, 32, 4)]


def transform_for(tile_size, kernel_size, fold, result_bits, adders):
    matrices = winograd(tile_size, kernel_size)
    exponent = (matrices.divisor**2 & -(matrices.divisor**2)).bit_length() - 1
    return SerialOutputTransform(matrices, fold=fold, sum_bits=result_bits + exponent, adders=adders)


def chunks_of(dut, tiles, seed=1):
    """Chunks of random sums, the extremes first."""
    matrices, rng = dut.winograd, np.random.default_rng(seed)
    low, high = signed_range(dut.sum_bits)
    sums = rng.integers(low, high, (tiles, matrices.n, matrices.n), endpoint=True)
    sums[0], sums[1] = low, high
    return sums.reshape(tiles, matrices.n, dut.fold, dut.columns).swapaxes(1, 2).reshape(-1, matrices.n, dut.columns)


def run(dut, chunks, stall=0.0, gap=0.0, seed=0, tail=300):
    """Sends chunks as soon as credit and `chunk_cycles` allow it; entries of Y and the cycles of everything."""
    rng = np.random.default_rng(seed)
    sent = PayloadCodec(dut.i.payload.shape()).encode(chunks)
    sent = [sum(int(part) << 64 * k for k, part in enumerate(word)) for word in sent]
    expected = len(chunks) // dut.fold * dut.winograd.tile_size**2
    entries, times, drains, ins = [], [], [], []

    async def bench(ctx):
        credit, position, since, offered, quiet = dut.depth, 0, 0, None, 0
        for cycle in range(20_000):
            send = position < len(sent) and credit > 0 and since >= dut.chunk_cycles - 1 and rng.random() >= gap
            ctx.set(dut.i.valid, send)
            ctx.set(dut.i.payload.as_value(), sent[position] if send else int(rng.integers(1 << 60)))
            ctx.set(dut.o.ready, bool(rng.random() >= stall))
            valid, payload, ready, drained = (
                await ctx.tick().sample(dut.o.valid, dut.o.payload, dut.o.ready, dut.drained)
            )[2:]
            since += 1
            if send:
                ins.append(cycle)
                credit, position, since = credit - 1, position + 1, 0
            if drained:
                drains.append(cycle)
                credit += dut.fold
            if offered is not None:
                assert valid
                assert payload == offered
            offered = payload if valid and not ready else None
            if valid and ready:
                entries.append(payload)
                times.append(cycle)
            quiet = quiet + 1 if len(entries) >= expected else 0
            if quiet > tail:
                break

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    return np.array(entries), np.array(ins), np.array(drains), np.array(times)


@pytest.mark.parametrize("parameters", GRID, ids=str)
def test_equals_model(parameters):
    dut = transform_for(*parameters)
    chunks = chunks_of(dut, 6)
    np.testing.assert_array_equal(run(dut, chunks, stall=0.5, gap=0.3)[0], dut.model(chunks))


@pytest.mark.parametrize("parameters", GRID, ids=str)
def test_full_speed(parameters):
    """Every tile takes `tile_cycles`; its entries, and the room it leaves, come when the attributes say."""
    dut = transform_for(*parameters)
    chunks = chunks_of(dut, 6)
    entries, ins, drains, times = run(dut, chunks)
    np.testing.assert_array_equal(entries, dut.model(chunks))
    begin, expected, expected_drains = 0, [], []
    for last in ins[dut.fold - 1 :: dut.fold].tolist():
        begin = max(last + dut.chunk_cycles + 2, begin)
        expected += [begin + dut.first_latency + time for time in dut.entry_times]
        expected_drains.append(begin + dut.drain_latency)
        begin += dut.tile_cycles
    np.testing.assert_array_equal(times, expected)
    np.testing.assert_array_equal(drains, expected_drains)


def test_program():
    """Steps give the product with the matrix, whatever the number of adders."""
    matrix = np.array([[6, 4, -4, 1, 0], [0, 24, 3, -2, 7], [0, 0, 1, -128, 5]])
    vector = np.array([3, -7, 100, 11, 5])
    for adders in (1, 2, 3):
        totals = []
        for steps in program(matrix, adders):
            parts = np.zeros(adders, int)
            for step in steps:
                for k, term in enumerate(step.terms):
                    if term:
                        parts[k] += term[0] * vector[step.entry] << term[1]
            totals += parts.tolist()
        assert totals[:3] == (matrix @ vector).tolist()
        assert not any(totals[3:])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((2, 1, 2, 20, 2), "A serial output transform needs an input tile of 3 or more, not 2"),
        ((4, 3, 4, 20, 2), "fold must divide the input tile 6, not 4"),
        ((4, 3, 6, 20, 0), "adders must be 1 or more, not 0"),
        (
            (4, 3, 6, 40, 2),
            "Sums of 46 bits, divided by 576, give results of 40 bits; 2 to 32 are possible",
        ),
    ],
)
def test_bad_parameters(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        transform_for(*arguments)
