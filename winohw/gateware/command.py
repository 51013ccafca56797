"""Carries out the host's requests: descriptors, weights and pixels to the engine, pixels and status back."""

from __future__ import annotations

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from winohw.gateware.capabilities import PAGE
from winohw.gateware.descriptor import status_layout
from winohw.gateware.frame import ANSWER, HEADER, Code, Kind

__all__ = ["ANSWER_HEAD", "MOST_DATA", "RESET_CYCLES", "STATUS_FIELDS", "CommandProcessor"]

#: Bytes of an answer before its data: code, flags, room for weights, room for pixels.
ANSWER_HEAD = 6
#: Most bytes of data in an answer.
MOST_DATA = 224
#: Cycles that the engine is held in reset: more than any of its pipelines is long, for their registers have no reset.
RESET_CYCLES = 256
#: What the data of an answer to STATUS holds, in this order, 32 bits each.
STATUS_FIELDS = ("code", "cycles", "busy", "wait_pixels", "wait_weights", "wait_drain", "damaged", "repeated")


class CommandProcessor(wiring.Component):
    """One request, one answer.

    Data enters the engine only from a frame that was received whole and correct, and only if all of it has room:
    weights and pixels between LAYER_END and the layer's end, a descriptor between layers, with nothing left in the
    buffers.

    An answer has `ANSWER_HEAD` bytes (code, flags, then room for weights and for pixels, 2 bytes each) and data: output
    pixels for LAYER, LAYER_END, WEIGHTS, PIXELS and READ, a page for INFO, `STATUS_FIELDS` for STATUS. Flags: bit 0, a
    layer has begun; bit 1, its status has come, so that all its output has been given.

    Latency: 4 cycles a byte of payload, and an answer's bytes one in two cycles. Backpressure: the next request waits
    for the answer to go; nothing here waits for the engine.

    Parameters
    ----------
    capabilities : bytes
        Whole pages of `PAGE` bytes.

    Members
    -------
    valid, kind, sequence, length, address, byte, done : the frame, from `FrameReceiver`.
    damaged : In(1), a frame was damaged.
    answer : Out(stream of {byte, last}), for `FrameSender`.
    again, sender_idle : Out(1), In(1), for `FrameSender`.
    layer : Out(stream of {word, last}), descriptor words.
    weights, pixels : Out(stream of 8), for the buffers.
    weights_room, pixels_room : In(16), what the buffers can take.
    o : In(stream of 8), output pixels; `o_level` In(16) of them wait.
    status : In(stream of `status_layout()`).
    clean : In(1), the buffers are empty.
    reset : Out(1), resets engine and buffers.

    Raises
    ------
    ValueError
        The capabilities are not 1 ... 255 whole pages.
    """

    def __init__(self, capabilities: bytes):
        if not capabilities or len(capabilities) % PAGE or len(capabilities) > 255 * PAGE:
            raise ValueError(f"capabilities must be 1 ... 255 pages of {PAGE} bytes, not {len(capabilities)} bytes")
        self.capabilities = capabilities
        super().__init__(
            {
                "valid": In(1),
                "kind": In(8),
                "sequence": In(16),
                "length": In(8),
                "address": Out(8),
                "byte": In(8),
                "done": Out(1),
                "damaged": In(1),
                "answer": Out(stream.Signature(data.StructLayout({"byte": 8, "last": 1}))),
                "again": Out(1),
                "sender_idle": In(1),
                "layer": Out(stream.Signature(data.StructLayout({"word": 32, "last": 1}))),
                "weights": Out(stream.Signature(8)),
                "pixels": Out(stream.Signature(8)),
                "weights_room": In(16),
                "pixels_room": In(16),
                "o": In(stream.Signature(8)),
                "o_level": In(16),
                "status": In(stream.Signature(status_layout())),
                "clean": In(1),
                "reset": Out(1, init=1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.rom = rom = memory.Memory(shape=8, depth=len(self.capabilities), init=list(self.capabilities))
        rom_read = rom.read_port()
        pages = len(self.capabilities) // PAGE

        # --- what is known of the layer and the link -----------------------------------------------------------------
        last_sequence, in_sequence = Signal(16), Signal()
        begun, described, finished, told = Signal(), Signal(), Signal(), Signal()
        status = Signal(status_layout())
        damaged, repeated = Signal(16), Signal(16)
        m.d.sync += damaged.eq(damaged + self.damaged)
        # It must not change while it is told.
        answering = Signal()
        m.d.comb += self.status.ready.eq(~finished & ~answering)
        with m.If(self.status.valid & self.status.ready):
            m.d.sync += [status.eq(self.status.payload), finished.eq(1)]

        code = Signal(Code)
        count, place = Signal(8), Signal(8)  # bytes of data in the answer; the next byte of answer or payload
        reset_left = Signal(range(RESET_CYCLES), init=RESET_CYCLES - 1)
        m.d.sync += self.reset.eq(reset_left != 0)
        word = Signal(32)
        rom_base, step = Signal(range(len(self.capabilities))), Signal()
        m.d.comb += self.address.eq(place)
        m.d.comb += rom_read.addr.eq(rom_base + step)

        # --- what a request needs: known in registers when it is decided, for nothing of it changes any more ---------
        kind = self.kind
        is_layer = (kind == Kind.LAYER) | (kind == Kind.LAYER_END)
        is_data = (kind == Kind.WEIGHTS) | (kind == Kind.PIXELS)
        has_room = Signal()
        m.d.sync += has_room.eq(Mux(kind == Kind.WEIGHTS, self.weights_room, self.pixels_room) >= self.length)
        verdict, kept_verdict = Signal(Code), Signal(Code)
        m.d.sync += kept_verdict.eq(verdict)
        fresh, known = Signal(), Signal()
        ahead = (self.sequence - last_sequence)[:16]
        m.d.sync += [fresh.eq(in_sequence & (ahead == 1)), known.eq(in_sequence & (ahead == 0))]
        running = described & ~finished
        with m.If(~((kind >= Kind.RESET) & (kind <= Kind.STATUS))):
            m.d.comb += verdict.eq(Code.UNKNOWN)
        with m.Elif(is_layer):
            with m.If((self.length == 0) | (self.length[:2] != 0)):
                m.d.comb += verdict.eq(Code.LENGTH)
            with m.Elif(described):
                m.d.comb += verdict.eq(Code.BUSY)
            with m.Elif(~self.clean):
                m.d.comb += verdict.eq(Code.LEFTOVER)
        with m.Elif(is_data):
            with m.If(self.length == 0):
                m.d.comb += verdict.eq(Code.LENGTH)
            with m.Elif(~running):
                m.d.comb += verdict.eq(Code.NO_LAYER)
            with m.Elif(~has_room):
                m.d.comb += verdict.eq(Code.NO_ROOM)
        with m.Elif(self.length != (kind == Kind.INFO)):
            m.d.comb += verdict.eq(Code.LENGTH)

        # --- the bytes of an answer ----------------------------------------------------------------------------------
        # No request is repeated while one is answered, but another may be damaged.
        kept_damaged = Signal(16)
        counted = {"damaged": kept_damaged, "repeated": repeated}
        figures = [counted[name] if name in counted else status[name] for name in STATUS_FIELDS]
        words = Cat(Cat(value, Const(0, 32 - len(value))) for value in figures)
        head = Cat(
            (count + ANSWER_HEAD)[:8],
            kind | ANSWER,
            self.sequence,
            Cat(code, Const(0, 8 - len(code))),
            Cat(begun, finished, Const(0, 6)),
            self.weights_room,
            self.pixels_room,
        )
        from_output = is_layer | is_data | (kind == Kind.READ)
        kept_head = Signal(len(head))
        in_head = place < HEADER + ANSWER_HEAD
        byte = Signal(8)
        with m.If(in_head):
            m.d.comb += byte.eq(kept_head[:8])
        with m.Elif(kind == Kind.INFO):
            m.d.comb += byte.eq(rom_read.data)
        with m.Elif(kind == Kind.STATUS):
            m.d.comb += byte.eq(words.word_select((place - (HEADER + ANSWER_HEAD))[:5], 8))
        with m.Else():
            m.d.comb += byte.eq(self.o.payload)

        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [place.eq(0), count.eq(0)]
                with m.If(self.valid & self.sender_idle):
                    m.next = "DECIDE"
            with m.State("DECIDE"):
                with m.If(known):
                    m.d.comb += [self.again.eq(1), self.done.eq(1)]
                    m.d.sync += repeated.eq(repeated + 1)
                    m.next = "REPEATED"
                with m.Elif(fresh | (kind == Kind.RESET)):
                    m.d.sync += [last_sequence.eq(self.sequence), in_sequence.eq(1), code.eq(kept_verdict)]
                    m.next = "COUNT"
                    with m.If(kept_verdict == Code.OK):
                        with m.If(kind == Kind.RESET):
                            m.d.sync += reset_left.eq(RESET_CYCLES - 1)
                            m.next = "RESET"
                        with m.Elif(is_layer | is_data):
                            m.next = "FETCH"
                        with m.Elif(kind == Kind.INFO):
                            m.next = "READ_PAGE"
                with m.Else():
                    m.d.comb += self.done.eq(1)
                    m.next = "REPEATED"
            with m.State("REPEATED"):
                # `valid` and `sender_idle` show a cycle later what was asked of them.
                m.next = "IDLE"
            with m.State("RESET"):
                m.d.sync += [begun.eq(0), described.eq(0), finished.eq(0)]
                with m.If(reset_left != 0):
                    m.d.sync += reset_left.eq(reset_left - 1)
                with m.Elif(~self.reset):
                    m.next = "COUNT"
            with m.State("READ_PAGE"):
                m.d.sync += word.eq(self.byte)
                m.next = "PAGE"
            with m.State("PAGE"):
                page_wanted = word[:8]
                with m.If(page_wanted >= pages):
                    m.d.sync += code.eq(Code.RANGE)
                with m.Switch(page_wanted):
                    for page in range(pages):
                        with m.Case(page):
                            m.d.sync += rom_base.eq(page * PAGE)
                m.next = "COUNT"

            # --- payload to the engine ------------------------------------------------------------------------------
            with m.State("FETCH"):
                m.d.sync += begun.eq(1)
                m.next = "TAKE"
            with m.State("TAKE"):
                m.d.sync += [word.eq(Cat(word[8:], self.byte)), place.eq(place + 1)]
                m.next = "GIVE"
                with m.If(is_layer & (place[:2] != 3)):
                    m.next = "FETCH"
            with m.State("GIVE"):
                end = place == self.length
                m.d.comb += [
                    self.layer.payload.word.eq(word),
                    self.layer.payload.last.eq(end & (kind == Kind.LAYER_END)),
                    self.layer.valid.eq(is_layer),
                    self.weights.payload.eq(word[24:]),
                    self.weights.valid.eq(kind == Kind.WEIGHTS),
                    self.pixels.payload.eq(word[24:]),
                    self.pixels.valid.eq(kind == Kind.PIXELS),
                ]
                taken = Cat(
                    self.layer.valid & self.layer.ready,
                    self.weights.valid & self.weights.ready,
                    self.pixels.valid & self.pixels.ready,
                ).any()
                with m.If(taken):
                    m.next = "FETCH"
                    with m.If(end):
                        m.d.sync += described.eq(described | (kind == Kind.LAYER_END))
                        m.next = "COUNT"

            # --- the answer -----------------------------------------------------------------------------------------
            with m.State("COUNT"):
                m.d.sync += place.eq(0)
                with m.If(code != Code.OK):
                    m.d.sync += count.eq(0)
                with m.Elif(from_output):
                    m.d.sync += count.eq(Mux(self.o_level > MOST_DATA, MOST_DATA, self.o_level))
                with m.Elif(kind == Kind.INFO):
                    m.d.sync += count.eq(PAGE)
                with m.Elif(kind == Kind.STATUS):
                    m.d.sync += count.eq(4 * len(STATUS_FIELDS))
                m.next = "HEAD"
            with m.State("HEAD"):
                m.d.sync += [kept_head.eq(head), told.eq(finished)]
                m.d.sync += kept_damaged.eq(damaged)
                m.next = "PICK"
            with m.State("PICK"):
                # Bytes come out of memories: they are kept before anybody makes something of them.
                m.d.comb += answering.eq(1)
                m.d.sync += [
                    self.answer.payload.byte.eq(byte),
                    self.answer.payload.last.eq(place == count + (HEADER + ANSWER_HEAD - 1)),
                ]
                with m.If(in_head | ~from_output | self.o.valid):
                    m.next = "ANSWER"
            with m.State("ANSWER"):
                m.d.comb += [answering.eq(1), self.answer.valid.eq(1)]
                with m.If(self.answer.ready):
                    m.next = "PICK"
                    m.d.sync += [place.eq(place + 1), kept_head.eq(kept_head >> 8)]
                    with m.If(~in_head):
                        m.d.sync += rom_base.eq(rom_base + 1)
                        m.d.comb += [step.eq(1), self.o.ready.eq(from_output)]
                    with m.If(self.answer.payload.last):
                        m.d.comb += self.done.eq(1)
                        with m.If((kind == Kind.STATUS) & told):
                            m.d.sync += [begun.eq(0), described.eq(0), finished.eq(0)]
                        m.next = "REPEATED"
        return m
