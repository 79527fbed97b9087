"""Attribution patching of nodes: what leaving each one out would do, to first order, in one pass.

EAP: Σ over tokens of (value when left out - value) · ∂loss / ∂value (arXiv 2310.10348). EAP-IG takes
the mean of that gradient over inputs between the other prompt's and this one's (arXiv 2403.17806).
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from pellucid.eval.circuits.bases import Base
from pellucid.eval.circuits.nodes import Nodes
from pellucid.eval.circuits.objective import Asked
from pellucid.models import Edit, intervene, mix, record, unwrap

STEPS = 5
"""Inputs between the two prompts, as is usual for EAP-IG."""


@torch.no_grad()
def clean(model: nn.Module, nodes: Nodes, tokens: Integer[Tensor, "row token"]) -> Base:
    """What the units do on the prompts themselves `(row, token, unit)`; 0 for edges of attention."""
    with record(model, nodes.sites) as trace:
        model(tokens)
    return {s: 0.0 if a.values.ndim == 4 else a.to_dense() for s, a in trace.items()}


def inputs(model: nn.Module, asked: Asked, steps: int) -> Iterator[dict[str, Edit]]:
    """Edits of the embedding that put in the inputs z' + k / steps · (z - z'), k = 1 … steps.

    z is the embedded prompt and z' the other prompt of the pair; the last is the prompt itself, so
    that one step is EAP. These are the paper's; its public code counts k from 0 for edges.
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}; at least 1 is accepted")
    with torch.no_grad(), record(model, ["embed"]) as trace:
        model(asked.tokens)
    other = trace["embed"].values[asked.partner]
    for step in range(1, steps + 1):
        share = torch.full_like(other[0, 0], step / steps)
        yield {} if step == steps else {"embed": mix(share, other)}


def node_scores(
    model: nn.Module, nodes: Nodes, asked: Asked, base: Base, steps: int = 1
) -> Float[Tensor, " node"]:
    """By how much the loss (nats) would rise with each node at its base: EAP, or with more `steps`
    EAP-IG.

    Memory is linear in nodes: a number and its gradient for each unit and place. Where units are
    edges of attention they are taken to 0, from where they stand in each of the passes. Norms are
    held if the prompts hold them.
    """
    here = clean(model, nodes, asked.tokens)
    total = torch.zeros(len(nodes), dtype=next(model.parameters()).dtype)
    for edits in inputs(model, asked, steps):
        total += nodes.sums(_moved(model, nodes, asked, here, base, edits)).cpu() / steps
    return total


def _moved(
    model: nn.Module, nodes: Nodes, asked: Asked, here: Base, base: Base, edits: dict[str, Edit]
) -> dict[str, Tensor]:
    """Σ (base - here) · ∂loss / ∂value for every unit, at the inputs that the edits put in.

    A share s of a unit, s · x + (1 - s) · b, has at s = 1 the gradient Σ (x - b) · ∂loss / ∂x: that
    for b = here less that for b = base is what is wanted, whatever the unit does in this pass.
    """
    sites, like = unwrap(model).sites(), next(model.parameters())
    shares = {
        site: torch.ones(2, sites[site].n_units, dtype=like.dtype, device=like.device)
        for site in nodes.sites
    }
    for share in shares.values():
        share.requires_grad_()
    both = {
        site: [mix(share[0], here[site]), mix(share[1], base[site])]
        for site, share in shares.items()
    }
    edges = {site for site, value in here.items() if isinstance(value, float)}
    with asked.norms(model), torch.enable_grad(), intervene(model, edits | both):
        loss = asked.loss(asked.margins(unwrap(model).logits_at(asked.tokens, asked.last)))[0]
        found = torch.autograd.grad(loss, list(shares.values()), allow_unused=True)
    slopes = {
        site: torch.zeros_like(share) if slope is None else slope
        for (site, share), slope in zip(shares.items(), found, strict=True)
    }
    return {s: -slope[1] if s in edges else slope[0] - slope[1] for s, slope in slopes.items()}
