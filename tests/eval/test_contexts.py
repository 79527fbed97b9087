"""Contexts of planted units, where it is known what a reader must find."""

from collections import Counter

import numpy as np
import pytest
import torch
from support.planted import Planted, before, random_stream, stream_of

from pellucid.eval import sightings
from pellucid.eval import stream as streams
from pellucid.eval.contexts import AFTER, BANDS, BEFORE, choose
from pellucid.eval.reader import Reader
from pellucid.eval.sample import Pool, lottery

SITE = "blocks.0.mlp"
VOCAB, ROW = 12, 40


def strength(tokens):
    """A number in [0, 1) for each token, made of all that was read so far in its row."""
    weights = torch.arange(1, tokens.shape[1] + 1) * 0.6180339887
    return ((tokens + 1) * weights).cumsum(1) % 1.0


def illusion(tokens):
    """The top says "token 5"; four active tokens in five say "token 6"."""
    weak, strong = 0.1 + strength(tokens), 5 + strength(tokens)
    return torch.where(tokens == 6, weak, torch.where((tokens == 5) & (weak < 0.35), strong, 0))


RULES = [
    lambda t: (t == 5) * (1 + strength(t)),
    lambda t: ((t == 7) & (before(t) == 3)) * (1 + strength(t)),
    lambda t: torch.zeros_like(t),
    lambda t: torch.ones_like(t),
    illusion,
]
TOKEN, PAIR, DEAD, ALWAYS, ILLUSION = range(5)


def collected(*, sparse=True, shown=99, rules=RULES, signed=False, text=None):
    model = Planted(rules, vocab_size=VOCAB, sparse=sparse, signed=signed)
    text = text or random_stream(60, 150, vocab_size=VOCAB)
    return Reader(model, text, context=ROW, shown=shown).sightings.contexts[SITE]


@pytest.fixture(scope="module", params=[True, False], ids=["sparse", "dense"])
def contexts(request):
    return collected(sparse=request.param)


def centers(contexts, unit, *bands):
    """Current tokens of a unit's contexts in the bands."""
    found = [c for c in contexts.of(unit) if c.band in bands]
    return [int(contexts.stream.tokens[c.position]) for c in found]


def center_values(contexts, unit, band):
    return [c.values[c.position - c.first] for c in contexts.of(unit) if c.band == band]


def test_a_token_unit_shows_its_token_and_has_no_near_miss(contexts):
    assert set(centers(contexts, TOKEN, *BANDS)) == {5}
    assert Counter(c.band for c in contexts.of(TOKEN)) == {**BANDS, "silent": 3}
    assert 5 not in centers(contexts, TOKEN, "silent")


def test_near_misses_of_a_pair_unit_have_its_token_and_not_its_pair(contexts):
    tokens = contexts.stream.tokens
    for found in contexts.of(PAIR):
        first_of_row = found.position % ROW == 0
        pair = tuple(tokens[found.position - 1 : found.position + 1])
        fits = pair == (3, 7) and not first_of_row
        assert fits == (found.band in BANDS)
    assert centers(contexts, PAIR, "near_miss") == [7, 7, 7]


def test_near_misses_of_weaker_tokens_are_found_where_the_peak_token_never_misses(monkeypatch):
    rules = [lambda t: (t == 5) * 9 + ((t == 6) & (before(t) == 3)) * 1]
    # One place of each chunk is remembered: with many chunks some of them is a 6.
    monkeypatch.setattr(streams, "CHUNK_TOKENS", ROW)
    found = collected(rules=rules)
    assert set(centers(found, 0, "near_miss")) == {6}


def test_a_dead_unit_has_silences_only_and_an_unceasing_one_none(contexts):
    assert {c.band for c in contexts.of(DEAD)} == {"silent"}
    assert contexts.shares(DEAD) == dict.fromkeys(BANDS, 0.0)
    assert {c.band for c in contexts.of(ALWAYS)} == {"top"}
    assert contexts.shares(ALWAYS) == {"p10": 0.0, "p50": 0.0, "p90": 0.0, "top": 1.0}


def test_bands_show_what_the_top_alone_would_hide(contexts):
    assert set(centers(contexts, ILLUSION, "top")) == {5}
    assert set(centers(contexts, ILLUSION, "p10", "p50")) == {6}
    shares = contexts.shares(ILLUSION)
    assert sum(shares.values()) == pytest.approx(1.0)
    assert shares["top"] < 0.1


def test_values_lie_within_their_band_and_mass_is_what_the_bands_hold(contexts):
    text = contexts.stream
    rows = torch.from_numpy(np.pad(text.tokens, (0, -len(text.tokens) % ROW))).view(-1, ROW)
    all_values = RULES[TOKEN](rows).float().numpy().ravel()[: len(text.tokens)]
    active = all_values[all_values > 0]
    edges = [0, *np.quantile(active, (0.2, 0.8, 0.99)), active.max()]
    for i, band in enumerate(BANDS):
        for value in center_values(contexts, TOKEN, band):
            assert edges[i] * 0.98 <= value <= edges[i + 1] * 1.02
        held = active[(active >= edges[i]) & (active < edges[i + 1])].sum() / active.sum()
        assert contexts.shares(TOKEN)[band] == pytest.approx(held, abs=0.02)
    top = np.sort(active)[::-1][: BANDS["top"]]
    np.testing.assert_allclose(center_values(contexts, TOKEN, "top"), top, rtol=5e-4)


