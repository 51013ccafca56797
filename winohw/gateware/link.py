"""Both ends of the link on the board: frames from bytes, frames to bytes; see `winohw.gateware.frame`."""

from __future__ import annotations

from amaranth import Module, Mux, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.crc.catalog import CRC32_ISO_HDLC
from amaranth.lib.wiring import In, Out

from winohw.gateware.frame import HEADER, MAX_PAYLOAD, OVERHEAD
from winohw.gateware.memory import MEMORY_OUTPUT

__all__ = ["FrameReceiver", "FrameSender"]


#: Bits of a CRC a cycle. A byte takes longer on any line than its two halves do, and half the width is half the logic.
_CRC_BITS = 4


def _buffer(m: Module, name: str) -> tuple[memory.WritePort, Signal, Signal]:
    """A memory of bytes: where it is written, a byte's address, and the byte a cycle later."""
    # What is read while it is written is not used. Yosys merges a register into an asynchronous read port, and heeds
    # the attribute only then.
    buffer = memory.Memory(shape=8, depth=256, init=[], attrs={"no_rw_check": 1})
    m.submodules[name] = buffer
    read = buffer.read_port(domain="comb")
    fetched = Signal(8, name=MEMORY_OUTPUT, reset_less=True)
    m.d.sync += fetched.eq(read.data)
    return buffer.write_port(), read.addr, fetched


