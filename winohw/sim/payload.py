"""Conversion between numpy arrays and the bits of Amaranth payloads."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from amaranth.hdl import Shape, ShapeLike
from amaranth.lib import data

_WORD = 64


class PayloadCodec:
    """Packs beats of one Amaranth shape into 64-bit words and back.

    A beat of a plain shape is an integer; of an ``ArrayLayout`` an array with the layout's dimensions; of a
    ``StructLayout`` a record with its fields. Layouts nest at will. ``k`` beats are arrays of shape ``(k, …)``: plain
    integer arrays, or for structures structured arrays (when encoding, dictionaries of arrays serve as well).

    Parameters
    ----------
    shape : ShapeLike
        Integers, enumerations, ``ArrayLayout``, ``StructLayout`` and ``data.Struct`` classes.

    Attributes
    ----------
    width : int
        Bits of a beat.
    words : int
        64-bit words of a beat, at least 1.
    dtype : numpy.dtype
        Of one beat: ``int64`` for integers up to 64 bits (``uint64`` for 64 unsigned ones), Python integers in
        ``object`` for wider ones.

    Raises
    ------
    TypeError
        If the shape is a union or another layout that does not split into fields.
    """

    def __init__(self, shape: ShapeLike):
        self.shape = shape
        self.width = Shape.cast(shape).width
        self.words = max(1, -(-self.width // _WORD))
        self.dtype = _dtype(shape)

    def encode(self, values: Any, name: str = "payload") -> np.ndarray:
        """Beats to words.

        Parameters
        ----------
        values : array_like or mapping
            ``k`` beats; integers within the range of their field.
        name : str
            How messages call the values.

        Returns
        -------
        numpy.ndarray
            ``uint64``, shape ``(k, words)``, least significant word first; unused bits are zero.

        Raises
        ------
        TypeError
            If values are not integers.
        ValueError
            If the shape does not fit, a field is missing or unknown, or a value is out of range.
        """
        count = _count(self.shape, values, name)
        words = np.zeros((count, self.words), np.uint64)
        _encode(self.shape, values, np.zeros((), np.int64), words, name)
        return words

    def encode_one(self, value: Any, name: str = "payload") -> int:
        """One beat to an integer of ``width`` bits; takes what ``encode`` does, without the leading axis."""
        return words_to_ints(self.encode(_add_axis(self.shape, value), name))[0]

    def decode(self, words: np.ndarray) -> np.ndarray:
        """Words, as ``encode`` returns them, to beats."""
        values = np.zeros(len(words), self.dtype)
        _decode(self.shape, words, np.zeros((), np.int64), values)
        return values

    def decode_ints(self, beats: Sequence[int]) -> np.ndarray:
        """Integers of ``width`` bits (two's complement or its unsigned reading) to beats."""
        return self.decode(self.ints_to_words(beats))

    def ints_to_words(self, beats: Sequence[int]) -> np.ndarray:
        """Integers of ``width`` bits (two's complement or its unsigned reading) to words."""
        mask = 2**self.width - 1
        raw = b"".join((beat & mask).to_bytes(self.words * 8, "little") for beat in beats)
        return np.frombuffer(raw, "<u8").reshape(len(beats), self.words)


def words_to_ints(words: np.ndarray) -> list[int]:
    """Rows of 64-bit words, least significant first, to unsigned integers."""
    return [int.from_bytes(row.tobytes(), "little") for row in words.astype("<u8", copy=False)]


def _layout(shape: ShapeLike) -> data.StructLayout | data.ArrayLayout | Shape:
    """The shape with classes such as ``data.Struct`` replaced by the layout they stand for."""
    while not isinstance(shape, data.Layout | Shape):
        try:
            shape = data.Layout.cast(shape)
        except TypeError:
            return Shape.cast(shape)
    if isinstance(shape, data.Layout) and not isinstance(shape, data.StructLayout | data.ArrayLayout):
        raise TypeError(f"A payload must consist of integers, arrays and structures, not {shape!r}")
    return shape


def _dtype(shape: ShapeLike) -> np.dtype:
    match _layout(shape):
        case data.StructLayout() as layout:
            return np.dtype([(name, _dtype(field.shape)) for name, field in layout])
        case data.ArrayLayout() as layout:
            return np.dtype((_dtype(layout.elem_shape), (layout.length,)))
        case integer:
            if integer.width > 64:
                return np.dtype(object)
            return np.dtype(np.uint64 if integer.width == 64 and not integer.signed else np.int64)


def _array(values: Any, name: str) -> np.ndarray:
    array = np.asarray(values)
    if array.size == 0 and not isinstance(values, np.ndarray):
        array = array.astype(np.int64)
    integers = array.dtype.kind in "biu" or (
        array.dtype == object and all(isinstance(x, int | np.integer) for x in array.flat)
    )
    if not integers:
        raise TypeError(f"{name} must be integers, not {array.dtype}")
    return array


def _fields(layout: data.StructLayout, values: Any, name: str) -> dict[str, Any]:
    given = values.dtype.names if isinstance(values, np.ndarray) else list(values) if isinstance(values, dict) else None
    expected = [key for key, _ in layout]
    if given is None or sorted(given) != sorted(expected):
        raise ValueError(f"{name} must have the fields {', '.join(expected)}, not {given or type(values).__name__}")
    return {key: values[key] for key in expected}


def _count(shape: ShapeLike, values: Any, name: str) -> int:
    layout = _layout(shape)
    while isinstance(layout, data.ArrayLayout):
        layout = _layout(layout.elem_shape)
    if isinstance(layout, data.StructLayout):
        key, field = next(iter(layout))
        return _count(field.shape, _fields(layout, values, name)[key], f"{name}.{key}")
    array = np.asarray(values)
    if array.ndim == 0:
        raise ValueError(f"{name} must be a sequence of beats, not the single value {values!r}")
    return len(array)


def _add_axis(shape: ShapeLike, value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _add_axis(shape, field) for key, field in value.items()}
    return np.asarray(value)[np.newaxis]


def _encode(shape: ShapeLike, values: Any, offsets: np.ndarray, words: np.ndarray, name: str) -> None:
    """Packs the lanes whose bit offsets are given; ``values`` has the axes (beat, *lanes, …)."""
    match _layout(shape):
        case data.StructLayout() as layout:
            fields = _fields(layout, values, name)
            for key, field in layout:
                _encode(field.shape, fields[key], offsets + field.offset, words, f"{name}.{key}")
        case data.ArrayLayout() as layout:
            stride = Shape.cast(layout.elem_shape).width
            lanes = np.arange(layout.length) * stride
            _encode(layout.elem_shape, values, offsets[..., np.newaxis] + lanes, words, name)
        case integer:
            array = _array(values, name)
            expected = (len(words), *offsets.shape)
            if array.shape != expected:
                raise ValueError(f"{name} must have the shape {expected}, not {array.shape}")
            low = -(1 << (integer.width - 1)) if integer.signed and integer.width else 0
            high = (1 << (integer.width - integer.signed)) - 1 if integer.width else 0
            if array.size and not (low <= int(array.min()) and int(array.max()) <= high):
                raise ValueError(
                    f"{name} must be within {low} … {high} ({integer!r}), but ranges over {array.min()} … {array.max()}"
                )
            _pack(array.reshape(len(words), offsets.size), offsets.ravel().tolist(), integer.width, words)


def _pack(lanes: np.ndarray, offsets: Iterable[int], width: int, words: np.ndarray) -> None:
    if lanes.dtype == object or width > _WORD:
        mask = 2**_WORD - 1
        for lane, offset in zip(lanes.T, offsets, strict=True):
            for start in range(0, width, _WORD):
                part = np.array([(int(x) >> start) & mask for x in lane], np.uint64)[:, np.newaxis]
                _pack(part, [offset + start], min(_WORD, width - start), words)
        return
    if width == 0:
        return
    bits = lanes.astype(np.uint64) & np.uint64(2**width - 1)
    for lane, offset in zip(bits.T, offsets, strict=True):
        word, shift = divmod(offset, _WORD)
        words[:, word] |= lane << np.uint64(shift)
        if shift + width > _WORD:
            words[:, word + 1] |= lane >> np.uint64(_WORD - shift)


def _decode(shape: ShapeLike, words: np.ndarray, offsets: np.ndarray, values: np.ndarray) -> None:
    match _layout(shape):
        case data.StructLayout() as layout:
            for key, field in layout:
                _decode(field.shape, words, offsets + field.offset, values[key])
        case data.ArrayLayout() as layout:
            stride = Shape.cast(layout.elem_shape).width
            lanes = np.arange(layout.length) * stride
            _decode(layout.elem_shape, words, offsets[..., np.newaxis] + lanes, values)
        case integer:
            for index, offset in np.ndenumerate(offsets):
                values[(slice(None), *index)] = _unpack(words, int(offset), integer)


def _unpack(words: np.ndarray, offset: int, shape: Shape) -> np.ndarray:
    if shape.width > _WORD:
        low = _unpack(words, offset, Shape(_WORD)).astype(object)
        return low + _unpack(words, offset + _WORD, Shape(shape.width - _WORD, shape.signed)).astype(object) * 2**_WORD
    if shape.width == 0:
        return np.zeros(len(words), np.int64)
    word, shift = divmod(offset, _WORD)
    bits = words[:, word] >> np.uint64(shift)
    if shift + shape.width > _WORD:
        bits |= words[:, word + 1] << np.uint64(_WORD - shift)
    spare = _WORD - shape.width
    bits <<= np.uint64(spare)
    if shape.signed:
        return bits.view(np.int64) >> np.int64(spare)
    bits >>= np.uint64(spare)
    return bits if shape.width == _WORD else bits.view(np.int64)
