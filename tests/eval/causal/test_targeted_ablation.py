"""Ablation that costs a label's tokens alone, against units that only go with it."""

import numpy as np
import pytest
import torch
from support.causes import Caused
from support.planted import stream_of

from pellucid.eval.causal import passes
from pellucid.eval.causal.ablation import another_row, at_equal_damage, selectivity
from pellucid.eval.causal.chosen import (
    Unit,
    better_than_always,
    densities,
    of_equal_density,
    of_next,
    ranked,
)
from pellucid.eval.causal.passes import nats, rows_of
from pellucid.eval.causal.resampled import over_documents
from pellucid.eval.causal.targeted_ablation import (
    Plan,
    Subject,
    measure,
)
from pellucid.eval.concepts.truth import Truth
from pellucid.eval.halves import halves
from pellucid.eval.labels.table import Label, LabelTable
from pellucid.eval.reader import Reader
from pellucid.eval.suite import METRICS
from pellucid.eval.workbench import Workbench

SITE, VOCAB, CUE, REALISES = "blocks.0.mlp", 8, 2, 1
PLANS = {kind: Plan(kind, 1, 3000) for kind in ("mean", "resample", "zero")}
PLANS["equal"] = Plan("mean", 1, 3000, sizes=(1, 2))


def a_text(documents: int = 24, length: int = 200):
    """Tokens 2 … 7 at random; after the cue 2 comes 1, which comes nowhere else."""
    rng = np.random.default_rng(0)
    texts = []
    for _ in range(documents):
        drawn = rng.integers(2, VOCAB, length)
        texts.append([t for token in drawn for t in ([CUE, REALISES] if token == CUE else [token])])
    return stream_of(texts)


def pushes(token: int, strength: float) -> torch.Tensor:
    effect = torch.zeros(VOCAB)
    effect[token] = strength
    return effect


CUED = lambda t: t == CUE
ALWAYS = lambda t: torch.ones_like(t)
OTHER = lambda t: t == 5


def a_reader(rules, effects, *, base=None, **about_units) -> Reader:
    model = Caused(rules, torch.stack(effects), base=base, **about_units)
    return Reader(model, a_text(), context=32)


def truth_of(reader: Reader) -> Truth:
    stream = reader.stream
    holds = (stream.tokens == REALISES)[:, None]
    known = stream.tokens != stream.eot
    return Truth(("one",), holds, known, halves(stream, 0), stream.document).scorable()


def found(reader: Reader, *, random: bool = False) -> dict:
    truth = of_next(truth_of(reader))
    rows = rows_of(reader.stream, truth.half, context=32, tokens=3000, seed=0)
    subject = Subject(truth, rows, 0)
    return {name: measure(reader, subject, plan, random=random) for name, plan in PLANS.items()}


@pytest.mark.parametrize("sparse", [False, True])
def test_a_unit_that_is_the_cause_scores_high_in_every_kind(sparse):
    reader = a_reader([CUED, OTHER], [pushes(REALISES, 5.0), pushes(3, 0.0)], sparse=sparse)
    scores = found(reader)
    for kind in ("mean", "resample", "zero"):
        # Resampling also wakes the unit where it was silent, and so costs other tokens.
        least = 3 if kind == "resample" else 10
        assert scores[kind][None].value >= scores[kind][None].low > least, kind
        assert scores[kind]["damage"].value > 1, kind
    # Without its push each of eight tokens is as likely: ln 8 against ln(1 + 7 e⁻⁵).
    expected = np.log(VOCAB) - np.log1p((VOCAB - 1) * np.exp(-5.0))
    assert scores["zero"]["damage"].value == pytest.approx(expected, rel=1e-5)


def test_a_unit_that_speaks_below_0_is_found_and_ablated_alike():
    push = pushes(REALISES, 5.0)
    above, below = (
        a_reader([lambda t, s=s: s * CUED(t), OTHER], [s * push, pushes(3, 0.0)], signed=True)
        for s in (1, -1)
    )
    (best,) = ranked(below.harvest, of_next(truth_of(below)), most=1)
    assert best == [(Unit(SITE, 0), -1, 1.0)]
    assert found(below) == found(above)


def test_a_unit_that_goes_with_the_label_and_does_nothing_scores_0():
    by_the_base = lambda t: torch.where((t == CUE)[..., None], pushes(REALISES, 5.0), 0.0)
    reader = a_reader([CUED, OTHER], [torch.zeros(VOCAB)] * 2, base=by_the_base)
    scores = found(reader)
    for kind in ("mean", "resample", "zero"):
        assert scores[kind][None].value == 0
        assert scores[kind]["damage"].value == 0
    assert "no label's units add" in scores["equal"][None].flags[0]


