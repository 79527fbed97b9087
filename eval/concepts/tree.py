"""A decision tree by Gini impurity, both classes of equal weight, grown level by level.

The same cuts as scikit-learn's `DecisionTreeClassifier(class_weight="balanced")`: between neighbouring
values, halfway; among equal cuts the first column and the lowest cut.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Integer


class Cut(NamedTuple):
    """Tokens go below where `x[:, column] <= at`; without a column a node is a leaf."""

    column: int | None
    at: float
    impurity: float
    """sum over both sides of weight · Gini impurity"""


class Weighed(NamedTuple):
    """Tokens with their label and a weight: that of each class adds up to 1."""

    x: Float[np.ndarray, "token feature"]
    weight: Float[np.ndarray, "class token"]
    """of each token in its own class, 0 in the other"""
    order: Integer[np.ndarray, "feature token"]
    """tokens by each feature, ascending, equal ones as they stand: found once for a whole tree"""

    @classmethod
    def of(cls, x: Float[np.ndarray, "token feature"], y: Bool[np.ndarray, " token"]) -> "Weighed":
        """Raises ValueError where there is but one class."""
        if y.all() or not y.any():
            raise ValueError("a tree needs tokens with the label and tokens without it")
        order = np.argsort(np.ascontiguousarray(x.T), axis=1, kind="stable")
        return cls(x, np.stack([~y / (~y).sum(), y / y.sum()]), order)

    def part(self, tokens: Integer[np.ndarray, " some"]) -> "Weighed":
        """Some of the tokens, ascending."""
        kept = np.zeros(len(self.x), dtype=bool)
        kept[tokens] = True
        place = np.cumsum(kept) - 1
        order = place[self.order[kept[self.order]]].reshape(len(self.order), -1)
        return Weighed(self.x[tokens], self.weight[:, tokens], order)


def cuts(data: Weighed) -> tuple[Float[np.ndarray, " feature"], Float[np.ndarray, " feature"]]:
    """Lowest impurity and where to cut for it, for every column alone; infinity if constant."""
    ordered = np.take_along_axis(data.x.T, data.order, 1)
    # Units are mostly silent: few tokens differ from the one before.
    rises = ordered[:, 1:] > ordered[:, :-1]
    below = np.stack([np.cumsum(w[data.order], axis=1)[:, :-1][rises] for w in data.weight])
    above = data.weight.sum(1)[:, None] - below
    impurity = np.full(rises.shape, np.inf)
    impurity[rises] = sum(
        2 * part[0] * part[1] / np.maximum(part.sum(0), 1e-300) for part in (below, above)
    )
    first = impurity.argmin(1)
    column = np.arange(len(ordered))
    return impurity[column, first], (ordered[column, first] + ordered[column, first + 1]) / 2


def best_cut(data: Weighed) -> Cut:
    """The best cut of a node; none where it is pure or all columns are constant."""
    own = data.weight.sum(1)
    if len(data.x) < 2 or own.min() <= 0:
        return Cut(None, 0.0, 0.0)
    impurity, at = cuts(data)
    column = int(impurity.argmin())
    if not np.isfinite(impurity[column]):
        return Cut(None, 0.0, float(2 * own[0] * own[1] / own.sum()))
    return Cut(column, float(at[column]), float(impurity[column]))


def by_depth(
    data: Weighed, x: Float[np.ndarray, "other feature"], depth: int
) -> Bool[np.ndarray, "depth other"]:
    """What the tree says of other tokens when grown to depth 1, 2 … `depth`."""
    says = np.zeros((depth, len(x)), dtype=bool)
    nodes = [(data.part(np.arange(len(data.x))), np.arange(len(x)))]
    for level in range(depth):
        nodes = [child for node in nodes for child in _children(*node, x)]
        for mine, theirs in nodes:
            away, towards = mine.weight.sum(1)
            says[level, theirs] = towards > away
    return says


def _children(mine: Weighed, theirs: np.ndarray, x: np.ndarray) -> list[tuple[Weighed, np.ndarray]]:
    cut = best_cut(mine)
    if cut.column is None:
        return [(mine, theirs)]
    left, other_left = mine.x[:, cut.column] <= cut.at, x[theirs, cut.column] <= cut.at
    return [
        (mine.part(np.flatnonzero(left)), theirs[other_left]),
        (mine.part(np.flatnonzero(~left)), theirs[~other_left]),
    ]


def balanced_accuracy(says: Bool[np.ndarray, " token"], y: Bool[np.ndarray, " token"]) -> float:
    """Mean of the share of tokens told right with the label and without it."""
    return float((says[y].mean() + (~says[~y]).mean()) / 2)
