"""The ways to choose a row's k units, and the rules of those that are nearly exact.

- `exact`: the k largest of all.
- `groupmax`: units are cut into contiguous groups and only the largest of each may be chosen. No
  selection ever reads a whole row, and on a GPU no such row is ever stored. What is lost is the
  second of two units that belong to the k largest and share a group (arXiv 2506.04165).
- `fp8`: k and a few spare candidates are chosen from a product in 8-bit floats, computed again as
  in `exact`, and the k largest of them are taken.

Either way the values, and the gradients given the chosen units, are those of `exact`.
"""

from math import prod

MODES = ("exact", "groupmax", "fp8")

GROUPS = (32, 16, 8, 4, 2)
"""Units per group, in order of preference: the larger, the less there is to select from."""

RECALL_GOAL = 0.98
"""What `group_size` asks of the predicted recall."""


def group_size(width: int, k: int) -> int:
    """Units per group: the largest of GROUPS that is predicted to find RECALL_GOAL of the k units.

    A unit is lost with probability of about (k - 1)(group - 1) / 2 width, so a group of 32 serves
    up to k = width / 800 and one of 2 up to k = width / 25; beyond that it is 2, with less recall.
    """
    fitting = (group for group in GROUPS if predicted_recall(width, k, group) >= RECALL_GOAL)
    return next(fitting, GROUPS[-1])


def group_count(width: int, k: int) -> int:
    """Groups of a row: the most units that `groupmax` can choose. The last may be smaller."""
    return -(-width // group_size(width, k))


def predicted_recall(width: int, k: int, group: int) -> float:
    """Expected share of the k largest that are the largest of their group, if all orders are alike.

    It is the number of groups that k units drawn without replacement touch, over k; with B groups,
    all large, that tends to (B / k)(1 - (1 - 1 / B)^k).
    """
    whole, rest = divmod(width, group)
    return (whole * _touched(width, k, group) + _touched(width, k, rest)) / k


def _touched(width: int, k: int, group: int) -> float:
    """The probability that at least one of k of `width` units belongs to a given `group` of them."""
    return 1 - prod(max(width - k - i, 0) / (width - i) for i in range(min(group, width)))


def candidate_count(width: int, k: int) -> int:
    """Units that `fp8` computes again: k, a quarter more and 8, at most the width.

    The rounding of e4m3 moves a pre-activation by about 4 % of their standard deviation, so only
    units that close to the k-th are in doubt: a few per cent of k for the usual k / width.
    """
    return min(k + k // 4 + 8, width)
