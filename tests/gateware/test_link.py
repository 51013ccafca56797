# amaranth: UnusedElaboratable=no
import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from winohw.gateware.frame import MAX_PAYLOAD, Frame, FrameDecoder, encode_frame
from winohw.gateware.link import FrameReceiver, FrameSender
from winohw.sim.stalls import Stalls
from winohw.sim.testbench import run_stream

PAYLOADS = [b"", b"\0", bytes(MAX_PAYLOAD), b"\xff" * MAX_PAYLOAD, b"\1" * 239 + b"\0", bytes(range(240))]


def some_frames(seed, count):
    rng = np.random.default_rng(seed)
    drawn = [rng.integers(0, rng.choice([2, 256]), rng.integers(0, MAX_PAYLOAD + 1)) for _ in range(count)]
    payloads = PAYLOADS + [bytes(payload.astype(np.uint8)) for payload in drawn]
    return [Frame(int(rng.integers(256)), int(rng.integers(65536)), payload) for payload in payloads]


class Reader(wiring.Component):
    """Reads out every frame that a receiver keeps: its header, then its payload, a byte a beat; slowly.

    The line has a byte in every other cycle.
    """

    def __init__(self):
        super().__init__({"i": In(stream.Signature(8)), "o": Out(stream.Signature(8)), "damaged": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.receiver = receiver = FrameReceiver()
        turn = Signal()
        m.d.sync += turn.eq(~turn)
        m.d.comb += [
            receiver.i.payload.eq(self.i.payload),
            receiver.i.valid.eq(self.i.valid & self.i.ready),
            self.i.ready.eq(turn & ~receiver.valid),
            self.damaged.eq(receiver.damaged),
        ]
        header = (receiver.length, receiver.kind, receiver.sequence[:8], receiver.sequence[8:])
        with m.FSM():
            for place, part in enumerate(header):
                with m.State(f"HEADER_{place}"):
                    m.d.comb += [self.o.payload.eq(part), self.o.valid.eq(receiver.valid)]
                    with m.If(self.o.valid & self.o.ready):
                        m.next = "FETCH" if place == len(header) - 1 else f"HEADER_{place + 1}"
            with m.State("FETCH"):
                m.next = "BYTE"
                with m.If(receiver.address == receiver.length):
                    m.d.comb += receiver.done.eq(1)
                    m.d.sync += receiver.address.eq(0)
                    m.next = "GONE"
            with m.State("GONE"):
                m.next = "HEADER_0"
            with m.State("BYTE"):
                m.d.comb += [self.o.payload.eq(receiver.byte), self.o.valid.eq(1)]
                with m.If(self.o.ready):
                    m.d.sync += receiver.address.eq(receiver.address + 1)
                    m.next = "FETCH"
        return m


def read_out(line, expected):
    read = [
        bytes([len(frame.payload), frame.kind, frame.sequence & 255, frame.sequence >> 8]) + frame.payload
        for frame in expected
    ]
    total = sum(map(len, read))
    result = run_stream(
        Reader(), {"i": np.frombuffer(line, np.uint8)}, {"o": total, "damaged": None}, max_cycles=20_000
    )
    assert result.outputs["o"].astype(np.uint8).tobytes() == b"".join(read)
    return int(result.outputs["damaged"].sum())


def test_receiver_keeps_what_is_right():
    frames = some_frames(1, 6)
    assert read_out(b"".join(map(encode_frame, frames)), frames) == 0


@pytest.mark.parametrize("seed", range(4))
def test_receiver_drops_what_is_wrong(seed):
    """Altered, cut, lengthened and merged frames, and noise; what is right is what the software decoder finds."""
    rng = np.random.default_rng(seed)
    line = bytearray()
    for frame in some_frames(seed, 12):
        coded = bytearray(encode_frame(frame))
        match rng.integers(6):
            case 0:
                coded[rng.integers(len(coded))] ^= 1 << rng.integers(8)
            case 1:
                del coded[rng.integers(len(coded)) :]
            case 2:
                place = rng.integers(len(coded))
                coded[place:place] = rng.integers(0, 256, rng.integers(1, 300)).astype(np.uint8).tobytes()
            case 3:
                del coded[-1], coded[0]
        line += coded
    decoder = FrameDecoder()
    frames = list(decoder.feed(bytes(line)))
    assert frames
    assert read_out(bytes(line), frames) >= decoder.damaged > 0


class Sender(wiring.Component):
    """Frames from a stream; each is sent twice."""

    def __init__(self):
        layout = data.StructLayout({"byte": 8, "last": 1})
        super().__init__({"i": In(stream.Signature(layout)), "o": Out(stream.Signature(8))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.sender = sender = FrameSender()
        wiring.connect(m, sender.o, wiring.flipped(self.o))
        m.d.comb += sender.i.payload.eq(self.i.payload)
        with m.FSM():
            with m.State("NEW"):
                m.d.comb += [sender.i.valid.eq(self.i.valid), self.i.ready.eq(sender.i.ready)]
                with m.If(self.i.valid & self.i.ready & self.i.payload.last):
                    m.next = "AGAIN"
            with m.State("AGAIN"):
                m.d.comb += sender.again.eq(sender.idle)
                with m.If(sender.idle):
                    m.next = "NEW"
        return m


@pytest.mark.parametrize("stalls", [None, Stalls(1)])
def test_sender_sends_and_repeats(stalls):
    frames = some_frames(2, 4)
    parts = []
    for frame in frames:
        head = [len(frame.payload), frame.kind, frame.sequence & 255, frame.sequence >> 8]
        byte = np.concatenate([head, np.frombuffer(frame.payload, np.uint8)]).astype(int)
        parts.append((byte, np.arange(len(byte)) == len(byte) - 1))
    line = b"".join(2 * encode_frame(frame) for frame in frames)
    beats = {"byte": np.concatenate([p[0] for p in parts]), "last": np.concatenate([p[1] for p in parts]).astype(int)}
    result = run_stream(Sender(), {"i": beats}, {"o": len(line)}, stalls=stalls)
    assert result.outputs["o"].astype(np.uint8).tobytes() == line
    assert stalls or result.streams["o"].first == 2 * len(parts[0][0]) - 1 + 6


def test_nothing_to_repeat_before_the_first_frame():
    result = run_stream(FrameSender(), {}, {"o": 0}, constants={"again": 1}, idle=50)
    assert len(result.outputs["o"]) == 0
