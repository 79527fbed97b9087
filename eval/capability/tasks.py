"""The tasks on Python text: do cues decide what a model writes, and over what distance?

Accuracy and loss of each task, of the twenty and of the ten held-out ones together, and of those
with filler between cue and answer. Beside them n-grams of the training text, and what the last
tokens of a prompt alone give away.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pellucid.errors import UserError
from pellucid.eval.bootstrap import Interval, mean
from pellucid.eval.capability.answers import (
    answer_log_probs,
    margin_accuracy,
    ngram_answer_log_probs,
    task_loss,
)
from pellucid.eval.capability.parts import by_part, nothing, tokenizer_of
from pellucid.eval.capability.solvability import LONGEST, solvable
from pellucid.eval.controls import Found
from pellucid.eval.families import FAMILY
from pellucid.eval.score import NoValue, Score
from pellucid.eval.tasks import TASKS, TaskBatch, draw

if TYPE_CHECKING:
    from pellucid.eval.workbench import Workbench

NEAR_PAIRS, FAR_PAIRS = 64, 16
"""Pairs of each task at distance 0, and of each stratum."""
THREE = ("single_double_quote", "for_while", "final_kwarg")
"""Tasks of a quick look: a string, a header, a signature."""
NO_PROBABILITY = "a table of endings gives no probabilities"
ORDERS = {"unigram": 1, "bigram": 2, "kneser_ney_5gram": 5}

Answer = Callable[[TaskBatch], np.ndarray]


class Drawn(NamedTuple):
    """Batches by task and distance, and why some are missing."""

    batches: dict[tuple[str, int], TaskBatch]
    missing: dict[tuple[str, int], str]


def tasks(bench: "Workbench") -> list[Score]:
    """Accuracy and loss of all tasks and strata."""
    return _scores(bench, "tasks", draw_all(bench, TASKS, far=True))


def tasks_quick(bench: "Workbench") -> list[Score]:
    """Accuracy and loss of three of the tasks, without strata."""
    return _scores(bench, "tasks_quick", draw_all(bench, THREE, far=False))


def _scores(bench: "Workbench", metric: str, drawn: Drawn) -> list[Score]:
    measure = lambda system: found(drawn, lambda batch: answer_log_probs(system.model, batch))
    references = {name: found(drawn, _ngram(bench, order)) for name, order in ORDERS.items()}
    references |= _endings(bench, drawn)
    read = sum(batch.tokens_a.numel() + batch.tokens_b.numel() for batch in drawn.batches.values())
    return by_part(
        bench,
        metric,
        measure,
        better=_better,
        references=references,
        flags=_said(drawn),
        tokens=read,
    )


def draw_all(bench: "Workbench", names: Iterable[str], *, far: bool, seed: int = 0) -> Drawn:
    """Batches of tasks (and strata) that this tokenizer and context have room for."""
    tokenizer = tokenizer_of(bench)
    batches, missing = {}, {}
    for name in names:
        for distance in (0, *(TASKS[name].distances if far else ())):
            try:
                batches[name, distance] = draw(
                    TASKS[name],
                    tokenizer,
                    FAR_PAIRS if distance else NEAR_PAIRS,
                    distance=distance,
                    family=FAMILY[bench.split],
                    seed=bench.seed + seed,
                    context=bench.reader.context,
                )
            except UserError as reason:
                missing[name, distance] = str(reason)
    if not batches:
        raise NoValue(next(iter(missing.values())))
    return Drawn(batches, missing)


def found(drawn: Drawn, answer: Answer) -> dict[str | None, Interval]:
    """Accuracy and loss of every batch and their means, by the names of `part`."""
    log_p = {key: answer(batch) for key, batch in drawn.batches.items()}
    for key, values in log_p.items():
        if np.isnan(values[:, :, 0]).any():
            raise NoValue(f"the model predicts NaN on task {key[0]}")
    accuracy = {key: margin_accuracy(values) for key, values in log_p.items()}
    loss = {key: task_loss(values) for key, values in log_p.items() if key[1] == 0}
    return summary(drawn, accuracy) | summary(drawn, loss, what="loss")


def summary(
    drawn: Drawn, values: dict[tuple[str, int], np.ndarray], what: str = ""
) -> dict[str | None, Interval]:
    """Each task over its pairs, and means over tasks: the tasks are what is drawn there."""
    rows = {part(*key, what): mean(v, seed=0, what="pairs") for key, v in values.items()}
    for (name, distance), reason in drawn.missing.items():
        if not what or distance == 0:
            rows[part(name, distance, what)] = nothing(reason)
    means = {key: float(v.mean()) for key, v in values.items()}
    groups = {None: _of(means, held_out=False), "held_out": _of(means, held_out=True)}
    groups |= {
        f"distance_{d}": [v for (_, at), v in means.items() if at == d]
        for d in sorted({d for _, d in means} - {0})
    }
    whole = {
        (f"{group}:{what}" if group and what else group or what or None): mean(
            np.array(v), seed=0, what="tasks"
        )
        for group, v in groups.items()
        if v
    }
    return whole | rows


def part(name: str, distance: int, what: str) -> str:
    """Such as `for_while`, `for_while:loss` or `var_if:distance_32`."""
    return ":".join(
        [name, *([f"distance_{distance}"] if distance else []), *([what] if what else [])]
    )


def _of(means: dict[tuple[str, int], float], *, held_out: bool) -> list[float]:
    return [v for (name, d), v in means.items() if d == 0 and TASKS[name].held_out == held_out]


def _better(name: str | None) -> str:
    return "lower" if name and name.split(":")[-1] == "loss" else "higher"


def _said(drawn: Drawn) -> tuple[str, ...]:
    left_out = sorted({name for name, distance in drawn.missing if distance == 0})
    return (f"without {', '.join(left_out)}",) if left_out else ()


def _ngram(bench: "Workbench", order: int) -> Answer:
    return lambda batch: ngram_answer_log_probs(bench.fitted_ngram(order), batch)


def _endings(bench: "Workbench", drawn: Drawn) -> dict[str, Found]:
    """What tables of the last tokens score, learnt from other prompts of the same family."""
    far = any(distance for _, distance in drawn.batches)
    seen = draw_all(bench, sorted({name for name, _ in drawn.batches}), far=far, seed=1).batches
    both = {key: (seen[key], batch) for key, batch in drawn.batches.items() if key in seen}
    tables = {}
    for k in range(1, LONGEST + 1):
        values = {key: solvable(*pair, k) for key, pair in both.items()}
        near = [part(name, 0, "loss") for name, distance in values if not distance]
        silent = dict.fromkeys([*near, "loss", "held_out:loss"], nothing(NO_PROBABILITY))
        tables[f"last_{k}_tokens"] = summary(drawn, values) | silent
    return tables
