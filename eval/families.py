"""Families of labels, tasks and losses, and which of them a split of the corpus is scored with."""

from collections.abc import Iterable

FAMILY = {"val": "dev", "test": "test"}
"""What tuning may look at goes with the validation split, what only final results do with the test."""


def used(names: Iterable[str], split: str) -> tuple[str, ...]:
    """What a metric scores a split with: `labels` is `labels:dev` on val and `labels:test` on test.

    A name with a family of its own, such as `labels:loop`, is the same on every split.
    """
    return tuple(name if ":" in name else f"{name}:{FAMILY[split]}" for name in names)
