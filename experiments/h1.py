"""Which interpretability metrics can tell a trained model from noise?

`pellucid sweep h1`, then `python -m pellucid.experiments.h1 grids/h1`. Eight fillings at three
sparsities or widths on text of known latents, five seeds. The endpoint is a property of metrics and
not of arms, so the grid declares none: for each metric, how often a trained model scores above a
twin whose weights are permuted (AUROC, ties half), its Student interval over seeds, Holm-corrected
over metrics against 0.5. Null prediction: most metrics stay below 0.7.
Whether a metric follows the truth, rather than training, it does not ask.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pellucid.errors import RunError
from pellucid.experiments import analysis
from pellucid.report.reading import read_json
from pellucid.report.scores import is_number
from pellucid.sweep import Grid, Tuning
from pellucid.sweep.statistics import Effect, effect, holm

TWIN = "permuted_weights"
WIDTHS = (256, 512, 1024)
ACTIVE = (8, 16, 32)
STEPS, TRIAL = 3052, 611
"""50M and 10M tokens in steps of 16,384."""

grid = Grid(
    name="h1",
    base=(
        "tiny data=latent data.n_documents=200000 data.vocab_size=512 n_layers=4 d_model=128 "
        f"context=256 train.batch=64 train.steps={STEPS}"
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
    tune=Tuning(seeds=(100,), words=f"train.steps={TRIAL}"),
)


def separations(folder: Path) -> dict[str, tuple[Effect, float | None]]:
    """By metric: AUROC less 0.5 over seeds, and its p-value corrected over all metrics.

    Raises RunError for a folder that is no grid, or of which no cell has a permuted twin's scores.
    """
    pairs = _pairs(folder)
    if not pairs:
        raise RunError(f"{folder}: no cell has a score beside that of {TWIN}")
    found = {
        metric: effect([auroc(np.array(rows)) - 0.5 for rows in seeds.values()])
        for metric, seeds in pairs.items()
    }
    tested = [metric for metric, one in found.items() if one.p is not None]
    corrected = dict(zip(tested, holm([found[metric].p for metric in tested]), strict=True))
    return {metric: (one, corrected.get(metric)) for metric, one in found.items()}


def auroc(pairs: np.ndarray) -> float:
    """How often one of the first column exceeds one of the second; ties count half."""
    difference = pairs[:, 0][:, None] - pairs[:, 1][None, :]
    return float((0.5 + 0.5 * np.sign(difference)).mean())


def _pairs(folder: Path) -> dict[str, dict[int, list[tuple[float, float]]]]:
    """By metric and seed: (trained, permuted) of every cell and site."""
    grid_file = read_json(Path(folder) / "grid.json")
    if grid_file is None:
        raise RunError(f"{folder} is not a grid: it has no grid.json")
    found: dict[str, dict[int, list[tuple[float, float]]]] = {}
    for name, cell in grid_file["cells"].items():
        held = read_json(Path(folder) / "cells" / name / "scores.json") or {}
        for score in held.get("scores", []):
            twin = (score.get("controls") or {}).get(TWIN)
            if is_number(score.get("value")) and is_number(twin):
                seeds = found.setdefault(score["metric"], {})
                # What is better when lower separates when the trained model is below.
                sign = -1.0 if score.get("better") == "lower" else 1.0
                pair = (sign * score["value"], sign * twin)
                seeds.setdefault(cell["seed"], []).append(pair)
    return found


def table(found: Mapping[str, tuple[Effect, float | None]]) -> str:
    """The separations as Markdown."""
    lines = ["| metric | AUROC | low | high | seeds | p (Holm) |", "|---|---|---|---|---|---|"]
    for metric, (one, p) in sorted(found.items(), key=lambda item: -item[1][0].value):
        ends = [f"{0.5 + end:.3f}" if end is not None else "–" for end in (one.low, one.high)]
        said = f"{p:.2g}" if p is not None else "–"
        row = [metric, f"{0.5 + one.value:.3f}", *ends, str(one.n), said]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(analysis(lambda folder: table(separations(folder)), sys.argv[1:]))