def test_contexts_stay_in_their_document_and_row_and_show_true_values(contexts):
    text = contexts.stream
    for unit in range(len(RULES)):
        for found in contexts.of(unit):
            end = found.first + len(found.values)
            assert found.first <= found.position < end
            assert found.position - found.first <= BEFORE
            assert end - found.position <= AFTER + 1
            assert text.document[found.first] == text.document[end - 1]
            row = found.first // ROW
            assert (end - 1) // ROW == row
            tokens = torch.from_numpy(text.tokens[row * ROW : (row + 1) * ROW])[None]
            truth = RULES[unit](tokens)[0, found.first - row * ROW : end - row * ROW]
            np.testing.assert_allclose(found.values, truth, rtol=5e-4)


def test_contexts_do_not_depend_on_how_the_text_is_read(monkeypatch):
    shown = []
    for chunk in (ROW, 5 * ROW, 10**5):
        monkeypatch.setattr(streams, "CHUNK_TOKENS", chunk)
        monkeypatch.setattr(sightings, "CHUNK_TOKENS", chunk)
        contexts = collected()
        listed = [[c for c in contexts.of(u) if c.band != "near_miss"] for u in range(len(RULES))]
        shown.append([[(c.band, c.position, c.values.tolist()) for c in unit] for unit in listed])
        np.testing.assert_allclose(contexts.mass.sum(0), collected().mass.sum(0))
    assert shown[0] == shown[1] == shown[2]


def test_a_rare_unit_still_shows_its_strongest_tokens():
    rules = [lambda t: ((t == 7) & (before(t) == 3) & (strength(t) < 0.2)) * (1 + strength(t))]
    contexts = collected(rules=rules)
    values = [c.values[c.position - c.first] for c in contexts.of(0) if c.band in BANDS]
    positions = [c.position for c in contexts.of(0) if c.band in BANDS]
    assert len(center_values(contexts, 0, "top")) == BANDS["top"]
    assert min(values[: BANDS["top"]]) >= max(values[BANDS["top"] :])
    assert len(positions) == len(set(positions))


def test_repeated_text_is_shown_once():
    same = [[1, 2, 3, 4, 1, 2, 5, 9] * 4] * 10
    different = [[3, 1, 4, 1, 2, 9, 5, 9]]
    contexts = collected(text=stream_of(same + different), rules=[lambda t: t == 5])
    tops = [c for c in contexts.of(0) if c.band == "top"]
    texts = {tuple(contexts.stream.tokens[c.position - 5 : c.position + 1]) for c in tops}
    assert len(tops) == len(texts) <= 2


def test_signed_units_keep_their_sign_and_are_banded_by_size():
    sign = {5: -1, 6: 1}
    rules = [lambda t: sum((t == k) * sign[k] for k in sign) * (1 + strength(t)), lambda t: t * 0]
    for sparse in (True, False):
        contexts = collected(rules=rules, signed=True, sparse=sparse)
        for band in BANDS:
            for found in (c for c in contexts.of(0) if c.band == band):
                value = found.values[found.position - found.first]
                assert np.sign(value) == (1 if contexts.stream.tokens[found.position] == 6 else -1)
        assert len(center_values(contexts, 0, "top")) == BANDS["top"]


def test_units_are_all_shown_where_they_are_few_else_drawn_from_the_living():
    living = np.arange(20) % 4 > 0
    assert choose(living, 20, 0)[0].tolist() == list(range(20))
    units, words = choose(living, 15, 0)
    assert units.tolist() == np.flatnonzero(living).tolist()
    assert words == "all 15 living units of 20"
    units, words = choose(living, 6, 3)
    assert len(units) == 6
    assert living[units].all()
    assert units.tolist() == sorted(units.tolist()) == choose(living, 6, 3)[0].tolist()
    assert units.tolist() != choose(living, 6, 4)[0].tolist()
    assert words == "6 of 15 living units (20 in all), drawn with seed 3"


def test_only_chosen_units_are_collected():
    contexts = collected(shown=2)
    assert len(contexts.units) == 2
    assert contexts.choice == "2 of 4 living units (5 in all), drawn with seed 0"
    for i, unit in enumerate(contexts.units):
        expected = [(c.band, c.position) for c in collected().of(unit)]
        assert [(c.band, c.position) for c in contexts.of(i)] == expected


def test_a_pool_keeps_the_lowest_of_each_group_however_they_come():
    rng = np.random.default_rng(0)
    group, priority = rng.integers(0, 5, 400), rng.random(400)
    values = rng.random((400, 2)).astype(np.float32)
    pool = Pool(5, 7, 2)
    for part in np.array_split(np.arange(400), 9):
        kept = part[pool.wanted(group[part], priority[part])]
        pool.merge(group[kept], priority[kept], kept, values[kept])
    for g in range(5):
        mine = np.flatnonzero(group == g)
        best = mine[np.argsort(priority[mine])][:7]
        assert [position for position, _ in pool.of(g)] == best.tolist()
        np.testing.assert_array_equal([v for _, v in pool.of(g)], values[best])


def test_the_lottery_is_uniform_and_differs_by_group_and_seed():
    places = np.arange(100_000)
    draws = [lottery(places, np.full_like(places, g), s) for g, s in ((0, 0), (1, 0), (0, 1))]
    for draw in draws:
        counts, _ = np.histogram(draw, bins=20, range=(0, 1))
        # 5000 in each bin, give or take five standard deviations.
        assert abs(counts - 5000).max() < 5 * 5000**0.5
    assert abs(np.corrcoef(draws) - np.eye(3)).max() < 0.02
