"""Train, val and test by group: never by order, and never through the middle of a package."""

import hashlib
from collections.abc import Mapping, Sequence

from pellucid.errors import DataError

SPLITS = ("train", "val", "test")
# A held-out split made of one large package would measure that package; it takes larger groups than
# this share of itself only when the smaller ones do not fill it, and then may overshoot a little.
LARGE_GROUP, OVERSHOOT = 0.25, 1.2


def group_order(group: str) -> bytes:
    """The stable key that orders groups as if at random."""
    return hashlib.sha256(f"split/{group}".encode()).digest()


def split_groups(sizes: Mapping[str, int], fractions: Mapping[str, float]) -> dict[str, str]:
    """{group: split} for `sizes` in bytes and the `fractions` of the held-out splits.

    Groups are walked in the order of their hash; each held-out split takes groups of at most a
    quarter of its share until it has its share of the bytes, then larger ones while they do not
    carry it past 1.2 times its share. A split that nothing fits takes the smallest group left.
    All other groups are train, and so is the largest in any case.
    """
    if len(sizes) < len(SPLITS):
        raise DataError(
            f"the corpus has {len(sizes)} document(s) or package(s) after removing copies: "
            f"at least {len(SPLITS)} are needed, one each for train, val and test"
        )
    *left, largest = sorted(sizes, key=lambda group: (sizes[group], group_order(group)))
    left.sort(key=group_order)
    total, spare = sum(sizes.values()), sum(sizes[group] for group in left)
    chosen = {largest: "train"}
    for later, (split, fraction) in zip((1, 0), fractions.items(), strict=True):
        share = min(total * fraction, spare * fraction / sum(fractions.values()))
        taken = _take(left, sizes, share, at_most=len(left) - later)
        chosen |= dict.fromkeys(taken, split)
        left = [group for group in left if group not in chosen]
    return chosen | dict.fromkeys(left, "train")


def _take(
    groups: Sequence[str], sizes: Mapping[str, int], share: float, *, at_most: int
) -> list[str]:
    small = [group for group in groups if sizes[group] <= LARGE_GROUP * share]
    large = [group for group in groups if sizes[group] > LARGE_GROUP * share]
    taken, held = [], 0
    for group in small + large:
        fits = held + sizes[group] <= OVERSHOOT * share and len(taken) < at_most
        if held < share and fits:
            taken.append(group)
            held += sizes[group]
    return taken or [min(groups, key=lambda group: (sizes[group], group_order(group)))]


def splitting_groups(groups: Sequence[str], hashes: Sequence[str]) -> Sequence[str]:
    """`groups`, or each document by its hash where the groups are too few to hold any out."""
    return groups if len(set(groups)) >= len(SPLITS) else hashes
