import struct

import pytest

from winohw.gateware.frame import Code
from winohw.host.protocol import Answer, BoardStatus


def test_an_answer():
    payload = struct.pack("<BBHH", 5, 3, 0x0102, 512) + b"data"
    assert Answer.parse(payload) == Answer(Code.NO_ROOM, True, True, 0x0102, 512, b"data")


@pytest.mark.parametrize("payload", [b"", bytes(5)])
def test_a_short_answer(payload):
    with pytest.raises(ValueError, match=rf"^an answer has at least 6 bytes, not {len(payload)}$"):
        Answer.parse(payload)


def test_an_answer_of_another_version():
    with pytest.raises(ValueError, match=r"^200 is not a valid Code$"):
        Answer.parse(bytes([200, 0, 0, 0, 0, 0]))


def test_a_status():
    assert BoardStatus.parse(struct.pack("<8I", *range(1, 9))) == BoardStatus(1, 2, 3, 4, 5, 6, 7, 8)
    with pytest.raises(ValueError, match=r"^a status has 32 bytes, not 31$"):
        BoardStatus.parse(bytes(31))
