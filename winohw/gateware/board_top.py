"""What goes onto a board: an engine behind a serial port."""

from __future__ import annotations

from amaranth import ClockDomain, ClockSignal, DomainRenamer, Module, ResetSignal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from winohw.gateware.byte_buffer import ByteBuffer
from winohw.gateware.byte_lanes import BytesToLanes, LanesToBytes
from winohw.gateware.capabilities import Capabilities
from winohw.gateware.command import CommandProcessor
from winohw.gateware.engine import Engine
from winohw.gateware.frame import MAX_PAYLOAD
from winohw.gateware.link import FrameReceiver, FrameSender
from winohw.gateware.uart import UartReceiver, UartTransmitter, check_divisor

__all__ = ["BoardTop"]

#: Sizes of a buffer. Each holds what a frame brings.
_BUFFERS = tuple(1 << bits for bits in range(MAX_PAYLOAD.bit_length(), 16))


class BoardTop(wiring.Component):
    """An engine that a host drives over two pins; what it says and does is in `winohw.gateware.frame` and `.command`.

    The engine is held in reset until the host's first request, which resets it. Pixels and weights reach it only from
    frames that came whole and correct. Damaged, repeated and missing frames, and a host that goes away in the middle of
    a layer, leave the link ready for the next request.

    Throughput: that of the serial line, `240 / (250 * (10 * divisor + 1))` bytes of payload a cycle each way at most.

    Parameters
    ----------
    capabilities : Capabilities
        The engine's configuration, and what the board is called.
    divisor : int
        Clock cycles a bit of the serial line, 2 ... 65536.
    buffer_bytes : int
        Bytes of each of the three buffers between link and engine, a power of two, 256 ... 32768.
    simulated : bool
        Behavioural twins take the place of vendors' primitives, cycle for cycle; what the board says of itself stays.

    Members
    -------
    rx : In(1), the line from the host.
    tx : Out(1), the line to the host.

    Raises
    ------
    TypeError, ValueError
        A parameter is of the wrong kind or out of range.
    """

    def __init__(self, capabilities: Capabilities, *, divisor: int, buffer_bytes: int = 512, simulated: bool = False):
        if not isinstance(capabilities, Capabilities):
            raise TypeError(f"capabilities must be Capabilities, not {capabilities!r}")
        if buffer_bytes not in _BUFFERS:
            raise ValueError(
                f"buffer_bytes must be a power of two within {_BUFFERS[0]} ... {_BUFFERS[-1]}, not {buffer_bytes!r}"
            )
        check_divisor(divisor)
        self.capabilities = capabilities
        self.divisor = divisor
        self.buffer_bytes = buffer_bytes
        self.simulated = simulated
        super().__init__({"rx": In(1, init=1), "tx": Out(1, init=1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.capabilities.config
        m.submodules.uart_receiver = uart_receiver = UartReceiver(self.divisor)
        m.submodules.uart_transmitter = uart_transmitter = UartTransmitter(self.divisor)
        m.submodules.frame_receiver = frame_receiver = FrameReceiver()
        m.submodules.frame_sender = frame_sender = FrameSender()
        m.submodules.command = command = CommandProcessor(self.capabilities.encode())

        # A clock domain of its own for the sake of its reset: the register of the command processor goes to all that it
        # resets without a gate on the way.
        m.domains.engine = ClockDomain(local=True)
        m.d.comb += [ClockSignal("engine").eq(ClockSignal()), ResetSignal("engine").eq(command.reset)]
        parts = {
            "engine": (engine := Engine(config.behavioural if self.simulated else config)),
            "weights_buffer": (weights := ByteBuffer(self.buffer_bytes)),
            "pixels_buffer": (pixels := ByteBuffer(self.buffer_bytes)),
            "output_buffer": (output := ByteBuffer(self.buffer_bytes)),
            "weight_beats": (weight_beats := BytesToLanes(config.weight_bytes)),
            "pixel_beats": (pixel_beats := BytesToLanes(config.input_lanes)),
            "output_bytes": (output_bytes := LanesToBytes(config.requantizer_lanes)),
        }
        for name, part in parts.items():
            setattr(m.submodules, name, DomainRenamer("engine")(part))

        # --- the link ------------------------------------------------------------------------------------------------
        m.d.comb += [uart_receiver.rx.eq(self.rx), self.tx.eq(uart_transmitter.tx)]
        wiring.connect(m, uart_receiver.o, frame_receiver.i)
        wiring.connect(m, frame_sender.o, uart_transmitter.i)
        wiring.connect(m, command.answer, frame_sender.i)
        for name in ("valid", "kind", "sequence", "length", "byte", "damaged"):
            m.d.comb += getattr(command, name).eq(getattr(frame_receiver, name))
        m.d.comb += [
            frame_receiver.address.eq(command.address),
            frame_receiver.done.eq(command.done),
            frame_sender.again.eq(command.again),
            command.sender_idle.eq(frame_sender.idle),
        ]

        # --- the engine ----------------------------------------------------------------------------------------------
        wiring.connect(m, command.layer, engine.layer)
        wiring.connect(m, command.weights, weights.i)
        wiring.connect(m, weights.o, weight_beats.i)
        wiring.connect(m, weight_beats.o, engine.weights)
        wiring.connect(m, command.pixels, pixels.i)
        wiring.connect(m, pixels.o, pixel_beats.i)
        wiring.connect(m, pixel_beats.o, engine.pixels)
        wiring.connect(m, engine.o, output_bytes.i)
        wiring.connect(m, output_bytes.o, output.i)
        wiring.connect(m, output.o, command.o)
        wiring.connect(m, engine.status, command.status)
        empty = (weights.level == 0) & (pixels.level == 0) & (output.level == 0)
        m.d.comb += [
            command.weights_room.eq(self.buffer_bytes - weights.level),
            command.pixels_room.eq(self.buffer_bytes - pixels.level),
            command.o_level.eq(output.level),
            command.clean.eq(empty & weight_beats.empty & pixel_beats.empty & output_bytes.empty),
        ]
        return m
