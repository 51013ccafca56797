import pytest

from winohw.synth.netlist import OWN, WRAPPER, Resources, StageMap, count_stages, read_netlist, stage_of
from winohw.synth.parts import find_part

ECP5 = find_part("LFE5U-25F").family
GOWIN = find_part("GW1NR-9").family


def cell(kind, stage=None, *, src=None, **ports):
    """A cell as Yosys writes it; ports in capitals are outputs: Q, Z, P."""
    if stage is not None:
        src = f"@top.component.{stage}".removesuffix(".") + "|/share/cells.v:1.2"
    return {
        "type": kind,
        "attributes": {} if src is None else {"src": src},
        "port_directions": {port: "output" if port in "QZP" else "input" for port in ports},
        "connections": {port: bits if isinstance(bits, list) else [bits] for port, bits in ports.items()},
    }


def scope(module):
    return {
        "type": "$scopeinfo",
        "attributes": {"module": module},
        "port_directions": {},
        "connections": {},
    }


def netlist(cells, names=None):
    return {"modules": {"top": {"cells": cells, "netnames": names or {}}}}


def stages(cells):
    return read_netlist(netlist(cells))[1].cells


@pytest.mark.parametrize(
    ("module", "stage"),
    [
        ("top", OWN),
        ("top.component", OWN),
        ("top.component.mac_array", "mac_array"),
        ("top.component.mac_array.cell_3", "mac_array.cell_3"),
        ("top.component.U$0", "U$0"),
        ("top.pins", WRAPPER),
    ],
)
def test_stage_of_a_module(module, stage):
    assert stage_of(module) == stage


def test_tags_and_names_of_the_wrapper():
    found = stages(
        {
            "a": cell("TRELLIS_FF", "mac_array.cell_3", Q=1),
            "b": cell("TRELLIS_FF", "", Q=2),
            "pins.chain_FF": cell("TRELLIS_FF", Q=3),
            "merged": cell("TRELLIS_FF", src="@top.component.a|/x.v:1|@top.component.a.b|@top.component.a.a", Q=4),
        }
    )
    assert found == {"a": "mac_array.cell_3", "b": OWN, "pins.chain_FF": WRAPPER, "merged": "a.b"}


def test_logic_counts_to_what_it_feeds():
    found = stages(
        {
            "from": cell("TRELLIS_FF", "one", Q=1),
            "first": cell("LUT4", A=1, Z=2),
            "second": cell("LUT4", A=2, Z=3),
            "to": cell("TRELLIS_FF", "two", D=3, Q=4),
        }
    )
    assert found["first"] == found["second"] == "two"


def test_logic_that_feeds_several_counts_to_most_of_them_then_to_the_first_by_name():
    cells = {
        "shared": cell("LUT4", A=9, Z=1),
        "x": cell("TRELLIS_FF", "b", D=1, Q=2),
        "y": cell("TRELLIS_FF", "c", D=1, Q=3),
        "z": cell("TRELLIS_FF", "c", D=1, Q=4),
    }
    assert stages(cells)["shared"] == "c"
    cells["w"] = cell("TRELLIS_FF", "b", D=1, Q=5)
    assert stages(cells)["shared"] == "b"


def test_logic_that_feeds_only_ports_counts_to_what_feeds_it():
    found = stages(
        {
            "from": cell("MULT18X18D", "one", P=[1, 2]),
            "logic": cell("LUT4", A=1, B=2, Z=3),
            "pins.outputs_FF": cell("TRELLIS_FF", D=3, Q=4),
        }
    )
    assert found["logic"] == "one"


def test_logic_between_ports_is_the_component_s_own():
    found = stages(
        {
            "pins.chain_FF": cell("TRELLIS_FF", D="0", Q=1),
            "logic": cell("LUT4", A=1, B="1", Z=2),
            "pins.outputs_FF": cell("TRELLIS_FF", D=2, Q=3),
        }
    )
    assert found["logic"] == OWN


def test_loop_of_untagged_logic_ends():
    found = stages({"a": cell("LUT4", A=1, Z=2), "b": cell("LUT4", A=2, Z=1)})
    assert found == {"a": OWN, "b": OWN}


def test_memories_count_by_their_name():
    found = stages(
        {
            "component.buffer": scope("top.component.buffer"),
            "component.buffer.bank_1": scope("top.component.buffer.bank_1"),
            "component.buffer.bank_1.data.0.3": cell("DP16KD", Z=1),
            "component.buffer.wide.0.0": cell("DP16KD", Z=2),
            "component.other.0.0": cell("TRELLIS_DPR16X4", Z=3),
        }
    )
    assert found == {
        "component.buffer.bank_1.data.0.3": "buffer.bank_1",
        "component.buffer.wide.0.0": "buffer",
        "component.other.0.0": OWN,
    }


