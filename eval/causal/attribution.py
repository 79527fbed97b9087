"""Which units carry what a pair differs in: first by gradient, then by trying them out."""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pellucid.eval.causal.chosen import Unit
from pellucid.eval.causal.prompts import Place, Prompts, margins
from pellucid.models import Activations, intervene, record, scale

NUMBERS = 2**25
"""Activations spread out at once."""


def attributions(
    model: nn.Module, prompts: Prompts, sites: Iterable[str], place: Place
) -> dict[str, Float[Tensor, " unit"]]:
    """How much the answer would move to the partner's with each unit swapped, to first order.

    Σ (value in the partner - value here) · ∂(margin to the partner's answer) / ∂value, over places
    and prompts: attribution patching (arXiv 2310.10348). Where units are sparse, a unit has a
    gradient only where it is active: one that is silent here is seen from its partner's side.
    """
    known = model.sites()
    found = {site: torch.zeros(known[site].n_units) for site in sites}
    width = prompts.tokens.shape[1] * max((len(each) for each in found.values()), default=1)
    at_once, n = max(1, NUMBERS // width), len(prompts) // 2
    for first in range(0, n, at_once):
        pairs = torch.arange(first, min(first + at_once, n))
        some = prompts._pairs(torch.cat([pairs, pairs + n]))
        for site, added in _of_some(model, some, tuple(found), place).items():
            found[site] += added.cpu()
    return found


def _of_some(
    model: nn.Module, prompts: Prompts, sites: tuple[str, ...], place: Place
) -> dict[str, Tensor]:
    known, device = model.sites(), prompts.tokens.device
    # Scaled by 1, activations are part of the graph also where the weights are frozen.
    ones = {
        site: scale(torch.ones(known[site].n_units, device=device, requires_grad=True))
        for site in sites
    }
    with torch.enable_grad(), intervene(model, ones), record(model, sites, grad=True) as trace:
        flipped = -margins(model(prompts.tokens).logits.float(), prompts).sum()
        values = [trace[site].values for site in sites]
        gradients = torch.autograd.grad(flipped, values, allow_unused=True)
    found = {}
    for site, gradient in zip(sites, gradients, strict=True):
        if gradient is not None:
            found[site] = _summed(trace[site].detach(), gradient, prompts, place)
    return found


def _summed(acts: Activations, gradient: Tensor, prompts: Prompts, place: Place) -> Tensor:
    here = acts.to_dense()
    slope = Activations(gradient, acts.indices, acts.n_units).to_dense()
    partner, rows = prompts.partner.to(here.device), torch.arange(len(prompts), device=here.device)
    if place == "last":
        at = here[rows, prompts.last]
        return ((at[partner] - at) * slope[rows, prompts.last]).sum(0)
    columns = torch.arange(here.shape[1], device=here.device)
    behind = (prompts.last[partner] - prompts.last)[:, None]
    taken = (columns + behind).clamp(min=0).minimum(prompts.last[partner][:, None])
    theirs = here[partner[:, None], taken]
    counted = (columns <= prompts.last[:, None])[..., None]
    return ((theirs - here) * slope * counted).sum((0, 1))


def strongest(found: dict[str, Float[Tensor, " unit"]], most: int) -> list[Unit]:
    """The units of all sites that move the answer most towards the partner's, best first."""
    listed = []
    for site, values in found.items():
        best = values.sort(descending=True, stable=True)
        for value, unit in zip(best.values[:most].tolist(), best.indices[:most].tolist()):
            if value > 0:
                listed.append((-value, Unit(site, unit)))
    return [unit for _, unit in sorted(listed, key=lambda pair: pair[0])[:most]]
