"""The edges of a whole model, counted: the size at which a circuit stands that none smaller replaces."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from pellucid.eval.circuits.edge_sizes import SIZES, both_active
from pellucid.eval.circuits.gates import LACKS, links_between
from pellucid.eval.circuits.nodes import Nodes
from pellucid.eval.circuits.objective import Asked
from pellucid.eval.circuits.passages import Passage
from pellucid.eval.circuits.paths import n_edges, parts_of, reason
from pellucid.eval.circuits.weights import Link
from pellucid.models import record

ALL = "the circuit is the whole model: all of its edges count"
PRUNED = "pruned_edges"


@torch.no_grad()
def counted(model: nn.Module, nodes: Nodes, asked: Asked) -> dict[str, dict[str, Any]]:
    """`sizes` and `reasons` of all edges between all nodes, as `edge_sizes.measure` names them.

    Nothing is left out of a whole model, so all of its edges count as those that have an effect and
    as `pruned_edges`. Edges are counted matrix by matrix and never listed. A part of the model whose
    edges are not known is not in the numbers, and a reason says so. `dynamic_edges_per_token` is
    that of the model on these prompts.
    """
    links, unweighted, unknown = links_between(model, nodes)
    if not links:
        return _without_weights(model, nodes, "; ".join(unweighted))
    found = [(link, link.weight) for link in links]
    static = sum(int(weight.count_nonzero()) for _, weight in found if weight is not None)
    pairs = sum(link.n_sources * link.n_targets for link, weight in found if weight is None)
    weighed = any(weight is not None for _, weight in found)
    sizes = {
        "static_edges": static if weighed else None,
        "unweighted_edges": pairs,
        "effect_edges": static + pairs,
        "dynamic_edges_per_token": _dynamic(model, links, asked) if weighed else None,
        PRUNED: static + pairs,
    }
    reasons = dict.fromkeys(("effect_edges", PRUNED), ALL)
    if unweighted:
        why = LACKS + "; ".join(unweighted)
        reasons |= dict.fromkeys(("static_edges", "dynamic_edges_per_token"), why)
    if unknown:
        why = LACKS + "; ".join(unknown)
        reasons |= dict.fromkeys(("unweighted_edges", "effect_edges", PRUNED), why)
    return {"sizes": sizes, "reasons": reasons}


def _dynamic(model: nn.Module, links: Sequence[Link | Passage], asked: Asked) -> float:
    ends = dict.fromkeys(end for link in links for end in (link.source, link.target))
    with record(model, tuple(ends)) as trace:
        model(asked.tokens)
    columns = torch.arange(asked.tokens.shape[1], device=asked.tokens.device)
    there = columns[None] <= asked.last[:, None]
    total = 0.0
    for link in links:
        if (weight := link.weight) is not None:
            total += both_active(link, weight != 0, trace, there)
    return total / int(there.sum())


def _without_weights(model: nn.Module, nodes: Nodes, why: str) -> dict[str, dict[str, Any]]:
    """Edges between heads and neurons, which are what one reads of what another wrote; or none."""
    sizes, reasons = dict.fromkeys((*SIZES, PRUNED)), dict.fromkeys((*SIZES, PRUNED), why)
    known = ("unweighted_edges", "effect_edges", PRUNED)
    if (strange := reason(model, nodes, why)) is not None:
        return {"sizes": sizes, "reasons": reasons | dict.fromkeys(known, strange)}
    del reasons["unweighted_edges"]
    sizes |= dict.fromkeys(known, n_edges(parts_of(nodes)))
    return {"sizes": sizes, "reasons": reasons | dict.fromkeys(("effect_edges", PRUNED), ALL)}
