"""The metrics of rules on whole models: what is planted scores high, its controls low."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.planted import Planted, before
from support.ruled import CONTEXT, VOCAB, Spoken, common_text

from pellucid.eval.controls import CONTROLS, NO_PASS
from pellucid.eval.halves import halves, rearranged
from pellucid.eval.labels import LabelTable
from pellucid.eval.labels.table import Label
from pellucid.eval.reader import Reader
from pellucid.eval.rules import Settings, scores
from pellucid.eval.rules import fit as fitting
from pellucid.eval.rules.limits import ALL_UNITS, Limits
from pellucid.eval.rules.predictions import cut, f1, fit, gain, matched, r2
from pellucid.eval.rules.scores import intruder_scores, rule_scores
from pellucid.eval.rules.units import sampled
from pellucid.eval.suite import SUITES
from pellucid.eval.workbench import Workbench


def noise(tokens: torch.Tensor) -> torch.Tensor:
    """As often active as a token, and on nothing."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(tokens.shape, generator=generator) < 0.05


def bench(units: list, twins: list, n_documents: int = 60, **about) -> Workbench:
    stream = common_text(n_documents, 200)
    reader, twin = (
        Reader(Planted(r, vocab_size=VOCAB, sparse=True), stream, CONTEXT) for r in (units, twins)
    )
    return Workbench(reader, twin, stream.tokens, VOCAB, "val", 0, **about)


@pytest.fixture(scope="module")
def planted() -> dict:
    rules = [
        lambda t: t == 4,
        lambda t: 2.0 * (before(t) == 3),
        lambda t: (t == 5) * 1 + (t == 6) * 3,
    ]
    made = bench(rules, [noise] * 3)
    return {s.metric: s for s in [*rule_scores(made), *intruder_scores(made)]}


def test_planted_rules_score_high_and_noise_of_equal_density_low(planted):
    for name in ("rule:r2_64bits", "rule:f1_64bits", "rule:gain_64bits", "rule:r2_64bits_all"):
        assert planted[name].value > 0.95
        assert abs(planted[name].controls["random_twin"]) < 0.12
        assert not any("as well" in flag for flag in planted[name].flags)
    assert planted["rule:r2_32bits"].value < planted["rule:r2_64bits"].value


def test_rules_of_permuted_activations_are_at_their_null(planted):
    one = planted["rule:f1_64bits"]
    # A rule that speaks on one token of about 20 hits by chance as often, not nearly as the true one.
    assert 0 < one.controls["permutation_null"] < 0.3 < 0.95 < one.value
    assert one.controls["permutation_null"] < one.controls["floor_always_on"] + 0.1
    assert abs(planted["rule:r2_64bits"].controls["permutation_null"]) < 1
    assert planted["rule:r2_64bits"].controls["permutation_null"] < 0.05
    assert "a rule's to say" in one.controls["floor_five_gram"]


def test_the_null_is_what_fits_to_rearranged_activations_give():
    stream = common_text(12, 60)
    unit = lambda t: (t == 4) * 1.0 + (before(t) == 3) * 0.5
    reader = Reader(Planted([unit], vocab_size=VOCAB, sparse=True), stream, CONTEXT)
    text = scores._text(Workbench(reader, reader, stream.tokens, VOCAB, "val", 0))
    is_a, values = halves(stream, 0), reader.harvest["blocks.0.mlp"].columns([0])[:, 0]
    about = {"settings": Settings(seed=0), "most": None}
    (table,) = sampled(reader, text, is_a, draws=3, **about).values()
    rng = np.random.default_rng(0)
    for drawn in table.permuted:
        b = np.flatnonzero(~is_a)
        other = values.copy()
        other[b] = values[b[rearranged(stream.document[b], rng)]]
        by_hand = fit(table.learned[0].rules[64], text, other, is_a, 0.0)
        assert drawn.fits[64][0][:3] == pytest.approx(by_hand[:3])
        assert drawn.fits[64][0].f1 < table.fits[64][0].f1


def test_intruders_are_found_among_planted_units_alone(planted):
    assert planted["intruder"].value > 0.4
    assert planted["intruder"].controls["random_twin"] < 0.35