def test_a_unit_that_is_always_on_is_not_selective():
    reader = a_reader([ALWAYS, OTHER], [pushes(REALISES, 3.0), pushes(3, 0.0)])
    scores = found(reader)
    assert scores["mean"][None].value == scores["resample"][None].value == 0
    # At 0 every token that is not 1 is helped: what changes elsewhere is not selective either.
    assert 0 < scores["zero"][None].value < 5


def test_the_random_units_stand_beside_the_chosen():
    reader = a_reader([CUED, OTHER], [pushes(REALISES, 5.0), pushes(3, 0.0)])
    assert found(reader, random=True)["mean"][None].value == 0


def test_selectivity_and_equal_damage_by_hand():
    # Label 0: 0.2 and 0.05; label 1: 0.4 and -0.05.
    sums = np.array([[[2.0, 10, 5.0, 100], [4.0, 10, -5.0, 100]]])
    assert selectivity(sums) == pytest.approx([0.6 / 0.1])
    inert = np.array([[[0.0, 10, 0.0, 100]]])
    assert selectivity(inert) == [0.0]
    # Sets of growing size: (0, 0) → (0.1, 0.01) → (0.3, 0.03); at 0.2 the price is 0.02.
    curve = np.array([[[[1.0, 10, 1.0, 100], [3.0, 10, 3.0, 100]]]])
    assert at_equal_damage(curve, 0.2) == pytest.approx([10.0])
    assert at_equal_damage(curve, 0.05) == pytest.approx([0.05 / 0.01])
    assert np.isnan(at_equal_damage(curve, 0.5)).all()


def test_intervals_cover_the_mean_of_documents_at_their_rate():
    rng, inside = np.random.default_rng(1), 0
    mean = lambda sums: sums[:, 0] / sums[:, 1]
    for seed in range(200):
        drawn = np.stack([rng.normal(1.0, 1.0, 20), np.ones(20)], axis=1)
        found = over_documents(drawn, mean, seed=seed, weights=np.ones(20))
        inside += found.low <= 1.0 <= found.high
    assert 0.9 <= inside / 200 <= 0.99


def test_units_are_ranked_by_what_they_announce_on_half_a():
    reader = a_reader([OTHER, CUED, ALWAYS], [torch.zeros(VOCAB)] * 3)
    (best,) = ranked(reader.harvest, of_next(truth_of(reader)), most=3)
    assert best[0] == (Unit(SITE, 1), 1, 1.0)
    assert [one.unit.number for one in best] == [1, 2] and 0.2 < best[1].f1 < 0.3
    assert better_than_always(best, 0.2, 3) == (Unit(SITE, 1),)
    assert better_than_always(best, 0.01, 3) == (Unit(SITE, 1), Unit(SITE, 2))


UP_TO = [lambda t, most=most: (t > 1) & (t <= most) for most in range(1, VOCAB)]
"""Units active on no token, on 2, on 2 and 3, …: the first is dead."""
NEVER_SILENT = [lambda t, rule=rule: torch.where(rule(t), -1.0, 0.04) for rule in UP_TO]
"""The same of a dense layer that has signs, as GELU: what is small stands for silence."""


@pytest.mark.parametrize(
    ("rules", "about", "side"),
    [
        (UP_TO, {}, 0),
        (UP_TO, {"sparse": True}, 0),
        (UP_TO, {"signed": True}, 0),
        (NEVER_SILENT, {"signed": True}, 1),
    ],
)
def test_densities_count_what_is_active_elsewhere(rules, about, side):
    reader = a_reader(rules, [torch.zeros(VOCAB)] * len(rules), **about)
    at = truth_of(reader).a
    found = densities(reader, at)[SITE]
    read = reader.stream.tokens[at]
    expected = [np.mean((read > 1) & (read <= most)) for most in range(2, VOCAB)]
    assert found[side, 1:].tolist() == expected and not found[1 - side, 1:].any()
    # What is as small everywhere is not small by its own largest value.
    assert found[:, 0].tolist() == ([1.0, 0.0] if side else [0.0, 0.0])
    activity = reader.sightings.activity[SITE]
    every = densities(reader, np.arange(len(reader.stream.tokens)))[SITE]
    assert every.sum(0).tolist() == activity.density.tolist()


def test_random_units_are_living_ones_of_like_density():
    above = np.append(np.arange(1, 40) / 50, 0.0)
    density = {SITE: np.stack([above / 2, above / 2])}
    (drawn,) = of_equal_density([Unit(SITE, 20)], density, seed=0, label=0)
    assert drawn.number != 20 and abs(drawn.number - 20) <= 8
    everyone = [Unit(SITE, unit) for unit in range(39)]
    assert of_equal_density(everyone[:1], density, seed=0, label=0, avoid=everyone) == ()


