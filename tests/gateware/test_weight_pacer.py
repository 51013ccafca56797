# amaranth: UnusedElaboratable=no
import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from winohw.gateware.weight_pacer import WeightPacer
from winohw.sim.stalls import Stalls
from winohw.sim.testbench import run_stream


class Watched(wiring.Component):
    """The pacer with an output that tells when a row passes."""

    def __init__(self, dut):
        self.dut = dut
        super().__init__({**dict(dut.signature.members), "passed": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.dut = dut = self.dut
        for name, member in dut.signature.members.items():
            if member.is_port:
                m.d.comb += getattr(dut, name).eq(getattr(self, name))
            else:
                wiring.connect(m, wiring.flipped(getattr(self, name)), getattr(dut, name))
        m.d.comb += self.passed.eq(dut.o.valid)
        return m


def run(delays, kernel, group_rows, started, rows, *, stalls=None, start=(2,), most_rows=None):
    """Checks that rows pass unchanged, never before they are permitted; the cycles in which they pass.

    `started` and `start` are cycles; in these the strobes are high.
    """
    dut = WeightPacer(row_bytes=3, delays=delays, most_rows=most_rows or group_rows)
    beats = np.random.default_rng(rows).integers(-128, 128, (rows, 3))
    beats.ravel()[:4] = [-128, 127, -1, 0]
    length = max([*started, *start]) + 2
    strobe = {
        name: np.isin(np.arange(length), cycles).astype(int)
        for name, cycles in (("start", start), ("started", started))
    }
    result = run_stream(
        Watched(dut),
        {"i": beats, **strobe},
        {"o": rows, "passed": None},
        constants={"kernel": kernel, "group_rows": group_rows},
        stalls=stalls,
    )
    np.testing.assert_array_equal(result.outputs["o"], dut.model(beats))
    return np.flatnonzero(result.outputs["passed"])


@pytest.mark.parametrize("delay", [1, 2, 7])
def test_each_group_opens_for_the_next(delay):
    """Four rows pass at once; the next four `delay` cycles after each strobe, a row a cycle."""
    started = [20, 40, 61]
    cycles = run({3: delay}, 3, 4, started, 16)
    expected = [3, 4, 5, 6] + [cycle + delay + row for cycle in started for row in range(4)]
    assert cycles.tolist() == expected


@pytest.mark.parametrize("kernel", [1, 2, 5])
def test_every_kernel_has_its_delay(kernel):
    delays = {1: 9, 2: 4, 5: 1}
    cycles = run(delays, kernel, 2, [10, 30], 6, most_rows=10)
    assert cycles.tolist() == [3, 4, *(cycle + delays[kernel] + row for cycle in (10, 30) for row in range(2))]


def test_groups_shorter_than_the_delay():
    """Several strobes are on the way, and their permissions add up."""
    started = list(range(10, 30))
    cycles = run({3: 6}, 3, 1, started, 21)
    assert cycles.tolist() == [3, *(cycle + 6 for cycle in started)]


def test_permissions_wait_for_rows():
    started = [10, 12, 14, 16]
    for seed in range(6):
        stalls = [Stalls(seed, i=0.5), Stalls(seed, i=0.9)][seed % 2]
        cycles = run({3: 3}, 3, 3, started, 15, stalls=stalls)
        allowed = [3] * 3 + [cycle + 3 for cycle in started for _ in range(3)]
        assert (cycles >= allowed).all()


def test_every_permission_can_be_outstanding():
    """As many groups as can be on their way to the array, all of the largest size, while nothing leaves."""
    started = [10, 11, 12]
    dut_rows = 4 * 5
    cycles = run({3: 2}, 3, 5, started, dut_rows, stalls=Stalls(0, i=0.97))
    assert len(cycles) == dut_rows


def test_a_new_layer_starts_afresh():
    """What the layer before was permitted is void, strobes on their way included."""
    cycles = run({3: 5}, 3, 2, [8, 9, 30], 4, start=(2, 10), stalls=None)
    # Two rows of the first layer, then two of the second; the strobes of cycles 8 and 9 come to nothing.
    assert cycles.tolist() == [3, 4, 11, 12]
    cycles = run({3: 5}, 3, 2, [8, 9, 30], 6, start=(2, 10), stalls=None)
    assert cycles.tolist() == [3, 4, 11, 12, 35, 36]


def test_nothing_passes_before_the_start():
    assert run({3: 5}, 3, 2, [60], 2, start=(50,)).tolist() == [51, 52]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"row_bytes": 0}, "row_bytes must be 1 or more, not 0"),
        ({"most_rows": 0}, "most_rows must be 1 or more, not 0"),
        ({"delays": {}}, r"delays must be 1 or more for at least one kernel, not \{\}"),
        ({"delays": {3: 2, 5: 0}}, r"delays must be 1 or more for at least one kernel, not \{3: 2, 5: 0\}"),
    ],
)
def test_refuses_bad_parameters(change, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        WeightPacer(**{"row_bytes": 3, "delays": {3: 4}, "most_rows": 6} | change)
