"""`evaluate`: score one run and write what was found into its folder."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from pellucid.errors import RunError
from pellucid.eval import score, units_page
from pellucid.eval.aside import Aside, aside
from pellucid.eval.concepts.examples import concept_examples
from pellucid.eval.controls import CONTROLS, FROZEN, NO_DENSE, NOT_MADE, System, made_units
from pellucid.eval.dense import check_dense, dense_reader
from pellucid.eval.elsewhere import itself, random_twin, read_ahead
from pellucid.eval.fitted import twin_of
from pellucid.eval.labels.choose import labelling
from pellucid.eval.labels.pieces import beside
from pellucid.eval.latents.known import known_of
from pellucid.eval.latents.labels import table_of
from pellucid.eval.permuted import permuted_weights
from pellucid.eval.processes import begun, spare
from pellucid.eval.reader import Reader
from pellucid.eval.score import Score
from pellucid.eval.siblings import NO_SEEDS, Sibling, check_siblings
from pellucid.eval.sightings import Track
from pellucid.eval.stream import sample
from pellucid.eval.suite import METRICS, SUITES, Metric
from pellucid.eval.table import table
from pellucid.eval.taking import permitted, taken
from pellucid.eval.workbench import Workbench
from pellucid.settings.console import console_of
from pellucid.settings.kinds import nearest
from pellucid.storage import files

if TYPE_CHECKING:
    from pellucid.run import Run

HELD_OUT = ("val", "test")
TABLE_WIDTH = 150
OVERLAP = "bits_per_byte_overlap"
LABELLED = "concept_coverage"
"""The metric whose units are shown, label by label, on the run's page."""
SEEDED = ("seed_consistency",)
"""Metrics that runs of other seeds make possible."""


def evaluate(
    run: "Run",
    *,
    suite: str = "quick",
    split: str = "val",
    seed: int = 0,
    labels: str | None = None,
    dense: "Run | None" = None,
    seeds: Sequence["Run"] = (),
    metrics: Sequence[str] | None = None,
    beside: Sequence[Score] = (),
    progress: bool = True,
) -> list[Score]:
    """Score a loaded run on a held-out split; writes `scores.json` and `units.json` to its folder.

    `metrics` names some of the suite's; `dense` is a matched dense run to stand beside this one, and
    `seeds` are runs that differ in their seed alone, whose units are compared with this one's. Scores
    of the run that were found elsewhere, `beside`, are written with the others.
    The same seed gives the same numbers, bit for bit. A metric that uses what the run was trained
    or chosen by gives a score without a value; where it was asked for by name, that is a RunError,
    as are an unknown suite or metric, and a split that is not held out.
    """
    _check(suite, split, metrics)
    wanted = _of(suite, metrics) | (_of(suite, SEEDED) if seeds else {})
    chosen = permitted(run, wanted, split=split, by_name=metrics is not None)
    about = {"checkpoint": run.step, "data_fingerprint": run.data.fingerprint}
    # Before an opening of the test split is noted: what is refused has read nothing.
    _check_beside(run, dense, seeds)
    if split == "test":
        now = datetime.now(UTC).isoformat(timespec="seconds")
        run.folder.note_opening(at=now, step=run.step, suite=suite)
    how = {"suite": suite, "split": split, "seed": seed, "labels": labels, "dense": dense}
    with tracking(progress) as track, begun(spare() if SUITES[suite].shared else 0):
        bench = workbench(run, seeds=seeds, track=track, **how)
        if not all(metric.alone for metric in chosen.values()):
            read_ahead(bench, run, dense, seeds, overlap=OVERLAP in chosen)
        other = aside(run, list(chosen), **how)
        scores = [*_taken(bench, chosen, other, track), *beside]
        units = units_page.pack(bench.reader, run.tokenizer, split=split, **about)
        units |= _concepts(bench, [one for one in scores if one.metric == LABELLED])
    # Units first: scores without the units they speak of would be the worse half to be left with.
    compact = files.dump(units, "units.json", RunError, indent=None)
    with files.explained(RunError, f"write {run.folder.units_file}"):
        files.replace(run.folder.units_file, compact)
    opened = len(run.folder.read_openings())
    run.folder.write_scores(score.pack(scores, suite=suite, test_openings=opened, **about))
    if progress:
        console_of(TABLE_WIDTH).print(table(scores, test_openings=opened))
    return scores


def _taken(bench: Workbench, chosen: dict[str, Metric], other: Aside, track: Track) -> list[Score]:
    """The scores of all metrics, in the order of the table."""
    take = lambda name: taken(bench, name, chosen[name])
    # Last what rests on a pass that another process makes when it has nothing else to do.
    mine = sorted((name for name in chosen if name not in other.begun), key=OVERLAP.__eq__)
    found = {name: take(name) for name in mine}
    found |= other.scores(track, take)
    return [one for name in chosen for one in found[name]]


