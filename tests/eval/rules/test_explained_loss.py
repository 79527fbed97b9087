"""Rules that say all of a model explain its loss; those of rotated units do not."""

from functools import cache

import numpy as np
import pytest
import torch
from support.planted import random_stream
from support.ruled import Spoken
from support.small import VOCAB as SMALL_VOCAB
from support.small import small_model

from pellucid.eval.halves import halves
from pellucid.eval.harvest import CHUNK, Harvest
from pellucid.eval.reader import Reader
from pellucid.eval.rules import Settings, explained_loss
from pellucid.eval.rules.explained_loss import Arms, Limits, measure
from pellucid.eval.rules.literals import Among
from pellucid.eval.rules.rule import Leaf, Rule, Scale, Split
from pellucid.eval.rules.splice import Part, Stand, losses, part, slots
from pellucid.eval.rules.text import Text
from pellucid.eval.score import NoValue
from pellucid.eval.stream import Stream
from pellucid.eval.suite import SUITES
from pellucid.models import ablate, intervene

VOCAB = 32
SETTINGS = Settings(places=1000)


def rotation(n: int = VOCAB) -> torch.Tensor:
    q, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((n, n)))
    return torch.from_numpy(q).float()


def whole(stream: Stream) -> Part:
    return part(stream, np.arange(stream.n_documents), 10**6)


@cache
def arms(rotated: bool, units: int = VOCAB) -> Arms:
    """Of a model with one unit for each token, or with those units rotated."""
    model = Spoken(torch.eye(VOCAB), rotation() if rotated else None)
    reader = Reader(model, model.text(40, 200), context=64)
    return measure(reader, halves(reader.stream, 0), SETTINGS, Limits(units=units))


def few_rotated(dead: int, total: int) -> Arms:
    """Of six rotated units, which few bits do not fit, and of so many more that never move."""
    table = torch.cat([torch.eye(6), torch.zeros(6, dead)], 1)
    model = Spoken(table, torch.block_diag(rotation(6), torch.eye(dead)))
    reader = Reader(model, model.text(12, 40), context=64)
    return measure(reader, halves(reader.stream, 0), Settings(places=300), Limits(total=total))


def test_units_that_are_rules_are_explained():
    score = arms(rotated=False).score("64bits", seed=0)
    assert score.value > 0.95 and score.low < score.value < score.high
    assert arms(rotated=False).score("32bits", seed=0).value > 0.95
    assert arms(rotated=False).bits["64bits"] < 32 * VOCAB


def test_the_same_model_with_rotated_units_is_not():
    assert arms(rotated=True).score("32bits", seed=0).value < 0.35
    full = [arms(rotated=r).full.sum() for r in (False, True)]
    assert full[0] == pytest.approx(full[1], rel=1e-4)


def test_more_bits_explain_more_and_are_counted():
    found = arms(rotated=True)
    values = [found.score(f"{bits}bits", seed=0).value for bits in (32, 64, 128)]
    assert values[0] < values[1] < values[2]
    assert found.n_units == VOCAB
    assert all(found.bits[f"{bits}bits"] <= bits * VOCAB for bits in (32, 64, 128))
    # Below what all of them may have together, every unit gets the longest rule that explains more.
    assert found.bits["64bits"] < found.bits["64bits_equal_total"] <= 128 * VOCAB
    assert found.score("64bits_equal_total", seed=0).value > 0


def test_an_equal_total_is_the_same_bits_for_models_of_any_width():
    total = 150
    narrow, wide = few_rotated(0, total), few_rotated(18, total)
    assert wide.n_units == 4 * narrow.n_units == 24
    for found in (narrow, wide):
        # Within one step of the total: a rule that no longer fits is left out.
        assert total - 48 < found.bits["64bits_equal_total"] <= total < found.bits["64bits"]


def test_the_equal_total_of_every_suite_is_one_number():
    assert {suite.rules.total for suite in SUITES.values()} == {65_536}


