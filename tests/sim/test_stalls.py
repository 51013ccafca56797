import pytest

from winohw.sim.stalls import StallPattern, Stalls, mix


def test_mix_is_splitmix64():
    # First outputs of splitmix64 seeded with 0 and with 1234567 (reference values of its authors' C code).
    step = 0x9E3779B97F4A7C15
    assert mix(step) == 0xE220A8397B1DCDAF
    assert [mix(1234567 + (k + 1) * step) for k in range(3)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


def test_extremes():
    never, always = Stalls(1, 0.0).pattern("i"), Stalls(1, 1.0).pattern("i")
    assert not any(never.stalled(cycle) for cycle in range(1000))
    assert all(always.stalled(cycle) for cycle in range(1000))


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_frequency(probability):
    pattern = Stalls(7, 0.0, i=probability).pattern("i")
    stalled = sum(pattern.stalled(cycle) for cycle in range(10_000))
    assert abs(stalled - 10_000 * probability) < 200


def test_pattern_depends_on_seed_and_name_only():
    assert Stalls(3, 0.25).pattern("i") == Stalls(3, i=0.25).pattern("i")
    seeds = {Stalls(seed, 0.5).pattern(name).seed for seed in range(4) for name in ("i", "o", "bus.i")}
    assert len(seeds) == 12


def test_stream_without_handshake_never_stalls():
    assert Stalls(1, 0.7).pattern("i", can_stall=False).threshold == 0
    with pytest.raises(ValueError, match=r"^Stream 'i' was given stalls, but it has no handshake at that end$"):
        Stalls(1, i=0.7).pattern("i", can_stall=False)


@pytest.mark.parametrize("probability", [-0.1, 1.5])
def test_bad_probability(probability):
    with pytest.raises(ValueError, match=rf"must be within 0 … 1, but o has {probability}$"):
        Stalls(0, o=probability)


def test_unknown_name():
    with pytest.raises(ValueError, match=r"unknown stream 'x'; the streams are i, o$"):
        Stalls(0, x=0.5).check_names(["o", "i"])


def test_junk_differs_between_words_and_cycles():
    pattern = StallPattern(5, 0)
    assert len({pattern.junk(cycle, word) for cycle in range(10) for word in range(10)}) == 100
