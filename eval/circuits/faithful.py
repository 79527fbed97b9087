"""The faithful size: as much of the model as does the task whatever is done to the rest.

It is chosen by its loss on the unseen pairs, as the smallest that passes there; the loss on these pairs
is then lower than on others, and is taken once more on pairs that chose nothing.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from pellucid.eval.circuits.battery.case import Case
from pellucid.eval.circuits.battery.readout import calibrated
from pellucid.eval.circuits.battery.relaxation import half_complements
from pellucid.eval.circuits.discretise import ranking
from pellucid.eval.circuits.objective import Asked, Readout, margins_of
from pellucid.eval.circuits.prune import still
from pellucid.eval.circuits.sizes import bits

AT_ONCE = 4
"""Halves that are tried together, before the next are."""
NEAR = 0.02
"""How near a size has to be found."""
CAP = 0.99
"""Share of the whole model's bits from which on a circuit cannot be told from it by its bits."""


def measure(case: Case, fresh: Asked | str = "no other pairs were given") -> dict[str, Any]:
    """The smallest size found at which the loss is at most the target in every way.

    Ways are: means, another prompt's values, random halves of the rest acting, and norms held; all
    on unseen prompts. Of what two rankings give the size of fewer bits counts, and of as many bits
    that of fewer nodes; `capped` says that these are as good as all bits of the model. A model that
    misses the target at its best readout is censored at full size; `worst` is then "model". `fresh`
    is the worst loss in nats, and in which way, on pairs by which nothing was chosen, or why there
    are none.
    """
    kept, reached = torch.ones(len(case.nodes), dtype=torch.bool), False
    for order in orders(case):
        # Only what is smaller than the best so far is of interest; failing is cheap.
        found = _smallest(case, order, _most(case, order, kept) if reached else len(kept))
        kept, reached = (kept, reached) if found is None else (found, True)
    worst, loss = _worst(case, kept)
    cost = bits(case.nodes, kept)
    return {
        "nodes": int(kept.sum()),
        "bits": cost,
        "capped": cost >= CAP * bits(case.nodes, torch.ones_like(kept)),
        "loss": loss,
        "worst": worst if reached else "model",
        "censored": not reached,
        "fresh": _on_others(case, kept, fresh),
    }


def _worst(case: Case, kept: Bool[Tensor, " node"]) -> tuple[str, float]:
    return max(ways(case, kept), key=lambda way: way[1])


def _on_others(case: Case, kept: Bool[Tensor, " node"], fresh: Asked | str) -> dict[str, Any]:
    if isinstance(fresh, str):
        return {"loss": None, "worst": None, "pairs": 0, "reason": fresh}
    worst, loss = _worst(replace(case, unseen=fresh), kept)
    return {"loss": loss, "worst": worst, "pairs": len(fresh) // 2, "reason": None}


def _most(case: Case, order: Integer[Tensor, " node"], best: Bool[Tensor, " node"]) -> int:
    """The most nodes of a ranking that are better than the best so far: in bits, then in number."""
    cost = lambda kept: (bits(case.nodes, kept), int(kept.sum()))
    sizes, least = range(len(order)), cost(best)
    return bisect_left(sizes, least, key=lambda size: cost(_first(order, size))) - 1


def ways(case: Case, kept: Bool[Tensor, " node"]) -> Iterator[tuple[str, float]]:
    """The loss of a circuit on unseen prompts in each way, in nats; the cheapest first."""
    yield "mean", case.losses(kept[None]).item()
    yield "resample", case.losses(kept[None], "resample").item()
    yield "frozen_norm", case.losses(kept[None], held=True).item()
    for some in half_complements(case, kept).split(AT_ONCE):
        yield "half_complements", case.losses(some).max().item()


def orders(case: Case) -> list[Integer[Tensor, " node"]]:
    """Rankings along which a size is looked for: the circuit's, and with the rest by its use.

    A search ranks well what it keeps, and by little more than chance what it leaves out.
    """
    scores = case.circuit.scores.cpu().double()
    span = float(scores.max() - scores.min()) + 1.0
    first = scores + span * case.circuit.kept.cpu()
    use = _use(case)
    second = torch.where(case.circuit.kept.cpu(), first + span + float(use.max()), use)
    return [ranking(first), ranking(second)]


def _use(case: Case) -> Float[Tensor, " node"]:
    """How much the loss on the asked pairs falls, to first order, when a left-out node is let in.

    In the mean over random halves of the rest acting, nodes being held at another prompt's values
    (attribution patching, arXiv 2310.10348, of the circuit instead of the model).
    """
    base, asked = case.base("resample", case.asked), case.asked
    like = next(case.model.parameters())
    falls = torch.zeros(len(case.nodes), dtype=torch.double)
    times = torch.zeros(len(case.nodes), dtype=torch.double)
    with still(case.model):
        for half in torch.cat([case.kept.cpu(), half_complements(case, case.circuit.kept)]):
            share = half.to(like).requires_grad_()
            margins = margins_of(case.model, case.nodes, asked, share, base)
            scale, shift = calibrated(margins[None], asked.wants_first, case.target)[0].tolist()
            loss = asked.loss(margins, Readout(scale, shift)).sum()
            (slope,) = torch.autograd.grad(loss, share)
            falls -= slope.double().cpu() * ~half
            times += ~half
    return falls / times.clamp(min=1)


def _smallest(
    case: Case, order: Integer[Tensor, " node"], most: int
) -> Bool[Tensor, " node"] | None:
    """The smallest part of a ranking, of at most so many nodes, that is good in every way.

    Sizes are tried by doubling, then bisected below the first that is good; None where none is.
    """

    def good(size: int) -> bool:
        return all(loss <= case.target for _, loss in ways(case, _first(order, size)))

    low, sizes = -1, [0, *(2**i for i in range(most.bit_length())), most]
    for high in sorted({size for size in sizes if 0 <= size <= most}):
        if good(high):
            return _first(order, _bisected(good, low, high))
        low = high
    return None


def _bisected(good: Callable[[int], bool], low: int, high: int) -> int:
    while high - low > max(1, NEAR * high):
        middle = (low + high) // 2
        low, high = (low, middle) if good(middle) else (middle, high)
    return high


def _first(order: Integer[Tensor, " node"], size: int) -> Bool[Tensor, " node"]:
    kept = torch.zeros(len(order), dtype=torch.bool)
    kept[order[:size]] = True
    return kept