def test_dead_units_count_where_all_are_asked_for():
    made = bench([lambda t: t == 4, lambda t: t < 0], [noise] * 2)
    found = {s.metric: s.value for s in rule_scores(made)}
    assert found["rule:f1_64bits_all"] == pytest.approx(0.5, abs=0.02)
    assert found["rule:f1_64bits_living"] == pytest.approx(1, abs=0.02)


def test_scores_by_hand():
    fires = np.array([1, 1, 0, 0], dtype=bool)
    assert f1(fires, np.array([1, 0, 1, 0], dtype=bool)) == 0.5
    assert f1(fires & False, fires & False) == 0
    always = f1(fires, np.ones(4, dtype=bool))
    assert gain(always, fires) == 0 and gain(1.0, fires) == 1
    assert r2(np.array([0.0, 2]), np.array([0.0, 1]), 1.0) == 0.5
    assert cut(fires, np.array([3.0, -2, 1, 0])) == 2


def test_matching_takes_the_densities_of_the_reference():
    score, density = np.array([1.0, 0.0, 0.0]), np.array([0.5, 0.02, 0.02])
    assert matched(score, density, np.array([0.5])) == 1
    assert matched(score, density, np.array([0.5, 0.02])) == 0.5
    assert matched(score, density, np.array([1e-5])) is None


def test_units_that_speak_their_rule_are_monosemantic():
    model = Spoken(torch.eye(VOCAB))
    reader = Reader(model, model.text(60, 120), 64)
    made = Workbench(reader, reader, reader.stream.tokens, VOCAB, "val", 0)
    found = scores._monosemantic(made, reader)["blocks.0.mlp"]
    assert found.value > 0.8


def tokens_of(*units: int) -> list:
    return [lambda t, i=i: t == i for i in units]


def test_all_units_are_given_rules_where_no_number_of_them_is_set(monkeypatch):
    """Some at a time, which changes nothing; the flags say of how many units the numbers are."""
    every = {"rules": ALL_UNITS}
    few, all_, portioned = (
        bench(tokens_of(*range(1, 6)), [noise] * 5, 10, **more) for more in ({}, every, every)
    )
    told = {s.metric: s.flags for s in [*rule_scores(few), *intruder_scores(few)]}
    assert "2 of 5 units, drawn by the seed, were given rules" in told["rule:r2_64bits_all"]
    assert "2 of 2 units fire often enough to be judged, drawn from 5" in told["intruder"]
    first = [*rule_scores(all_), *intruder_scores(all_)]
    told = {s.metric: s.flags for s in first}
    assert "all 5 units were given rules" in told["rule:r2_64bits_all"]
    assert "5 of 5 units fire often enough to be judged" in told["intruder"]
    assert {s.n for s in first if s.metric == "rule:f1_64bits_all"} == {5}
    monkeypatch.setattr(fitting, "AT_ONCE", 2)
    again = [*rule_scores(portioned), *intruder_scores(portioned)]
    first, again = ([replace(s, seconds=0.0) for s in some] for some in (first, again))
    assert first == again


def test_fewer_units_are_taken_at_once_where_the_text_is_long():
    units = np.arange(100)
    assert [len(some) for some in fitting.portions(units, 200_000)] == [64, 36]
    assert [len(some) for some in fitting.portions(units, 2**20)] == [32, 32, 32, 4]
    assert [len(some) for some in fitting.portions(units, 2**30)] == [1] * 100
    assert np.concatenate(fitting.portions(units, 2**20)).tolist() == units.tolist()


def test_the_full_suite_alone_gives_rules_to_all_units():
    assert {n: (s.rules.sampled, s.rules.units) for n, s in SUITES.items()} == {
        "smoke": (24, 1500),
        "quick": (24, 1500),
        "standard": (24, 1500),
        "full": (None, None),
    }


def spoken_bench() -> Workbench:
    """Units that are rules, beside a twin whose units say less than the text needs."""
    tables = torch.eye(6), torch.eye(6)
    model, twin = (
        Spoken(table, turn) for table, turn in zip(tables, (None, rotated_by(6)), strict=True)
    )
    stream = model.text(24, 40)
    readers = (Reader(one, stream, 64) for one in (model, twin))
    return Workbench(*readers, stream.tokens, 6, "val", 0, rules=Limits(units=None, total=300))


