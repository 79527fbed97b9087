"""Every position is read once, in its document's account, whatever the rows."""

from types import SimpleNamespace

import numpy as np
import pytest
from support.planted import random_stream, stream_of

from pellucid.eval.stream import batches, sample


@pytest.mark.parametrize("stride", [8, 4, 3, 1])
@pytest.mark.parametrize("n", [1, 7, 8, 9, 15, 16, 17, 64, 101])
def test_rows_reach_every_position_and_none_is_longer_than_the_context(n, stride):
    context, predicted = 8, np.zeros(n, dtype=int)
    for starts, length in batches(n, context, stride, rows=3):
        assert 1 <= length <= context
        for start in starts:
            assert start + length <= n
            predicted[start + (0 if start == 0 else context - stride) : start + length] += 1
    np.testing.assert_array_equal(predicted, 1)


def test_a_document_is_charged_for_its_tokens_and_for_the_eot_that_ends_it():
    stream = stream_of([[5, 6], [7], [8, 9, 8]])
    np.testing.assert_array_equal(stream.targets(), [5, 6, 0, 7, 0, 8, 9, 8, 0])
    np.testing.assert_array_equal(stream.per_document(np.ones(9)), [3, 2, 4])
    np.testing.assert_array_equal(stream.document, [0, 0, 0, 1, 1, 2, 2, 2, 2])


def as_split(stream):
    return SimpleNamespace(
        tokens=stream.tokens.astype(np.uint16),
        offsets=stream.offsets,
        names=stream.names,
        doc_bytes=stream.doc_bytes,
    )


def test_a_budget_takes_whole_documents_drawn_by_the_seed():
    split = as_split(random_stream(40, 9, vocab_size=50))
    drawn = [sample(split, eot=0, tokens=105, seed=seed) for seed in (1, 1, 2)]
    assert drawn[0].names == drawn[1].names != drawn[2].names
    assert drawn[0].n_documents == 10
    assert not drawn[0].complete
    assert drawn[0].flags == ("a seeded sample of 10 documents, 100 tokens",)
    for i, name in enumerate(drawn[0].names):
        a, b = drawn[0].offsets[i : i + 2]
        j = split.names.index(name)
        np.testing.assert_array_equal(drawn[0].tokens[a:b], split.tokens[10 * j : 10 * j + 10])


def test_without_a_budget_or_within_it_the_split_is_whole():
    split = as_split(random_stream(5, 9, vocab_size=50))
    for tokens in (None, 50):
        stream = sample(split, eot=0, tokens=tokens, seed=0)
        assert stream.complete
        assert stream.flags == ()
        np.testing.assert_array_equal(stream.tokens, split.tokens)


def test_where_no_document_fits_the_shortest_is_taken():
    split = as_split(stream_of([[1] * 30, [2] * 20, [3] * 40]))
    assert sample(split, eot=0, tokens=10, seed=0).names == ["file_1.txt"]
