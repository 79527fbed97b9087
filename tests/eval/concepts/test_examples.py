"""Which units are shown of a label, and where: planted latents, one of them negative, and noise."""

from types import SimpleNamespace

import numpy as np
import pytest
from support.concepts import DOCUMENTS, LENGTH, plant, strengths, system

from pellucid.eval.concepts import examples
from pellucid.eval.concepts.given import floors_of
from pellucid.eval.score import NoValue
from pellucid.eval.stream import Stream

CONTEXT = 100
NOISY, NEGATIVE, CLEAN, OFTEN, AGAINST, DEAD = range(6)


@pytest.fixture(scope="module")
def planted():
    """Three latents: of 0 a unit that errs, of 1 one that falls where it holds, of 2 a clean one."""
    made = plant()
    truth, rng = made.truth.only(np.arange(3)), np.random.default_rng(7)
    held = strengths(truth.holds)
    erring = np.where(rng.random(len(held)) < 0.2, 0, held[:, 0])
    erring = np.where(rng.random(len(held)) < 0.02, 0.7, erring)
    often = (rng.random(len(held)) < 0.6).astype(np.float32)
    against = np.where(truth.holds[:, 0], 0.0, 1.0)
    units = [erring, -held[:, 1], held[:, 2], often, against, 0 * often]
    return truth, made.tokens, np.stack(units, axis=1).astype(np.float32)


def bench_of(planted, patch, *, signed=True):
    truth, tokens, values = planted
    offsets = np.arange(DOCUMENTS + 1) * LENGTH
    names = [f"{i}.py" for i in range(DOCUMENTS)]
    size = np.full(DOCUMENTS, LENGTH)
    stream = Stream(tokens.astype(np.int64), offsets, names, size, eot=0, complete=True)
    shared = SimpleNamespace(truth=truth, floors=floors_of(truth, stream))
    patch.setattr(examples, "given", lambda bench: shared)
    reader = SimpleNamespace(harvest=system(values, signed=signed).harvest, context=CONTEXT)
    return SimpleNamespace(reader=reader, stream=stream, seed=0)


@pytest.fixture(scope="module")
def found(planted):
    with pytest.MonkeyPatch.context() as patch:
        return examples.concept_examples(bench_of(planted, patch))


def test_the_best_units_are_the_planted_ones_with_their_signs(found):
    assert found["reason"] is None
    first = [label["best"][0] for label in found["labels"]]
    assert [(one["unit"], one["sign"]) for one in first] == [(NOISY, 1), (NEGATIVE, -1), (CLEAN, 1)]
    assert first[1]["f1"] == first[2]["f1"] == 1
    assert all(len(label["best"]) == examples.BEST for label in found["labels"])
    scores = [one["f1_a"] for one in found["labels"][0]["best"]]
    assert scores == sorted(scores, reverse=True)


def test_scores_are_of_half_b(planted, found):
    truth, _, values = planted
    one = found["labels"][0]["best"][0]
    fires, holds = values[truth.b, NOISY] > one["threshold"], truth.holds[truth.b, 0]
    hits = (fires & holds).sum()
    assert one["precision"] == hits / fires.sum()
    assert one["recall"] == hits / holds.sum()
    assert one["f1"] == pytest.approx(2 * hits / (fires.sum() + holds.sum()), abs=1e-12)
    assert found["labels"][0]["share"] == holds.mean()
    assert 0 < found["labels"][0]["floor"] < 0.9


def test_the_worst_is_a_frequent_unit_that_avoids_the_label(found):
    worst = found["labels"][0]["worst"]
    assert [one["unit"] for one in worst] == [AGAINST, OFTEN]
    assert worst[0]["f1"] == 0
    assert DEAD not in [one["unit"] for label in found["labels"] for one in label["worst"]]


def test_places_are_what_they_are_called(planted, found):
    truth, tokens, values = planted
    kinds = {"hit": (True, True), "false_alarm": (True, False), "miss": (False, True)}
    seen = set()
    for label, held in enumerate(found["labels"]):
        for one in (*held["best"], *held["worst"]):
            for place in one["contexts"]:
                at, seen = place["center"], seen | {place["kind"]}
                fires = place["values"][at] * one["sign"] > one["threshold"]
                assert (fires, bool(place["holds"][at])) == kinds[place["kind"]]
                number = int(place["document"].removesuffix(".py"))
                first = number * LENGTH + np.arange(LENGTH - len(place["tokens"]) + 1)
                size = np.arange(len(place["tokens"]))
                # In its document it stands where tokens, values and labels are these.
                assert any(
                    tokens[start + size].tolist() == place["tokens"]
                    and truth.holds[start + size, label].tolist() == place["holds"]
                    and np.allclose(values[start + size, one["unit"]], place["values"], atol=6e-3)
                    and not truth.is_a[start]
                    and start // CONTEXT == (start + len(size) - 1) // CONTEXT
                    for start in first
                )
    assert seen == set(kinds)


def test_the_same_seed_shows_the_same_places(planted, found):
    with pytest.MonkeyPatch.context() as patch:
        assert examples.concept_examples(bench_of(planted, patch)) == found


def test_dead_units_and_missing_labels_leave_a_sentence(planted, monkeypatch):
    truth, tokens, values = planted
    bench = bench_of((truth, tokens, 0 * values), monkeypatch)
    assert examples.concept_examples(bench) == {
        "reason": "no unit of this layer was ever active on half A",
        "labels": [],
    }

    def refuse(bench):
        raise NoValue("no labels here")

    monkeypatch.setattr(examples, "given", refuse)
    assert examples.concept_examples(bench) == {"reason": "no labels here", "labels": []}