def rotated_by(n: int) -> torch.Tensor:
    q, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((n, n)))
    return torch.from_numpy(q).float()


def test_explained_loss_is_named_bounded_and_told_with_its_controls():
    made = spoken_bench()
    found = {s.metric: s for s in scores.explained_loss_scores(made)}
    plans = ("32bits", "64bits", "128bits", "64bits_equal_total")
    nats = {f"explained_loss_nats_{arm}" for arm in (*plans, "full", "mean_ablated")}
    assert set(found) == nats | {f"explained_loss:{plan}" for plan in plans}
    for plan in plans:
        score, paid = found[f"explained_loss:{plan}"], found[f"explained_loss_nats_{plan}"]
        assert (score.better, paid.better) == ("higher", "lower") and score.site is None
        assert set(score.controls) == set(CONTROLS)
        assert {name: score.controls[name] for name in NO_PASS} == NO_PASS
        assert score.value > 0.95 and score.low <= score.value <= score.high
        full, ablated = (found[f"explained_loss_nats_{a}"] for a in ("full", "mean_ablated"))
        assert full.better is ablated.better is None
        by_hand = (ablated.value - paid.value) / (ablated.value - full.value)
        assert score.value == pytest.approx(by_hand)
    arms = made.once("arms", made.reader, pytest.fail), made.once("arms", made.twin, pytest.fail)
    ours, twins = (one.bits["64bits_equal_total"] for one in arms)
    assert ours < 300 and 250 < twins <= 300
    flags = found["explained_loss:64bits_equal_total"].flags
    assert f"64bits_equal_total: {ours:,.0f} of 300 bits were used, {ours / 6:.1f} a unit" in flags
    assert f"64bits_equal_total: of as many, controls used: random_twin {twins:,.0f}" in flags


def test_rules_are_learned_once_for_all_that_is_asked_of_them(monkeypatch):
    made, learned = bench([lambda t: t == 4], [noise]), []
    tell = lambda system, *more, **named: learned.append(system) or sampled(system, *more, **named)
    monkeypatch.setattr(scores, "sampled", tell)
    scores.monosemantic_share(made)
    rule_scores(made)
    assert list(map(id, learned)) == [id(made.reader), id(made.twin)]


def test_what_is_sampled_is_the_seeds():
    stream = common_text(12, 60)
    reader = Reader(
        Planted([lambda t, i=i: t == i for i in range(40)], vocab_size=VOCAB), stream, 64
    )
    text, is_a = (
        scores._text(Workbench(reader, reader, stream.tokens, VOCAB, "val", 0)),
        halves(stream, 0),
    )
    drawn = [
        [
            one.unit
            for one in sampled(reader, text, is_a, Settings(seed=s), most=5)["blocks.0.mlp"].learned
        ]
        for s in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1] != drawn[2] and len(drawn[0]) == 5


def test_rules_may_ask_for_labels_of_their_family_alone():
    stream = common_text(12, 60)
    reader = Reader(Planted([lambda t: t == 1], vocab_size=VOCAB), stream, 64)
    labels = [
        Label(name, "lexer", family, prefix)
        for name, family, prefix in (
            ("asked", "dev", True),
            ("ahead", "dev", False),
            ("kept", "test", True),
            ("a user's", "both", True),
        )
    ]
    after = np.random.default_rng(0).random((len(stream.tokens), 4)) < 0.5
    table = LabelTable.of(after, labels)
    made = Workbench(reader, reader, stream.tokens, VOCAB, "val", 0, labelled=lambda: table)
    found = scores._text(made)
    assert found.n_labels == 4
    np.testing.assert_array_equal(found.labels[:, 2:], after[:, [0, 3]])
    np.testing.assert_array_equal(found.labels[1:, :2], after[:-1, [0, 3]])
    made.labelled = lambda: "no source"
    del made.labels
    assert scores._text(made).n_labels == 0
