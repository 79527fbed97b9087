"""How large a circuit is, where numbers of nodes would favour models that have few of them."""

from math import lgamma, log

from jaxtyping import Bool
from torch import Tensor

from pellucid.eval.circuits.nodes import Nodes


def bits(nodes: Nodes, kept: Bool[Tensor, " node"]) -> float:
    """Bits that tell which nodes are kept: Σ over groups of log2 C(size, kept).

    More than half of a group costs as much as half of it: the rule would otherwise be shortest for
    the whole model, which says nothing.
    """
    total = 0.0
    for first, group in nodes.starts():
        count = int(kept[first : first + group.size].sum())
        total += _log2_choose(group.size, min(count, group.size // 2))
    return total


def _log2_choose(n: int, k: int) -> float:
    return (lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)) / log(2)
