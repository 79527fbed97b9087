"""Files beside a circuit's own: its drawing, and its attribution graph."""

import json
from collections.abc import Sequence
from pathlib import Path

from pellucid.errors import RunError
from pellucid.report.circuit.drawing import to_svg
from pellucid.report.circuit.graph import attribution_graph
from pellucid.report.circuit.layout import lay_out
from pellucid.report.circuit.positions import lay_out_by_position
from pellucid.report.circuit.reading import CircuitFile
from pellucid.storage import files

SVG, POSITION, GRAPH = ".svg", ".position.svg", ".graph.json"


def write_exports(run: Path, circuits: Sequence[CircuitFile]) -> None:
    """Write `circuits/<task>.svg` and `circuits/<task>.graph.json` of each circuit.

    Where it has a prompt to show, also `circuits/<task>.position.svg`, whose columns are its tokens.
    RunError: the folder cannot be written.
    """
    for circuit in circuits:
        place = run / "circuits" / circuit.slug
        graph = attribution_graph(circuit, scan=run.name)
        with files.explained(RunError, f"write {place}{SVG} and {place}{GRAPH}"):
            _write(Path(f"{place}{SVG}"), to_svg(circuit, lay_out(circuit)))
            if (by_position := lay_out_by_position(circuit)) is not None:
                _write(Path(f"{place}{POSITION}"), to_svg(circuit, by_position))
            _write(Path(f"{place}{GRAPH}"), json.dumps(graph, ensure_ascii=False, allow_nan=False))


def _write(path: Path, text: str) -> None:
    files.replace(path, (text.strip() + "\n").encode("utf-8", "replace"))
