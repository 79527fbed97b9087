"""The faithful size: as much of the model as does the task whatever is done to the rest."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from pellucid.eval.circuits.battery.case import Case
from pellucid.eval.circuits.battery.check import Check
from pellucid.eval.circuits.battery.relaxation import half_complements
from pellucid.eval.circuits.sizes import bits

NONSENSE = "nonsense_mapping"


def measure(case: Case, checks: Sequence[Check] = ()) -> dict[str, Any]:
    """The smallest size along the circuit's ranking whose loss is at most the target in every way.

    Ways are: means, another prompt's values, random halves of the rest acting, and norms held; all
    on unseen prompts. Sizes are tried by doubling, then bisected below the first that is good. A
    model that misses the target by itself is censored at full size, and `worst` is then "model".
    `nonsense_ratio` is taken from the battery's checks, where they have it.
    """
    order = case.circuit.scores.argsort(descending=True, stable=True).cpu()
    size = _smallest(case, order)
    kept = _first(order, len(case.nodes) if size is None else size)
    losses = dict(ways(case, kept))
    worst = max(losses, key=losses.__getitem__)
    ratios = {check.name: check.value for check in checks}
    return {
        "nodes": int(kept.sum()),
        "bits": bits(case.nodes, kept),
        "loss": losses[worst],
        "worst": "model" if size is None else worst,
        "censored": size is None,
        "nonsense_ratio": ratios.get(NONSENSE),
    }


def ways(case: Case, kept: Bool[Tensor, " node"]) -> Iterator[tuple[str, float]]:
    """The loss of a circuit on unseen prompts in each way, in nats; the cheapest first."""
    yield "mean", case.losses(kept[None]).item()
    yield "resample", case.losses(kept[None], "resample").item()
    yield "frozen_norm", case.losses(kept[None], held=True).item()
    yield "half_complements", case.losses(half_complements(case, kept)).max().item()


def _smallest(case: Case, order: Tensor) -> int | None:
    """The smallest size found that is good in every way; None where the whole model is not."""

    def good(size: int) -> bool:
        return all(loss <= case.target for _, loss in ways(case, _first(order, size)))

    n = len(order)
    low = -1
    for high in sorted({0, n, *(2**i for i in range(n.bit_length()))}):
        if good(high):
            return _bisected(good, low, high)
        low = high
    return None


def _bisected(good: Callable[[int], bool], low: int, high: int) -> int:
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if good(middle) else (middle, high)
    return high


def _first(order: Tensor, size: int) -> Bool[Tensor, " node"]:
    kept = torch.zeros(len(order), dtype=torch.bool)
    kept[order[:size]] = True
    return kept
