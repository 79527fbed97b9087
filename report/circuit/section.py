"""What the page prints of each circuit, and the data that its scripts have."""

from collections.abc import Mapping, Sequence
from typing import Any

from pellucid.report.circuit.checked import finite
from pellucid.report.circuit.curves import curves
from pellucid.report.circuit.drawing import draw
from pellucid.report.circuit.export import GRAPH, POSITION, SVG
from pellucid.report.circuit.layout import Layout, lay_out
from pellucid.report.circuit.positions import lay_out_by_position
from pellucid.report.circuit.reading import CircuitFile
from pellucid.report.wording import NONE, number, words

SIZES = {
    "nodes": "Nodes",
    "bits": "Description, in bits",
    "static_edges": "Static edges",
    "unweighted_edges": "Edges without a weight",
    "effect_edges": "Edges with an effect",
    "dynamic_edges_per_token": "Dynamic edges per token",
    "pruned_edges": "Edges after pruning edges",
}
SIZE_NOTES = {
    "bits": "which nodes of each group are kept; does not charge a wide layer for its weights",
    "static_edges": "non-zero weights between two kept nodes",
    "unweighted_edges": "between two kept nodes that no matrix joins; each has an effect alone",
    "effect_edges": "left out alone, or with all that do little, it moves the loss by 1 % of the target",
    "dynamic_edges_per_token": "both ends active at the token",
}
LOSSES = {
    "model": "the whole model",
    "model_unseen": "the whole model, on unseen pairs",
    "circuit": "the circuit, on the pairs it was found on",
    "circuit_unseen": "the circuit, on unseen pairs",
    "empty": "nothing kept",
    "chance": "chance",
}
REASONS = {"nodes": "Nodes", "edges": "Edges", "effect": "Effects"}
"""What a file may say of its lists as a whole."""
EDGES = ("pruned_edges", "effect_edges", "static_edges")
"""Counts of edges, the one to show first."""


def shown_circuits(circuits: Sequence[CircuitFile]) -> list[dict[str, Any]]:
    """One dict per circuit for the page's template."""
    return [_shown(circuit, lay_out(circuit)) for circuit in circuits]


def script_data(circuits: Sequence[CircuitFile]) -> list[dict[str, Any]]:
    """One dict per circuit for the page's scripts: what is drawn, in the drawing's order."""
    return [_data(circuit, lay_out(circuit)) for circuit in circuits]


def _shown(circuit: CircuitFile, layout: Layout) -> dict[str, Any]:
    battery = [_check(held) for held in circuit.content.get("battery") or []]
    by_position = lay_out_by_position(circuit)
    return {
        "slug": circuit.slug,
        "label": circuit.label,
        "cue": circuit.content.get("cue"),
        "about": _about(circuit),
        "headline": _headline(circuit),
        "facts": _facts(circuit),
        "sizes": _sizes(circuit),
        "losses": _losses(circuit),
        "strata": [_stratum(held) for held in circuit.content.get("strata") or []],
        "battery": battery,
        "passed": sum(row["verdict"] == "passes" for row in battery),
        "judged": sum(row["verdict"] in ("passes", "fails") for row in battery),
        "curves": curves(circuit.part("mib"), circuit.content.get("battery") or []),
        "drawn": draw(circuit, layout),
        "placed": by_position and draw(circuit, by_position),
        "cut": _cut(circuit, layout),
        "files": {
            "svg": circuit.slug + SVG,
            "position": by_position and circuit.slug + POSITION,
            "graph": circuit.slug + GRAPH,
        },
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
        "capped": faithful.get("capped") is True,
        "fresh": _fresh(circuit),
        "ratio": finite(faithful.get("nonsense_ratio")),
        "reason": circuit.part("reasons").get("faithful") or "the battery was not run",
    }


def _fresh(circuit: CircuitFile) -> dict[str, Any] | None:
    """The worst loss on pairs by which the size was not chosen, and whether it misses the target."""
    held = circuit.part("faithful").get("fresh")
    loss = finite(held.get("loss")) if isinstance(held, Mapping) else None
    if loss is None:
        return None
    target, worst = finite(circuit.content.get("target")), held.get("worst")
    missed = target is not None and loss > target
    return {"loss": loss, "worst": words(worst) if worst else None, "missed": missed}


