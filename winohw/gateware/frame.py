"""The frames that host and board exchange: their bytes, their kinds, and what an answer says.

A frame is `length, kind, sequence (2 bytes), payload, CRC-32 (4 bytes)`, numbers from the least significant byte on;
`length` counts the payload. It is coded by COBS (Cheshire and Baker, *Consistent Overhead Byte Stuffing*, IEEE/ACM
Transactions on Networking 7(2), 1999), so that no byte of it is zero, and stands between zero bytes. So whatever
happened before, the next zero byte starts afresh.

The host asks, the board answers, one frame for one frame. A request has the sequence number after that of the one
before it; RESET alone may have any. The board does nothing about a request that it has answered before but repeat the
answer, and nothing at all about a damaged one or one out of sequence. So the host may repeat a request as often as it
likes until the answer with its number arrives: it is carried out once.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

__all__ = ["ANSWER", "MAX_PAYLOAD", "OVERHEAD", "Code", "Frame", "FrameDecoder", "Kind", "encode_frame"]

#: Most bytes of a payload: with them, the whole frame is still one block of COBS, whose codes end at 254.
MAX_PAYLOAD = 240
#: Bytes before the payload, and all bytes beside it.
HEADER = 4
OVERHEAD = HEADER + 4
#: In the kind of a frame: an answer to the request of that kind.
ANSWER = 0x80


class Kind(IntEnum):
    """Requests."""

    #: Engine and buffers as after power-on. The sequence starts here.
    RESET = 1
    #: A page of the capabilities; payload: its number.
    INFO = 2
    #: Words of a layer descriptor, not up to its end.
    LAYER = 3
    #: Words of a layer descriptor, the last one among them.
    LAYER_END = 4
    #: Bytes of the weight stream.
    WEIGHTS = 5
    #: Bytes of the pixel stream.
    PIXELS = 6
    #: Output pixels, as any answer to LAYER, WEIGHTS and PIXELS has them as well.
    READ = 7
    #: The engine's status; ends the layer if it is finished.
    STATUS = 8


class Code(IntEnum):
    """What became of a request."""

    OK = 0
    #: There is no such request.
    UNKNOWN = 1
    #: The payload is not as long as this request needs.
    LENGTH = 2
    #: A layer is running.
    BUSY = 3
    #: No layer is running that could take weights or pixels.
    NO_LAYER = 4
    #: The buffer has no room for this payload.
    NO_ROOM = 5
    #: Bytes of the layer before are still in the buffers.
    LEFTOVER = 6
    #: There is no such page.
    RANGE = 7


@dataclass(frozen=True)
class Frame:
    """A frame without its coding.

    Parameters
    ----------
    kind : 0 ... 255; a `Kind`, with `ANSWER` added in answers.
    sequence : 0 ... 65535.
    payload : at most `MAX_PAYLOAD` bytes.
    """

    kind: int
    sequence: int
    payload: bytes = b""


def encode_frame(frame: Frame) -> bytes:
    """The bytes of a frame on the line, a zero byte before and after it.

    Raises
    ------
    ValueError
        The payload is too long, or a number does not fit.
    """
    if len(frame.payload) > MAX_PAYLOAD:
        raise ValueError(f"payload must be at most {MAX_PAYLOAD} bytes, not {len(frame.payload)}")
    if not 0 <= frame.kind <= 0xFF or not 0 <= frame.sequence <= 0xFFFF:
        raise ValueError(
            f"kind and sequence must be within 0 ... 255 and 0 ... 65535, not {frame.kind}, {frame.sequence}"
        )
    body = struct.pack("<BBH", len(frame.payload), frame.kind, frame.sequence) + frame.payload
    body += struct.pack("<I", zlib.crc32(body))
    coded = b"".join(bytes([len(part) + 1]) + part for part in body.split(b"\0"))
    return b"\0" + coded + b"\0"


class FrameDecoder:
    """Finds frames in the bytes from a line.

    Attributes
    ----------
    damaged : int
        Frames that were not complete and correct.
    """

    def __init__(self) -> None:
        self.damaged = 0
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """All frames that these further bytes complete."""
        self._rest += data
        *coded, self._rest = self._rest.split(b"\0")
        for part in filter(None, coded):
            frame = _decode(bytes(part))
            if frame is None:
                self.damaged += 1
            else:
                yield frame


def _decode(coded: bytes) -> Frame | None:
    parts, position = [], 0
    while position < len(coded):
        end = position + coded[position]
        if end > len(coded):
            return None
        parts.append(coded[position + 1 : end])
        position = end
    body = b"\0".join(parts)
    if not OVERHEAD <= len(body) <= OVERHEAD + MAX_PAYLOAD or len(body) != OVERHEAD + body[0]:
        return None
    if zlib.crc32(body[:-4]) != int.from_bytes(body[-4:], "little"):
        return None
    return Frame(body[1], int.from_bytes(body[2:4], "little"), body[HEADER:-4])
