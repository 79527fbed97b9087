"""The metrics of rules on whole models: what is planted scores high, its controls low."""

import numpy as np
import pytest
import torch
from support.planted import Planted, before
from support.ruled import CONTEXT, VOCAB, Spoken, common_text

from pellucid.eval.halves import halves
from pellucid.eval.labels import LabelTable
from pellucid.eval.labels.table import Label
from pellucid.eval.reader import Reader
from pellucid.eval.rules import Settings, scores
from pellucid.eval.rules.predictions import cut, f1, gain, matched, r2
from pellucid.eval.rules.scores import intruder_scores, rule_scores
from pellucid.eval.rules.units import sampled
from pellucid.eval.workbench import Workbench


def noise(tokens: torch.Tensor) -> torch.Tensor:
    """As often active as a token, and on nothing."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(tokens.shape, generator=generator) < 0.05


def bench(rules: list, twins: list) -> Workbench:
    stream = common_text(60, 200)
    reader, twin = (
        Reader(Planted(r, vocab_size=VOCAB, sparse=True), stream, CONTEXT) for r in (rules, twins)
    )
    return Workbench(reader, twin, stream.tokens, VOCAB, "val", 0)


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