def test_register_of_a_read_port_counts_to_the_memory():
    found = stages(
        {
            "component.queue": scope("top.component.queue"),
            "component.queue.storage.0.0": cell("TRELLIS_DPR16X4", Z=1),
            "data_FF": cell("TRELLIS_FF", D=1, Q=2),
            "logic": cell("LUT4", A=1, Z=3),
            "next_FF": cell("TRELLIS_FF", "next", D=2, E=3, Q=4),
        }
    )
    assert found["data_FF"] == "queue"
    assert found["logic"] == "next"


def test_count_by_stage():
    types, found = read_netlist(
        netlist(
            {
                "pad": cell("TRELLIS_IO", Q=20),
                "a": cell("MULT18X18D", "mac_array.cell0", P=[1]),
                "b": cell("MULT18X18D", "mac_array.cell12", P=[2]),
                "c": cell("TRELLIS_FF", "mac_array", Q=3),
                "d": cell("CCU2C", "transform_0.graph", Z=4),
                "e": cell("LUT4", "transform_1.graph", Z=5),
                "f": cell("PFUMX", "transform_1.graph", Z=6),
                "g": cell("TRELLIS_FF", "", Q=7),
                "pins.x": cell("TRELLIS_FF", Q=8),
            }
        )
    )
    counted = count_stages(types, found, ECP5)
    assert counted == {
        "mac_array": Resources(flip_flops=1, cells={"TRELLIS_FF": 1}),
        "mac_array.cell": Resources(multipliers=2, cells={"MULT18X18D": 2}, instances=2),
        "transform": Resources(instances=2),
        "transform.graph": Resources(luts=3, cells={"CCU2C": 1, "LUT4": 1, "PFUMX": 1}, instances=2),
        OWN: Resources(flip_flops=1, cells={"TRELLIS_FF": 1}),
        WRAPPER: Resources(flip_flops=1, cells={"TRELLIS_FF": 1}),
    }


def test_a_name_that_is_a_number_stays():
    types, found = read_netlist(netlist({"a": cell("LUT4", "7", Z=1), "b": cell("LUT4", "U$3", Z=2)}))
    assert set(count_stages(types, found, ECP5)) == {"7", "U"}


def test_half_multipliers():
    halves = Resources.of({"MULT9X9": 3, "MULT18X18": 1, "DFFRE": 2, "LUT3": 1, "SDPX9B": 1}, GOWIN)
    assert (halves.multipliers, halves.flip_flops, halves.luts, halves.block_rams) == (2.5, 2, 1, 1)
    assert halves.words() == "1 LUT, 2 FF, 2.5 multiplier, 1 block RAM"


def test_excess():
    part = find_part("LFE5U-25F")
    assert Resources(luts=24288, multipliers=28, block_rams=56).excess(part) == []
    assert Resources(luts=24289, multipliers=28.5).excess(part) == ["24289 LUT of 24288", "28.5 multiplier of 28"]


def test_sum():
    total = Resources(luts=1, cells={"B": 1}) + Resources(luts=2, block_rams=1, cells={"A": 1, "B": 2}, instances=3)
    assert total == Resources(luts=3, block_rams=1, cells={"A": 1, "B": 3})


def test_names_that_nextpnr_makes():
    found = StageMap(
        {"a.x_CCU2C_S0": "a", "b$1[3]_LUT4_Z": "b", "c_SB_LUT4_O": "c", "d.cell": "d"}, {"d.cell": "d.sum"}
    )
    assert found.stage("a.x_CCU2C_S0$CCU2_COMB1") == "a"
    assert found.stage("b$1[3]_LUT4_Z") == found.stage("b$1[3]_LUT4_Z$TRELLIS_COMB") == "b"
    assert found.stage("c_SB_LUT4_O_LC") == "c"
    assert found.stage("d.cell_DSP") == "d"
    assert found.stage("$PACKER_VCC") == OWN
    assert found.stage("pins.new") == WRAPPER
    assert found.signal("d.cell_DSP") == "d.sum"
    assert found.signal("component.a.new") == "a.new"


def named(*bits):
    return {"attributes": {"hdlname": "x"}, "bits": list(bits)}


def test_signals_by_their_name_in_the_cell_s_own_stage():
    cells = {
        "r": cell("TRELLIS_FF", "one", D=2, Q=1),
        "l": cell("LUT4", A=9, Z=2),
        "m": cell("MULT18X18D", "one", P=[3, 4]),
        "far": cell("TRELLIS_FF", "two", Q=5),
        "own": cell("TRELLIS_FF", "", Q=6),
    }
    names = {
        "component.i": named(8, 1),
        "component.one.total": named(8, 1),
        "component.one.sum": named(1),
        "component.one.p": named(3),
        "component.i[1]_auto": {"attributes": {}, "bits": [2]},
        "component.port": named(5),
        "component.held": named(6),
        "component.held_too": named(6),
    }
    found = read_netlist(netlist(cells, names))[1]
    # The table feeds one register only, and has no name of its own; the multiplier has two outputs.
    assert found.signals == {"r": "one.sum", "l": "one.sum", "far": "port in two", "own": "held"}
