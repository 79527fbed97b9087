"""The whole model's activations put into the circuit: does the circuit do what the model does?"""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pellucid.eval.circuits.battery.case import Case
from pellucid.eval.circuits.battery.check import Check, missing, of_curve
from pellucid.eval.circuits.objective import Asked, edits_of, margins_of
from pellucid.models import Edit, intervene, mix, record

SHARES = (0.25, 0.5, 0.75, 1.0)
"""Of the circuit's nodes that are given the whole model's activations."""
MOST = 0.5
"""Share of the nodes' variance that may go unexplained."""


def interchange(case: Case) -> list[Check]:
    """The highest loss with some nodes as in the whole model, and how far all are from it."""
    if not case.circuit.size:
        reason = "the circuit has no node"
        return [missing("interchange", "nats", reason), missing("unexplained", "share", reason)]
    return [_exchanged(case), _unexplained(case)]


def _exchanged(case: Case) -> Check:
    rng, points = case.rng("change"), []
    prompts = case.asked, case.unseen
    whole = [recorded(case, asked) for asked in prompts]
    for share in SHARES:
        losses = []
        for _ in range(case.repeats.draws if share < 1 else 1):
            given = torch.rand(len(case.nodes), generator=rng) < share
            seen = map(_margins, [case] * 2, prompts, whole, [given] * 2)
            losses.append(case.scored(*seen).item())
        points.append(sum(losses) / len(losses))
    what = "its nodes doing what they do in the model"
    return of_curve("interchange", SHARES, points, case.allowed, what)


@torch.no_grad()
def _margins(
    case: Case, asked: Asked, whole: Mapping[str, Tensor], given: Bool[Tensor, " node"]
) -> Float[Tensor, "one row"]:
    """Margins of the circuit, of which the given nodes do what they do in the whole model."""
    with intervene(case.model, given_edits(case, asked, whole, given)):
        return margins_of(case.model, case.nodes, asked)[None]


def given_edits(
    case: Case, asked: Asked, whole: Mapping[str, Tensor], given: Bool[Tensor, " node"]
) -> dict[str, Edit]:
    """Edits that leave the circuit alone, some of its nodes having values of their own.

    Edges of attention are not given: they stay as the circuit has them.
    """
    like, edits = next(case.model.parameters()), {}
    kept = case.circuit.kept.to(like.device)
    kept, given = (case.nodes.by_site(each.to(like)) for each in (kept, kept & given.to(kept)))
    for site, held in case.base("mean", asked).items():
        share, base = kept[site], torch.as_tensor(held).to(like)
        if site in whole:
            base = torch.where(given[site] > 0, whole[site], base)
            share = share - given[site]
        edits[site] = mix(share, base)
    return edits


@torch.no_grad()
def recorded(
    case: Case, asked: Asked, kept: Bool[Tensor, " node"] | None = None
) -> dict[str, Float[Tensor, "row token _"]]:
    """What units do in a circuit, or in the whole model; edges of attention are left out."""
    edits = {}
    if kept is not None:
        share = kept.to(next(case.model.parameters()))
        edits = edits_of(case.nodes, share, case.base("mean", asked))
    with intervene(case.model, edits), record(case.model, case.nodes.sites) as trace:
        case.model(asked.tokens)
    return {site: acts.to_dense() for site, acts in trace.items() if acts.values.ndim == 3}


def _unexplained(case: Case) -> Check:
    name, asked = "unexplained", case.unseen
    whole, cut = recorded(case, asked), recorded(case, asked, case.circuit.kept)
    there = torch.arange(asked.tokens.shape[1], device=asked.last.device) <= asked.last[:, None]
    missed, varied = {}, {}
    for site, values in whole.items():
        x, y = values[there].double(), cut[site][there].double()
        missed[site] = (x - y).square().sum(0)
        varied[site] = (x - x.mean(0)).square().sum(0)
    if not whole:
        return missing(name, "share", "all nodes are edges of attention")
    missed, varied = (case.nodes.sums(each)[case.circuit.kept] for each in (missed, varied))
    alive = varied > 0
    if not alive.any():
        return missing(name, "share", "no node of the circuit varies in the model")
    shares = missed[alive] / varied[alive]
    value = shares.clamp(max=1).mean().item()
    says = (
        f"Of the variance that a node of the circuit has in the model, {value:.0%} is not there in the "
        f"circuit alone, in the mean over its nodes; {shares.max():.0%} at the worst."
    )
    return Check(name, value, "share", says, value <= MOST)
