from dataclasses import FrozenInstanceError, replace

import pytest

from winohw.algorithm.toomcook import Winograd, winograd
from winohw.gateware.config import EngineConfig
from winohw.numerics.formats import Exact, Narrowing, Quantized, Rounding

INEXACT = Winograd.from_matrices(bt=[[1, 0], [0, 1]], g=[[1], [0.5]], at=[[1, 0], [0, 1]])


def test_default():
    config = EngineConfig()
    assert (config.tile_size, config.kernel_size, config.kernels, config.input_tile) == (4, 3, (3,), 6)
    assert config.multiplier == "generic"
    assert config.winograd() is config.winograd(3)
    assert config.winograd() == winograd(4, 3)
    assert not config.direct
    assert not config.quantized


@pytest.mark.parametrize(
    ("tile_size", "multiplications", "v_bits", "u_bits"),
    [(1, 9, 8, 8), (2, 4, 10, 12), (3, 25 / 9, 14, 14), (4, 2.25, 15, 14), (6, 64 / 36, 20, 14)],
)
def test_widths_of_the_design(tile_size, multiplications, v_bits, u_bits):
    """Multiplications an output and widths at the multipliers, 3×3 kernels (design table)."""
    config = EngineConfig(tile_size=tile_size)
    assert (config.v_bits, config.u_bits) == (v_bits, u_bits)
    assert (config.v_exact_bits, config.u_exact_bits) == (v_bits, u_bits)
    assert config.multipliers / tile_size**2 == multiplications
    assert config.effective_macs_per_cycle / config.multipliers == pytest.approx(9 / multiplications, rel=1e-12)


def test_one_input_tile_for_all_kernels():
    """1×1 to 5×5 on n = 6: U needs 8, 12, 14, 16, 18 bits, and one input transform serves them all."""
    widths = [EngineConfig(tile_size=7 - kernel, kernel_size=kernel).u_bits for kernel in range(1, 6)]
    assert widths == [8, 12, 14, 16, 18]
    config = EngineConfig(kernels=(5, 3, 1, 2, 4, 4))
    assert config.kernels == (1, 2, 3, 4, 5)
    assert (config.v_bits, config.u_bits) == (15, 18)
    assert config.largest_tile == 6
    assert config.steps == (6, 5, 4, 3, 2)
    for kernel, matrices in config.family_matrices.items():
        assert (matrices.tile_size, matrices.kernel_size) == (7 - kernel, kernel)
        assert (matrices.bt == config.winograd().bt).all()


@pytest.mark.parametrize(
    ("multipliers", "macs", "parameters"),
    [
        (108, 432, {"output_lanes": 3}),
        (144, 576, {"input_lanes": 2, "output_lanes": 2}),
        (72, 288, {"input_lanes": 2}),
        (18, 72, {"fold": 2}),
        (16, 36, {"tile_size": 2}),
        (6, 24, {"fold": 6}),
    ],
)
def test_instances_of_the_design(multipliers, macs, parameters):
    config = EngineConfig(**parameters)
    assert config.multipliers == multipliers
    assert config.effective_macs_per_cycle == macs
    assert config.columns * config.fold == config.input_tile


def test_accumulators_of_the_exact_profile():
    """512 channels of 3×3: |sum| ≤ 4608 · 2¹⁴ < 2²⁷; F(4,3) divides by 576 = 2⁶ · 9, F(2,3) by 4."""
    config = EngineConfig(max_products=9 * 512)
    assert config.result_bits == 28
    assert config.acc_bits == config.m_bits == 34
    assert config.exact_profile() == Exact(28)
    assert replace(config, tile_size=2).acc_bits == 30
    assert replace(config, tile_size=1).acc_bits == 28
    # The extreme itself must fit: 2¹³ products of 2¹⁴ are 2²⁷, one more than 28 bits hold.
    assert EngineConfig(max_products=2**13 - 1).result_bits == 28
    assert EngineConfig(max_products=2**13).result_bits == 29
    assert EngineConfig(max_products=2**20).result_bits == 32


def test_accumulators_of_the_quantized_profile():
    """64 channels of V and U of 8 bits: |sum| ≤ 64 · 2¹⁴, which 22 bits hold."""
    config = EngineConfig(max_products=9 * 64, profile=Quantized.uniform(8))
    assert (config.v_bits, config.u_bits, config.m_bits) == (8, 8, 8)
    assert config.acc_bits == 22
    # With smaller kernels on offer there may be more channels.
    assert replace(config, kernels=(1, 3)).acc_bits == 25
    assert config.max_shifts == (15, 14, 22)
    with pytest.raises(ValueError, match=r"^a quantized engine needs a profile with shifts for each layer$"):
        config.exact_profile()


def test_channels_that_the_accumulators_allow():
    config = EngineConfig(kernels=(1, 3, 5), input_lanes=4, max_products=9 * 64)
    assert [config.max_groups(kernel) for kernel in config.kernels] == [144, 16, 5]
    assert EngineConfig(max_products=9).max_groups(3) == 1
    assert config.limits().max_groups == (144, 16, 5)


