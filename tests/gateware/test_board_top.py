# amaranth: UnusedElaboratable=no
import pytest
from tiny_board import CAPABILITIES, CONFIG, drawn_job, new_board

from winohw.gateware.board_top import BoardTop
from winohw.gateware.capabilities import PAGE
from winohw.gateware.command import CommandProcessor
from winohw.gateware.frame import Code, Frame, FrameDecoder, Kind, encode_frame
from winohw.host.protocol import Answer


class Line:
    """Plain requests to a board."""

    def __init__(self):
        self.board = new_board()
        self.decoder = FrameDecoder()
        self.sequence = 0

    def send(self, coded):
        _, received = self.board.run(coded, 60_000)
        return list(self.decoder.feed(received))

    def ask(self, kind, payload=b""):
        self.sequence += 1
        (frame,) = self.send(encode_frame(Frame(kind, self.sequence, payload)))
        assert (frame.kind, frame.sequence) == (kind | 0x80, self.sequence)
        return Answer.parse(frame.payload)


def test_what_a_board_does_not_carry_out():
    line = Line()
    assert line.send(encode_frame(Frame(Kind.READ, 1))) == []  # before the first reset, nothing is in sequence
    assert line.ask(Kind.RESET).code == Code.OK
    job, _, _ = drawn_job(1)
    words = job.descriptor().astype("<u4").tobytes()
    assert line.ask(99).code == Code.UNKNOWN
    assert line.ask(0).code == Code.UNKNOWN
    assert line.ask(Kind.READ, b"1").code == Code.LENGTH
    assert line.ask(Kind.LAYER, b"123").code == Code.LENGTH
    assert line.ask(Kind.LAYER).code == Code.LENGTH
    assert line.ask(Kind.INFO).code == Code.LENGTH
    assert line.ask(Kind.INFO, b"\xff").code == Code.RANGE
    assert line.ask(Kind.WEIGHTS, b"1").code == Code.NO_LAYER
    assert line.ask(Kind.LAYER, words[:8]).code == Code.OK
    assert line.ask(Kind.PIXELS, b"1").code == Code.NO_LAYER  # the descriptor is not complete
    assert line.ask(Kind.LAYER_END, words[8:]).code == Code.OK
    assert line.ask(Kind.LAYER, words[:8]).code == Code.BUSY
    assert line.ask(Kind.WEIGHTS).code == Code.LENGTH
    before = line.ask(Kind.READ)
    assert (before.begun, before.finished, before.data) == (True, False, b"")
    answers = [line.ask(Kind.PIXELS, bytes(240)) for _ in range(6)]
    assert {answer.code for answer in answers} == {Code.OK, Code.NO_ROOM}
    assert answers[-1].pixels_room < 240
    assert line.ask(Kind.RESET).code == Code.OK
    assert line.ask(Kind.READ).pixels_room == 512


def test_a_request_is_carried_out_once():
    line = Line()
    line.ask(Kind.RESET)
    job, _, _ = drawn_job(1)
    line.ask(Kind.LAYER_END, job.descriptor().astype("<u4").tobytes())
    line.sequence += 1
    coded = encode_frame(Frame(Kind.WEIGHTS, line.sequence, bytes(240)))
    answers = [line.send(coded) for _ in range(3)]
    assert answers[0] == answers[1] == answers[2]
    assert len(answers[0]) == 1
    old = encode_frame(Frame(Kind.WEIGHTS, line.sequence - 1, bytes(240)))
    assert line.send(old) == []
    assert line.send(encode_frame(Frame(Kind.WEIGHTS, line.sequence + 2, bytes(240)))) == []
    room = Answer.parse(answers[0][0].payload).weights_room
    assert line.ask(Kind.READ).weights_room >= room


@pytest.mark.parametrize("size", [128, 500, 1 << 16])
def test_refuses_bad_buffers(size):
    with pytest.raises(ValueError, match=rf"^buffer_bytes must be a power of two within 256 \.\.\. 32768, not {size}$"):
        BoardTop(CAPABILITIES, divisor=4, buffer_bytes=size)


def test_refuses_bad_arguments():
    with pytest.raises(TypeError, match=r"^capabilities must be Capabilities, not EngineConfig"):
        BoardTop(CONFIG, divisor=4)
    with pytest.raises(ValueError, match=r"^divisor must be within 2 \.\.\. 65536, not 1$"):
        BoardTop(CAPABILITIES, divisor=1)


@pytest.mark.parametrize("size", [0, PAGE - 1, 256 * PAGE])
def test_commands_refuse_bad_capabilities(size):
    with pytest.raises(ValueError, match=rf"^capabilities must be 1 \.\.\. 255 pages of {PAGE} bytes, not {size} "):
        CommandProcessor(bytes(size))
