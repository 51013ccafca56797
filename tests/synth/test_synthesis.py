# amaranth: UnusedElaboratable=no
import pytest
from tiny_design import Tiny

from winohw.gateware.multiplier import Multiplier
from winohw.synth.parts import find_part
from winohw.synth.pins import PinWrap
from winohw.synth.synthesis import SynthesisOptions, activity, rtlil_of, synthesis_script

ECP5, ICE40, GOWIN = (find_part(name) for name in ("LFE5U-85F", "iCE40UP5K", "GW2A-18"))
PLAIN = SynthesisOptions()


def test_equal_components_give_equal_text():
    assert rtlil_of(PinWrap(Tiny())) == rtlil_of(PinWrap(Tiny()))
    assert rtlil_of(PinWrap(Tiny())) != rtlil_of(PinWrap(Tiny(store=True)))


def test_script():
    text = "module \\top\nend\nmodule \\top.component\nend\nmodule \\top.component.sum\nend\nmodule \\top.pins\nend\n"
    options = SynthesisOptions(after_read=("opt_clean",), flags=("-abc2",))
    assert synthesis_script(text, ECP5, options).splitlines() == [
        "read_rtlil top.il",
        "hierarchy -top top",
        "proc",
        "splitnets",
        "setattr -unset init */w:memory_output* */w:read_data*",
        "opt_clean",
        'setattr -set src "@top" top/c:*',
        'setattr -set src "@top.component" top.component/c:*',
        'setattr -set src "@top.component.sum" top.component.sum/c:*',
        'setattr -set src "@top.pins" top.pins/c:*',
        "setattr -mod -set keep_hierarchy 1 top.pins",
        "synth_ecp5 -top top -abc2",
        "setattr -mod -unset keep_hierarchy top.pins",
        "flatten",
        "clean",
        "write_json top.json",
    ]
    assert "synth_ice40 -top top" in synthesis_script(text, ICE40, PLAIN).splitlines()
    gowin = synthesis_script(text, GOWIN, PLAIN).splitlines()
    assert "synth_gowin -top top -family gw2a -noiopads" in gowin
    assert gowin[-2].startswith("iopadmap ")


def test_every_module_of_a_component_has_a_tag():
    script = synthesis_script(rtlil_of(PinWrap(Tiny())), ECP5, PLAIN)
    for module in ("top.component", "top.component.counter_0", "top.component.counter_1", "top.component.total"):
        assert f'setattr -set src "@{module}" {module}/c:*' in script


def test_dsp_is_refused_beside_instances():
    text = rtlil_of(PinWrap(Multiplier(16, 16, "ice40")))
    assert synthesis_script(text, ICE40, PLAIN)
    with pytest.raises(ValueError, match=r"^The flag -dsp must not be given where SB_MAC16 are instances: Yosys would"):
        synthesis_script(text, ICE40, SynthesisOptions(flags=("-dsp",)))
    assert "synth_ice40 -top top -dsp" in synthesis_script(
        rtlil_of(PinWrap(Multiplier(16, 16, "generic"))), ICE40, SynthesisOptions(flags=("-dsp",))
    )


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("2.5. Executing FLATTEN pass (flatten design).", "pass flatten"),
        ("2.41.13. Executing ABC9_EXE pass (run abc9).", "pass abc9_exe"),
        ("Finding identical cells in module `\\top'.", None),
    ],
)
def test_activity(line, words):
    assert activity(line) == words
