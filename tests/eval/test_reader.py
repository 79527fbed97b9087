"""Bits are those the model's own probabilities imply, each position once, in its window."""

import numpy as np
import pytest
import torch
from support.planted import Planted, before, random_stream, stream_of
from support.small import VOCAB, small_model

from pellucid.errors import RunError
from pellucid.eval import stream as streams
from pellucid.eval.reader import Reader

VOCABULARY = 11


def one_unit(predict, vocab_size=VOCABULARY) -> Planted:
    return Planted([lambda tokens: tokens == 1], vocab_size=vocab_size, predict=predict)


def test_bits_are_those_of_a_table_of_next_tokens():
    table = torch.randn(VOCABULARY, VOCABULARY, generator=torch.Generator().manual_seed(0))
    text = random_stream(7, 23, vocab_size=VOCABULARY)
    log2 = (table.double().log_softmax(-1) / np.log(2)).numpy()
    expected = -log2[text.tokens, text.targets()]
    reader = Reader(one_unit(lambda tokens: table[tokens]), text, context=10)
    np.testing.assert_allclose(reader.end_to_end.bits, expected, rtol=1e-5)
    np.testing.assert_allclose(reader.overlapping.bits, expected, rtol=1e-5)


def test_overlapping_rows_give_every_token_half_a_context():
    """A model that is sure only from its 6th column on: it knows the text, but needs to warm up."""
    context, text = 10, random_stream(6, 30, vocab_size=VOCABULARY)
    known = torch.from_numpy(text.targets())
    places = iter(())

    def predict(tokens):
        logits = torch.zeros(*tokens.shape, VOCABULARY)
        at = torch.tensor([next(places) for _ in tokens])[:, None] + torch.arange(tokens.shape[1])
        sure = torch.nn.functional.one_hot(known[at], VOCABULARY) * 50.0
        sure[:, : context // 2] = 0
        return logits + sure

    reader = Reader(one_unit(predict), text, context=context)
    n, unsure = len(text.tokens), np.log2(VOCABULARY)
    places = iter(range(0, n, context))
    end_to_end = np.where(np.arange(n) % context < context // 2, unsure, 0.0)
    np.testing.assert_allclose(reader.end_to_end.bits, end_to_end, atol=1e-6)
    # The halves that were unsure are read again, in rows between those of before.
    places = iter(range(context // 2, n, context))
    overlapping = np.where(np.arange(n) < context // 2, unsure, 0.0)
    np.testing.assert_allclose(reader.overlapping.bits, overlapping, atol=1e-6)


def test_bits_of_a_transformer_do_not_depend_on_how_rows_are_batched(monkeypatch):
    text = random_stream(9, 40, vocab_size=VOCAB)
    found = []
    for chunk in (24, 100, 10_000):
        monkeypatch.setattr(streams, "CHUNK_TOKENS", chunk)
        found.append(Reader(small_model("topk"), text, context=24).end_to_end)
    for other in found[1:]:
        np.testing.assert_allclose(other.bits, found[0].bits, rtol=1e-9)
    model, first = small_model("topk"), torch.from_numpy(text.tokens[None, :24])
    nats = torch.nn.functional.cross_entropy(
        model(first).logits[0], torch.from_numpy(text.tokens[1:25]), reduction="none"
    )
    np.testing.assert_allclose(found[0].bits[:24], nats.detach() / np.log(2), rtol=1e-6)


def test_counts_go_to_the_document_of_each_token():
    text = stream_of([[1, 1, 2], [2, 2], [1]])
    rules = [lambda t: t == 1, lambda t: t == 2, lambda t: (t == 2) & (before(t) == 2)]
    for sparse in (False, True):
        model = Planted(rules, vocab_size=VOCABULARY, sparse=sparse)
        activity = Reader(model, text, context=16).sightings.activity["blocks.0.mlp"]
        np.testing.assert_array_equal(activity.by_document, [3, 3, 1])
        np.testing.assert_array_equal(activity.times, [3, 3, 1])
        np.testing.assert_allclose(activity.density, np.array([3, 3, 1]) / 9)
        assert activity.most == 2


def test_predictions_that_are_not_numbers_are_refused():
    text = random_stream(3, 8, vocab_size=VOCABULARY)
    model = one_unit(lambda tokens: torch.full((*tokens.shape, VOCABULARY), torch.nan))
    with pytest.raises(RunError, match="NaN"):
        _ = Reader(model, text, context=8).end_to_end
