"""Ports with the right board, another one, something else, or nothing at their end."""

import os
import threading
import tty
from contextlib import contextmanager
from dataclasses import replace

import pytest
from amaranth_boards.icebreaker import ICEBreakerPlatform
from tiny_board import CAPABILITIES, CONFIG, new_board

from winohw.gateware import capabilities
from winohw.gateware.frame import ANSWER, Code, Frame, FrameDecoder, Kind, encode_frame
from winohw.host.board_sim import PseudoTerminal
from winohw.host.connection import connect, connect_simulation
from winohw.host.driver import NoAnswer
from winohw.host.transport import TransportError
from winohw.synth.board import Board

TINY = Board("Tiny", ICEBreakerPlatform, CONFIG, 1.0, baud=250_000, name="tiny")


@contextmanager
def device(answer):
    """A port at whose end a thread makes answers out of what it reads."""
    outer, inner = os.openpty()
    tty.setraw(inner)
    ended = threading.Event()

    def serve():
        while not ended.is_set():
            data = os.read(outer, 1000)
            if reply := answer(data):
                os.write(outer, reply)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield os.ttyname(inner)
    finally:
        ended.set()
        os.write(inner, b"\0")
        thread.join()
        os.close(outer)
        os.close(inner)


def test_the_right_board():
    with PseudoTerminal(new_board()) as terminal, connect(terminal.device, TINY, timeout=20) as driver:
        assert driver.capabilities == CAPABILITIES


def test_a_simulated_board(monkeypatch):
    monkeypatch.setattr("winohw.host.connection.SimulatedBoard", lambda found: new_board())
    with connect_simulation(TINY) as driver:
        assert driver.capabilities.board == "tiny"


@pytest.mark.parametrize(
    ("board", "message"),
    [
        (replace(TINY, name="other"), r"^the board at /dev/\S+ is 'tiny', not 'other'$"),
        (
            replace(TINY, config=replace(CONFIG, fold=2)),
            r"^the bitstream on tiny at /dev/\S+ carries another engine \(F\(2x2, 3x3\), 16 multipliers .*, made by "
            r"winohw 0\.1\.0\) than the board's file \(F\(2x2, 3x3\), 8 multipliers",
        ),
    ],
)
def test_another_board(board, message):
    with (
        PseudoTerminal(new_board()) as terminal,
        pytest.raises(ValueError, match=message),
        connect(terminal.device, board, timeout=20),
    ):
        pass


@pytest.mark.parametrize(
    "answer", [lambda data: b"", lambda data: b"login: " * 9, lambda data: data, lambda data: bytes(300)]
)
def test_something_else(answer):
    """Nothing, a terminal, a loop, a line held low."""
    with (
        device(answer) as port,
        pytest.raises(NoAnswer, match=r"^the board did not answer RESET, .* has the board its bitstream\?$"),
        connect(port, timeout=0.02),
    ):
        pass


def test_a_port_that_goes_away():
    """As when the cable is pulled."""
    outer, inner = os.openpty()
    tty.setraw(inner)
    port = os.ttyname(inner)

    def vanish():
        os.read(outer, 1)
        os.close(inner)
        os.close(outer)

    thread = threading.Thread(target=vanish)
    thread.start()
    with pytest.raises((TransportError, NoAnswer)), connect(port, timeout=0.2):
        pass
    thread.join()


def test_another_version_of_the_protocol():
    """The board answers as it should, but with a number of its own."""
    decoder = FrameDecoder()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(capabilities, "PROTOCOL", 7)
        future = replace(CAPABILITIES, protocol=7).encode()

    def answer(data):
        reply = b""
        for frame in decoder.feed(data):
            code, page = 0, b""
            if frame.kind == Kind.INFO:
                first = frame.payload[0] * capabilities.PAGE
                page = future[first : first + capabilities.PAGE]
                code = 0 if page else Code.RANGE
            head = bytes([code, 0, 0, 0, 0, 0])
            reply += encode_frame(Frame(frame.kind | ANSWER, frame.sequence, head + page))
        return reply

    with (
        device(answer) as port,
        pytest.raises(ValueError, match=r"cannot be read: protocol 7, this host has 1$"),
        connect(port, timeout=5),
    ):
        pass
