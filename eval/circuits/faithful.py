"""The faithful size: as much of the model as does the task whatever is done to the rest."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from pellucid.eval.circuits.battery.case import Case
from pellucid.eval.circuits.battery.check import Check
from pellucid.eval.circuits.battery.readout import calibrated
from pellucid.eval.circuits.battery.relaxation import half_complements
from pellucid.eval.circuits.discretise import ranking
from pellucid.eval.circuits.objective import Readout, margins_of
from pellucid.eval.circuits.prune import still
from pellucid.eval.circuits.sizes import bits

NONSENSE = "nonsense_mapping"


def measure(case: Case, checks: Sequence[Check] = ()) -> dict[str, Any]:
    """The smallest size found at which the loss is at most the target in every way.

    Ways are: means, another prompt's values, random halves of the rest acting, and norms held; all
    on unseen prompts. A model that misses the target by itself is censored at full size; `worst` is
    then "model". `nonsense_ratio` is taken from the battery's checks, where they have it.
    """
    found = [_smallest(case, order) for order in orders(case)]
    reached = [kept for kept in found if kept is not None]
    kept = min(reached, key=lambda each: int(each.sum()), default=torch.ones(len(case.nodes)) > 0)
    losses = dict(ways(case, kept))
    worst = max(losses, key=losses.__getitem__)
    ratios = {check.name: check.value for check in checks}
    return {
        "nodes": int(kept.sum()),
        "bits": bits(case.nodes, kept),
        "loss": losses[worst],
        "worst": worst if reached else "model",
        "censored": not reached,
        "nonsense_ratio": ratios.get(NONSENSE),
    }


def ways(case: Case, kept: Bool[Tensor, " node"]) -> Iterator[tuple[str, float]]:
    """The loss of a circuit on unseen prompts in each way, in nats; the cheapest first."""
    yield "mean", case.losses(kept[None]).item()
    yield "resample", case.losses(kept[None], "resample").item()
    yield "frozen_norm", case.losses(kept[None], held=True).item()
    yield "half_complements", case.losses(half_complements(case, kept)).max().item()


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
            scale, shift = calibrated(margins[None], asked.wants_first)[0].tolist()
            loss = asked.loss(margins, Readout(scale, shift)).sum()
            (slope,) = torch.autograd.grad(loss, share)
            falls -= slope.double().cpu() * ~half
            times += ~half
    return falls / times.clamp(min=1)


def _smallest(case: Case, order: Integer[Tensor, " node"]) -> Bool[Tensor, " node"] | None:
    """The smallest part of a ranking that is good in every way; None where none is.

    Sizes are tried by doubling, then bisected below the first that is good.
    """

    def good(size: int) -> bool:
        return all(loss <= case.target for _, loss in ways(case, _first(order, size)))

    n, low = len(order), -1
    for high in sorted({0, n, *(2**i for i in range(n.bit_length()))}):
        if good(high):
            return _first(order, _bisected(good, low, high))
        low = high
    return None


def _bisected(good: Callable[[int], bool], low: int, high: int) -> int:
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if good(middle) else (middle, high)
    return high


def _first(order: Integer[Tensor, " node"], size: int) -> Bool[Tensor, " node"]:
    kept = torch.zeros(len(order), dtype=torch.bool)
    kept[order[:size]] = True
    return kept
