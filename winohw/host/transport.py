"""Bytes to a board and back."""

from __future__ import annotations

from typing import Protocol

import serial

__all__ = ["SerialTransport", "Transport", "TransportError"]


class TransportError(RuntimeError):
    """The connection to the board is lost or cannot be opened."""


class Transport(Protocol):
    """A way to a board."""

    def write(self, data: bytes) -> None:
        """Sends bytes."""

    def read(self, timeout: float) -> bytes:
        """What has come, at least one byte; nothing after `timeout` seconds without any."""

    def close(self) -> None:
        """Ends the connection."""


class SerialTransport:
    """A serial port, or the pseudo-terminal of a simulated board.

    Parameters
    ----------
    port : name of the device, such as /dev/ttyUSB0, or a URL of pyserial.
    baud : bits a second; a pseudo-terminal does not care.

    Raises
    ------
    TransportError
        The port cannot be opened; later, that it is gone.
    """

    def __init__(self, port: str, baud: int = 1_000_000):
        self.port = port
        try:
            self._serial = serial.serial_for_url(port, baud, timeout=0, write_timeout=10, exclusive=True)
        except (serial.SerialException, OSError, ValueError) as error:
            raise TransportError(f"The serial port {port} cannot be opened: {error}") from error

    def write(self, data: bytes) -> None:
        try:
            self._serial.write(data)
        except (serial.SerialException, OSError) as error:
            raise TransportError(f"The serial port {self.port} does not take data: {error}") from error

    def read(self, timeout: float) -> bytes:
        try:
            self._serial.timeout = timeout
            first = self._serial.read(1)
            return first + self._serial.read(self._serial.in_waiting) if first else b""
        except (serial.SerialException, OSError) as error:
            raise TransportError(f"The serial port {self.port} is gone: {error}") from error

    def close(self) -> None:
        self._serial.close()
