from enum import Enum

import numpy as np
import pytest
from amaranth.hdl import Const, Shape, signed, unsigned
from amaranth.lib import data
from hypothesis import given
from hypothesis import strategies as st

from winohw.sim.payload import PayloadCodec, words_to_ints

PAIR = data.StructLayout({"flag": 1, "value": signed(7)})


class Record(data.Struct):
    a: signed(3)
    b: data.ArrayLayout(unsigned(5), 2)


def shapes():
    integers = st.builds(Shape, st.integers(1, 80), st.booleans())
    return st.recursive(
        integers,
        lambda inner: st.one_of(
            st.builds(data.ArrayLayout, inner, st.integers(1, 4)),
            st.lists(inner, min_size=1, max_size=3).map(
                lambda fields: data.StructLayout({f"f{k}": field for k, field in enumerate(fields)})
            ),
        ),
        max_leaves=6,
    )


def draw(shape, rng):
    """A beat as Amaranth wants it, extremes more often than not."""
    if isinstance(shape, data.StructLayout):
        return {name: draw(field.shape, rng) for name, field in shape}
    if isinstance(shape, data.ArrayLayout):
        return [draw(shape.elem_shape, rng) for _ in range(shape.length)]
    low = -(1 << shape.width - 1) if shape.signed else 0
    high = (1 << shape.width - shape.signed) - 1
    inner = low + int.from_bytes(rng.bytes(16), "little") % (high - low + 1)
    return [low, high, max(low, -1), 0, inner, inner, inner][rng.integers(7)]


def beat(value, dtype):
    """The same as numpy has it."""
    if dtype.names:
        return tuple(beat(value[name], dtype[name]) for name in dtype.names)
    return [beat(item, dtype.base) for item in value] if dtype.shape else value


@given(shapes(), st.integers(0, 2**32))
def test_bits_are_those_of_amaranth(shape, seed):
    rng = np.random.default_rng(seed)
    codec = PayloadCodec(shape)
    values = [draw(shape, rng) for _ in range(5)]
    array = np.zeros(5, codec.dtype)
    for index, value in enumerate(values):
        array[index] = beat(value, np.dtype((codec.dtype.base, codec.dtype.shape)))
    words = codec.encode(array)
    if isinstance(shape, data.Layout):
        expected = [shape.const(value).as_value() for value in values]
    else:
        expected = [Const(value, shape) for value in values]
    mask = 2**codec.width - 1
    assert words_to_ints(words) == [const.value & mask for const in expected]
    assert words.shape == (5, codec.words)
    np.testing.assert_array_equal(codec.decode(words), array)
    np.testing.assert_array_equal(codec.decode_ints([const.value for const in expected]), array)


def test_arrays_of_integers_are_plain():
    codec = PayloadCodec(data.ArrayLayout(data.ArrayLayout(signed(15), 6), 2))
    values = np.array([[[-(2**14), 2**14 - 1, -1, 0, 1, 2]] * 2] * 3)
    decoded = codec.decode(codec.encode(values))
    assert decoded.dtype == np.int64
    assert decoded.shape == (3, 2, 6)
    np.testing.assert_array_equal(decoded, values)


def test_small_integers_in_wide_fields():
    codec = PayloadCodec(signed(100))
    values = np.array([-1, 0, -(2**63), 2**63 - 1])
    assert words_to_ints(codec.encode(values)) == [value % 2**100 for value in values.tolist()]
    assert codec.decode(codec.encode(values)).tolist() == values.tolist()


def test_dictionaries_and_nested_structures():
    codec = PayloadCodec(data.ArrayLayout(PAIR, 3))
    flag, value = np.array([[1, 0, 1]] * 2), np.array([[-64, 63, 0], [1, 2, 3]])
    decoded = codec.decode(codec.encode({"flag": flag, "value": value}))
    np.testing.assert_array_equal(decoded["flag"], flag)
    np.testing.assert_array_equal(decoded["value"], value)


def test_struct_class_and_enumeration():
    codec = PayloadCodec(Record)
    assert codec.encode_one({"a": -4, "b": [31, 1]}) == 0b00001_11111_100

    class Kind(Enum):
        X = 0
        Y = 3

    assert PayloadCodec(Kind).encode([3]).tolist() == [[3]]


def test_no_beats():
    assert PayloadCodec(8).encode([]).shape == (0, 1)
    assert PayloadCodec(8).decode_ints([]).shape == (0,)


@pytest.mark.parametrize(
    ("shape", "values", "error", "message"),
    [
        (signed(8), [128], ValueError, r"^i must be within -128 … 127 \(signed\(8\)\), but ranges over 128 … 128$"),
        (unsigned(8), [-1, 3], ValueError, r"^i must be within 0 … 255 \(unsigned\(8\)\), but ranges over -1 … 3$"),
        (signed(8), [0.5], TypeError, r"^i must be integers, not float64$"),
        (signed(8), 3, ValueError, r"^i must be a sequence of beats, not the single value 3$"),
        (signed(8), [[3]], ValueError, r"^i must have the shape \(1,\), not \(1, 1\)$"),
        (data.ArrayLayout(4, 3), [[1, 2]], ValueError, r"^i must have the shape \(1, 3\), not \(1, 2\)$"),
        (PAIR, {"flag": [1]}, ValueError, r"^i must have the fields flag, value, not \['flag'\]$"),
        (PAIR, [1], ValueError, r"^i must have the fields flag, value, not list$"),
        (PAIR, {"flag": [1], "value": [1, 2]}, ValueError, r"^i\.value must have the shape \(1,\), not \(2,\)$"),
    ],
)
def test_errors(shape, values, error, message):
    with pytest.raises(error, match=message):
        PayloadCodec(shape).encode(values, "i")


def test_union_is_refused():
    with pytest.raises(TypeError, match=r"must consist of integers, arrays and structures, not UnionLayout"):
        PayloadCodec(data.UnionLayout({"a": 3, "b": 4}))
