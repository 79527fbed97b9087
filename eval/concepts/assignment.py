"""The assignment problem, exactly: pairs of rows and columns with the highest sum."""

import numpy as np
from jaxtyping import Float, Integer


def matched(
    gain: Float[np.ndarray, "row column"],
) -> tuple[Integer[np.ndarray, " pair"], Integer[np.ndarray, " pair"]]:
    """(rows, columns) of the pairs, rows ascending; each row and column in at most one.

    Shortest augmenting paths with potentials (Jonker and Volgenant 1987): min(n, m)² · max(n, m)
    steps at worst, each row's search vectorized over the columns.
    """
    if gain.shape[0] > gain.shape[1]:
        columns, rows = matched(gain.T)
        order = np.argsort(rows)
        return rows[order], columns[order]
    cost = -np.asarray(gain, dtype=np.float64)
    n, m = cost.shape
    u, v = np.zeros(n), np.zeros(m)
    row_of, column_of = np.full(m, -1), np.full(n, -1)
    for row in range(n):
        _augment(row, cost, u, v, row_of, column_of)
    return np.arange(n), column_of


def _augment(
    row: int,
    cost: np.ndarray,
    u: np.ndarray,
    v: np.ndarray,
    row_of: np.ndarray,
    column_of: np.ndarray,
) -> None:
    """Give `row` a column, moving others along the shortest path to a free one."""
    m = cost.shape[1]
    distance, came_from = np.full(m, np.inf), np.full(m, row)
    done, lowest, at, rows = np.zeros(m, dtype=bool), 0.0, row, []
    while True:
        rows.append(at)
        further = lowest + cost[at] - u[at] - v
        nearer = (further < distance) & ~done
        distance[nearer], came_from[nearer] = further[nearer], at
        column = int(np.where(done, np.inf, distance).argmin())
        lowest = distance[column]
        if row_of[column] < 0:
            break
        done[column], at = True, row_of[column]
    for other in rows:
        u[other] += lowest - (0.0 if other == row else distance[column_of[other]])
    v[done] -= lowest - distance[done]
    while True:
        at = came_from[column]
        row_of[column], column_of[at], column = at, column, column_of[at]
        if at == row:
            return
