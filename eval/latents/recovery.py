"""Do single units follow the true latents, and what a perfect reader believes of them?

Labels are the states of every automaton, such as `topic=3`. The floor is what the current token
alone could say (exactly), the ceiling what the perfect reader's own beliefs score.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64, Shaped

from pellucid.data.latent_process import token_only_f1
from pellucid.eval.bootstrap import Interval
from pellucid.eval.controls import Found, System, under_controls
from pellucid.eval.halves import halves
from pellucid.eval.harvest import Harvest, harvested
from pellucid.eval.latents import similarity as like
from pellucid.eval.latents.known import Known
from pellucid.eval.latents.matching import assignment
from pellucid.eval.score import NoValue, Score
from pellucid.eval.workbench import Workbench

NO_INTERVAL = "no interval: pairs of tokens of different documents cannot be resampled alone"


@dataclass(frozen=True)
class Targets:
    """What units are compared with, aligned with the stream's positions."""

    held: Bool[np.ndarray, "token label"]
    believed: Float[np.ndarray, "token label"]
    a: Bool[np.ndarray, " token"]
    b: Bool[np.ndarray, " token"]
    """tokens of each half that the perfect reader has read"""
    document: Int64[np.ndarray, " token"]
    seed: int


def targets_of(known: Known, in_a: np.ndarray, document: np.ndarray, seed: int) -> Targets:
    """Every state that occurs in both halves as a column; beliefs are 0 where nobody has read."""
    held, believed = [], []
    for latent, size in enumerate(known.process.sizes):
        held.append(known.states[:, latent, None] == np.arange(size))
        belief = np.zeros((len(known.symbols), size), dtype=np.float32)
        belief[known.read] = known.beliefs(latent)
        believed.append(belief)
    a, b = known.read & in_a, known.read & ~in_a
    columns = np.concatenate(held, 1), np.concatenate(believed, 1)
    seen = columns[0][a].any(0) & columns[0][b].any(0)
    if not seen.any():
        raise NoValue("no state of any automaton occurs in both halves of the text")
    return Targets(*(column[:, seen] for column in columns), a, b, document, seed)


def matched_correlation(
    harvest: Harvest, wanted: Shaped[np.ndarray, "token label"], targets: Targets
) -> Interval:
    """Mean |correlation| of labels with units, each label with a unit of its own (MCC)."""
    gain = np.abs(like.correlations(harvest, wanted, targets.a))
    unit = assignment(gain)
    values = like.columns_of(harvest, np.maximum(unit, 0), targets.b).astype(np.float64)
    x, y = np.where(unit < 0, 0.0, values), wanted[targets.b].astype(np.float64)
    parts = [np.ones_like(x), x, y, x * x, y * y, x * y]
    sums = like.document_sums(parts, targets.document[targets.b])
    return like.over_documents(sums, like.correlation_of, seed=targets.seed)


def best_f1(harvest: Harvest, targets: Targets) -> Interval:
    """Mean over labels of the F1 of the best unit and threshold."""
    held = targets.held[targets.b]
    fires = np.empty_like(held)
    for label, (on_a, on_b) in enumerate(_candidates(harvest, targets)):
        truth = targets.held[targets.a, label]
        found = [like.best_threshold(column, truth) for column in on_a.T]
        best = int(np.argmax([score for score, _ in found]))
        fires[:, label] = on_b[:, best] > found[best][1]
    sums = like.document_sums([fires & held, fires, held], targets.document[targets.b])
    return like.over_documents(sums, like.f1_of, seed=targets.seed)


def best_auroc(harvest: Harvest, targets: Targets) -> Interval:
    """Mean over labels of the AUROC of the best unit."""
    scores = []
    for label, (on_a, on_b) in enumerate(_candidates(harvest, targets)):
        truth = targets.held[targets.a, label]
        best = int(np.argmax([like.auroc(column, truth) for column in on_a.T]))
        scores.append(like.auroc(on_b[:, best], targets.held[targets.b, label]))
    documents = len(np.unique(targets.document[targets.b]))
    return Interval(float(np.mean(scores)), None, None, documents, (NO_INTERVAL,))


def _candidates(
    harvest: Harvest, targets: Targets
) -> Iterator[tuple[Float32[np.ndarray, "a candidate"], Float32[np.ndarray, "b candidate"]]]:
    """For each label what its candidate units did on each half, turned so that more means held."""
    units, signs = like.candidates(like.correlations(harvest, targets.held, targets.a))
    wanted, column = np.unique(units, return_inverse=True)
    column = column.reshape(units.shape)
    on_a, on_b = (like.columns_of(harvest, wanted, half) for half in (targets.a, targets.b))
    for own, sign in zip(column, signs.astype(np.float32), strict=True):
        yield on_a[:, own] * sign, on_b[:, own] * sign


def _true_mcc(harvest: Harvest, targets: Targets) -> Interval:
    return matched_correlation(harvest, targets.held, targets)


def _belief_mcc(harvest: Harvest, targets: Targets) -> Interval:
    return matched_correlation(harvest, targets.believed, targets)


def _score(bench: Workbench, metric: str, measure_one) -> list[Score]:
    known, references = bench.latents, {}

    def measure(system: System) -> Found:
        if isinstance(known, str):
            raise NoValue(known)
        return {name: measure_one(system.harvest[name], targets) for name in system.sites()}

    said = {}
    if not isinstance(known, str):
        in_a = halves(bench.stream, bench.seed)
        targets = targets_of(known, in_a, bench.stream.document, bench.seed)
        sites = tuple(bench.reader.sites())
        found = _references(known, targets, metric, measure_one)
        references = {name: dict.fromkeys(sites, one) for name, one in found.items()}
        said = dict.fromkeys(sites, known.how)
    return under_controls(
        bench, metric, measure, better="higher", references=references, flags=said
    )


def _references(known: Known, targets: Targets, metric: str, measure_one) -> dict[str, Interval]:
    """What the current token alone says, and what the perfect reader's beliefs score."""
    beliefs = harvested({"": targets.believed})[""]
    found = {"ceiling_perfect_reader": measure_one(beliefs, targets)}
    if metric == "latent_f1":
        floor = [token_only_f1(known.process, k) for k in range(len(known.process.sizes))]
        exact = ("no interval: computed from the process",)
        value = float(np.concatenate(floor).mean())
        found["token_only"] = Interval(value, None, None, 0, exact)
    return found


def latent_f1(bench: Workbench) -> list[Score]:
    """F1 of the best unit for each state of each automaton, averaged."""
    return _score(bench, "latent_f1", best_f1)


def latent_auroc(bench: Workbench) -> list[Score]:
    """AUROC of the best unit for each state of each automaton, averaged."""
    return _score(bench, "latent_auroc", best_auroc)


def latent_mcc(bench: Workbench) -> list[Score]:
    """Mean correlation of the states with units, one unit each."""
    return _score(bench, "latent_mcc", _true_mcc)


def belief_mcc(bench: Workbench) -> list[Score]:
    """Mean correlation of the perfect reader's beliefs with units, one unit each."""
    return _score(bench, "belief_mcc", _belief_mcc)