def test_units_without_rules_stand_at_their_mean():
    half = arms(rotated=False, units=VOCAB // 2)
    assert half.share == 0.5 and 0.4 < half.covered < 1
    assert half.ablated.sum() == pytest.approx(arms(rotated=False).ablated.sum())
    assert 0.1 < half.score("64bits", seed=0).value < 0.95


def test_a_model_that_needs_no_units_has_no_value():
    flat = np.ones(12)
    same = Arms(flat, flat, {"64bits": flat}, np.full(12, 10), 1.0, 1.0, {"64bits": 2.0}, 1)
    with pytest.raises(NoValue, match="does not rise"):
        same.score("64bits", seed=0)


def test_explained_loss_is_its_formula():
    full, ablated, explained = np.full((3, 12), [[1.0], [3.0], [1.5]])
    lengths = np.full(12, 10)
    made = Arms(full, ablated, {"64bits": explained}, lengths, 1.0, 1.0, {"64bits": 2.0}, 1)
    assert made.score("64bits", seed=0).value == 0.75


@pytest.mark.parametrize("mlp", ["dense", "topk"])
def test_mean_ablation_is_that_of_the_five_calls(mlp):
    """A stand without rules does to a real model what `ablate` does with the units' means."""
    model, stream = small_model(mlp), random_stream(12, 30, vocab_size=SMALL_VOCAB)
    text = Text.of(stream, context=24, vocab_size=SMALL_VOCAB)
    means = np.random.default_rng(0).random(48)
    names = [n for n, site in model.sites().items() if site.kind == "mlp"]
    stands = {n: Stand(means, mlp == "topk", {}) for n in names}
    found = losses(model, whole(stream), text, 24, stands)
    with intervene(
        model, {n: ablate(value=torch.from_numpy(means.astype(np.float32))) for n in names}
    ):
        wanted = losses(model, whole(stream), text, 24, {})
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    assert not np.allclose(found, losses(model, whole(stream), text, 24, {}))


def test_the_loss_of_the_untouched_model_is_its_readers():
    model, stream = small_model("topk"), random_stream(12, 30, vocab_size=SMALL_VOCAB)
    text = Text.of(stream, context=24, vocab_size=SMALL_VOCAB)
    bits = Reader(model, stream, context=24).end_to_end.bits
    found = losses(model, whole(stream), text, 24, {})
    np.testing.assert_allclose(found, stream.per_document(bits) * np.log(2), rtol=1e-5)


def test_slots_are_ascending_and_filled_up():
    values = np.array([[0, 2.0, 0, 3.0, 0], [0, 0, 0, 0, 0], [1.0, 0, 0, 0, 0]], dtype=np.float32)
    kept, units = slots(values)
    assert kept.tolist() == [[2, 3], [0, 0], [1, 0]]
    assert units.tolist() == [[1, 3], [-1, -1], [0, -1]]


def test_where_most_units_speak_each_has_a_slot():
    values = np.array([[1.0, 2.0, 3.0, 4.0], [0, 0, 5.0, 0]], dtype=np.float32)
    kept, units = slots(values)
    assert kept is values and units.tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize("silent", [0, 20, 30, 47])
def test_how_units_are_slotted_does_not_change_the_loss(silent):
    """Dead units and those that rules silence, from none to nearly all: packed or not, as edited."""
    model, stream = small_model("topk"), random_stream(12, 30, vocab_size=SMALL_VOCAB)
    text = Text.of(stream, context=24, vocab_size=SMALL_VOCAB)
    means = np.where(np.arange(48) < silent, 0, np.random.default_rng(0).random(48))
    names = [n for n, site in model.sites().items() if site.kind == "mlp"]
    rule = Rule(Split(Among(0, (1,)), Leaf(2.0), Leaf(0.0)), Scale(0.0, 1.0, 0.0))
    stands = {n: Stand(means, True, {0: rule, 40: rule}) for n in names}
    found = losses(model, whole(stream), text, 24, stands)
    given = {n: Stand(means, False, stand.rules) for n, stand in stands.items()}
    # As dense values: they are set unit by unit, without slots.
    wanted = losses(model, whole(stream), text, 24, given)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_a_part_of_a_stream_is_the_beginnings_of_its_documents():
    stream = random_stream(6, 5, vocab_size=9)
    cut, places, targets = part(stream, np.array([1, 4]), 4)
    assert cut.names == ["file_1.txt", "file_4.txt"] and cut.offsets.tolist() == [0, 4, 8]
    np.testing.assert_array_equal(cut.tokens, stream.tokens[places])
    # What follows the cut is the document's next token, not the end of the document.
    np.testing.assert_array_equal(targets, stream.tokens[places + 1])


def test_only_half_b_is_scored_all_its_documents_equally():
    stream = random_stream(20, 30, vocab_size=9)
    is_a = halves(stream, 0)
    for tokens, each in ((155, 15), (10_000, 31)):
        scored = explained_loss._scored(stream, is_a, tokens)
        assert not is_a[scored.places].any()
        assert np.diff(scored.stream.offsets).tolist() == [each] * 10


@pytest.mark.parametrize("density", [0.05, 1.0])
def test_sums_of_active_places_are_those_of_all_bit_by_bit(density):
    rng = np.random.default_rng(0)
    values = rng.standard_normal((CHUNK + 900, 40), dtype=np.float32)
    values[rng.random(values.shape) > density] = 0
    kept, is_a = Harvest.of(values, signed=True), rng.random(len(values)) < 0.5
    assert kept.sparse == (density < 1)
    parts = []
    for first, rows in kept.chunks():
        half = rows[is_a[first : first + len(rows)]].astype(np.float64)
        parts.append(np.stack([half.sum(0), (half**2).sum(0)]))
    np.testing.assert_array_equal(explained_loss._sums(kept, is_a), sum(parts))
