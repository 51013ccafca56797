"""What the answers of a board say, on top of the frames of `winohw.gateware.frame`."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from winohw.gateware.command import ANSWER_HEAD, STATUS_FIELDS
from winohw.gateware.frame import Code

__all__ = ["Answer", "BoardStatus"]


@dataclass(frozen=True)
class Answer:
    """The payload of an answer.

    Parameters
    ----------
    code : what became of the request.
    begun : a layer has begun.
    finished : its status has come.
    weights_room, pixels_room : bytes that the buffers can take.
    data : output pixels, a page, or a status, as the request was.
    """

    code: Code
    begun: bool
    finished: bool
    weights_room: int
    pixels_room: int
    data: bytes

    @classmethod
    def parse(cls, payload: bytes) -> Answer:
        """From a frame.

        Raises
        ------
        ValueError
            It is too short, or its code is unknown.
        """
        if len(payload) < ANSWER_HEAD:
            raise ValueError(f"an answer has at least {ANSWER_HEAD} bytes, not {len(payload)}")
        code, flags, weights_room, pixels_room = struct.unpack_from("<BBHH", payload)
        return cls(Code(code), bool(flags & 1), bool(flags & 2), weights_room, pixels_room, payload[ANSWER_HEAD:])


@dataclass(frozen=True)
class BoardStatus:
    """How a layer went, and what the link has seen.

    Parameters
    ----------
    code : `LayerError` of the layer.
    cycles, busy, wait_pixels, wait_weights, wait_drain : clock cycles, see `winohw.gateware.descriptor.status_layout`.
    damaged : frames that reached the board damaged, modulo 2^16, since power-on.
    repeated : requests that came again, modulo 2^16, since power-on.
    """

    code: int
    cycles: int
    busy: int
    wait_pixels: int
    wait_weights: int
    wait_drain: int
    damaged: int
    repeated: int

    @classmethod
    def parse(cls, data: bytes) -> BoardStatus:
        """From the data of an answer to STATUS.

        Raises
        ------
        ValueError
            It has another length.
        """
        if len(data) != 4 * len(STATUS_FIELDS):
            raise ValueError(f"a status has {4 * len(STATUS_FIELDS)} bytes, not {len(data)}")
        return cls(**dict(zip(STATUS_FIELDS, struct.unpack(f"<{len(STATUS_FIELDS)}I", data), strict=True)))
