"""How well a model predicts held-out files, in bits per byte of text: lower is better.

Bits of all tokens, the ends of documents included, over UTF-8 bytes: the one number that does not
depend on the tokenizer. Beside it n-grams of the same training tokens, and the model's random twin.
"""

from collections.abc import Callable

import numpy as np

from pellucid.eval.bootstrap import Interval, ratio
from pellucid.eval.controls import CONTROLS, NO_PASS, System, under_controls
from pellucid.eval.reader import Predictions
from pellucid.eval.score import NoValue, Score
from pellucid.eval.workbench import Workbench

NGRAMS = {"bigram": 2, "kneser_ney_5gram": 5}
GIVEN = "the same for every model that uses this tokenizer"
END_TO_END = "random_twin reads its rows end to end"


def bits_per_byte(bench: Workbench) -> list[Score]:
    """Rows of `context` tokens laid end to end, as in training."""
    return _score(bench, "bits_per_byte", lambda system: system.end_to_end)


def bits_per_byte_overlap(bench: Workbench) -> list[Score]:
    """Rows that overlap by half, so that every token has at least half a context before it."""

    def read(system: System) -> Predictions:
        return system.overlapping if system is bench.reader else system.end_to_end

    return _score(bench, "bits_per_byte_overlap", read, (END_TO_END,))


def _score(
    bench: Workbench,
    metric: str,
    read: Callable[[System], Predictions],
    flags: tuple[str, ...] = (),
) -> list[Score]:
    return under_controls(
        bench,
        metric,
        lambda system: _per_byte(bench, read(system).bits),
        better="lower",
        without=NO_PASS,
        references={name: _per_byte(bench, bench.ngram(n).bits) for name, n in NGRAMS.items()},
        flags={None: (*flags, *bench.ngram_flags)},
    )


def bits_saved_over_5gram(bench: Workbench) -> list[Score]:
    """Bits per byte of the 5-gram less the model's, file by file: above 0, the model is better."""
    ngram = bench.ngram(5).bits
    return under_controls(
        bench,
        "bits_saved_over_5gram",
        lambda system: _per_byte(bench, ngram - system.end_to_end.bits),
        better="higher",
        without=NO_PASS,
        references={"bigram": _per_byte(bench, ngram - bench.ngram(2).bits)},
        flags={None: bench.ngram_flags},
    )


def bits_per_byte_given_up(bench: Workbench) -> list[Score]:
    """The price of interpretability: bits per byte more than the matched dense run, file by file.

    Raises NoValue where no dense run was named.
    """
    dense = bench.controls["dense_neurons"]
    if isinstance(dense, str):
        raise NoValue(dense)
    theirs = dense.end_to_end.bits
    return under_controls(
        bench,
        "bits_per_byte_given_up",
        lambda system: _per_byte(bench, system.end_to_end.bits - theirs),
        better="lower",
        without=NO_PASS | {"dense_neurons": "the dense run itself gives up nothing"},
        flags={None: (f"dense_neurons: {dense.remark}",) if dense.remark else ()},
    )


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
            controls=dict.fromkeys(CONTROLS, GIVEN),
            flags=stream.flags,
        )
    ]


def _per_byte(bench: Workbench, bits: np.ndarray) -> dict[str | None, Interval]:
    stream = bench.stream
    return {None: ratio(stream.per_document(bits), stream.doc_bytes, seed=bench.seed)}
