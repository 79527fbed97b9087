"""A decision tree by Gini impurity, both classes of equal weight, grown level by level.

The same cuts as scikit-learn's `DecisionTreeClassifier(class_weight="balanced")`: between neighbouring
values, halfway; among equal cuts the first column and the lowest cut.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float


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

    @classmethod
    def of(cls, x: Float[np.ndarray, "token feature"], y: Bool[np.ndarray, " token"]) -> "Weighed":
        """Raises ValueError where there is but one class."""
        if y.all() or not y.any():
            raise ValueError("a tree needs tokens with the label and tokens without it")
        return cls(x, np.stack([~y / (~y).sum(), y / y.sum()]))


def cuts(data: Weighed) -> tuple[Float[np.ndarray, " feature"], Float[np.ndarray, " feature"]]:
    """Lowest impurity and where to cut for it, for every column alone; infinity if constant."""
    order = np.argsort(data.x, axis=0, kind="stable")
    ordered = np.take_along_axis(data.x, order, 0)
    below = np.cumsum(data.weight[:, order], axis=1)[:, :-1]
    above = data.weight.sum(1)[:, None, None] - below
    impurity = sum(
        2 * part[0] * part[1] / np.maximum(part.sum(0), 1e-300) for part in (below, above)
    )
    impurity = np.where(ordered[1:] > ordered[:-1], impurity, np.inf)
    first = impurity.argmin(0)
    column = np.arange(data.x.shape[1])
    return impurity[first, column], (ordered[first, column] + ordered[first + 1, column]) / 2


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
    nodes = [(np.arange(len(data.x)), np.arange(len(x)))]
    for level in range(depth):
        nodes = [child for node in nodes for child in _children(data, x, *node)]
        for mine, theirs in nodes:
            away, towards = data.weight[:, mine].sum(1)
            says[level, theirs] = towards > away
    return says


def _children(
    data: Weighed, x: np.ndarray, mine: np.ndarray, theirs: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    cut = best_cut(Weighed(data.x[mine], data.weight[:, mine]))
    if cut.column is None:
        return [(mine, theirs)]
    left, other_left = data.x[mine, cut.column] <= cut.at, x[theirs, cut.column] <= cut.at
    return [(mine[left], theirs[other_left]), (mine[~left], theirs[~other_left])]


def balanced_accuracy(says: Bool[np.ndarray, " token"], y: Bool[np.ndarray, " token"]) -> float:
    """Mean of the share of tokens told right with the label and without it."""
    return float((says[y].mean() + (~says[~y]).mean()) / 2)
