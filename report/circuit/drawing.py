"""A circuit as one SVG: the same picture in the page and in a file of its own."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from pellucid.report.circuit.checked import finite
from pellucid.report.circuit.layout import CHIP_HEIGHT, Layout
from pellucid.report.circuit.reading import CircuitFile
from pellucid.report.page import asset, environment
from pellucid.report.wording import number, shown

SHOWN_EDGES = 250
"""Edges of the file, and of the page until its slider is moved: the strongest."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One edge as it is drawn."""

    path: str
    width: float
    opacity: float
    sign: str
    """`up`, `down`, or `flat` where there is no weight"""
    rank: int
    source: int
    target: int
    says: str


def draw(circuit: CircuitFile, layout: Layout) -> dict[str, Any]:
    """What the template of the drawing needs."""
    return {
        "layout": layout,
        "chip_height": CHIP_HEIGHT,
        "chips": [_chip(layout, i) for i in range(len(layout.nodes))],
        "lines": _lines(layout),
        "streams": [
            {"path": _path(layout, i, j), "source": i, "target": j} for i, j in layout.stream
        ],
        "title": circuit.title,
        "n_nodes": sum(not node.is_end for node in layout.nodes),
        "answer": answer(circuit.part("example")),
        "shown_edges": SHOWN_EDGES,
    }


def to_svg(circuit: CircuitFile, layout: Layout) -> str:
    """A file of its own: light colors, no script, nothing fetched."""
    drawn = draw(circuit, layout)
    drawn["lines"] = [line for line in drawn["lines"] if line.rank < SHOWN_EDGES]
    template = environment().get_template("drawing.svg")
    return template.render(drawn=drawn, style=Markup(_style()), total=len(layout.edges))


def answer(example: Mapping[str, Any]) -> str | None:
    """`answer “x” over “y”, by 3.2 nats`; None without an example."""
    if not isinstance(example.get("answer"), str):
        return None
    told = f"answer {shown(example['answer'])}"
    if isinstance(example.get("other"), str):
        told += f" over {shown(example['other'])}"
    margin = finite(example.get("margin"))
    return told if margin is None else f"{told}, by {number(margin, 3)} nats"


def _chip(layout: Layout, i: int) -> dict[str, Any]:
    node = layout.nodes[i]
    largest = max((abs(n.effect or 0.0) for n in layout.nodes), default=0.0)
    strength = abs(node.effect or 0.0) / largest if largest else 0.0
    effect = "effect not measured" if node.effect is None else f"effect {number(node.effect, 3)}"
    told = node.id if node.is_end else f"{node.id}, {node.kind.replace('_', ' and ')}, {effect}"
    return {
        "node": node,
        "mark": node.id[0].upper() if node.is_end else str(node.index),
        "x": layout.x[i],
        "y": layout.y[i],
        "opacity": round(0.06 + 0.54 * strength**0.5, 3),
        "says": told,
    }


def _lines(layout: Layout) -> list[Line]:
    """Weakest first, so that the strongest lie on top."""
    strongest = max((edge.strength for edge in layout.edges), default=0.0) or 1.0
    found = []
    for rank, edge in enumerate(layout.edges):
        part = edge.strength / strongest
        source, target = layout.nodes[edge.source].id, layout.nodes[edge.target].id
        told = "no weight" if edge.weight is None else f"weight {number(edge.weight, 3)}"
        if edge.weight is None and edge.effect is not None:
            told = f"effect {number(edge.effect, 3)}"
        found.append(
            Line(
                path=_path(layout, edge.source, edge.target),
                width=round(0.7 + 2.8 * part**0.7, 2),
                opacity=round(0.16 + 0.6 * part**0.7, 2),
                sign="flat" if edge.weight is None else "up" if edge.weight >= 0 else "down",
                rank=rank,
                source=edge.source,
                target=edge.target,
                says=f"{source} to {target}{edge.through and f' by {edge.through}'}, {told}",
            )
        )
    return found[::-1]


def _path(layout: Layout, source: int, target: int) -> str:
    """A curve: in a row of kinds from side to side, else from the top to the foot of a chip."""
    x0, y0, x1, y1 = layout.x[source], layout.y[source], layout.x[target], layout.y[target]
    half = layout.chip / 2
    beside = layout.nodes[source].layer == layout.nodes[target].layer and not layout.by_position
    if beside and x1 - x0 > layout.chip:
        x0, x1 = x0 + half, x1 - half
        bend = (x1 - x0) / 2
        return f"M{x0:.1f} {y0:.1f}C{x0 + bend:.1f} {y0:.1f} {x1 - bend:.1f} {y1:.1f} {x1:.1f} {y1:.1f}"
    y0, y1 = y0 - CHIP_HEIGHT / 2, y1 + CHIP_HEIGHT / 2
    bend = max(12.0, abs(y0 - y1) * 0.45)
    return f"M{x0:.1f} {y0:.1f}C{x0:.1f} {y0 - bend:.1f} {x1:.1f} {y1 + bend:.1f} {x1:.1f} {y1:.1f}"


def _style() -> str:
    """The drawing's style with the page's light colors put in: other programs know no variables."""
    palette = asset("static/base.css").partition("}")[0]
    values = dict(re.findall(r"--([\w-]+):\s*([^;]+);", palette))
    return re.sub(r"var\(--([\w-]+)\)", lambda m: values[m[1]], asset("static/drawing.css"))
