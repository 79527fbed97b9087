"""The same numbers as public implementations, and as published definitions, on the same arrays."""

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, balanced_accuracy_score, roc_auc_score
from sklearn.tree import DecisionTreeClassifier

from pellucid.eval.concepts import absorption, fms, k_sparse
from pellucid.eval.concepts.assignment import matched
from pellucid.eval.concepts.logistic import auprc, auroc, fit, fit_many
from pellucid.eval.concepts.matching import cosines, recovery
from pellucid.eval.concepts.tree import Weighed, balanced_accuracy, by_depth
from pellucid.eval.harvest import Harvest


def labelled(n: int = 600, units: int = 7, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, units)).astype(np.float32)
    return x, x[:, 0] + 0.5 * x[:, 3] * x[:, 1] + rng.standard_normal(n) > 0.8


@pytest.mark.parametrize("c", [0.01, 1.0, 100.0])
def test_logistic_regression_is_scikit_learns(c):
    x, y = labelled()
    theirs = LogisticRegression(C=c, tol=1e-10, max_iter=1000).fit(x, y)
    ours = fit(x, y, c=c)
    np.testing.assert_allclose(ours[:-1], theirs.coef_[0], atol=2e-5)
    assert abs(ours[-1] - theirs.intercept_[0]) < 2e-5


def test_a_separable_label_has_finite_weights():
    x, _ = labelled()
    ours = fit(x, x[:, 2] > 0)
    theirs = LogisticRegression(C=1.0, tol=1e-10, max_iter=5000).fit(x, x[:, 2] > 0)
    np.testing.assert_allclose(ours[:-1], theirs.coef_[0], rtol=1e-3, atol=1e-3)


def test_many_regressions_are_each_their_own():
    x, y = labelled()
    labels = np.stack([y, x[:, 1] > 0.3, x[:, 5] + x[:, 6] > 0], axis=1)
    w = fit_many(torch.from_numpy(x).double(), torch.from_numpy(labels).double(), penalty=0.01)
    for i in range(3):
        # penalty · ½|w|² + mean loss is ½|w|² + C · Σ loss with C = 1 / (n · penalty).
        np.testing.assert_allclose(w[:, i], fit(x, labels[:, i], c=1 / (600 * 0.01)), atol=1e-3)


@pytest.mark.parametrize("steps", [3, 1000])
def test_ranking_is_scikit_learns_also_with_ties(steps):
    rng = np.random.default_rng(0)
    score, y = rng.integers(0, steps, 500) / steps, rng.random(500) < 0.2
    assert abs(auroc(score, y) - roc_auc_score(y, score)) < 1e-12
    assert abs(auprc(score, y) - average_precision_score(y, score)) < 1e-12
    assert auroc(np.zeros(500), y) == 0.5


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_trees_are_scikit_learns(depth):
    x, y = labelled(300, 4, seed=depth)
    other, held = labelled(200, 4, seed=9)
    theirs = DecisionTreeClassifier(max_depth=depth, class_weight="balanced", random_state=0)
    says = theirs.fit(x.astype(np.float64), y).predict(other)
    ours = by_depth(Weighed.of(x.astype(np.float64), y), other.astype(np.float64), depth)[-1]
    # Where two cuts are equally good, theirs is drawn.
    assert (ours == says).mean() > 0.97
    assert abs(balanced_accuracy(says, held) - balanced_accuracy_score(held, says)) < 1e-12


def test_fms_is_the_published_algorithm():
    """arXiv 2506.19382 with scikit-learn's trees: roots alone, roots taken away, deeper trees."""
    x, y = labelled(400, 5)
    other, held = labelled(300, 5, seed=4)
    depths = range(1, fms.DEPTH + 1)

    def accuracy(columns: list[int], depth: int) -> float:
        tree = DecisionTreeClassifier(max_depth=depth, class_weight="balanced", random_state=0)
        tree.fit(x[:, columns], y)
        return balanced_accuracy_score(held, tree.predict(other[:, columns])), tree.tree_.feature[0]

    left = list(range(5))
    alone, root = accuracy(left, 1)
    deeper = np.mean([accuracy(left, d)[0] for d in depths])
    for p in (1, 2, 3):
        left.remove(left[root])
        without, root = accuracy(left, 1)
        local, overall = 2 * (alone - without), 1 - (deeper - alone)
        ours = fms.parts(x, y, other, held, without=(p,))[p]
        assert abs(ours.score - alone * (local + overall) / 2) < 0.01
        np.testing.assert_allclose(ours[1:3], (alone, local), atol=1e-9)


