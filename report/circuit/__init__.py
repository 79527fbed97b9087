"""Circuits in a run's report: what their files say, how they are laid out, drawn and exported."""

from pellucid.report.circuit.export import write_exports
from pellucid.report.circuit.section import script_data, shown_circuits

__all__ = ["script_data", "shown_circuits", "write_exports"]