def test_weight_stream():
    chip = EngineConfig(kernels=(2, 3, 5), input_lanes=2, output_lanes=3)
    assert chip.weight_bytes == 5
    assert [chip.kernel_rows(kernel) for kernel in chip.kernels] == [2, 3, 5]
    assert [chip.group_rows(kernel) for kernel in chip.kernels] == [12, 18, 30]
    for profile, u_bytes in ((Exact(), 2), (Quantized.uniform(8), 1), (Quantized.uniform(17), 4)):
        host = replace(chip, weights="host", profile=profile)
        assert host.u_bytes == (4 if host.u_bits > 16 else u_bytes)
        assert host.weight_bytes == 6 * host.u_bytes
        assert {host.kernel_rows(kernel) for kernel in host.kernels} == {6}


@pytest.mark.parametrize("lanes", [(1, 1), (1, 2), (3, 4)])
@pytest.mark.parametrize("weights", ["chip", "host"])
def test_groups_last_as_long_as_their_weights_take(weights, lanes):
    """A row a cycle, and the last kernel is loaded before the next swap, the first right after the one before."""
    config = EngineConfig(kernels=(1, 2, 3, 5), weights=weights, input_lanes=lanes[0], output_lanes=lanes[1])
    for kernel in config.kernels:
        rows, interval = config.kernel_rows(kernel), config.group_interval(kernel)
        assert interval >= config.group_rows(kernel)
        assert interval >= 1 + (lanes[0] * lanes[1] - 1) * rows + 1
        assert interval <= config.group_rows(kernel) + 1


def test_direct():
    config = EngineConfig(tile_size=1)
    assert config.direct
    assert config.steps == (1, 2)
    assert config.limits().direct
    assert not EngineConfig(tile_size=1, kernel_size=1).direct
    assert EngineConfig(tile_size=1, kernel_size=1).steps == (1,)


def test_limits():
    config = EngineConfig(
        fold=2, max_tiles=33, line_words=555, output_lanes=3, dimension_bits=9, profile=Quantized.uniform(8)
    )
    limits = config.limits()
    assert (limits.input_tile, limits.kernels, limits.fold, limits.max_tiles) == (6, (3,), 2, 33)
    assert (limits.line_words, limits.output_lanes, limits.dimension_bits) == (555, 3, 9)
    assert (limits.shift_taps, limits.max_shifts) == (36, config.max_shifts)
    assert replace(config, profile=Exact()).limits().shift_taps == 0


def test_points_and_matrices():
    by_points = EngineConfig(tile_size=2, points=("0", "1", "-1", "inf"))
    assert by_points.winograd() == winograd(2, 3, by_points.points)
    assert by_points == EngineConfig(tile_size=2, points=(0, 1, -1, None))
    matrices = winograd(3, 2)
    own = EngineConfig(matrices=matrices)
    assert (own.tile_size, own.kernel_size, own.kernels) == (3, 2, (2,))
    assert own.winograd() is matrices
    learned = EngineConfig(matrices=INEXACT, profile=Quantized.uniform(8))
    assert (learned.tile_size, learned.kernel_size) == (2, 1)


def test_equal_configurations():
    config = EngineConfig(kernels=(3, 1))
    assert config == EngineConfig(kernels=(1, 3))
    assert hash(config) == hash(EngineConfig(kernels=(1, 3)))
    assert config != EngineConfig()
    assert EngineConfig(family="ecp5") == EngineConfig(family="ecp5", multiplier="ecp5")
    with pytest.raises(FrozenInstanceError):
        config.fold = 2


def test_behavioural_twin():
    config = EngineConfig(input_lanes=3, family="ecp5")
    assert config.behavioural == EngineConfig(input_lanes=3)
    small = EngineConfig(tile_size=1, family="ice40", multiplier="ice40_dual")
    assert small.behavioural == EngineConfig(tile_size=1, family="ice40", multiplier="generic")
    assert replace(small, multiplier="lut").behavioural == EngineConfig(tile_size=1, family="ice40", multiplier="lut")


