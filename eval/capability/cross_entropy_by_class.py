"""Where in Python a model loses its bits: cross-entropy by the class of the token it predicts."""

from typing import TYPE_CHECKING

import numpy as np

from pellucid.eval.bootstrap import Interval, ratio
from pellucid.eval.capability.classes import CLASSES, UNKNOWN, token_classes
from pellucid.eval.capability.parts import by_part, tokenizer_of
from pellucid.eval.labels.source import texts_of
from pellucid.eval.score import NoValue, Score
from pellucid.eval.stream import Stream

if TYPE_CHECKING:
    from pellucid.eval.workbench import Workbench


def cross_entropy_by_class(bench: "Workbench") -> list[Score]:
    """Bits per token, over all tokens of files that Python's lexer reads, and by class."""
    stream, token_bytes = bench.stream, tokenizer_of(bench).token_bytes
    here = token_classes(stream, texts_of(stream, token_bytes), token_bytes)
    if not np.isin(here, (UNKNOWN, CLASSES.index("end_of_text")), invert=True).any():
        raise NoValue("Python's lexer reads none of the held-out files")
    # Position p predicts token p + 1; the last one predicts the eot that is not stored.
    target = np.append(here[1:], CLASSES.index("end_of_text"))
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


def by_class(
    stream: Stream, bits: np.ndarray, target: np.ndarray, *, seed: int
) -> dict[str | None, Interval]:
    """Mean bits of the positions whose target has a class, and of each class that occurs."""
    masks = {None: target != UNKNOWN}
    masks |= {name: target == number for number, name in enumerate(CLASSES)}
    return {
        name: over_positions(stream, bits, mask, seed=seed)
        for name, mask in masks.items()
        if mask.any()
    }


def over_positions(stream: Stream, values: np.ndarray, mask: np.ndarray, *, seed: int) -> Interval:
    """The mean of values at some positions; its interval over the documents that have any."""
    above, below = stream.per_document(np.where(mask, values, 0.0)), stream.per_document(mask * 1.0)
    return ratio(above[below > 0], below[below > 0], seed=seed)
