"""What a label score would be of a floor, or of a probe, in the place of a layer's units.

F1 is that of what they say; AUROC and average precision are those of how they rank tokens; FMS is
that of a layer whose only unit they are: nothing is left when it is taken away, and nothing is added
by others, so that FMS = accs₀², the square of its balanced accuracy.
"""

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from pellucid.eval.concepts.floors import Floor, ranked_places
from pellucid.eval.concepts.logistic import auprc, auroc
from pellucid.eval.concepts.resampled import f1s
from pellucid.eval.concepts.tree import balanced_accuracy
from pellucid.eval.concepts.truth import Truth

What = Literal["f1", "auroc", "auprc", "fms"]


def of_floors(what: What, truth: Truth, floors: dict[str, Floor]) -> dict[str, np.ndarray]:
    """What each floor has on half B, by label; `best` is the one that is best on half A."""
    if what == "f1":
        at_b = {name: f1s(truth.table(floor.says)) for name, floor in floors.items()}
        return at_b | {"best": _best([floor.f1_a for floor in floors.values()], at_b)}
    found = {name: _ranked(what, truth, floor) for name, floor in floors.items()}
    at_b = {name: b for name, (_, b) in found.items()}
    return at_b | {"best": _best([a for a, _ in found.values()], at_b)}


def balanced_bar(score: Float[np.ndarray, " token"], holds: Bool[np.ndarray, " token"]) -> float:
    """The threshold whose `score >= threshold` has the highest balanced accuracy."""
    order = np.argsort(-score, kind="stable")
    ranked, hits = score[order], np.cumsum(holds[order])
    alarms = np.arange(1, len(hits) + 1) - hits
    last = np.append(ranked[1:] != ranked[:-1], True)
    found = hits / max(hits[-1], 1) - alarms / max(alarms[-1], 1)
    return float(ranked[int(np.where(last, found, -2).argmax())])


def _best(on_a: list[np.ndarray], at_b: dict[str, np.ndarray]) -> Float[np.ndarray, " label"]:
    first = np.argmax(on_a, axis=0)[None]
    return np.take_along_axis(np.stack(list(at_b.values())), first, axis=0)[0]


def _ranked(what: What, truth: Truth, floor: Floor) -> tuple[np.ndarray, np.ndarray]:
    """On half A and on half B, by label; NaN where the places of a half have but one class."""
    found = np.full((2, len(truth.names)), np.nan)
    at_a, at_b = ranked_places(truth)
    for label in range(len(truth.names)):
        held = truth.holds[at_a, label], truth.holds[at_b, label]
        if all(0 < y.sum() < len(y) for y in held):
            scores = floor.chance[0][:, label], floor.chance[1][:, label]
            bar = balanced_bar(scores[0], held[0])
            for half in (0, 1):
                found[half, label] = _one(what, scores[half], held[half], bar)
    return found[0], found[1]


def _one(what: What, score: np.ndarray, holds: np.ndarray, bar: float) -> float:
    if what == "fms":
        return balanced_accuracy(score >= bar, holds) ** 2
    return (auroc if what == "auroc" else auprc)(score, holds)
