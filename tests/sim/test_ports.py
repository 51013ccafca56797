# amaranth: UnusedElaboratable=no
import pytest
from stream_parts import Gather, Sum

from winohw.sim.ports import component_ports, select_ports


def test_streams_constants_and_status():
    ports = component_ports(Sum())
    assert list(ports) == ["i", "o", "offset", "beats"]
    assert [port.is_input for port in ports.values()] == [True, False, True, False]
    assert [port.is_stream for port in ports.values()] == [True, True, False, False]
    assert ports["i"].codec.width == 450
    assert ports["i"].has_valid
    assert ports["i"].has_ready
    assert not ports["offset"].can_stall


def test_nested_arrays_and_always():
    ports = component_ports(Gather())
    assert list(ports) == ["left", "lanes.0", "lanes.1", "out.total", "out.scale_by_two", "seen", "clock"]
    assert [name for name, port in ports.items() if port.is_input] == ["left", "lanes.0", "lanes.1", "out.scale_by_two"]
    assert [name for name, port in ports.items() if port.has_ready] == ["left", "out.total", "clock"]
    assert [name for name, port in ports.items() if not port.has_valid] == ["out.scale_by_two", "clock"]
    assert [name for name, port in ports.items() if port.can_stall] == [
        "left",
        "lanes.0",
        "lanes.1",
        "out.total",
        "clock",
    ]


def test_selection():
    ports = component_ports(Sum())
    assert list(select_ports(ports, ["offset"], inputs=True)) == ["offset"]
    with pytest.raises(ValueError, match=r"^The component has no input 'o'; its inputs are: i, offset$"):
        select_ports(ports, ["o"], inputs=True)
    with pytest.raises(ValueError, match=r"^The component has no output 'x'; its outputs are: o, beats$"):
        select_ports(ports, ["x"], inputs=False)


def test_no_component():
    with pytest.raises(TypeError, match=r"^A component is needed, not 3$"):
        component_ports(3)
