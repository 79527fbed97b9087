"""`evaluate`: score one run and write what was found into its folder."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from pellucid.errors import RunError
from pellucid.eval import score, units_page
from pellucid.eval.labels.choose import labels_of_stream
from pellucid.eval.reader import Reader, Track
from pellucid.eval.score import Score
from pellucid.eval.stream import sample
from pellucid.eval.suite import METRICS, SUITES
from pellucid.eval.table import table
from pellucid.eval.workbench import Workbench
from pellucid.models import Transformer
from pellucid.storage import files

if TYPE_CHECKING:
    from pellucid.run import Run

HELD_OUT = ("val", "test")


def evaluate(
    run: "Run",
    *,
    suite: str = "quick",
    split: str = "val",
    seed: int = 0,
    labels: str | None = None,
    progress: bool = True,
) -> list[Score]:
    """Score a loaded run on a held-out split; writes `scores.json` and `units.json` to its folder.

    The same seed gives the same numbers, bit for bit. Raises RunError for an unknown suite, and for
    a split that is not held out.
    """
    if suite not in SUITES:
        raise RunError(f"suite {suite!r} is unknown: {', '.join(SUITES)} are accepted")
    if split not in HELD_OUT:
        raise RunError(f"split {split!r} is not held out: {' and '.join(HELD_OUT)} are accepted")
    about = {"checkpoint": run.step, "data_fingerprint": run.data.fingerprint}
    with tracking(progress) as track:
        bench = workbench(run, suite=suite, split=split, seed=seed, labels=labels, track=track)
        scores = [one for metric in METRICS.values() for one in metric(bench)]
        units = units_page.pack(bench.reader, run.tokenizer, split=split, **about)
    # Units first: scores without the units they speak of would be the worse half to be left with.
    compact = files.dump(units, "units.json", RunError, indent=None)
    with files.explained(RunError, f"write {run.folder.units_file}"):
        files.replace(run.folder.units_file, compact)
    run.folder.write_scores(score.pack(scores, suite=suite, **about))
    if progress:
        Console().print(table(scores))
    return scores


def workbench(
    run: "Run",
    *,
    suite: str = "quick",
    split: str = "val",
    seed: int = 0,
    labels: str | None = None,
    track: Track | None = None,
) -> Workbench:
    """The run and its random twin with the held-out text and the n-grams' training tokens."""
    limits, train = SUITES[suite], run.data.split("train").tokens
    stream = sample(run.data.split(split), eot=run.tokenizer.eot, tokens=limits.tokens, seed=seed)
    shared = {"stream": stream, "context": run.config.model.context, "seed": seed}
    shared |= {"track": track} if track else {}
    cut = limits.ngram_tokens is not None and len(train) > limits.ngram_tokens
    seen = np.asarray(train[: limits.ngram_tokens])
    return Workbench(
        reader=Reader(run.model.eval(), shown=limits.shown, **shared),
        twin=Reader(random_twin(run), label="random twin: ", **shared),
        train=seen,
        vocab_size=run.model.vocab_size,
        split=split,
        seed=seed,
        labelled=lambda: labels_of_stream(stream, run.tokenizer.token_bytes, labels),
        ngram_flags=(f"the n-grams see the first {len(seen):,} training tokens",) if cut else (),
    )


def random_twin(run: "Run") -> Transformer:
    """The run's model with the random initial values of its seed."""
    weight = next(run.model.parameters())
    twin = Transformer(run.config.model, vocab_size=run.model.vocab_size, seed=run.config.seed)
    return twin.to(device=weight.device, dtype=weight.dtype).eval()


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
