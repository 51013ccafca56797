# amaranth: UnusedElaboratable=no
import numpy as np
import pytest
from amaranth import Module, Signal
from amaranth.lib import wiring

from winohw.gateware.weight_splitter import WeightSplitter
from winohw.sim.stalls import Stalls
from winohw.sim.testbench import run_stream


class Served(wiring.Component):
    """A splitter that is told when a layer's last constants have been taken."""

    def __init__(self, splitter, count):
        self.splitter, self.count = splitter, count
        super().__init__({name: member for name, member in splitter.signature.members.items() if name != "more"})

    def elaborate(self, platform):
        m = Module()
        m.submodules.splitter = splitter = self.splitter
        taken = Signal(range(self.count * splitter.constant_beats + 1))
        m.d.sync += taken.eq(taken + (splitter.constants.valid & splitter.constants.ready))
        m.d.comb += [
            splitter.more.eq(taken != self.count * splitter.constant_beats),
            splitter.start.eq(self.start),
            splitter.groups.eq(self.groups),
            self.passed.eq(splitter.passed),
        ]
        wiring.connect(m, wiring.flipped(self.i), splitter.i)
        for name in ("kernels", "constants"):
            wiring.connect(m, getattr(splitter, name), wiring.flipped(getattr(self, name)))
        return m


@pytest.mark.parametrize("stall", [{}, {"default": 0.5}, {"constants": 0.95}, {"kernels": 0.9}], ids=str)
@pytest.mark.parametrize(
    ("beat_bytes", "kernel_beats", "lanes"),
    [(1, 9, 1), (2, 16, 1), (2, 1, 1), (4, 36, 1), (12, 2, 1), (1, 16, 2), (2, 5, 3)],
)
def test_equals_model(beat_bytes, kernel_beats, lanes, stall):
    for groups, count in ((3, 6), (1, 1), (1, 5)):
        dut = WeightSplitter(beat_bytes=beat_bytes, kernel_beats=kernel_beats, output_lanes=lanes, dimension_bits=5)
        size = count * (dut.constant_beats + groups * kernel_beats * lanes)
        beats = np.random.default_rng(1).integers(-128, 128, (size, beat_bytes)).astype(np.int8)
        kernels, constants = dut.model(beats, groups=groups)
        result = run_stream(
            Served(dut, count),
            {"i": beats, "start": [1, 0]},
            {"kernels": len(kernels), "constants": len(constants), "passed": None},
            constants={"groups": groups},
            stalls=Stalls(**stall, seed=3) if stall else None,
            idle=3,
        )
        np.testing.assert_array_equal(result.outputs["kernels"], kernels)
        np.testing.assert_array_equal(result.outputs["constants"], constants)
        assert result.outputs["passed"].sum() == count
        if not stall:
            assert np.flatnonzero(result.outputs["passed"])[-1] == len(beats) + 1


@pytest.mark.parametrize("name", ["beat_bytes", "kernel_beats", "output_lanes", "dimension_bits"])
def test_bad_parameters(name):
    with pytest.raises(ValueError, match=f"^{name} must be 1 or more, not 0$"):
        WeightSplitter(**{"beat_bytes": 2, "kernel_beats": 16, "dimension_bits": 8} | {name: 0})
