"""How many edges a circuit has: by its weights, by their effects, and token by token."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pellucid.eval.circuits.circuit import Placed
from pellucid.eval.circuits.eliminate import eliminate
from pellucid.eval.circuits.gates import LACKS, Edges, edges_of, loss_of, predicted
from pellucid.eval.circuits.objective import edits_of
from pellucid.eval.circuits.passages import Passage
from pellucid.eval.circuits.path_sets import MOST, Paths
from pellucid.eval.circuits.paths import reason
from pellucid.eval.circuits.weights import Link
from pellucid.models import Trace, intervene, record

FELT = 0.01
"""An edge counts that changes the loss by more than this share of the target."""
TRIED = 64
"""Edges that are left out one by one; the others are judged to first order."""
LISTED = 4096
"""Edges that are written down."""
SIZES = ("static_edges", "unweighted_edges", "effect_edges", "dynamic_edges_per_token")
"""What edges are counted as."""


def measure(placed: Placed, tried: int = TRIED) -> dict[str, Any]:
    """`edges`, the most needed first, `sizes` and, for a size that is None, `reasons`.

    Edges are ranked by measured effects, for what is saturated has no slope: first come those that
    count as `effect_edges`, and among both by the effect alone where it was tried, else by the slope.

    `static_edges`: non-zero weights between two kept nodes. `unweighted_edges`: pairs of kept nodes
    that are joined otherwise. `effect_edges`: of both, those that change the loss by more than
    0.01 x target, alone or, tried again, with all that did not. `dynamic_edges_per_token`: weights
    whose two ends are both active, on average over tokens. A size of a part of the model alone has
    a reason, too, which says what is not in it.
    Between heads and neurons alone no single weight stands: their edges are what one reads of what
    another wrote, and have an effect and no weight.
    """
    edges = edges_of(placed.model, placed.nodes, placed.circuit.kept)
    if not edges.links:
        return _without_weights(placed, edges.reasons, tried)
    guess = predicted(placed, edges)
    sweep = _Sweep(len(edges), placed.circuit.target, partial(_loss_without, placed, edges))
    steepest = guess.abs().argsort(descending=True, stable=True)
    effects = {int(edge): sweep.effect(int(edge)) for edge in steepest[:tried]}
    strength = sweep.strength(guess, effects)
    felt = sweep.felt(strength, tried)
    order = strength.argsort(descending=True, stable=True)
    order = order[felt[order].int().argsort(descending=True, stable=True)]
    weighed = int((~edges.weights().isnan()).sum())
    seen = any(link.weight is not None for link in edges.links)
    sizes = {
        "static_edges": weighed if seen else None,
        "unweighted_edges": len(edges) - weighed,
        "effect_edges": int(felt.sum()),
        "dynamic_edges_per_token": dynamic(placed, edges) if seen else None,
    }
    listed = edges.listed(placed.nodes, order[:LISTED], effects)
    return {"edges": listed, "sizes": sizes, "reasons": _remarks(edges, tried)}


def _remarks(edges: Edges, tried: int) -> dict[str, str]:
    found = _untried(len(edges), tried)
    if edges.reasons:
        why = LACKS + "; ".join(edges.reasons)
        found |= {"static_edges": why, "dynamic_edges_per_token": why}
    if edges.unknown:
        said = [found["effect_edges"]] if "effect_edges" in found else []
        why = LACKS + "; ".join(edges.unknown)
        found |= {"unweighted_edges": why, "effect_edges": "; ".join([*said, why])}
    return found


def _untried(n_edges: int, tried: int, *, together: bool = True) -> dict[str, str]:
    found, said = {}, []
    if n_edges > tried:
        said.append(
            f"{tried} edges were left out one by one, the other {n_edges - tried} "
            "judged by the gradient"
        )
    if not together:
        said.append("none together with others: those that make up for each other do not count")
    elif n_edges > tried:
        said.append(f"and together by {tried} tries; what those did not reach counts")
    if said:
        found["effect_edges"] = ", ".join(said)
    if n_edges > LISTED:
        found["edges"] = f"of {n_edges} edges the {LISTED} strongest are listed"
    return found


def _without_weights(placed: Placed, reasons: tuple[str, ...], tried: int) -> dict[str, Any]:
    """Edges by their effects alone, or none."""
    joined = "; ".join(reasons)
    why = dict.fromkeys(("static_edges", "dynamic_edges_per_token"), joined)
    sizes = dict.fromkeys(SIZES)
    if (strange := reason(placed.model, placed.nodes, joined)) is not None:
        why |= dict.fromkeys(("unweighted_edges", "effect_edges"), strange)
        return {"edges": [], "sizes": sizes, "reasons": why}
    paths, target = Paths.of(placed, tried), placed.circuit.target
    together = len(paths.edges) <= MOST
    felt = paths.strength > FELT * target
    if together:
        felt = _Sweep(len(paths.edges), target, paths.loss).felt(paths.strength, tried)
    # What counts comes first, as in a circuit of weights.
    order = felt.int().argsort(descending=True, stable=True).tolist()
    sizes["unweighted_edges"] = len(order)
    sizes["effect_edges"] = int(felt.sum())
    why |= _untried(len(order), tried, together=together)
    return {"edges": paths.listed(order[:LISTED]), "sizes": sizes, "reasons": why}


class _Sweep:
    """Losses of a circuit without some of its edges."""

    def __init__(self, n_edges: int, target: float, loss: Callable[[Tensor], float]):
        self.n_edges, self.least, self.loss = n_edges, FELT * target, loss
        self.whole = loss(torch.zeros(0, dtype=torch.long))

    def effect(self, edge: int) -> float:
        """By how much the loss rises without one edge."""
        return self.loss(torch.tensor([edge])) - self.whole

    def strength(
        self, guess: Float[Tensor, " edge"], effects: dict[int, float]
    ) -> Float[Tensor, " edge"]:
        """Sizes of the effects that were measured, and of the slopes of the other edges."""
        sizes = guess.abs().cpu().clone()
        for edge, effect in effects.items():
            sizes[edge] = abs(effect)
        return sizes

    def felt(self, strength: Float[Tensor, " edge"], tries: int) -> Bool[Tensor, " edge"]:
        """Which edges matter, those that make up for each other included."""
        weak = (strength <= self.least).nonzero()[:, 0]
        order = weak[strength[weak].argsort(stable=True)]
        fits = lambda gone: self.loss(gone) - self.whole <= self.least
        felt = torch.ones(self.n_edges, dtype=torch.bool)
        felt[eliminate(order, fits, tries)] = False
        return felt


@torch.no_grad()
def _loss_without(placed: Placed, edges: Edges, without: Tensor) -> float:
    share = torch.ones(len(edges), device=placed.asked.tokens.device)
    share[without.to(share.device)] = 0.0
    return float(loss_of(placed, edges, share))


@torch.no_grad()
def dynamic(placed: Placed, edges: Edges) -> float:
    """Weights per token whose two ends are not 0 there, over the tokens of the prompts."""
    model, nodes, asked = placed.model, placed.nodes, placed.asked
    edits = edits_of(nodes, placed.share, placed.base)
    with intervene(model, edits), record(model, nodes.sites) as trace:
        model(asked.tokens)
    columns = torch.arange(asked.tokens.shape[1], device=asked.tokens.device)
    counted = columns[None] <= asked.last[:, None]
    total = 0
    for link, target, source, _ in edges.split(torch.zeros(len(edges))):
        if link.weight is None:
            continue
        matrix = torch.zeros_like(link.weight, dtype=torch.bool)
        matrix[target, source] = True
        total += both_active(link, matrix, trace, counted)
    return total / int(counted.sum())


def both_active(
    link: Link | Passage, there_is: Bool[Tensor, "target source"], trace: Trace, counted: Tensor
) -> float:
    """How often both ends of an edge are active, over all edges of a matrix and tokens that count."""
    there = _active(trace[link.target].to_dense(), counted)
    here = _active(trace[link.source].to_dense(), counted)
    return float(((here.float() @ there_is.float().T) * there).sum(dtype=torch.float64))


def _active(values: Float[Tensor, "row token unit"], counted: Tensor) -> Bool[Tensor, "place unit"]:
    return values[counted] != 0
