"""Halves of a stream: whole documents, about equal, the same wherever a document stands."""

import numpy as np
import pytest
from support.planted import stream_of

from pellucid.eval.halves import halves
from pellucid.eval.score import NoValue
from pellucid.eval.stream import Stream


def ragged(n: int = 41, seed: int = 0) -> Stream:
    lengths = (3 * np.random.default_rng(seed).pareto(1.1, n) + 1).astype(int)
    return stream_of([[1] * length for length in lengths])


def reordered(stream: Stream, order: np.ndarray) -> Stream:
    pieces = [stream.tokens[a:b] for a, b in zip(stream.offsets, stream.offsets[1:])]
    lengths = np.diff(stream.offsets)[order]
    return Stream(
        tokens=np.concatenate([pieces[i] for i in order]),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        names=[stream.names[i] for i in order],
        doc_bytes=stream.doc_bytes[order],
        eot=stream.eot,
        complete=True,
    )


def by_name(stream: Stream, seed: int) -> dict[str, bool]:
    return {
        name: bool(in_a)
        for name, in_a in zip(stream.names, halves(stream, seed)[stream.offsets[:-1]])
    }


@pytest.mark.parametrize("seed", range(5))
def test_whole_documents_go_to_a_half_and_halves_are_about_equal(seed):
    stream = ragged()
    in_a = halves(stream, seed)
    for first, last in zip(stream.offsets, stream.offsets[1:]):
        assert in_a[first:last].all() or not in_a[first:last].any()
    longest = np.diff(stream.offsets).max()
    assert abs(in_a.sum() - (~in_a).sum()) <= longest
    even = stream_of([[1] * 9] * 40)
    assert halves(even, seed).mean() == 0.5


def test_halves_go_by_name_and_seed_and_not_by_place():
    stream = ragged()
    order = np.random.default_rng(1).permutation(stream.n_documents)
    assert by_name(stream, 3) == by_name(reordered(stream, order), 3)
    drawn = [tuple(by_name(stream, seed).values()) for seed in range(8)]
    assert len(set(drawn)) == 8


def test_one_document_cannot_be_halved():
    with pytest.raises(NoValue, match="one document"):
        halves(stream_of([[1, 2, 3]]), 0)
    assert halves(stream_of([[1], [2]]), 0).mean() == 0.5