def _facts(circuit: CircuitFile) -> list[dict[str, Any]]:
    losses, sizes = circuit.part("losses"), circuit.part("sizes")
    target = f"target {number(circuit.content.get('target'))}"
    whole = f"whole model {number(losses.get('model_unseen', losses.get('model')))}"
    right = circuit.part("accuracy")
    best = _percent(right.get("model_unseen", right.get("model")))
    edges = next((key for key in EDGES if sizes.get(key) is not None), "")
    rows = [
        ("Found nodes", number(sizes.get("nodes")), _censored(circuit)),
        ("Loss, unseen pairs", number(losses.get("circuit_unseen")), f"{target} · {whole}"),
        ("Right, unseen pairs", _percent(right.get("circuit_unseen")), f"whole model {best}"),
        ("Edges", number(sizes.get(edges)), _counted(circuit, edges)),
    ]
    return [{"label": label, "value": value, "note": note} for label, value, note in rows]


def _counted(circuit: CircuitFile, edges: str) -> str:
    """What a number of edges counts; one that leaves out parts of the model does not pass for all."""
    if not edges:
        return "not counted"
    partly = "not counted: " in str(circuit.part("reasons").get(edges, ""))
    return SIZES[edges].lower() + (", of a part of the model" if partly else "")


def _censored(circuit: CircuitFile) -> str:
    if circuit.content.get("censored") is True:
        return "the target was not reached: counted at full size"
    candidates = finite(circuit.content.get("candidates"))
    return f"of {number(candidates)}" if candidates else "smallest within the target"


def _percent(value: Any) -> str:
    found = finite(value)
    return NONE if found is None else f"{100 * found:.3g} %"


def _about(circuit: CircuitFile) -> str:
    """How the circuit was found, in one line."""
    told = {
        "step": "step {}",
        "profile": "profile {}",
        "grain": "nodes are {}",
        "ablation": "left-out nodes at their {}",
        "seed": "seed {}",
    }
    held = {key: circuit.content.get(key) for key in told}
    found = [
        told[key].format(words(number(value))) for key, value in held.items() if value is not None
    ]
    if circuit.content.get("frozen_norm") is True:
        found.append("norms held")
    return " · ".join(found)


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
            "target": round(200 * target / largest, 1) if target and target <= largest else None,
        }
        for key, loss in found.items()
        if loss is not None
    ]


def _stratum(held: Mapping[str, Any]) -> dict[str, Any]:
    """Losses on unseen prompts with so many tokens between cue and answer, or why there are none."""
    found: dict[str, Any] = {k: finite(held.get(k)) for k in ("distance", "model", "circuit")}
    return found | {"reason": held.get("reason") or ""}


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


def _cut(circuit: CircuitFile, layout: Layout) -> str:
    """What of a large circuit is not drawn, or not measured, and what the file says of it."""
    nodes, edges = len(circuit.nodes), len(circuit.edges)
    drawn = sum(not node.is_end for node in layout.nodes)
    told = []
    if nodes > drawn:
        told.append(
            f"Drawn are the {number(drawn)} nodes of the largest effect of "
            f"{number(nodes)}, and the {number(len(layout.edges))} strongest edges between them."
        )
    elif edges > len(layout.edges):
        told.append(
            f"Drawn are the {number(len(layout.edges))} strongest of {number(edges)} edges."
        )
    for key, label in REASONS.items():
        if reason := circuit.part("reasons").get(key):
            told.append(f"{label}: {reason}.")
    return " ".join(told)


def _data(circuit: CircuitFile, layout: Layout) -> dict[str, Any]:
    example, quotes = circuit.part("example"), circuit.quotes
    return {
        "slug": circuit.slug,
        "task": circuit.task,
        "tokens": circuit.tokens,
        "vocab": quotes.vocab,
        "text": quotes.about,
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
                "quotes": quotes.by_node.get(node.id, []),
            }
            for node in layout.nodes
        ],
        "edges": [[e.source, e.target, e.weight, e.effect, e.through] for e in layout.edges],
        "stream": layout.stream,
    }
