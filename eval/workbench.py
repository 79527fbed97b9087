"""What every metric is given: one run reading held-out text, its random twin, and n-grams."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from time import perf_counter
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Integer

from pellucid.data.tokenizer import Tokenizer
from pellucid.eval.controls import CONTROLS, NOT_MADE, System
from pellucid.eval.labels import LabelTable
from pellucid.eval.latents.known import OTHER_CORPUS, Known
from pellucid.eval.ngram import NGram
from pellucid.eval.once import once
from pellucid.eval.reader import Predictions, Reader
from pellucid.eval.rules.limits import DRAWN, Limits
from pellucid.eval.siblings import NO_SEEDS, Sibling
from pellucid.eval.stream import Stream

NO_LABELS = "no source of labels was given"
Found = TypeVar("Found")


@dataclass
class Workbench:
    """Everything that costs time is made when first asked for, and kept."""

    reader: Reader
    """the run"""
    twin: Reader
    """the same architecture at step 0, reading the same text"""
    train: Integer[np.ndarray, " token"]
    """training tokens that the n-grams are fitted on"""
    vocab_size: int
    split: str
    seed: int
    ngram_flags: tuple[str, ...] = ()
    """a sentence where the n-grams see fewer training tokens than the model did"""
    labelled: Callable[[], LabelTable | str] = lambda: NO_LABELS
    """makes the labels of the stream, or says why there are none"""
    beside: Callable[[], Mapping[str, str]] = dict
    """gives the texts, by name, of the pieces of files that are in other splits"""
    controls: dict[str, System | str] = field(default_factory=dict)
    """the controls of `eval/controls.py`, the twin among them, or why one is missing"""
    latents: Known | str = OTHER_CORPUS
    """the truth about the stream, where the corpus is one whose latents are known; else why not"""
    siblings: list[Sibling] | str = NO_SEEDS
    """runs that differ from this one in the seed alone, or why there are none"""
    tokenizer: Tokenizer | None = None
    """the run's, for metrics that write texts of their own"""
    rules: Limits = DRAWN
    """units that are given rules"""
    # Not for `dataclasses.replace` to hand on: what was found rests on the fields above.
    _ngrams: dict[int, Predictions] = field(default_factory=dict, init=False)
    _fitted: dict[int, NGram] = field(default_factory=dict, init=False)
    _found: dict[int, tuple[System, dict[Hashable, Any]]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        missing = dict.fromkeys(CONTROLS, NOT_MADE)
        self.controls = missing | self.controls | {"random_twin": self.twin}

    @property
    def stream(self) -> Stream:
        return self.reader.stream

    @cached_property
    def labels(self) -> LabelTable | str:
        """Labels of every token of the stream, or the reason in words why there are none."""
        return self.labelled()

    def once(self, name: str, system: System, find: Callable[[System], Found]) -> Found:
        """What several scores rest on, found once of each system; a NoValue is kept too."""
        # With the system itself, so that no other can come to have its number.
        kept = self._found.setdefault(id(system), (system, {}))[1]
        return once(kept, name, lambda: find(system))

    def ngram(self, order: int) -> Predictions:
        """What the n-gram of the training tokens pays for the same stream."""
        if order not in self._ngrams:
            start = perf_counter()
            fitted = self.fitted_ngram(order)
            # The eot that begins the stream is given to both, not predicted.
            bits = -fitted.log2_probs(np.append(self.stream.tokens, self.stream.eot))[1:]
            self._ngrams[order] = Predictions(bits, {}, {}, perf_counter() - start)
        return self._ngrams[order]

    def fitted_ngram(self, order: int) -> NGram:
        """The n-gram of the training tokens itself, for texts other than the stream."""
        if order not in self._fitted:
            for _ in self.reader.track([order], f"fitting the {order}-gram", 1):
                self._fitted[order] = NGram(self.train, self.vocab_size, order=order)
        return self._fitted[order]