class FrameReceiver(wiring.Component):
    """Keeps the next complete and correct frame; whatever else comes is dropped.

    A frame stands until `done`; bytes that come meanwhile are dropped, up to the zero byte that ends their frame.

    Latency: 1 cycle from the zero byte after a frame to `valid`. Throughput: a byte each 2 cycles. Backpressure: none.

    Members
    -------
    i : In(stream.Signature(8, always_ready=True)), bytes from the line.
    valid : Out(1), a frame stands.
    kind, sequence, length : Out(8), Out(16), Out(8), its header.
    address, byte : In(8), Out(8); a byte of its payload, a cycle after its address.
    done : In(1), drops the frame.
    damaged : Out(1), for one cycle: a frame was not complete and correct, or did not find room.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "i": In(stream.Signature(8, always_ready=True)),
                "valid": Out(1),
                "kind": Out(8),
                "sequence": Out(16),
                "length": Out(8),
                "address": In(8),
                "byte": Out(8),
                "done": In(1),
                "damaged": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        write, address, byte = _buffer(m, "payload")
        m.submodules.crc = crc = CRC32_ISO_HDLC(_CRC_BITS).create()
        rest, rest_left = Signal(8 - _CRC_BITS), Signal()  # of a byte, for the CRC
        started = Signal()  # bytes of a frame have come
        drop = Signal()  # no byte up to the next zero counts
        run = Signal(8)  # bytes up to the next code
        count = Signal(range(OVERHEAD + MAX_PAYLOAD + 1))  # decoded bytes
        decoded = Signal(8)
        emit = Signal()
        full = count == OVERHEAD + MAX_PAYLOAD
        usable = self.i.valid & ~drop & ~full & ~self.valid
        m.d.comb += [
            decoded.eq(Mux(run == 0, 0, self.i.payload)),
            crc.data.eq(Mux(rest_left, rest, decoded)),
            crc.valid.eq(emit | rest_left),
            crc.start.eq(self.i.valid & (self.i.payload == 0)),
            write.addr.eq((count - HEADER)[:8]),
            write.data.eq(decoded),
            write.en.eq(emit & (count >= HEADER)),
            address.eq(self.address),
            self.byte.eq(byte),
        ]
        m.d.sync += [self.damaged.eq(0), rest.eq(decoded[_CRC_BITS:]), rest_left.eq(emit)]
        with m.If(self.i.valid & (self.i.payload == 0)):
            complete = (count >= OVERHEAD) & (count == self.length + OVERHEAD)
            with m.If(started):
                with m.If(~drop & (run == 0) & complete & crc.match_detected & ~self.valid):
                    m.d.sync += self.valid.eq(1)
                with m.Else():
                    m.d.sync += self.damaged.eq(1)
            m.d.sync += [started.eq(0), drop.eq(0), run.eq(0), count.eq(0)]
        with m.Elif(usable):
            m.d.sync += started.eq(1)
            # A code stands for the zero byte before its block, the first one of a frame for nothing.
            m.d.comb += emit.eq(started | (run != 0))
            m.d.sync += run.eq(Mux(run == 0, self.i.payload, run) - 1)
        with m.Elif(self.i.valid):
            m.d.sync += [started.eq(1), drop.eq(1)]
        with m.If(emit):
            m.d.sync += count.eq(count + 1)
            with m.Switch(count):
                for position, part in enumerate((self.length, self.kind, self.sequence[:8], self.sequence[8:])):
                    with m.Case(position):
                        m.d.sync += part.eq(decoded)
        with m.If(self.done):
            m.d.sync += self.valid.eq(0)
        return m


class FrameSender(wiring.Component):
    """Codes a frame, sends it, and keeps it to be sent again.

    Latency: 6 cycles from the last byte in to the first one out. Throughput: a byte each 2 cycles in and out.
    Backpressure: `i.ready` is low while a frame is sent; `o` may stall for ever.

    Members
    -------
    i : In(stream.Signature(StructLayout({"byte": 8, "last": 1}))), header and payload, at most 244 bytes.
    again : In(1), sends the last frame once more; only taken while `idle`.
    idle : Out(1), nothing of a frame is on its way.
    o : Out(stream.Signature(8)), bytes to the line.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "i": In(stream.Signature(data.StructLayout({"byte": 8, "last": 1}))),
                "again": In(1),
                "idle": Out(1),
                "o": Out(stream.Signature(8)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        write, address, fetched = _buffer(m, "coded")
        m.submodules.crc = crc = CRC32_ISO_HDLC(_CRC_BITS).create()
        half = Signal()  # the CRC has seen the first half of the byte that stands
        end, code = Signal(8, init=1), Signal(8)  # where the next byte goes, where the code of its block stands
        size, place = Signal(8), Signal(8)
        byte, emit, close = Signal(8), Signal(), Signal()
        check = Signal(range(4))
        zero = close | (byte == 0)
        m.d.comb += [
            crc.data.eq(self.i.payload.byte.word_select(half, _CRC_BITS)),
            # A zero byte is not written: the code of the block before it is, and its own place holds the next code.
            write.addr.eq(Mux(zero, code, end)),
            write.data.eq(Mux(zero, end - code, byte)),
            write.en.eq(emit | close),
            address.eq(place),
        ]
        with m.If(emit):
            m.d.sync += end.eq(end + 1)
            with m.If(byte == 0):
                m.d.sync += code.eq(end)
        with m.FSM():
            with m.State("FILL"):
                m.d.comb += [byte.eq(self.i.payload.byte), self.idle.eq((end == 1) & ~self.i.valid)]
                m.d.comb += [crc.valid.eq(self.i.valid), self.i.ready.eq(half), emit.eq(self.i.valid & half)]
                m.d.sync += place.eq(0)
                with m.If(self.i.valid):
                    m.d.sync += half.eq(~half)
                    with m.If(half & self.i.payload.last):
                        m.next = "CHECK"
                with m.Elif(self.again & self.idle & (size != 0)):
                    m.next = "BEGIN"
            with m.State("CHECK"):
                m.d.comb += [byte.eq(crc.crc.word_select(check, 8)), emit.eq(1)]
                m.d.sync += check.eq(check + 1)
                with m.If(check == 3):
                    m.next = "CLOSE"
            with m.State("CLOSE"):
                m.d.comb += close.eq(1)
                m.d.sync += size.eq(end)
                m.next = "BEGIN"
            with m.State("BEGIN"):
                m.d.comb += [self.o.valid.eq(1), crc.start.eq(1)]
                m.d.sync += [end.eq(1), code.eq(0)]
                with m.If(self.o.ready):
                    m.next = "READ"
            with m.State("READ"):
                m.next = "SEND"
            with m.State("SEND"):
                m.d.comb += [self.o.valid.eq(1), self.o.payload.eq(fetched)]
                with m.If(self.o.ready):
                    m.d.sync += place.eq(place + 1)
                    m.next = "READ"
                    with m.If(place + 1 == size):
                        m.next = "END"
            with m.State("END"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.next = "FILL"
        return m
