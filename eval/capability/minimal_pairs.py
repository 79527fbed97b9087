"""Does a model prefer Python that works to the same with one mistake in it?

Definitions of held-out files, each beside itself with a mistake of one kind (`mutations.KINDS`); a
pair is right where Σ log p of the good text is above that of the bad one. Ties count half.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pellucid.eval.bootstrap import Interval, ratio
from pellucid.eval.capability.answers import wins
from pellucid.eval.capability.likelihood import sums
from pellucid.eval.capability.mutations import KINDS, bound_names, broken
from pellucid.eval.capability.parts import by_part, tokenizer_of
from pellucid.eval.capability.texts import parsed, snippets
from pellucid.eval.labels.pieces import texts_of
from pellucid.eval.ngram import NGram
from pellucid.eval.score import NoValue, Score

if TYPE_CHECKING:
    from pellucid.eval.workbench import Workbench

PAIRS = 64
"""Wanted of each kind."""
LONGEST = 600
"""Characters of a definition."""
MOST_FROM_ONE = 4
"""Pairs of a kind from the same document."""


class MinimalPair(NamedTuple):
    """A text that works and the same with one mistake."""

    document: int
    kind: str
    good: str
    bad: str


def minimal_pairs(bench: "Workbench") -> list[Score]:
    """Share of pairs in which the good text is the likelier, over all kinds and by kind."""
    tokenizer = tokenizer_of(bench)
    texts = texts_of(bench.stream, tokenizer.token_bytes)
    context, eot = bench.reader.context, bench.stream.eot
    rows = lambda text: [eot, *tokenizer.encode(text)]
    pairs = make_pairs(texts, seed=bench.seed, fits=lambda text: len(rows(text)) <= context + 1)
    if not pairs:
        raise NoValue("the held-out text has no Python definition that fits the context")
    goods, bads = ([rows(text) for text in side] for side in zip(*((p.good, p.bad) for p in pairs)))

    def measure(system) -> dict[str | None, Interval]:
        likelier = [sums(system.model, side, context=context) for side in (goods, bads)]
        return preferred(pairs, likelier[0] - likelier[1])

    ngram = bench.fitted_ngram(5)
    margin = ngram_sums(ngram, goods) - ngram_sums(ngram, bads)
    references = {"kneser_ney_5gram": preferred(pairs, margin)}
    return by_part(
        bench,
        "minimal_pairs",
        measure,
        better=lambda _: "higher",
        references=references,
        tokens=sum(map(len, goods + bads)),
    )


def make_pairs(
    texts: Sequence[str], *, seed: int, fits: Callable[[str], bool] = lambda text: True
) -> list[MinimalPair]:
    """Up to `PAIRS` of each kind from definitions in the texts, a pure function of the seed.

    A name that is put in comes from another definition. `fits` says which texts can be scored.
    """
    rng = np.random.default_rng([seed, 1])
    sources = snippets(texts, longest=LONGEST, seed=seed)
    names = sorted({name for s in sources[:200] for name in bound_names(parsed(s.text))})
    pairs: list[MinimalPair] = []
    for kind in KINDS:
        taken: dict[int, int] = {}
        for source in sources:
            if taken.get(source.document, 0) >= MOST_FROM_ONE:
                continue
            bad = broken(source.text, kind, rng, names)
            if bad is None or not (fits(source.text) and fits(bad)):
                continue
            taken[source.document] = taken.get(source.document, 0) + 1
            pairs.append(MinimalPair(source.document, kind, source.text, bad))
            if sum(taken.values()) == PAIRS:
                break
    return pairs


def preferred(pairs: Sequence[MinimalPair], margin: np.ndarray) -> dict[str | None, Interval]:
    """Share of pairs with a margin above zero, ties half, with intervals over documents."""
    right, kinds = wins(margin), np.array([pair.kind for pair in pairs])
    document = np.array([pair.document for pair in pairs])
    found = {None: over_documents(right, document)}
    for kind in KINDS:
        if (kinds == kind).any():
            found[kind] = over_documents(right[kinds == kind], document[kinds == kind])
    return found


def over_documents(values: np.ndarray, document: np.ndarray, *, seed: int = 0) -> Interval:
    """The mean of values, its interval by resampling the documents they stand in."""
    _, place = np.unique(document, return_inverse=True)
    return ratio(np.bincount(place, weights=values), np.bincount(place).astype(float), seed=seed)


def ngram_sums(ngram: NGram, rows: Sequence[Sequence[int]]) -> np.ndarray:
    """Σ log2 p of all tokens but the first of each row (row,), by an n-gram, in bits."""
    return np.array([float(ngram.log2_probs(np.array(row))[1:].sum()) for row in rows])
