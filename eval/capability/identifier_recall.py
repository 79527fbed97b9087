"""What a model pays for a name it has read before, by how far back that was.

The bits of a name's first token: of names that stand nowhere before in the row a model reads, and
of names that do, by the tokens since. Long memory shows as bits that stay low with distance.
"""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Integer

from pellucid.eval.bootstrap import Interval
from pellucid.eval.capability.cross_entropy_by_class import over_positions
from pellucid.eval.capability.names import names_in
from pellucid.eval.capability.parts import by_part, tokenizer_of
from pellucid.eval.labels.pieces import texts_of
from pellucid.eval.score import NoValue, Score
from pellucid.eval.stream import Stream

if TYPE_CHECKING:
    from pellucid.eval.workbench import Workbench

BINS = {"1-8": (1, 8), "9-32": (9, 32), "33-128": (33, 128), "129-up": (129, 2**31)}
"""Tokens between the starts of a name and of the same name before it."""
NO_NAME, NEW = -1, 0


def identifier_recall(bench: "Workbench") -> list[Score]:
    """Bits of names already in the row, over all distances and by bin; and of `new` names."""
    stream, context = bench.stream, bench.reader.context
    token_bytes = tokenizer_of(bench).token_bytes
    since = distances(stream, texts_of(stream, token_bytes), token_bytes, context=context)
    if not (since > NEW).any():
        raise NoValue("no name occurs twice within a context of the held-out text")
    measure = lambda system: by_distance(stream, system.end_to_end.bits, since, seed=bench.seed)
    references = {
        name: by_distance(stream, bench.ngram(order).bits, since, seed=bench.seed)
        for name, order in (("bigram", 2), ("kneser_ney_5gram", 5))
    }
    return by_part(
        bench, "identifier_recall", measure, better=lambda _: "lower", references=references
    )


def distances(
    stream: Stream, texts: list[str], token_bytes: list[bytes], *, context: int
) -> Integer[np.ndarray, " token"]:
    """For each position, of the name that the next token begins: tokens since it last began.

    `NEW` where it is not in the same row of `context` tokens, `NO_NAME` where no name begins.
    """
    since = np.full(len(stream.tokens), NO_NAME, dtype=np.int64)
    for document, text in enumerate(texts):
        first, end = stream.offsets[document], stream.offsets[document + 1]
        sizes = [len(token_bytes[token]) for token in stream.tokens[first + 1 : end]]
        ends = first + 1 + np.arange(len(sizes)), np.cumsum(sizes)
        last: dict[str, int] = {}
        for byte, name in _names_by_byte(text):
            # The token in which the name begins; a space before it may belong to it.
            at = int(ends[0][np.searchsorted(ends[1], byte, side="right")])
            before = last.get(name, -1)
            # Position at-1 predicts it, having read its row up to itself.
            visible = before >= (at - 1) // context * context
            since[at - 1] = at - before if before >= 0 and visible else NEW
            last[name] = at
    return since


def _names_by_byte(text: str) -> list[tuple[int, str]]:
    found = names_in(text)
    if text.isascii():
        return found
    places = np.cumsum([0, *(len(character.encode()) for character in text)])
    return [(int(places[at]), name) for at, name in found]


def by_distance(
    stream: Stream, bits: np.ndarray, since: np.ndarray, *, seed: int
) -> dict[str | None, Interval]:
    """Mean bits of recalled names, of each bin, and of new names; intervals over documents."""
    masks = {None: since > NEW, "new": since == NEW}
    masks |= {name: (since >= a) & (since <= b) for name, (a, b) in BINS.items()}
    return {
        name: over_positions(stream, bits, mask, seed=seed)
        for name, mask in masks.items()
        if mask.any()
    }
