"""Where in Python a model loses its bits: cross-entropy by the class of the token it predicts."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Integer

from pellucid.eval.bootstrap import Interval, ratio
from pellucid.eval.capability.parts import by_part, tokenizer_of
from pellucid.eval.labels.classes import CLASSES, NEEDED, UNKNOWN, classes
from pellucid.eval.labels.python import PythonLabels
from pellucid.eval.labels.source import label_stream
from pellucid.eval.score import NoValue, Score
from pellucid.eval.stream import Stream

if TYPE_CHECKING:
    from pellucid.eval.workbench import Workbench

PARTS = (*CLASSES, "end_of_text")
END = PARTS.index("end_of_text")


def cross_entropy_by_class(bench: "Workbench") -> list[Score]:
    """Bits per token, over all tokens of files that are Python and by class."""
    stream = bench.stream
    here = classes_of(bench)
    target = targets(stream, here)
    measure = lambda system: by_class(stream, system.end_to_end.bits, target, seed=bench.seed)
    orders = {"bigram": 2, "kneser_ney_5gram": 5}
    references = {
        name: by_class(stream, bench.ngram(order).bits, target, seed=bench.seed)
        for name, order in orders.items()
    }
    return by_part(
        bench,
        "cross_entropy_by_class",
        measure,
        better=lambda _: "lower",
        references=references,
    )


def classes_of(bench: "Workbench") -> Integer[np.ndarray, " token"]:
    """The class of each token of held-out Python. Raises NoValue where nothing has one."""
    return bench.once("syntax classes", bench.reader, lambda _: _classes_of(bench))


def _classes_of(bench: "Workbench") -> Integer[np.ndarray, " token"]:
    table = bench.labels
    if isinstance(table, str) or not set(NEEDED) <= set(table.names):
        # The labels that were asked for are others: the classes need those of Python.
        token_bytes = tokenizer_of(bench).token_bytes
        table = label_stream(bench.stream, token_bytes, PythonLabels(), bench.beside())
    _, here = classes(table)
    if (here == UNKNOWN).all():
        raise NoValue("none of the held-out files is Python")
    return here


def targets(stream: Stream, here: Integer[np.ndarray, " token"]) -> Integer[np.ndarray, " token"]:
    """The class of the token that each position predicts; the end of a text is one of its own.

    Position p predicts token p + 1; the last one predicts the eot that is not stored.
    """
    found = here.copy()
    found[stream.offsets[:-1]] = END
    return np.append(found[1:], END)


def by_class(
    stream: Stream, bits: np.ndarray, target: np.ndarray, *, seed: int
) -> dict[str | None, Interval]:
    """Mean bits of the positions whose target has a class, and of each class that occurs."""
    masks = {None: target != UNKNOWN}
    masks |= {name: target == number for number, name in enumerate(PARTS)}
    return {
        name: over_positions(stream, bits, mask, seed=seed)
        for name, mask in masks.items()
        if mask.any()
    }


def over_positions(stream: Stream, values: np.ndarray, mask: np.ndarray, *, seed: int) -> Interval:
    """The mean of values at some positions; its interval over the documents that have any."""
    above, below = stream.per_document(np.where(mask, values, 0.0)), stream.per_document(mask * 1.0)
    return ratio(above[below > 0], below[below > 0], seed=seed)
