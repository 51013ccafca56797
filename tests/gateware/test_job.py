# amaranth: UnusedElaboratable=no
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_layers import random_job, random_layer, random_pixels

from winohw.algorithm.geometry import ConvGeometry
from winohw.gateware.config import EngineConfig
from winohw.gateware.descriptor import InputMode, LayerError, check_descriptor, descriptor_fields
from winohw.gateware.job import Job, UnsupportedLayer
from winohw.gateware.weight_loader import WeightLoader
from winohw.gateware.weight_transform import HostWeights
from winohw.numerics.direct import direct_convolution
from winohw.numerics.formats import Exact, Narrowing, Quantized
from winohw.numerics.golden import GoldenModel
from winohw.numerics.requantize import ShiftRequantization

SMALL = {"line_words": 150, "max_tiles": 12, "dimension_bits": 8}
ENGINES = [
    EngineConfig(input_lanes=2, output_lanes=3, requantizer_lanes=3, **SMALL),
    EngineConfig(kernels=(1, 2, 3, 4, 5), fold=2, output_lanes=2, requantizer_lanes=2, **SMALL),
    EngineConfig(kernels=(2, 3), weights="host", input_lanes=3, requantizer_lanes=4, **SMALL),
    EngineConfig(tile_size=1, input_lanes=3, output_lanes=2, **SMALL),
    EngineConfig(tile_size=1, kernel_size=1, output_lanes=4, **SMALL),
    EngineConfig(tile_size=2, kernel_size=5, requantizer="shift", **SMALL),
]

drawn = settings(derandomize=True, max_examples=60, deadline=None)
jobs = st.builds(
    lambda config, seed: random_job(np.random.default_rng(seed), config, largest=20),
    st.sampled_from(ENGINES),
    st.integers(0, 2**32 - 1),
)


def layer(*sizes, config=ENGINES[0], seed=1, **options):
    return random_layer(np.random.default_rng(seed), ConvGeometry(*sizes, **options), config.requantizer)


