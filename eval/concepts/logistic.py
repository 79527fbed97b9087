"""Logistic regression with an L2 penalty, and how well scores rank: what probes need."""

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

STEPS, CLOSE = 50, 1e-9


def fit(
    x: Float[np.ndarray, "token feature"], y: Bool[np.ndarray, " token"], *, c: float = 1.0
) -> Float[np.ndarray, " weight"]:
    """Weights, the intercept last, that minimize ½|w|² + C·Σ loss (scikit-learn's form).

    By Newton's method, halving steps that do not descend. The intercept carries no penalty.
    """
    x = np.concatenate([x, np.ones((len(x), 1))], axis=1).astype(np.float64)
    penalty = np.append(np.ones(x.shape[1] - 1), 1e-10)
    w, sign = np.zeros(x.shape[1]), np.where(y, 1.0, -1.0)

    def cost(w: np.ndarray) -> float:
        return float(penalty @ w**2 / 2 + c * np.logaddexp(0, -sign * (x @ w)).sum())

    here = cost(w)
    for _ in range(STEPS):
        p = _sigmoid(x @ w)
        gradient = penalty * w + c * (x.T @ (p - y))
        hessian = (x.T * (c * p * (1 - p))) @ x + np.diag(penalty)
        step = np.linalg.solve(hessian, gradient)
        there = cost(w - step)
        while there > here + CLOSE and np.abs(step).max() > CLOSE:
            step = step / 2
            there = cost(w - step)
        w, here = w - step, there
        if np.abs(step).max() < CLOSE:
            break
    return w


def fit_many(
    x: Float[Tensor, "token feature"],
    y: Float[Tensor, "token label"],
    *,
    penalty: float,
    steps: int = 100,
) -> Float[Tensor, "weight label"]:
    """Weights of one regression per label, the intercept last: penalty·½|w|² + mean loss, by L-BFGS."""
    x = torch.nn.functional.pad(x, (0, 1), value=1.0)
    w = torch.zeros(x.shape[1], y.shape[1], dtype=x.dtype, requires_grad=True)
    solver = torch.optim.LBFGS([w], max_iter=steps, line_search_fn="strong_wolfe")

    def cost() -> Tensor:
        solver.zero_grad()
        loss = binary_cross_entropy_with_logits(x @ w, y, reduction="sum") / len(x)
        loss = loss + penalty / 2 * w[:-1].square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        solver.step(cost)
    return w.detach()


def auroc(score: Float[np.ndarray, " token"], y: Bool[np.ndarray, " token"]) -> float:
    """Chance that a token where the label holds scores above one where not; ties count half."""
    _, place, size = np.unique(score, return_inverse=True, return_counts=True)
    rank = np.cumsum(size) - (size - 1) / 2
    n = int(y.sum())
    return float((rank[place[y]].sum() - n * (n + 1) / 2) / (n * (len(y) - n)))


def auprc(score: Float[np.ndarray, " token"], y: Bool[np.ndarray, " token"]) -> float:
    """Average precision: Σ (recall gained at a threshold) · (precision there); ties fall together."""
    order = np.argsort(-score, kind="stable")
    hits = np.cumsum(y[order])
    last = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
    return float((np.diff(hits[last], prepend=0) * hits[last] / (last + 1)).sum() / hits[-1])


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0, -x))