def _concepts(bench: Workbench, scores: Sequence[Score]) -> dict[str, Any]:
    """Which units tell which label; what may not be scored is not shown either, and says why."""
    if not scores:
        return {}
    if any(one.value is not None for one in scores):
        return {"concepts": concept_examples(bench)}
    why = next((flag for flag in scores[0].flags if flag.startswith(score.NO_VALUE)), "")
    return {"concepts": {"reason": why.removeprefix(score.NO_VALUE), "labels": []}}


def _check(suite: str, split: str, metrics: Sequence[str] | None) -> None:
    if suite not in SUITES:
        raise RunError(f"suite {suite!r} is unknown: {', '.join(SUITES)} are accepted")
    if split not in HELD_OUT:
        raise RunError(f"split {split!r} is not held out: {' and '.join(HELD_OUT)} are accepted")
    for name in metrics or ():
        if name not in METRICS:
            raise RunError(f"metric {name!r} is unknown{nearest(name, METRICS)}")


def _check_beside(run: "Run", dense: "Run | None", seeds: Sequence["Run"]) -> None:
    """Raise RunError for runs that cannot stand beside this one."""
    if dense is not None:
        check_dense(run, dense)
    check_siblings(run, seeds)


def _of(suite: str, metrics: Sequence[str] | None) -> dict[str, Metric]:
    """The metrics of a suite, or those asked for by name."""
    if metrics is not None:
        return {name: METRICS[name] for name in metrics}
    return {name: metric for name, metric in METRICS.items() if suite in metric.suites}


def workbench(
    run: "Run",
    *,
    suite: str = "quick",
    split: str = "val",
    seed: int = 0,
    labels: str | None = None,
    dense: "Run | None" = None,
    seeds: Sequence["Run"] = (),
    track: Track | None = None,
) -> Workbench:
    """The run and its controls with the held-out text and the n-grams' training tokens.

    `dense` is a matched dense run, of the same data, and `seeds` are runs of other seeds alone;
    others raise RunError.
    Nothing is read yet: passes over the models are made when a metric first asks for them, once.
    """
    limits, train = SUITES[suite], run.data.split("train").tokens
    stream = sample(run.data.split(split), eot=run.tokenizer.eot, tokens=limits.tokens, seed=seed)
    known, token_bytes = known_of(run.data, split, stream, seed=seed), run.tokenizer.token_bytes
    others = lambda: beside(run.data, stream, token_bytes)
    if labels is None and not isinstance(known, str):
        labelled = lambda: table_of(known)
    else:
        place = {"data": run.data.fingerprint, "split": split, "beside": others}
        labelled = labelling(stream, token_bytes, labels, **place)
    shared = {"stream": stream, "context": run.config.model.context, "seed": seed}
    shared |= {"track": track} if track else {}
    cut = limits.ngram_tokens is not None and len(train) > limits.ngram_tokens
    seen = np.asarray(train[: limits.ngram_tokens])
    reader = Reader(run.model.eval(), shown=limits.shown, keep_inputs=True, **shared)
    return Workbench(
        reader=reader,
        twin=Reader(random_twin(run), label="random twin: ", **shared),
        controls=_controls(run, reader, dense, limits.controls, shared),
        train=seen,
        siblings=_siblings(run, list(seeds), shared) or NO_SEEDS,
        tokenizer=run.tokenizer,
        vocab_size=run.model.vocab_size,
        split=split,
        seed=seed,
        latents=known,
        labelled=labelled,
        rules=limits.rules,
        beside=others,
        ngram_flags=(f"the n-grams see the first {len(seen):,} training tokens",) if cut else (),
    )


def _controls(
    run: "Run", reader: Reader, dense: "Run | None", wanted: tuple[str, ...], shared: dict[str, Any]
) -> dict[str, System | str]:
    found: dict[str, System | str] = dict.fromkeys(CONTROLS, NOT_MADE)
    if "permuted_weights" in wanted:
        model = permuted_weights(run, seed=shared["seed"])
        found["permuted_weights"] = Reader(model, label="permuted weights: ", **shared)
    if "dense_neurons" in wanted:
        found["dense_neurons"] = NO_DENSE if dense is None else dense_reader(run, dense, shared)
    if len(wanted) > 1 and (twin := twin_of(run, shared)):  # not for a smoke test
        found[FROZEN] = twin
    made = made_units(reader, seed=shared["seed"])
    return found | {name: system for name, system in made.items() if name in wanted}


def _siblings(run: "Run", seeds: list["Run"], shared: dict[str, Any]) -> list[Sibling]:
    """Runs of other seeds and their twins, reading the same tokens; RunError where they differ."""
    check_siblings(run, seeds)
    return [
        Sibling(
            Reader(itself(other), label=f"seed {other.config.seed}: ", **shared),
            Reader(random_twin(other), label=f"seed {other.config.seed}, untrained: ", **shared),
        )
        for other in seeds
    ]


@contextmanager
def tracking(shown: bool) -> Iterator[Track]:
    """A way to show progress: a bar for each piece of work, or nothing."""
    if not shown:
        yield lambda items, what, length: items
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn()) as progress:

        def track(items: Iterable[Any], what: str, length: int) -> Iterable[Any]:
            return progress.track(items, total=length, description=what)

        yield track
