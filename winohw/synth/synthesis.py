"""From an Amaranth component to a netlist of a part's cells."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from amaranth.back import rtlil

from winohw.gateware.config import EngineConfig
from winohw.gateware.memory import MEMORY_OUTPUT
from winohw.synth.cache import digest
from winohw.synth.copies import copy_drivers
from winohw.synth.floorplan import floorplan
from winohw.synth.netlist import TAG, Resources, StageMap, count_stages, read_netlist, stage_of
from winohw.synth.parts import Part
from winohw.synth.pins import PINS, PinWrap
from winohw.synth.toolchain import LineListener, Tool, telling

__all__ = ["Netlist", "SynthesisOptions", "activity", "netlist_of", "rtlil_of", "run_synthesis", "synthesis_script"]

_TOP = "top"
_PASS = re.compile(r"[\d.]+ Executing (\w+) pass")
_MODULE = re.compile(r"^module \\(\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class SynthesisOptions:
    """How Yosys is called.

    Parameters
    ----------
    after_read : tuple[str, ...]
        Commands to run before synthesis, once processes have become cells.
    flags : tuple[str, ...]
        For the ``synth_`` command of the family, beside those that the part needs.
    """

    after_read: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Netlist:
    """What Yosys made of a component, in its wrapper `PinWrap`.

    Attributes
    ----------
    text : str
        JSON, for nextpnr.
    stages : dict[str, Resources]
        What each stage of the component takes, and the wrapper.
    stage_map : StageMap
    is_planned : bool
        Multipliers and memories have their places.
    """

    text: str
    stages: dict[str, Resources]
    stage_map: StageMap
    is_planned: bool = False


def rtlil_of(wrapped: PinWrap) -> str:
    """A wrapped component as Yosys reads it; equal components give equal text."""
    return rtlil.convert(wrapped, name=_TOP, ports=wrapped.pins, emit_src=False)


def synthesis_script(text: str, part: Part, options: SynthesisOptions, *, pads: bool = False) -> str:
    """Yosys's commands from ``top.il`` to ``top.json``.

    The whole is flattened but for the wrapper, so that its registers are not merged with the component's. Each cell
    takes the name of its module along in its ``src`` attribute.

    Parameters
    ----------
    text : str
        RTLIL, from `rtlil_of`, or of a board's design, whose component is a submodule of that name.
    part : Part
    options : SynthesisOptions
    pads : bool
        Whether the pads are in there already, as on a board.

    Raises
    ------
    ValueError
        If ``-dsp`` is asked for where SB_MAC16 are instances: Yosys would rewrite their mode and registers without a
        word, and the netlist would compute something else.
    """
    if "-dsp" in options.flags and re.search(r"^\s*cell \\SB_MAC16 ", text, re.MULTILINE):
        raise ValueError("The flag -dsp must not be given where SB_MAC16 are instances: Yosys would rewrite them")
    family = part.family.name
    flags = (*part.synthesis, *options.flags)
    map_pads = []
    if family == "gowin":
        # Yosys would put pads at the wrapper's registers as well, which are a module of their own until the end.
        flags = (*flags, "-noiopads")
        map_pads = [] if pads else ["iopadmap -bits -inpad IBUF O:I -outpad OBUF I:O"]
    modules = _MODULE.findall(text)
    wrapper = [f"setattr -mod -unset keep_hierarchy {_TOP}.{PINS}"] if f"{_TOP}.{PINS}" in modules else []
    return "\n".join(
        [
            f"read_rtlil {_TOP}.il",
            f"hierarchy -top {_TOP}",
            # Without this, Yosys 0.70 stops on designs with arrays of eight lanes or more.
            "proc",
            "splitnets",
            # Undefined at first: to have them start as zero, Yosys would put a gate behind each bit of a memory.
            f"setattr -unset init */w:{MEMORY_OUTPUT}* */w:read_data*",
            *options.after_read,
            *(f'setattr -set src "{TAG}{module}" {module}/c:*' for module in modules),
            *(f"setattr -mod -set keep_hierarchy 1 {module}" for module in modules if stage_of(module) == "(pins)"),
            " ".join([f"synth_{family}", "-top", _TOP, *flags]),
            *wrapper,
            "flatten",
            "clean",
            *map_pads,
            f"write_json {_TOP}.json",
            "",
        ]
    )


def synthesis_key(text: str, script: str, yosys: Tool) -> str:
    """Digest of everything the netlist depends on."""
    return digest(["netlist", text, script, yosys.version])


def run_synthesis(text: str, script: str, yosys: Tool, folder: Path, notify: LineListener | None = None) -> str:
    """Run Yosys in `folder`; the netlist as JSON. `notify` gets a few words on what it is at, whenever that changes.

    Raises
    ------
    ToolError
        If Yosys fails.
    """
    (folder / f"{_TOP}.il").write_text(text, encoding="utf-8")
    (folder / f"{_TOP}.ys").write_text(script, encoding="utf-8")
    yosys.run([f"{_TOP}.ys"], folder, "yosys.log", telling(activity, notify))
    return (folder / f"{_TOP}.json").read_text(encoding="utf-8")


def activity(line: str) -> str | None:
    """The pass that Yosys begins with, if a line of its output tells."""
    match = _PASS.match(line)
    return f"pass {match[1].lower()}" if match else None


def netlist_of(text: str, part: Part, config: EngineConfig | None = None) -> Netlist:
    """Prepare a netlist that `run_synthesis` gave for placement, and count what is in it.

    Cells that drive a large part of it get copies; of an engine the taps get their places.
    """
    design = json.loads(text)
    module = next(module for module in design["modules"].values() if module["attributes"].get("top"))
    copies = copy_drivers(module, part)
    places = {} if config is None else floorplan(module, config, part)
    types, stage_map = read_netlist(design)
    if copies or places:
        text = json.dumps(design)
    return Netlist(text, count_stages(types, stage_map, part.family), stage_map, bool(places))
