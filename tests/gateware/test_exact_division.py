# amaranth: UnusedElaboratable=no
import numpy as np
import pytest

from winohw.gateware.exact_division import ExactDivider
from winohw.sim.testbench import run_stream


@pytest.mark.parametrize("result_bits", [8, 29, 32])
@pytest.mark.parametrize("divisor", [1, 2, 6, 24, 360])
def test_quotients(divisor, result_bits):
    dut = ExactDivider(divisor**2, result_bits)
    limit = 1 << (result_bits - 1)
    random = np.random.default_rng(1).integers(-limit, limit, 200)
    quotients = np.concatenate([[-limit, limit - 1, -1, 0, 1], random])
    # The dividend is known modulo 2**acc_bits only.
    unused = 64 - dut.acc_bits
    dividends = (quotients * divisor**2 << unused) >> unused
    np.testing.assert_array_equal(dut.model(dividends), quotients)
    result = run_stream(dut, {"i": dividends}, {"o": len(quotients) + dut.latency})
    np.testing.assert_array_equal(result.outputs["o"][dut.latency :], quotients)


def test_power_of_two_costs_nothing():
    assert ExactDivider(4, 29).latency == 0


def test_refuses_bad_divisor():
    with pytest.raises(ValueError, match=r"^Divisor must be at least 1, not 0$"):
        ExactDivider(0, 29)
