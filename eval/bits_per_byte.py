"""How well a model predicts held-out files, in bits per byte of text: lower is better.

Bits of all tokens, the ends of documents included, over UTF-8 bytes: the one number that does not
depend on the tokenizer. Beside it n-grams of the same training tokens, and the model's random twin.
"""

import numpy as np

from pellucid.eval.bootstrap import Interval, ratio
from pellucid.eval.reader import Predictions
from pellucid.eval.score import Score
from pellucid.eval.workbench import LATER, Workbench

GIVEN = "the same for every model that uses this tokenizer"


def bits_per_byte(bench: Workbench) -> list[Score]:
    """Rows of `context` tokens laid end to end, as in training."""
    return [_score(bench, "bits_per_byte", bench.reader.end_to_end)]


def bits_per_byte_overlap(bench: Workbench) -> list[Score]:
    """Rows that overlap by half, so that every token has at least half a context before it."""
    flag = "random_twin reads its rows end to end"
    return [_score(bench, "bits_per_byte_overlap", bench.reader.overlapping, (flag,))]


def bits_saved_over_5gram(bench: Workbench) -> list[Score]:
    """Bits per byte of the 5-gram less the model's, file by file: above 0, the model is better."""
    ours, twin, ngram = bench.reader.end_to_end, bench.twin.end_to_end, bench.ngram(5)
    saved = Predictions(ngram.bits - ours.bits, {}, {}, ours.seconds + ngram.seconds)
    controls = {
        "random_twin": _per_byte(bench, ngram.bits - twin.bits).value,
        "bigram": _per_byte(bench, ngram.bits - bench.ngram(2).bits).value,
        "permuted_weights": LATER,
    }
    return [_packed(bench, "bits_saved_over_5gram", saved, controls)]


def bytes_per_token(bench: Workbench) -> list[Score]:
    """UTF-8 bytes of text per token; the eot of a document is a token of no bytes."""
    stream = bench.stream
    found = ratio(stream.doc_bytes, np.diff(stream.offsets), seed=bench.seed)
    return [
        Score.of(
            found,
            metric="bytes_per_token",
            split=bench.split,
            seconds=0.0,
            tokens=len(stream.tokens),
            controls={"random_twin": GIVEN},
            flags=stream.flags,
        )
    ]


def _score(bench: Workbench, metric: str, ours: Predictions, flags: tuple[str, ...] = ()) -> Score:
    compared = {"bigram": bench.ngram(2), "kneser_ney_5gram": bench.ngram(5)}
    compared["random_twin"] = bench.twin.end_to_end
    controls = {name: _per_byte(bench, other.bits).value for name, other in compared.items()}
    return _packed(bench, metric, ours, controls | {"permuted_weights": LATER}, flags)


def _per_byte(bench: Workbench, bits: np.ndarray) -> Interval:
    stream = bench.stream
    return ratio(stream.per_document(bits), stream.doc_bytes, seed=bench.seed)


def _packed(
    bench: Workbench,
    metric: str,
    found: Predictions,
    controls: dict[str, float | str],
    flags: tuple[str, ...] = (),
) -> Score:
    return Score.of(
        _per_byte(bench, found.bits),
        metric=metric,
        split=bench.split,
        seconds=found.seconds,
        tokens=len(bench.stream.tokens),
        controls=controls,
        flags=(*flags, *bench.ngram_flags, *bench.stream.flags),
    )
