"""`evaluate`: score one run and write what was found into its folder."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from pellucid.errors import RunError
from pellucid.eval import score, units_page
from pellucid.eval.reader import Reader, Track
from pellucid.eval.score import Score
from pellucid.eval.stream import sample
from pellucid.eval.suite import METRICS, SUITES
from pellucid.eval.table import table
from pellucid.eval.workbench import Workbench
from pellucid.models import Transformer
from rich.console import Console
from rich.progress import Progress


def evaluate(
    run: Any, *, suite: str = "quick", split: str = "val", seed: int = 0, progress: bool = True
) -> list[Score]:
    """Score a loaded run on a held-out split; writes `scores.json` and `units.json` to its folder.

    The same seed gives the same numbers, bit for bit. Raises RunError for an unknown suite or split.
    """
    if suite not in SUITES:
        raise RunError(f"suite {suite!r} is unknown: {', '.join(SUITES)} are accepted")
    if split not in ("val", "test"):
        raise RunError(f"split {split!r} is not held out: val and test are accepted")
    with _progress(progress) as track:
        bench = workbench(run, suite=suite, split=split, seed=seed, track=track)
        scores = [one for metric in METRICS.values() for one in metric(bench)]
        about = {"checkpoint": run.step, "data_fingerprint": run.data.fingerprint}
        units = units_page.pack(bench.reader, run.tokenizer, split=split, **about)
    _write(run.folder.scores, score.pack(scores, suite=suite, **about))
    _write(run.folder.units, units)
    if progress:
        Console().print(table(scores))
    return scores