def test_describe():
    assert EngineConfig(input_lanes=4).describe() == ("F(4x4, 3x3), 144 multipliers (6x6 taps x 4 x 1 channels), exact")
    assert EngineConfig(tile_size=1, fold=3, profile=Quantized.uniform(8)).describe() == (
        "direct convolution, 3 multipliers (3x1 taps x 1 x 1 channels), quantized"
    )


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"points": (0, 1, -1), "matrices": winograd(2, 3)}, ValueError, "points and matrices exclude each other"),
        ({"kernels": (1, 2)}, ValueError, r"kernels (1, 2) do not contain the kernel size 3"),
        (
            {"matrices": INEXACT, "kernels": (1, 2)},
            ValueError,
            f"several kernels (1, 2) need Toom-Cook points; {INEXACT} has none",
        ),
        (
            {"points": (0, 1, -1, "1/2", "-1/2", "inf"), "kernels": (2, 3)},
            ValueError,
            "several kernels (2, 3) need integer points, not 0, 1, -1, 1/2, -1/2, inf",
        ),
        ({"kernels": (0, 3)}, ValueError, "kernels must be within 1 ... 5 on an input tile of 6, not (0, 3)"),
        ({"kernels": (3, 6)}, ValueError, "kernels must be within 1 ... 5 on an input tile of 6, not (3, 6)"),
        *(
            ({name: 1.0}, TypeError, f"{name} must be an integer, not 1.0")
            for name in (
                "input_lanes",
                "output_lanes",
                "fold",
                "max_tiles",
                "line_words",
                "drain_tiles",
                "output_columns",
            )
        ),
        ({"max_products": True}, TypeError, "max_products must be an integer, not True"),
        *(
            ({name: 0}, ValueError, f"{name} must be at least 1, not 0")
            for name in (
                "input_lanes",
                "output_lanes",
                "fold",
                "max_tiles",
                "line_words",
                "drain_tiles",
                "output_columns",
            )
        ),
        ({"max_products": -1}, ValueError, "max_products must be at least 1, not -1"),
        (
            {"input_lanes": 2, "kernels": (3, 4), "max_products": 31},
            ValueError,
            "max_products must be at least 32, one group of input channels, not 31",
        ),
        ({"fold": 4}, ValueError, "fold must divide the input tile 6, not 4"),
        ({"output_columns": 4}, ValueError, "output_columns must divide the 6 columns a cycle, not 4"),
        ({"fold": 3, "output_columns": 3}, ValueError, "output_columns must divide the 2 columns a cycle, not 3"),
        ({"weights": "disk"}, ValueError, "weights must be one of chip, host, not 'disk'"),
        ({"requantizer": "none"}, ValueError, "requantizer must be one of tflite, shift, not 'none'"),
        ({"family": "xilinx"}, ValueError, "family must be one of generic, ecp5, ice40, not 'xilinx'"),
        (
            {"multiplier": "dsp"},
            ValueError,
            "Multiplier kind must be one of generic, ecp5, ice40, ice40_dual, lut, not 'dsp'",
        ),
        (
            {"tile_size": 6, "family": "ecp5"},
            ValueError,
            "Multiplier a_width must be 1 to 18 for kind 'ecp5', not 20",
        ),
        ({"requantizer_lanes": 0}, ValueError, "requantizer_lanes must be within 1 ... 4, not 0"),
        ({"requantizer_lanes": 5}, ValueError, "requantizer_lanes must be within 1 ... 4, not 5"),
        ({"dimension_bits": 3}, ValueError, "dimension_bits must be within 4 ... 16, not 3"),
        ({"dimension_bits": 17}, ValueError, "dimension_bits must be within 4 ... 16, not 17"),
        ({"line_words": 65537}, ValueError, "line_words must be at most 65536, not 65537"),
        ({"profile": "exact"}, TypeError, "profile must be Exact or Quantized, not 'exact'"),
        ({"matrices": INEXACT}, ValueError, f"the exact profile needs exact matrices; those of {INEXACT} are not"),
    ],
    ids=str,
)
def test_refuses(parameters, error, message):
    with pytest.raises(error) as caught:
        EngineConfig(**parameters)
    assert str(caught.value) == message


def test_refuses_a_kernel_that_is_not_on_offer():
    with pytest.raises(ValueError, match=r"^this engine offers kernels \(2, 3\), not 5$"):
        EngineConfig(kernels=(2, 3)).winograd(5)


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        (Exact(), "this engine's profile is Quantized, not Exact"),
        (
            Quantized(Narrowing(9, 2), Narrowing(8), Narrowing(8)),
            "the input step of this engine has 8 bits, half_up, saturating; "
            "the profile has 9 bits, half_up, saturating",
        ),
        (
            Quantized(Narrowing(8, 2), Narrowing(8, 0, Rounding.FLOOR), Narrowing(8)),
            "the weight step of this engine has 8 bits, half_up, saturating; the profile has 8 bits, floor, saturating",
        ),
        (
            Quantized(Narrowing(8, 2), Narrowing(8), Narrowing(8, saturate=False)),
            "the product step of this engine has 8 bits, half_up, saturating; "
            "the profile has 8 bits, half_up, wrapping",
        ),
        (Quantized.uniform(8, 16), "shifts of the input step must be at most 15, not 16"),
        (Quantized.uniform(8, 15, 15), "shifts of the weight step must be at most 14, not 15"),
        (Quantized.uniform(8, 15, 14, 27), "shifts of the product step must be at most 26, not 27"),
    ],
)
def test_refuses_a_profile(profile, message):
    config = EngineConfig(profile=Quantized.uniform(8))
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        config.check_profile(profile)
    assert str(caught.value) == message
    config.check_profile(Quantized.uniform(8, 15, 14, 26))


def test_refuses_a_quantized_profile_on_an_exact_engine():
    with pytest.raises(ValueError, match=r"^this engine's profile is Exact, not Quantized$"):
        EngineConfig().check_profile(Quantized.uniform(8))
    EngineConfig().check_profile(Exact(20))
