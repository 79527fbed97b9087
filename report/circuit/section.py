"""What the page prints of each circuit, and the data that its scripts have."""

from collections.abc import Mapping, Sequence
from typing import Any

from pellucid.report.circuit.drawing import draw
from pellucid.report.circuit.export import GRAPH, SVG
from pellucid.report.circuit.layout import Layout, lay_out
from pellucid.report.circuit.reading import CircuitFile, finite
from pellucid.report.wording import NONE, number, words

SIZES = {
    "nodes": "Nodes",
    "bits": "Description, in bits",
    "static_edges": "Static edges",
    "effect_edges": "Edges with an effect",
    "dynamic_edges_per_token": "Dynamic edges per token",
    "pruned_edges": "Edges after pruning edges",
}
SIZE_NOTES = {
    "bits": "which nodes of each group are kept; does not charge a wide layer for its weights",
    "static_edges": "non-zero weights between two kept nodes",
    "effect_edges": "ablated alone, each changes the loss by more than a hundredth of the target",
    "dynamic_edges_per_token": "both ends active at the token",
}
LOSSES = {
    "model": "the whole model",
    "circuit": "the circuit, on the pairs it was found on",
    "circuit_unseen": "the circuit, on unseen pairs",
    "empty": "nothing kept",
    "chance": "chance",
}
CURVE = {"width": 260, "height": 110}


def shown_circuits(circuits: Sequence[CircuitFile]) -> list[dict[str, Any]]:
    """One dict per circuit for the page's template."""
    return [_shown(circuit, lay_out(circuit)) for circuit in circuits]


def script_data(circuits: Sequence[CircuitFile]) -> list[dict[str, Any]]:
    """One dict per circuit for the page's scripts: what is drawn, in the drawing's order."""
    return [_data(circuit, lay_out(circuit)) for circuit in circuits]


def _shown(circuit: CircuitFile, layout: Layout) -> dict[str, Any]:
    battery = [_check(held) for held in circuit.content.get("battery") or []]
    return {
        "slug": circuit.slug,
        "task": circuit.task,
        "cue": circuit.content.get("cue"),
        "about": _about(circuit),
        "headline": _headline(circuit),
        "facts": _facts(circuit),
        "sizes": _sizes(circuit),
        "losses": _losses(circuit),
        "battery": battery,
        "passed": sum(row["verdict"] == "passes" for row in battery),
        "judged": sum(row["verdict"] in ("passes", "fails") for row in battery),
        "mib": _mib(circuit.part("mib")),
        "drawn": draw(circuit, layout),
        "cut": _cut(circuit, layout),
        "files": {"svg": circuit.slug + SVG, "graph": circuit.slug + GRAPH},
    }


def _headline(circuit: CircuitFile) -> dict[str, Any]:
    """The published number: the faithful size, or that it was not measured."""
    faithful, candidates = circuit.part("faithful"), circuit.content.get("candidates")
    size = finite(faithful.get("nodes"))
    return {
        "nodes": size,
        "bits": finite(faithful.get("bits")),
        "candidates": finite(candidates),
        "worst": words(faithful["worst"]) if faithful.get("worst") else None,
        "censored": faithful.get("censored") is True,
        "ratio": finite(faithful.get("nonsense_ratio")),
        "reason": circuit.part("reasons").get("faithful") or "the battery was not run",
    }


def _facts(circuit: CircuitFile) -> list[dict[str, Any]]:
    losses, sizes = circuit.part("losses"), circuit.part("sizes")
    target = f"target {number(circuit.content.get('target'), 3)}"
    whole = f"whole model {number(losses.get('model'), 3)}"
    right = circuit.part("accuracy")
    edges = next((key for key in ("pruned_edges", "effect_edges", "static_edges") if sizes.get(key) is not None), None)
    rows = [
        ("Found circuit", f"{number(sizes.get('nodes'))} nodes", _censored(circuit)),
        ("Loss, unseen pairs", number(losses.get("circuit_unseen"), 3), f"{target} · {whole}"),
        ("Right, unseen pairs", _percent(right.get("circuit_unseen")), f"whole model {_percent(right.get('model'))}"),
        ("Edges", number(sizes.get(edges)) if edges else NONE, SIZES[edges].lower() if edges else "not counted"),
    ]
    return [{"label": label, "value": value, "note": note} for label, value, note in rows]


def _censored(circuit: CircuitFile) -> str:
    if circuit.content.get("censored") is True:
        return "the target was not reached: counted at full size"
    candidates = finite(circuit.content.get("candidates"))
    return f"of {number(candidates)}" if candidates else "smallest within the target"


def _percent(value: Any) -> str:
    found = finite(value)
    return NONE if found is None else f"{100 * found:.3g} %"


