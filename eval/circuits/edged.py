"""What is written of a circuit's edges, and of how the task comes back as nodes are let in."""

from typing import Any

import torch

from pellucid.eval.circuits import edge_sizes, mib, prune_edges, whole
from pellucid.eval.circuits.bases import resampled
from pellucid.eval.circuits.content import Found
from pellucid.eval.circuits.nodes import whole_heads
from pellucid.eval.circuits.paths import EMBED, LOGITS

QUICK_TRIED, QUICK_STEPS = 32, 50
"""Edges that the quick profile leaves out one by one, and steps of its pruning of edges."""


def measured(found: Found, *, edges: bool) -> dict[str, Any]:
    """The keys of a circuit's file that are about its edges and about `mib`.

    With `edges` they are pruned, and those that are listed are those that stay. A circuit that is
    the whole model has all of its edges counted, and none listed or pruned.
    """
    written = {"mib": _mib(found)}
    if found.circuit.censored:
        full = whole.counted(found.model, found.nodes, found.searched)
        unasked = () if edges else (whole.PRUNED,)
        kept = {key: {n: v for n, v in of.items() if n not in unasked} for key, of in full.items()}
        return written | {"edges": []} | kept
    quick = found.profile == "quick"
    tried = {"tried": QUICK_TRIED} if quick else {}
    with found.searched.norms(found.model):
        written = joined(written, edge_sizes.measure(found.placed, **tried))
    if edges:
        steps = {"steps": QUICK_STEPS} if quick else {}
        pruned = prune_edges.prune(found.placed, found.seed, **steps)
        effects = {_ends(edge): edge["effect"] for edge in written["edges"]}
        for edge in pruned["edges"]:
            edge["effect"] = effects.get(_ends(edge), edge["effect"])
        cut = {"loss": pruned.pop("loss"), "censored": pruned.pop("censored")}
        found = pruned.pop("edges")
        kept = written["edges"] if pruned["sizes"]["pruned_edges"] is None else found
        written = joined(written, pruned) | {"edges": kept, "pruned_edges": cut}
    return written


def _ends(edge: dict[str, Any]) -> tuple[str, str, str | None]:
    return edge["source"], edge["target"], edge["through"]


@torch.no_grad()
def _mib(found: Found) -> dict[str, Any]:
    asked, nodes = found.unseen, whole_heads(found.model, found.nodes)
    other = resampled(found.model, nodes, asked.tokens, asked.partner, asked.last)
    return mib.measure(found.model, nodes, asked, found.circuit.scores, other)


def joined(written: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """What is written of a circuit and more of it: sizes and reasons are put together.

    Edges between nodes that are not listed are left out, and a reason says so; the embedding and the
    logits are ends of edges without being nodes.
    """
    both = written | more
    for key in ("sizes", "reasons"):
        both[key] = written.get(key, {}) | more.get(key, {})
    if "nodes" in both and "edges" in both:
        listed = {EMBED, LOGITS, *(node["id"] for node in both["nodes"])}
        kept = [e for e in both["edges"] if {e["source"], e["target"]} <= listed]
        if lost := len(both["edges"]) - len(kept):
            both["reasons"]["edges"] = f"{lost} edges of nodes that are not listed are left out"
        both["edges"] = kept
    return both
