"""Keeping a few examples of each of many groups while streaming, the same whatever the chunks."""

import numpy as np
from jaxtyping import Float, Integer


class Pool:
    """For each group the `size` items of lowest priority, each with its position and values."""

    def __init__(self, groups: int, size: int, width: int) -> None:
        self.priority = np.full((groups, size), np.inf)
        self.position = np.full((groups, size), -1)
        self.values = np.zeros((groups, size, width), dtype=np.float32)

    def wanted(
        self, group: Integer[np.ndarray, " item"], priority: Float[np.ndarray, " item"]
    ) -> Integer[np.ndarray, " kept"]:
        """Which of these items can still enter, by group and priority, at most `size` a group."""
        able = np.flatnonzero(priority < self.priority[group, -1])
        able = able[np.lexsort((priority[able], group[able]))]
        return able[rank_within(group[able]) < self.priority.shape[1]]

    def merge(
        self,
        group: Integer[np.ndarray, " item"],
        priority: Float[np.ndarray, " item"],
        position: Integer[np.ndarray, " item"],
        values: Float[np.ndarray, "item column"],
    ) -> None:
        """Take in items that `wanted` has let through, in its order."""
        new = Pool(*self.values.shape)
        place = (group, rank_within(group))
        new.priority[place], new.position[place], new.values[place] = priority, position, values
        joined = np.concatenate([self.priority, new.priority], axis=1)
        best = np.argsort(joined, axis=1, kind="stable")[:, : self.priority.shape[1]]
        self.priority = np.take_along_axis(joined, best, 1)
        self.position = _take(self.position, new.position, best)
        self.values = _take(self.values, new.values, best[..., None])

    def of(self, group: int) -> list[tuple[int, np.ndarray]]:
        """(position, values) of a group's items, lowest priority first."""
        kept = np.flatnonzero(self.position[group] >= 0)
        return [(int(self.position[group, i]), self.values[group, i]) for i in kept]


def _take(old: np.ndarray, new: np.ndarray, best: np.ndarray) -> np.ndarray:
    return np.take_along_axis(np.concatenate([old, new], axis=1), best, 1)


def rank_within(group: Integer[np.ndarray, " item"]) -> Integer[np.ndarray, " item"]:
    """Running number of each item within its run of equal groups (`group` is sorted)."""
    new = np.concatenate([[True], group[1:] != group[:-1]])[: len(group)]
    return np.arange(len(group)) - np.flatnonzero(new)[np.cumsum(new) - 1]


def lottery(
    position: Integer[np.ndarray, " item"], group: Integer[np.ndarray, " item"], seed: int
) -> Float[np.ndarray, " item"]:
    """A number in [0, 1) for each pair, as if random, from pair and seed alone (splitmix64)."""
    x = position.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    x += group.astype(np.uint64) * np.uint64(0xD1B54A32D192ED03)
    # Multiplied in Python: of single numbers, and not of arrays, NumPy reports an overflow.
    x += np.uint64(seed * 0x8CB92BA72F3D8DD7 % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return (x ^ (x >> np.uint64(31))).astype(np.float64) / 2.0**64
