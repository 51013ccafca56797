import pytest
import serial

from winohw.host.transport import SerialTransport, TransportError


@pytest.fixture
def loop():
    """A port that gives back what it is given."""
    transport = SerialTransport("loop://")
    yield transport
    transport.close()


def test_bytes_pass(loop):
    loop.write(bytes(range(256)))
    received = b""
    while len(received) < 256:
        received += loop.read(1)
    assert received == bytes(range(256))
    assert loop.read(0.01) == b""


def test_a_port_that_goes_away(loop, monkeypatch):
    def gone(*_):
        raise serial.SerialException("device disconnected")

    monkeypatch.setattr(loop._serial, "read", gone)
    monkeypatch.setattr(loop._serial, "write", gone)
    with pytest.raises(TransportError, match=r"^The serial port loop:// is gone: device disconnected$"):
        loop.read(0.1)
    with pytest.raises(TransportError, match=r"^The serial port loop:// does not take data: device disconnected$"):
        loop.write(b"x")


def test_a_port_that_is_not_there():
    with pytest.raises(TransportError, match=r"^The serial port /dev/no-such-port cannot be opened: "):
        SerialTransport("/dev/no-such-port")