def _about(circuit: CircuitFile) -> str:
    told = [
        f"step {number(circuit.content['step'])}" if circuit.content.get("step") is not None else "",
        f"profile {circuit.content['profile']}" if circuit.content.get("profile") else "",
        f"nodes are {circuit.content['grain']}" if circuit.content.get("grain") else "",
        f"left-out nodes at their {words(circuit.content['ablation'])}" if circuit.content.get("ablation") else "",
        f"seed {circuit.content['seed']}" if circuit.content.get("seed") is not None else "",
    ]
    return " · ".join(filter(None, told))


def _sizes(circuit: CircuitFile) -> list[dict[str, Any]]:
    reasons = circuit.part("reasons")
    return [
        {
            "label": label,
            "value": finite(circuit.part("sizes").get(key)),
            "note": reasons.get(key) or SIZE_NOTES.get(key),
        }
        for key, label in SIZES.items()
    ]


def _losses(circuit: CircuitFile) -> list[dict[str, Any]]:
    """Losses with their bars, in shares of the largest."""
    found = {key: finite(circuit.part("losses").get(key)) for key in LOSSES}
    largest = max((abs(loss) for loss in found.values() if loss is not None), default=0.0) or 1.0
    target = finite(circuit.content.get("target"))
    return [
        {
            "label": LOSSES[key],
            "value": loss,
            "width": round(200 * max(loss, 0.0) / largest, 1),
            "own": key == "circuit_unseen",
            "target": None if target is None or target > largest else round(200 * target / largest, 1),
        }
        for key, loss in found.items()
        if loss is not None
    ]


def _check(held: Mapping[str, Any]) -> dict[str, Any]:
    passes = held.get("passes")
    verdict = {True: "passes", False: "fails"}.get(passes) if isinstance(passes, bool) else None
    value = held.get("value")
    return {
        "name": words(held.get("name", NONE)),
        "value": value if isinstance(value, int | float | str) else None,
        "unit": held.get("unit") or "",
        "says": held.get("says") or "",
        "verdict": verdict or ("describes" if value is not None else "not measured"),
        "reason": held.get("reason"),
    }


def _mib(held: Mapping[str, Any]) -> dict[str, Any] | None:
    """CPR, CMD, and the curve of faithfulness over the share of nodes, on a fixed frame."""
    cpr, cmd = finite(held.get("cpr")), finite(held.get("cmd"))
    pairs = held.get("points")
    points = [
        (x, y)
        for pair in (pairs if isinstance(pairs, list) else [])
        if isinstance(pair, list) and len(pair) == 2
        if (x := finite(pair[0])) is not None and (y := finite(pair[1])) is not None
    ]
    if cpr is None and cmd is None and not points:
        return None
    low, high = min([0.0, *(y for _, y in points)]), max([1.0, *(y for _, y in points)])
    right = max((x for x, _ in points), default=1.0) or 1.0

    def place(x: float, y: float) -> str:
        across, up = x / right, (y - low) / (high - low)
        return f"{CURVE['width'] * across:.1f},{CURVE['height'] * (1 - up):.1f}"

    line = " ".join(place(x, y) for x, y in sorted(points)) if len(points) > 1 else None
    one = float(place(0, 1).partition(",")[2])
    return {"cpr": cpr, "cmd": cmd, "line": line, "one": one, "last": right} | CURVE


def _cut(circuit: CircuitFile, layout: Layout) -> str | None:
    """What of a large circuit is not drawn."""
    nodes, edges = len(circuit.nodes), len(circuit.edges)
    if nodes > len(layout.nodes):
        return (
            f"Drawn are the {number(len(layout.nodes))} nodes of the largest effect of "
            f"{number(nodes)}, and the {number(len(layout.edges))} strongest edges between them."
        )
    if edges > len(layout.edges):
        return f"Drawn are the {number(len(layout.edges))} strongest of {number(edges)} edges."
    return None


def _data(circuit: CircuitFile, layout: Layout) -> dict[str, Any]:
    example = circuit.part("example")
    return {
        "slug": circuit.slug,
        "task": circuit.task,
        "tokens": circuit.tokens,
        "answer": example.get("answer") if isinstance(example.get("answer"), str) else None,
        "nodes": [
            {
                "id": node.id,
                "kind": node.kind,
                "layer": node.layer,
                "effect": node.effect,
                "base": node.base,
                "values": [float(f"{value:.5g}") for value in node.values],
                "writes": node.writes,
                "x": x,
                "y": y,
            }
            for node, x, y in zip(layout.nodes, layout.x, layout.y, strict=True)
        ],
        "edges": [[e.source, e.target, e.weight, e.effect] for e in layout.edges],
        "stream": layout.stream,
    }