def test_units_that_are_equally_near_are_equally_likely():
    density = {SITE: np.stack([np.full(64, 0.25), np.zeros(64)])}
    draw = lambda **by: of_equal_density([Unit(SITE, 0)], density, **by)[0].number
    for drawn in (
        [draw(seed=seed, label=0) for seed in range(400)],
        [draw(seed=0, label=label) for label in range(400)],
    ):
        assert set(drawn) == set(range(1, 64))
        assert abs(np.mean(drawn) - 32) < 3 * 18.2 / np.sqrt(400)
    assert draw(seed=7, label=3) == draw(seed=7, label=3)


def test_labels_with_one_unit_in_common_are_held_against_random_units_of_their_own():
    rules = [CUED, *[lambda t, of=of: t == of for of in (3, 4, 5, 6, 7) * 4]]
    reader = a_reader(rules, [pushes(REALISES, 5.0)] + [pushes(3, 0.1)] * 20)
    one = of_next(truth_of(reader))
    names = tuple(f"label {i}" for i in range(8))
    truth = Truth(names, np.repeat(one.holds, 8, axis=1), one.known, one.is_a, one.document)
    rows = rows_of(reader.stream, truth.half, context=32, tokens=3000, seed=0)
    subject = Subject(truth, rows, 0)
    measure(reader, subject, Plan("zero", 8, 3000), random=True)
    drawn = {key[2] for key in subject.kept if len(key) > 2}
    assert len(drawn) > 3


def test_rows_come_from_as_many_documents_as_there_are_rows():
    reader = a_reader([CUED, OTHER], [torch.zeros(VOCAB)] * 2)
    half, context = truth_of(reader).half, 32
    rows = rows_of(reader.stream, half, context=context, tokens=10 * context, seed=0)
    document = reader.stream.document[rows.places[:, context // 2]]
    assert len(rows.tokens) == len(set(document.tolist())) == 10
    assert (half[rows.places[rows.scored]] == 1).all() and rows.scored.mean() > 0.5


def test_every_row_is_resampled_from_another():
    for n in (2, 3, 17):
        other = another_row(n, 0)
        assert (other != np.arange(n)).all() and sorted(other.tolist()) == list(range(n))


NAMES = [name for name in METRICS if name.startswith("targeted_ablation_")]


def a_bench(reader: Reader, twin: Reader) -> Workbench:
    tokens = reader.stream.tokens
    label = Label("one", "identifier", "dev", prefix=True)
    table = LabelTable.of((tokens == REALISES)[:, None], [label], known=tokens != 0)
    about = {"train": tokens, "vocab_size": VOCAB, "split": "val", "seed": 0}
    return Workbench(reader, twin, labelled=lambda: table, **about)


def test_scores_stand_beside_the_twin_and_units_drawn_at_random():
    effects = [pushes(REALISES, 5.0), pushes(3, 0.0)]
    bench = a_bench(a_reader([CUED, OTHER], effects), a_reader([OTHER, ALWAYS], effects))
    taken = [score for name in NAMES for score in METRICS[name].measure(bench)]
    scores = {score.metric: score for score in taken}
    for name in NAMES:
        assert scores[name].value > 3 and scores[name].better == "higher"
        assert isinstance(scores[name].controls["random_twin"], float | str)
        assert "random_units" in scores[name].controls
    assert scores["targeted_ablation_mean:one"].value > 10
    assert scores["targeted_ablation_mean"].controls["random_units"] == 0.0


def test_kinds_share_the_passes_they_have_in_common(monkeypatch):
    effects = [pushes(REALISES, 5.0), pushes(3, 0.0)]
    readers = a_reader([CUED, OTHER], effects), a_reader([OTHER, CUED], effects)
    alone = [score for name in NAMES for score in METRICS[name].measure(a_bench(*readers))]
    bench = a_bench(*readers)
    clean, edited = [], []

    def counted(model, rows, stream, edits=None):
        (edited if edits else clean).append(id(model))
        return nats(model, rows, stream, edits)

    monkeypatch.setattr(passes, "nats", counted)
    kinds = [name for name in NAMES if "quick" not in name]
    taken = [score for name in kinds for score in METRICS[name].measure(bench)]
    assert clean == [id(bench.reader.model), id(bench.twin.model)]
    # Three kinds of the chosen unit, one of the drawn one, and no more for equal damage.
    assert len(edited) < 3 * 4 * 2
    values = {score.metric: (score.value, score.controls) for score in alone}
    assert all(values[score.metric] == (score.value, score.controls) for score in taken)


def test_the_same_seed_gives_the_same_scores():
    reader = a_reader([CUED, OTHER], [pushes(REALISES, 5.0), pushes(3, 0.3)])
    assert found(reader) == found(reader)
