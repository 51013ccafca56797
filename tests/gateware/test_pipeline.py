# amaranth: UnusedElaboratable=no
import numpy as np
import pytest
from amaranth.hdl import Module, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from winohw.gateware.pipeline import delayed, matrix_layout
from winohw.sim.testbench import run_stream

LAYOUT = matrix_layout(signed(5), 2, 3)


class Delay(wiring.Component):
    def __init__(self, cycles: int, reset_less: bool):
        self.cycles = cycles
        self.reset_less = reset_less
        super().__init__({"i": In(LAYOUT), "o": Out(LAYOUT)})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.o.eq(delayed(m, self.i, self.cycles, name="step", reset_less=self.reset_less))
        return m


@pytest.mark.parametrize("reset_less", [False, True])
@pytest.mark.parametrize("cycles", [0, 1, 4])
def test_delays_matrices(cycles, reset_less):
    x = np.random.default_rng(1).integers(-16, 16, (20, 2, 3))
    result = run_stream(Delay(cycles, reset_less), {"i": x}, {"o": len(x) + cycles})
    np.testing.assert_array_equal(result.outputs["o"][cycles:], x)
    np.testing.assert_array_equal(result.outputs["o"][:cycles], np.zeros((cycles, 2, 3)))
