"""Which interpretability metrics can tell a trained model from noise, and which follow the truth?

`pellucid sweep h1`, then `python -m pellucid.experiments.h1 grids/h1`. Eight fillings at three
sparsities or widths on text of known latents, five seeds. The endpoints are properties of metrics and
not of arms, so the grid declares none; they are declared here, for the metrics of `TESTED`:

1. how often a trained model scores above a twin whose weights are permuted (AUROC, ties half),
   against 0.5;
2. Spearman's correlation over models with the truth, `latent_interchange`: do at most four units,
   chosen on half of the pairs, hold a latent that the generator resets? It is taken within four bins
   of models of about equal regret, so that a metric cannot follow capability alone; against 0.

Each is taken seed by seed, with Student's interval over seeds, Holm-corrected over the tested metrics.
Null prediction: most have an AUROC below 0.7 or prefer the superposed one of two planted models that
predict alike. `python -m pellucid.experiments.plants grids/h1` scores those two; the analysis then tells
of each metric which it prefers, and of how many the prediction is true. All other metrics of the suite
are shown, exploratory.

The latents are those of `data=latent` as it comes: 39 of them, on or off at each token, which are the
states of five automata (34 are free: of each automaton one state is on). The truth resets an automaton,
since no state can be reset alone. `seed_consistency` compares each cell with all other seeds of its arm.
`steering` has a value only where a token decides a latent; none is meant to in the
corpus as it comes, and it is in the list because it was declared.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from pellucid.errors import RunError
from pellucid.experiments import analysis
from pellucid.report.reading import read_json
from pellucid.report.scores import is_number
from pellucid.sweep import Grid, Tuning
from pellucid.sweep.statistics import Effect, effect, holm

TWIN = "permuted_weights"
TRUTH, REGRET = "latent_interchange", "regret"
FILE = "plants.json"
"""What `pellucid.experiments.plants` writes beside `grid.json`."""
LATENTS, SUPERPOSED = PLANTS = ("latents", "superposed")
"""Planted end points: a model whose units are the latents, and one of more latents than units."""
TESTED = (
    *("concept_coverage", "concept_reconstruction", "rule:f1_64bits", "explained_loss:64bits"),
    *("k_sparse_auroc_1", "fms_1", "absorption", "mean_kurtosis", "intruder"),
    *("token_entropy", "description_length", "output_purity", "steering", "seed_consistency"),
)
"""The metrics that the endpoints are about; p-values are corrected over these."""
WEAK = 0.7
"""AUROC below which a metric does not tell a trained model from a permuted one."""
BINS, FEWEST = 4, 4
"""Bins of models of about equal regret, and the models that a correlation needs."""
WIDTHS = (256, 512, 1024)
ACTIVE = (8, 16, 32)
STEPS, TRIAL = 3052, 611
"""50M and 10M tokens in steps of 16,384."""

grid = Grid(
    name="h1",
    base=(
        "tiny data=latent data.n_documents=220000 data.length=255 data.vocab_size=512 n_layers=4 "
        f"d_model=128 context=256 train.batch=64 train.steps={STEPS}"
    ),
    axes={
        "arm": [
            *(f"mlp=dense mlp.activation=gelu mlp.width={width}" for width in WIDTHS),
            *(f"mlp=dense mlp.activation=relu mlp.width={width}" for width in WIDTHS),
            *(f"mlp=topk mlp.width=1024 mlp.k={k}" for k in ACTIVE),
            *(f"mlp=batch_topk mlp.width=1024 mlp.k={k}" for k in ACTIVE),
            *(f"mlp=solu mlp.width={width}" for width in WIDTHS),
            *(f"mlp=bilinear mlp.width={width}" for width in WIDTHS),
            *(f"mlp=moe mlp.router=moe_x mlp.k={k}" for k in (1, 2, 4)),
            *(f"mlp=monet mlp.k={k}" for k in (2, 4, 8)),
        ]
    },
    seeds=(0, 1, 2, 3, 4),
    suite="standard",
    consistency=True,
    tune=Tuning(seeds=(100,), words=f"train.steps={TRIAL}"),
)


@dataclass(frozen=True)
class Model:
    """What one cell scored: means over sites, turned so that more is better."""

    seed: int
    own: Mapping[str, float]
    pairs: Mapping[str, list[tuple[float, float]]]
    """by metric, (trained, permuted) of each site"""


Found = dict[str, tuple[Effect, float | None]]
"""By metric: an effect over seeds, and its p-value corrected over those that were tested."""


def separations(folder: Path, tested: Sequence[str] = TESTED) -> Found:
    """AUROC less 0.5 over seeds, of every metric.

    Raises RunError for a folder that is no grid, or of which no cell has a permuted twin's scores.
    """

    def of_seed(models: Sequence[Model], metric: str) -> float | None:
        pairs = [pair for model in models for pair in model.pairs.get(metric, ())]
        return auroc(np.array(pairs)) - 0.5 if pairs else None

    found = _over_seeds(_models(folder), of_seed, tested)
    if not found:
        raise RunError(f"{folder}: no cell has a score beside that of {TWIN}")
    return found


def agreements(folder: Path, tested: Sequence[str] = TESTED) -> Found:
    """Spearman's correlation with the truth over seeds, of every metric; {} where none is known."""

    def of_seed(models: Sequence[Model], metric: str) -> float | None:
        known = [m.own for m in models if {metric, TRUTH, REGRET} <= m.own.keys()]
        rows = [[own[REGRET], own[metric], own[TRUTH]] for own in known]
        return binned(np.array(rows)) if rows else None

    found = _over_seeds(_models(folder), of_seed, tested)
    return {metric: one for metric, one in found.items() if metric not in (TRUTH, REGRET)}


