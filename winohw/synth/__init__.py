"""Yosys and nextpnr: finding them, synthesis, placement and routing for a part, reports."""
