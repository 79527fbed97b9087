"""Searches with other seeds: is it one circuit that is found, or one of many?"""

from itertools import combinations

from jaxtyping import Bool
from torch import Tensor

from pellucid.eval.circuits.battery.case import Case
from pellucid.eval.circuits.battery.check import Check, missing
from pellucid.eval.circuits.battery.searched import searched

LEAST = 0.5
"""Overlap below which a circuit is one of many."""


def overlap(case: Case) -> list[Check]:
    """Mean Jaccard overlap of the nodes of every two searches."""
    name = "seed_overlap"
    if not case.repeats.searches:
        return [missing(name, "share", "no search with another seed was asked for")]
    others = [searched(case, case.asked, n + 1).kept.cpu() for n in range(case.repeats.searches)]
    every = [case.circuit.kept.cpu(), *others]
    shared = [jaccard(a, b) for a, b in combinations(every, 2)]
    value = sum(shared) / len(shared)
    sizes = [int(kept.sum()) for kept in every]
    share = sum(sizes) / len(sizes) / len(case.nodes)
    chance = share / (2 - share)
    says = (
        f"Two of {len(every)} searches share {value:.0%} of the nodes that either keeps; two random "
        f"circuits of that size would share {chance:.0%}. "
        f"They keep {min(sizes)} to {max(sizes)} nodes."
    )
    if chance >= LEAST:
        reason = "circuits this large overlap whatever they are made of"
        return [Check(name, value, "share", says, None, reason)]
    return [Check(name, value, "share", says, value >= LEAST)]


def jaccard(a: Bool[Tensor, " node"], b: Bool[Tensor, " node"]) -> float:
    """Nodes in both by nodes in either; 1 where both are empty."""
    either = int((a | b).sum())
    return int((a & b).sum()) / either if either else 1.0