def _over_seeds(
    models: Sequence[Model],
    of_seed: Callable[[Sequence[Model], str], float | None],
    tested: Sequence[str],
) -> Found:
    seeds = sorted({model.seed for model in models})
    found = {}
    for metric in dict.fromkeys(name for model in models for name in (*model.own, *model.pairs)):
        values = [of_seed([m for m in models if m.seed == seed], metric) for seed in seeds]
        if known := [value for value in values if value is not None]:
            found[metric] = effect(known)
    family = [m for m in tested if m in found and found[m].p is not None]
    corrected = dict(zip(family, holm([found[m].p for m in family]), strict=True))
    return {metric: (one, corrected.get(metric)) for metric, one in found.items()}


def binned(models: Float[np.ndarray, "model 3"]) -> float | None:
    """Mean over bins of equal regret of the correlation of two scores: (regret, score, truth).

    Bins are of as many models, by rank; one in which either score is the same for all says nothing.
    """
    ordered = models[np.argsort(models[:, 0], kind="stable")]
    parts = np.array_split(ordered, min(BINS, max(1, len(ordered) // FEWEST)))
    found = [spearman(part[:, 1], part[:, 2]) for part in parts if len(part) >= FEWEST]
    known = [value for value in found if value is not None]
    return float(np.mean(known)) if known else None


def spearman(x: Float[np.ndarray, " model"], y: Float[np.ndarray, " model"]) -> float | None:
    """Correlation of ranks, ties sharing theirs; None where all of one are equal."""
    ranks = [_ranks(x), _ranks(y)]
    if any(np.ptp(rank) == 0 for rank in ranks):
        return None
    return float(np.corrcoef(*ranks)[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts - 1) / 2)[place]


def auroc(pairs: np.ndarray) -> float:
    """How often one of the first column exceeds one of the second; ties count half."""
    difference = pairs[:, 0][:, None] - pairs[:, 1][None, :]
    return float((0.5 + 0.5 * np.sign(difference)).mean())


def _models(folder: Path) -> list[Model]:
    grid_file = read_json(Path(folder) / "grid.json")
    if grid_file is None:
        raise RunError(f"{folder} is not a grid: it has no grid.json")
    return [_model(Path(folder) / "cells" / n, c["seed"]) for n, c in grid_file["cells"].items()]


def _model(cell: Path, seed: int) -> Model:
    own: dict[str, list[float]] = {}
    pairs: dict[str, list[tuple[float, float]]] = {}
    for score in (read_json(cell / "scores.json") or {}).get("scores", []):
        if not is_number(score.get("value")):
            continue
        sign = _sign(score)
        own.setdefault(score["metric"], []).append(sign * score["value"])
        twin = (score.get("controls") or {}).get(TWIN)
        if is_number(twin):
            pairs.setdefault(score["metric"], []).append((sign * score["value"], sign * twin))
    return Model(seed, {metric: float(np.mean(values)) for metric, values in own.items()}, pairs)


def _sign(score: Mapping[str, Any]) -> float:
    """What is better when lower separates when the trained model is below."""
    return -1.0 if score.get("better") == "lower" else 1.0


@dataclass(frozen=True)
class Preference:
    """What a metric gives the two plants, as it is, and which of them it holds for the better."""

    latents: float
    superposed: float
    prefers: str | None
    """None where both score the same"""


def preferences(folder: Path) -> dict[str, Preference]:
    """Both plants' scores by metric, of those that have a value for both; {} before they are scored."""
    held = (read_json(Path(folder) / FILE) or {}).get("plants", {})
    values: list[dict[str, float]] = []
    signs: dict[str, float] = {}
    for plant in PLANTS:
        scores = [score for score in held.get(plant, []) if is_number(score.get("value"))]
        values.append({score["metric"]: score["value"] for score in scores})
        signs |= {score["metric"]: _sign(score) for score in scores}
    found = {}
    for metric in (m for m in values[0] if m in values[1]):
        both = values[0][metric], values[1][metric]
        gap = signs[metric] * (both[0] - both[1])
        found[metric] = Preference(*both, (LATENTS if gap > 0 else SUPERPOSED) if gap else None)
    return found


def preferred(found: Mapping[str, Preference], tested: Sequence[str] = TESTED) -> str:
    """The plants' scores as Markdown; the tested metrics first, then the truth and the regret."""
    head = "| metric | units are latents | superposed | prefers | |"
    lines = [head, "|---|---|---|---|---|"]
    for metric in (*(m for m in tested if m in found), *(m for m in found if m not in tested)):
        one, said = found[metric], "" if metric in tested else "exploratory"
        row = (
            f"| {metric} | {one.latents:.3f} | {one.superposed:.3f} | {one.prefers or 'neither'} | "
        )
        lines.append(f"{row}{said} |")
    return "\n".join(lines)


def prediction(
    apart: Found, found: Mapping[str, Preference], tested: Sequence[str] = TESTED
) -> str:
    """Of how many of the tested metrics the null prediction is true, in a sentence."""
    known = [metric for metric in tested if metric in apart and metric in found]
    weak = {metric for metric in known if 0.5 + apart[metric][0].value < WEAK}
    fooled = {metric for metric in known if found[metric].prefers == SUPERPOSED}
    return (
        f"Null prediction: {len(weak | fooled)} of {len(known)} tested metrics have an AUROC below "
        f"{WEAK:g} ({len(weak)}) or prefer the superposed plant ({len(fooled)})."
    )


def table(found: Found, title: str, null: float) -> str:
    """Effects as Markdown, `null` added; the tested metrics first."""
    lines = [f"| metric | {title} | low | high | seeds | p (Holm) |", "|---|---|---|---|---|---|"]
    order = lambda item: (item[1][1] is None, -item[1][0].value)
    for metric, (one, p) in sorted(found.items(), key=order):
        ends = [f"{null + end:.3f}" if end is not None else "–" for end in (one.low, one.high)]
        said = f"{p:.2g}" if p is not None else "exploratory"
        row = [metric, f"{null + one.value:.3f}", *ends, str(one.n), said]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def tables(folder: Path) -> str:
    """Both endpoints of a grid's folder as Markdown, and what the metrics say of the two plants."""
    apart, plants = separations(folder), preferences(folder)
    said = [table(apart, "AUROC, trained against permuted", 0.5)]
    said.append(table(agreements(folder), "Spearman with the truth", 0.0))
    if plants:
        return "\n\n".join([*said, preferred(plants), prediction(apart, plants)])
    command = f"python -m pellucid.experiments.plants {folder}"
    return "\n\n".join([*said, f"The plants are not scored yet: `{command}` does it."])


if __name__ == "__main__":
    sys.exit(analysis(tables, sys.argv[1:]))