@pytest.mark.parametrize("shape", [(1, 1), (5, 5), (40, 40), (12, 60), (60, 12)])
def test_assignment_is_scipys(shape):
    for seed in range(5):
        gain = np.random.default_rng(seed).standard_normal(shape)
        rows, columns = matched(gain)
        theirs = linear_sum_assignment(-gain)
        assert len(set(rows)) == len(set(columns)) == min(shape)
        assert abs(gain[rows, columns].sum() - gain[theirs].sum()) < 1e-9


def test_assignment_with_ties_is_optimal():
    gain = np.random.default_rng(0).integers(0, 3, (30, 30)).astype(float)
    assert gain[matched(gain)].sum() == gain[linear_sum_assignment(-gain)].sum()


def test_mcc_is_one_for_the_features_themselves_and_falls_with_noise():
    rng = np.random.default_rng(0)
    true = rng.standard_normal((20, 64))
    turned = -true[rng.permutation(20)]
    found = recovery(cosines(turned, true))
    assert abs(found.mcc - 1) < 1e-9 and found.uniqueness == 1
    noise = recovery(cosines(rng.standard_normal((20, 64)), true))
    assert noise.mcc < 0.4 and noise.uniqueness < 1
    # All units on one feature: half of a wrong metric's delight, by which each unit is well matched.
    same = recovery(cosines(np.repeat(true[:1], 20, axis=0), true))
    assert same.uniqueness == 1 / 20 and same.mcc < 0.3
    theirs = np.abs(cosines(turned, true))
    assert abs(found.mcc - theirs[linear_sum_assignment(-theirs)].mean()) < 1e-12


def test_units_are_selected_by_standardized_mean_difference():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2000, 9)) * 10.0 ** rng.uniform(-2, 2, 9)
    y = np.stack([x[:, 4] / x[:, 4].std() + rng.standard_normal(2000) > 0, x[:, 1] > 0], axis=1)
    at = np.arange(0, 2000, 2)
    found = k_sparse.select(Harvest.of(x.astype(np.float32)), y[at], at, most=3)
    part = x[at].astype(np.float16)
    scaled = (part - part.mean(0)) / part.std(0, dtype=np.float64)
    for i in range(2):
        apart = np.abs(scaled[y[at, i]].mean(0) - scaled[~y[at, i]].mean(0))
        np.testing.assert_array_equal(found.units[:, i], np.argsort(-apart)[:3])
    assert found.units[0, 0] == 4 and found.units[0, 1] == 1


def absorbed_by_hand(acts, directions, probe, projection, main):
    """SAEBench's absorption fraction, one token at a time, as its paper's appendix reads."""
    found = []
    probe = probe / np.linalg.norm(probe)
    for act, whole in zip(acts, projection):
        parts = {u: act[u] * (directions[u] @ probe) for u in range(len(act))}
        ours = sum(parts[u] for u in main)
        close = [u for u in parts if u not in main]
        close = [u for u in close if directions[u] @ probe / np.linalg.norm(directions[u]) >= 0.1]
        taken = sum(sorted((parts[u] for u in close), reverse=True)[:3])
        if ours >= whole or taken < 0.4 * whole:
            found.append(0.0)
        elif ours <= 0:
            found.append(1.0)
        else:
            rest = min(taken, whole - ours)
            found.append(rest / (rest + ours))
    return found


def test_absorption_is_as_published():
    rng = np.random.default_rng(0)
    probe = np.eye(8)[0] * 3
    directions = np.concatenate([np.eye(8)[:1], rng.standard_normal((6, 8))])
    directions[1:4, 0] = 1.5
    acts = np.maximum(rng.standard_normal((200, 7)), 0)
    acts[:80, 0] = 0
    whole, main = rng.uniform(0.1, 4, 200), np.array([0])
    ours = absorption.absorbed_fraction(acts, directions, probe, whole, main)
    np.testing.assert_allclose(ours, absorbed_by_hand(acts, directions, probe, whole, [0]))
    assert 0 < ours.mean() < 1 and ours.max() == 1
    full = absorption.fully_absorbed(acts, directions, probe, whole, main)
    assert full[80:][acts[80:, 0] > 0].sum() == 0 and 0 < full.sum() < (acts[:, 0] == 0).sum()


def test_full_absorption_needs_each_of_its_conditions():
    directions, probe = np.array([[1.0, 0.0], [0.6, 0.8], [0.02, 1.0]]), np.array([2.0, 0.0])
    main, one = np.array([0]), np.array([1.0])
    told = lambda acts, whole: bool(
        absorption.fully_absorbed(np.array([acts]), directions, probe, whole * one, main)[0]
    )
    assert told([0.0, 1.0, 0.0], 1.0)
    assert not told([0.5, 1.0, 0.0], 1.0), "the main unit is on"
    assert not told([0.0, 1.0, 0.0], 2.0), "it carries too little"
    assert not told([0.0, 0.0, 9.0], 0.1), "its direction is another one"
    assert not told([0.0, 1.0, 0.0], -1.0), "the probe points away"
