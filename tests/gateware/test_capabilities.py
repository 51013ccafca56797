import pytest

from winohw.algorithm.toomcook import Winograd
from winohw.gateware.capabilities import PAGE, Capabilities
from winohw.gateware.config import EngineConfig
from winohw.numerics.formats import Exact, Narrowing, Quantized, Rounding

LEARNED = Winograd.from_matrices(
    bt=[[1, 0.25, -1, 0], [0, 1, 1, 0.125], [0.125, -1, 1, 0], [0, 0.75, 0, -1]],
    g=[[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0.125, 1]],
    at=[[1, 1, 1, 0], [0, 1, -1, -1]],
)
CONFIGS = {
    "default": EngineConfig(),
    "direct": EngineConfig(tile_size=1, input_lanes=3),
    "kernels": EngineConfig(kernels=(1, 2, 3, 4, 5), fold=2, family="ecp5", profile=Exact(24)),
    "fractional points": EngineConfig(points=("0", "1", "-1", "1/2", "-1/2", "inf"), weights="host"),
    "learned": EngineConfig(matrices=LEARNED, profile=Quantized.uniform(8)),
    "shifts": EngineConfig(
        profile=Quantized(Narrowing(9, [[1] * 6] * 6, Rounding.FLOOR), Narrowing(8, 2, saturate=False), Narrowing(14))
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_host_reads_what_a_board_says(name):
    capabilities = Capabilities(CONFIGS[name], "some board", 25_000_000)
    pages = capabilities.encode()
    assert len(pages) % PAGE == 0
    assert Capabilities.decode(pages) == capabilities


def test_ordinary_engines_take_a_page_or_two():
    assert len(Capabilities(CONFIGS["kernels"], "ulx3s-25f", 25_000_000).encode()) <= 2 * PAGE


def test_another_protocol_is_refused():
    pages = Capabilities(EngineConfig(), protocol=2).encode()
    with pytest.raises(ValueError, match=r"cannot be read: protocol 2, this host has 1$"):
        Capabilities.decode(pages)


@pytest.mark.parametrize("pages", [b"", b"\0" * PAGE, Capabilities(EngineConfig()).encode()[:50]])
def test_rubbish_is_refused(pages):
    with pytest.raises(ValueError, match=r"^The board's description of itself cannot be read: "):
        Capabilities.decode(pages)
