"""The circuit's weights at 0 in the whole model: do they matter more than others of their size?

After the weight ablation of the battery in J. Drori's re-training of the weight-sparse transformers.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool
from torch import Tensor

from pellucid.eval.circuits.battery.case import CHANCE, Case
from pellucid.eval.circuits.battery.check import Check, missing
from pellucid.eval.circuits.nodes import whole_heads
from pellucid.eval.circuits.objective import margins_of
from pellucid.eval.circuits.passages import Passage
from pellucid.eval.circuits.weights import Link, links_of, replaced

NAME = "weight_ablation"
LEAST = 0.5
"""Share of what the model can do that has to be lost."""
MOST = 0.5
"""Share of this loss that others of their size may cost."""
SPARE = 4
"""How many others there have to be for each of the circuit's weights: sets that are most of the rest
of a model break it whatever the circuit is."""
LACKING = 0.1
"""Share of the circuit's weights that may have no other in their matrix to be compared with."""
DRAWN = 4
"""Sets of other weights that are drawn, of each kind."""
SPREAD = 0.1
"""By how much sizes are blurred before they are matched, or all sets would be the same."""


class Weights(NamedTuple):
    """The weights of one matrix that are not 0, row by row: the circuit's, and all others."""

    link: Link
    mine: Bool[Tensor, " weight"]
    other: Bool[Tensor, " weight"]

    @property
    def size(self) -> int:
        """How many are the circuit's."""
        return int(self.mine.sum())

    @property
    def unmatched(self) -> int:
        """How many of them have no other to be compared with."""
        return max(0, self.size - int(self.other.sum()))


Draw = Callable[[Weights, torch.Generator], Bool[Tensor, " weight"]]


@torch.no_grad()
def weight_ablation(case: Case) -> list[Check]:
    """How much of the task is lost without the circuit's weights, and without as many others.

    (L(M∖W) − L(M)) / (ln 2 − L(M)) for losses of the whole model, and of it with weights W at 0.
    """
    found, unknown = weights_of(case)
    if not any(each.size for each in found):
        return [missing(NAME, "share", "; ".join(unknown) or "the circuit has no weight")]
    model = _loss(case)
    if model > CHANCE - case.target:
        return [missing(NAME, "share", f"the whole model's loss is {model:.3f} nats")]
    # Added to, a rounded −0 is 0.
    lost = lambda loss: round((loss - model) / (CHANCE - model), 6) + 0.0
    cut = _loss(case, found, [each.mine for each in found])
    alike, any_other = (lost(_mean_loss(case, found, draw)) for draw in (matched, arbitrary))
    says = (
        f"With the circuit's {sum(each.size for each in found)} weights at 0 the loss of the whole "
        f"model goes from {model:.3f} to {cut:.3f} nats: {lost(cut):.0%} of the way to chance. As "
        f"many others of about their size cost {alike:.0%}, any others {any_other:.0%}."
    )
    stands = lost(cut) >= LEAST and alike <= MOST * lost(cut)
    reason = _no_verdict(found, unknown)
    # Without it the model goes on: no comparison can help such a circuit.
    if not unknown and lost(cut) < LEAST:
        reason = None
    return [Check(NAME, lost(cut), "share", says, None if reason else stands, reason)]


def _no_verdict(found: Sequence[Weights], unknown: Sequence[str]) -> str | None:
    if unknown:
        return f"weights of a part of the model are not known: {'; '.join(unknown)}"
    mine, others = (sum(each.size for each in found), sum(int(each.other.sum()) for each in found))
    if SPARE * mine > others or sum(each.unmatched for each in found) > LACKING * mine:
        return f"{mine} weights have too few others to be compared with, {others} in their matrices"
    return None


def weights_of(case: Case) -> tuple[list[Weights], list[str]]:
    """The circuit's weights and all others, of matrices that nodes read or write by.

    The circuit's lead from one of its nodes to another; where what a matrix reads or writes is no
    node, as channels are none between heads and neurons, to and from all of it. Beside them
    sentences on parts of the model whose weights are not known.
    """
    links = links_of(case.model)
    kept = whole_heads(case.model, case.nodes).by_site(case.circuit.kept.cpu().double())
    found = []
    for link in links.found:
        if isinstance(link, Passage) or not {link.source, link.target} & kept.keys():
            continue
        there = link.weight.detach().cpu() != 0
        rows, columns = (
            kept.get(site, torch.ones(size)) != 0
            for site, size in zip((link.target, link.source), there.shape, strict=True)
        )
        mine = rows[:, None] & columns & there
        found.append(Weights(link, mine.flatten(), (there & ~mine).flatten()))
    return found, links.unweighted


def arbitrary(weights: Weights, rng: torch.Generator) -> Bool[Tensor, " weight"]:
    """As many of the other weights of a matrix, or all of them where they are fewer."""
    others = weights.other.nonzero()[:, 0]
    return _chosen(weights, others[torch.randperm(len(others), generator=rng)[: weights.size]])


def matched(weights: Weights, rng: torch.Generator) -> Bool[Tensor, " weight"]:
    """As many of the other weights of a matrix, each about as large as one of the circuit's.

    Each takes the next larger that is free; what is larger than all others the largest of them.
    """
    if weights.unmatched:
        return weights.other
    size = weights.link.weight.detach().abs().double().cpu().flatten()
    others = weights.other.nonzero()[:, 0]
    # Among equals any may come first.
    others = others[torch.randperm(len(others), generator=rng)]
    others = others[size[others].argsort(stable=True)]
    blur = torch.randn(weights.size, generator=rng, dtype=torch.double)
    wanted = (size[weights.mine] * (1 + SPREAD * blur)).sort().values
    turn = torch.arange(weights.size)
    place = torch.searchsorted(size[others], wanted)
    if weights.size:
        place = (place - turn).cummax(0).values + turn
    return _chosen(weights, others[place.minimum(len(others) - weights.size + turn)])


def _chosen(weights: Weights, numbers: Tensor) -> Bool[Tensor, " weight"]:
    found = torch.zeros_like(weights.other)
    found[numbers] = True
    return found


def _mean_loss(case: Case, found: Sequence[Weights], draw: Draw) -> float:
    rng = case.rng(draw.__name__)
    losses = [_loss(case, found, [draw(each, rng) for each in found]) for _ in range(DRAWN)]
    return sum(losses) / DRAWN


def _loss(case: Case, found: Sequence[Weights] = (), gone: Sequence[Tensor] = ()) -> float:
    """Loss of the whole model on the unseen pairs with some weights at 0, in nats."""
    new = {}
    for (link, _, _), out in zip(found, gone, strict=True):
        weight = link.weight.detach()
        left = weight.masked_fill(out.view(weight.shape).to(weight.device), 0.0)
        new[link.module, link.matrix] = left.T if link.from_rows else left
    with replaced(new):
        margins = [
            margins_of(case.model, case.nodes, each)[None] for each in (case.asked, case.unseen)
        ]
    return case.scored(*margins).item()
