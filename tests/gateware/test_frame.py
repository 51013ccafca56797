import pytest
from hypothesis import given
from hypothesis import strategies as st

from winohw.gateware.frame import MAX_PAYLOAD, OVERHEAD, Frame, FrameDecoder, encode_frame

FRAMES = st.builds(
    Frame, st.integers(0, 255), st.integers(0, 65535), st.binary(max_size=MAX_PAYLOAD) | st.just(bytes(MAX_PAYLOAD))
)


@given(st.lists(FRAMES, max_size=5), st.integers(1, 50))
def test_frames_survive_any_cut(frames, size):
    line = b"".join(map(encode_frame, frames))
    decoder = FrameDecoder()
    pieces = [line[start : start + size] for start in range(0, len(line), size)]
    assert [frame for piece in pieces for frame in decoder.feed(piece)] == frames
    assert decoder.damaged == 0


@given(FRAMES)
def test_zero_bytes_only_at_the_ends(frame):
    coded = encode_frame(frame)
    assert coded[0] == coded[-1] == 0
    assert 0 not in coded[1:-1]
    assert len(coded) == len(frame.payload) + OVERHEAD + 3


@given(FRAMES, st.data())
def test_damage_is_noticed_and_forgotten(frame, data):
    coded = bytearray(encode_frame(frame))
    place = data.draw(st.integers(1, len(coded) - 2))
    coded[place] ^= data.draw(st.integers(1, 255))
    decoder = FrameDecoder()
    assert list(decoder.feed(bytes(coded))) == []
    assert list(decoder.feed(encode_frame(frame))) == [frame]
    assert decoder.damaged >= 1


def test_known_bytes():
    """Two blocks, and the CRC-32 of 01 05 07 00 2a, 0x1268f1cc."""
    assert encode_frame(Frame(5, 7, b"\x2a")).hex() == "0004010507062accf1681200"


def test_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match=r"^payload must be at most 240 bytes, not 241$"):
        encode_frame(Frame(1, 1, bytes(241)))
    with pytest.raises(ValueError, match=r"^kind and sequence must be within .*, not 256, 1$"):
        encode_frame(Frame(256, 1))