def fields(job):
    words = job.descriptor()[1 : 1 + len(descriptor_fields()) // 2].tolist()
    return dict(zip(descriptor_fields(), [half for word in words for half in (word & 0xFFFF, word >> 16)], strict=True))


# --- descriptor -------------------------------------------------------------------------------------------------------
def test_descriptor_of_a_dense_layer():
    """13×10 pixels, 3 to 5 channels, `same`, on F(4,3) with 2 × 3 lanes: 4 × 3 tiles, 2 × 2 groups, by hand."""
    base = layer(13, 10, 3, 5, 3)
    requantization = replace(base.requantization, output_zero_point=-7, act_min=-128, act_max=90)
    job = Job(ENGINES[0], replace(base, requantization=requantization, input_zero_point=-3), 2, block_rows=3)
    assert job.descriptor()[0] == 0x574E0000 | 14
    assert fields(job) == {
        "kernel": 3,
        "stride": 1,
        "mode": InputMode.DENSE,
        "images": 2,
        "height": 13,
        "width": 10,
        "pad_top": 1,
        "pad_left": 1,
        "input_groups": 2,
        "groups": 2,
        "output_groups": 2,
        "filters": 5,
        "tile_rows": 4,
        "tile_cols": 3,
        "total_rows": 8,
        "block_rows": 3,
        "slots": 8,
        "group_pitch": 3,
        "slot_pitch": 6,
        "grid_height": 18,
        "grid_width": 14,
        "output_height": 13,
        "output_width": 10,
        "pad_value": 0xFFFD,
        "output_zero_point": 0xFFF9,
        "act_min": 0xFF80,
        "act_max": 90,
        "reserved": 0,
    }


def test_descriptor_of_a_polyphase_layer():
    """9×9 pixels, 5×5 kernel with stride 2: four phases of 3×3 kernels on 5×5 outputs, fold 2."""
    job = Job(ENGINES[1], layer(9, 9, 2, 3, 5, 2))
    values = fields(job)
    assert (values["kernel"], values["stride"], values["mode"]) == (3, 2, InputMode.POLYPHASE)
    assert (values["height"], values["width"], values["pad_top"], values["pad_left"]) == (9, 9, 2, 2)
    assert (values["input_groups"], values["groups"], values["output_groups"]) == (2, 8, 2)
    assert (values["tile_rows"], values["tile_cols"]) == (2, 2)
    assert (values["group_pitch"], values["slot_pitch"], values["slots"]) == (4, 32, 2)
    assert (values["grid_height"], values["grid_width"]) == (10, 10)


def test_descriptor_of_a_subsampled_layer():
    values = fields(Job(ENGINES[1], layer(9, 9, 2, 3, 1, 2)))
    assert (values["kernel"], values["stride"], values["mode"]) == (1, 2, InputMode.SUBSAMPLE)
    assert (values["groups"], values["input_groups"], values["tile_rows"]) == (2, 2, 1)
    assert (values["height"], values["width"]) == (9, 9)


def test_descriptor_of_a_strided_direct_layer():
    values = fields(Job(ENGINES[3], layer(9, 8, 4, 3, 3, 2, padding="valid")))
    assert (values["kernel"], values["stride"], values["mode"]) == (3, 2, InputMode.DENSE)
    assert (values["tile_rows"], values["tile_cols"], values["grid_height"], values["grid_width"]) == (4, 3, 9, 7)
    # The last column is covered by no tile.
    assert (values["height"], values["width"]) == (9, 7)


def test_shift_table_follows():
    """A word a tap, row-major: V, U and M in its bytes."""
    config = EngineConfig(tile_size=2, profile=Quantized.uniform(8), **SMALL)
    v = np.arange(16).reshape(4, 4) % 11
    u = np.arange(16).reshape(4, 4) // 4
    profile = Quantized(Narrowing(8, v), Narrowing(8, u), Narrowing(8, 14 - v - u))
    words = Job(config, layer(4, 4, 1, 1, 3), profile=profile).descriptor()
    assert words[0] == 0x574E0000 | 14 + 16
    expected = [x | y << 8 | 14 - x - y << 16 for x, y in zip(v.ravel().tolist(), u.ravel().tolist(), strict=True)]
    assert words[15:].tolist() == expected


@drawn
@given(jobs)
def test_engine_accepts_every_descriptor(drawn_job):
    """With every choice of the block size."""
    job, _ = drawn_job
    limits = job.config.limits()
    for rows in range(1, 13):
        try:
            other = Job(job.config, job.layer, job.images, job.profile, rows)
        except UnsupportedLayer:
            # One more row than the greatest choice, and the engine would refuse it too.
            words = job.descriptor()
            index, half = divmod(descriptor_fields().index("block_rows"), 2)
            words[1 + index] = words[1 + index] & (0xFFFF0000 >> 16 * half) | rows << 16 * half
            code = check_descriptor(words.tolist(), limits)
            if rows <= job.total_rows:
                assert code in (LayerError.TOO_MANY_TILES, LayerError.LINE_BUFFER)
            break
        assert check_descriptor(other.descriptor().tolist(), limits) == LayerError.OK
        assert other.blocks == -(-job.total_rows // rows)


# --- what the engine computes -----------------------------------------------------------------------------------------
@drawn
@given(jobs)
def test_engine_layer_equals_the_layer(drawn_job):
    """Kernels that the engine lacks are filled up with zeros; the convolution is the same."""
    job, pixels = drawn_job
    own = job.engine_layer
    assert own.geometry.out_height == job.layer.geometry.out_height
    assert own.geometry.out_width == job.layer.geometry.out_width
    np.testing.assert_array_equal(own.reference(pixels), job.layer.reference(pixels))
    GoldenModel(job.config.winograd(job.kernel), job.profile).check_layer(own)


@pytest.mark.parametrize("kernel", range(1, 11))
@pytest.mark.parametrize("stride", [1, 2])
def test_least_kernel_on_offer(kernel, stride):
    config = EngineConfig(kernels=(2, 3, 5), line_words=4096)
    effective = -(-kernel // stride)
    chosen = next((size for size in (2, 3, 5) if size >= effective), None)
    base = layer(12, 12, 1, 1, kernel, stride)
    if chosen is None:
        with pytest.raises(UnsupportedLayer, match=f"needs kernels of {effective}, this engine offers 2, 3, 5"):
            Job(config, base)
        return
    job = Job(config, base)
    assert (job.kernel, job.tile_size) == (chosen, 7 - chosen)
    extended = job.engine_layer.geometry
    assert extended.effective_kernel == chosen
    assert extended.kernel - kernel == (chosen - effective) * stride
    assert (extended.pads.top, extended.pads.left) == (base.geometry.pads.top, base.geometry.pads.left)


# --- streams in -------------------------------------------------------------------------------------------------------
@drawn
@given(jobs)
def test_weights_arrive(drawn_job):
    """The weight loader and the transform find the constants and U of each lane where the array takes them."""
    job, _ = drawn_job
    config = job.config
    loader = WeightLoader(beat_bytes=config.weight_bytes, output_lanes=config.output_lanes, fifo_rows=1000)
    rows, constants = loader.model(
        job.weight_beats(),
        total_rows=job.total_rows,
        block_rows=job.block_rows,
        groups=job.groups,
        output_groups=job.output_groups,
        group_rows=config.group_rows(job.kernel),
    )
    matrices = config.winograd(job.kernel)
    model = GoldenModel(matrices, job.profile)
    if config.weights == "host":
        u = HostWeights(n=config.input_tile, u_bits=config.u_bits).model(rows)
    else:
        kernels = rows[:, : job.kernel].reshape(-1, job.kernel, job.kernel).astype(np.int64)
        u = matrices.g @ kernels @ matrices.g.T
    n, (lanes_in, lanes_out) = config.input_tile, (config.input_lanes, config.output_lanes)
    u = u.reshape(job.blocks, job.output_groups, job.phases, job.input_groups, lanes_out, lanes_in, n, n)
    u = u.transpose(0, 1, 4, 2, 3, 5, 6, 7).reshape(job.blocks, -1, job.phases, job.input_groups * lanes_in, n, n)
    filters, channels = job.layer.geometry.filters, job.layer.geometry.channels
    expected = model.transform_weights(job.engine_layer)[:, : job.phases * channels]
    expected = expected.reshape(filters, job.phases, channels, n, n)
    for block in u:
        np.testing.assert_array_equal(block[:filters, :, :channels], expected)
        assert not block[filters:].any()
        assert not block[:, :, channels:].any()
    scales = job.layer.folded_requantization()
    constants = constants.reshape(job.blocks, -1)
    for block in constants:
        np.testing.assert_array_equal(block["bias"][:filters], scales.bias)
        np.testing.assert_array_equal(block["shift"][:filters], scales.shift)
        if not isinstance(scales, ShiftRequantization):
            np.testing.assert_array_equal(block["multiplier"][:filters], scales.multiplier)


def test_host_weights_are_narrowed():
    profile = Quantized(Narrowing(8, 2), Narrowing(8, 3), Narrowing(8, 4))
    config = EngineConfig(profile=Quantized.uniform(8), weights="host", **SMALL)
    job = Job(config, layer(4, 4, 1, 1, 3), profile=profile)
    beats = job.weight_beats()
    assert beats.shape == (2 + 6, 6)
    u = GoldenModel(config.winograd(), profile).transform_weights(job.layer)
    np.testing.assert_array_equal(beats[2:], u[0, 0])


@drawn
@given(jobs)
def test_pixels_in_order(drawn_job):
    """Row, column, channel; zeros in lanes without a channel; nothing that no tile covers."""
    job, pixels = drawn_job
    geometry, beats = job.layer.geometry, job.pixel_beats(pixels)
    lanes = job.input_groups * job.config.input_lanes
    images = beats.reshape(job.images, job.used_height, job.used_width, lanes)
    np.testing.assert_array_equal(images[..., : geometry.channels], pixels[:, : job.used_height, : job.used_width])
    assert not images[..., geometry.channels :].any()
    # What is left out has no influence.
    blank = pixels.copy()
    blank[:, job.used_height :] = 55
    blank[:, :, job.used_width :] = 55
    np.testing.assert_array_equal(job.layer.reference(blank), job.layer.reference(pixels))
    if geometry.padding == "same" and geometry.stride == 1:
        assert (job.used_height, job.used_width) == (geometry.height, geometry.width)


# --- stream out -------------------------------------------------------------------------------------------------------
@drawn
@given(jobs)
def test_output_order_round_trip(drawn_job):
    """Every output is in exactly one beat, and `collect` puts it back."""
    job, _ = drawn_job
    geometry, lanes = job.layer.geometry, job.config.requantizer_lanes
    shape = (job.images, geometry.out_height, geometry.out_width, geometry.filters)
    image = np.random.default_rng(0).integers(-128, 128, shape).astype(np.int8)
    seen = np.zeros(shape, int)
    order = job.output_order
    beats = np.full((len(order), lanes), 99, np.int8)  # what is beyond the count does not matter
    for beat, (number, row, column, channel, count) in zip(beats, order.tolist(), strict=True):
        assert 1 <= count <= lanes
        assert column // job.tile_size == (column + count - 1) // job.tile_size
        beat[:count] = image[number, row, column : column + count, channel]
        seen[number, row, column : column + count, channel] += 1
    assert (seen == 1).all()
    np.testing.assert_array_equal(job.collect(beats, order[:, 4]), image)


def test_output_order_by_hand():
    """6×5 outputs of 3 channels: F(4,3), two lanes of channels, three of pixels, blocks of one tile row."""
    config = EngineConfig(output_lanes=2, requantizer_lanes=3, **SMALL)
    job = Job(config, layer(6, 5, 1, 3, 3), block_rows=1)
    expected = [
        (0, row, column, channel, count)
        for rows in (range(4), range(4, 6))
        for channels in ((0, 1), (2,))
        for chunks in ([(0, 3), (3, 1)], [(4, 1)])
        for row in rows
        for channel in channels
        for column, count in chunks
    ]
    assert job.output_order.tolist() == [list(beat) for beat in expected]


def test_collect_refuses_other_beats():
    job = Job(ENGINES[0], layer(6, 5, 1, 3, 3))
    counts = job.output_order[:, 4].copy()
    pixels = np.zeros((len(counts), 3), np.int8)
    with pytest.raises(ValueError, match=rf"^the layer has {len(counts)} output beats, not {len(counts) - 1}$"):
        job.collect(pixels[1:], counts[1:])
    counts[4] += 1
    with pytest.raises(ValueError, match=rf"^output beat 4 carries {counts[4]} pixels instead of {counts[4] - 1}$"):
        job.collect(pixels, counts)


# --- figures ----------------------------------------------------------------------------------------------------------
def test_figures():
    job = Job(ENGINES[0], layer(13, 10, 3, 5, 3), 2, block_rows=3)
    assert job.effective_macs() == 2 * 13 * 10 * 3 * 5 * 9
    assert job.array_chunks() == 8 * 3 * 2 * 2
    assert job.blocks == 3
    assert job.used_lanes == 3 * 5 / (4 * 6)
    assert Job(ENGINES[1], layer(13, 10, 3, 5, 5, 2)).used_lanes == 5 / 6  # all phases of all channels
    assert job.group_cycles(1) == 3 * 2 * 3
    assert job.group_cycles(100) == 300


@drawn
@given(jobs)
def test_default_block_takes_the_fewest_cycles(drawn_job):
    job, _ = drawn_job
    for rows in range(1, 13):
        try:
            other = Job(job.config, job.layer, job.images, job.profile, rows)
        except UnsupportedLayer:
            break
        assert job.estimated_cycles <= other.estimated_cycles


# --- what is refused --------------------------------------------------------------------------------------------------
def unsupported(message, config=None, images=1, block_rows=None, **parameters):
    sizes = {"height": 8, "width": 8, "channels": 1, "filters": 1, "kernel": 3} | parameters
    base = random_layer(np.random.default_rng(0), ConvGeometry(**sizes))
    with pytest.raises(UnsupportedLayer) as caught:
        Job(config or EngineConfig(dimension_bits=4, line_words=4096), base, images, block_rows=block_rows)
    assert str(caught.value) == message


def test_refuses_sizes_beyond_the_fields():
    unsupported("images 16 is more than this engine's 15", images=16)
    unsupported("height 16 is more than this engine's 15", height=16, padding="valid")
    unsupported("width 16 is more than this engine's 15", width=16, padding="valid")
    unsupported("filters 16 is more than this engine's 15", filters=16)
    unsupported("groups of input channels 16 is more than this engine's 15", channels=16)
    unsupported("groups of input channels 16 is more than this engine's 15", channels=4, stride=2)
    unsupported("tile rows 16 is more than this engine's 15", images=8)
    unsupported("output height 16 is more than this engine's 15", padding=(5, 5, 1, 1))
    unsupported("output width 16 is more than this engine's 15", padding=(1, 1, 5, 5))
    # Tiles cover 4 · 4 + 2 rows of 13.
    unsupported("padded height 18 is more than this engine's 15", height=13)
    unsupported("padded width 18 is more than this engine's 15", width=13)


def test_refuses_kernels_that_are_not_on_offer():
    kernel = "this engine offers 3"
    unsupported(f"a 4x4 kernel with stride 1 needs kernels of 4, {kernel}", kernel=4)
    unsupported(f"a 7x7 kernel with stride 2 needs kernels of 4, {kernel}", kernel=7, stride=2)
    unsupported("stride must be 1 or 2, not 3", stride=3)
    # A direct engine strides by itself, without phases.
    unsupported(f"a 5x5 kernel with stride 2 needs kernels of 5, {kernel}", ENGINES[3], kernel=5, stride=2)


def test_refuses_more_channels_than_the_accumulators_hold():
    config = EngineConfig(input_lanes=2, max_products=9 * 5)
    unsupported(
        "6 input channels are more than this engine's accumulators allow: 4 with a 3x3 kernel", config, channels=5
    )
    Job(config, layer(8, 8, 4, 1, 3))


def test_refuses_rows_that_do_not_fit():
    unsupported(
        "3 tiles a row are more than this engine's 2 tiles a block", EngineConfig(max_tiles=2, tile_size=4), width=12
    )
    # Two tile rows of the image overlap, each of 2 tiles in 2 groups.
    unsupported("2 tile rows take 8 words a bank, the line buffer has 7", EngineConfig(line_words=7), channels=2)
    Job(EngineConfig(line_words=8), layer(8, 8, 2, 1, 3))


def test_refuses_the_other_requantization():
    for requantizer, other in (("tflite", "shift"), ("shift", "tflite")):
        config = replace(ENGINES[0], requantizer=requantizer)
        with pytest.raises(UnsupportedLayer) as caught:
            Job(config, layer(8, 8, 1, 1, 3, config=replace(config, requantizer=other)))
        assert str(caught.value) == f"the layer's requantization is {other!r}, this engine's {requantizer!r}"


def test_refuses_block_sizes():
    config = EngineConfig(max_tiles=7, line_words=4096)
    unsupported("block_rows must be within 1 ... 3 for this layer, not 4", config, height=32, block_rows=4)
    unsupported("block_rows must be within 1 ... 3 for this layer, not 0", config, height=32, block_rows=0)
    Job(config, layer(32, 8, 1, 1, 3), block_rows=3)


def test_refuses_what_makes_no_job():
    base = layer(8, 8, 2, 1, 3)
    with pytest.raises(ValueError, match=r"^images must be at least 1, not 0$"):
        Job(ENGINES[0], base, 0)
    with pytest.raises(ValueError, match=r"^this engine's profile is Exact, not Quantized$"):
        Job(ENGINES[0], base, profile=Quantized.uniform(8))
    with pytest.raises(ValueError, match=r"^a quantized engine needs a profile with shifts for each layer$"):
        Job(EngineConfig(profile=Quantized.uniform(8)), base)
    assert Job(ENGINES[0], base).profile == Exact(ENGINES[0].result_bits)


def test_refuses_other_pixels():
    job = Job(ENGINES[0], layer(8, 8, 2, 1, 3), 2)
    pixels = random_pixels(np.random.default_rng(0), job.layer, 3)
    with pytest.raises(ValueError, match=r"^this job is for 2 images, not 3$"):
        job.pixel_beats(pixels)
    with pytest.raises(TypeError, match="pixels must be int8"):
        job.pixel_beats(pixels.astype(int))


def test_reference_is_direct_convolution():
    """The oracle of these tests, once by hand: a kernel that picks one pixel."""
    base = layer(4, 4, 1, 1, 3)
    weights = np.zeros((1, 3, 3, 1), np.int8)
    weights[0, 0, 2, 0] = 3
    pixels = random_pixels(np.random.default_rng(0), base)
    sums = direct_convolution(pixels, weights, 1, "same", 7)
    assert sums[0, 2, 1, 0] == 3 * int(pixels[0, 1, 2, 0])
    assert sums[0, 0, 0, 0] == 3 * 7
