"""The lines of the metric table: from a workbench to scores with controls, or to a sentence."""

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
from support.planted import random_stream
from support.small import VOCAB, small_model

from pellucid.eval.concepts import CONCEPTS, given
from pellucid.eval.concepts.by_label import BY_LABEL
from pellucid.eval.concepts.given import FEW
from pellucid.eval.concepts.null import DRAWS
from pellucid.eval.concepts.truth import Truth
from pellucid.eval.labels import Label, LabelTable
from pellucid.eval.reader import Reader
from pellucid.eval.score import NoValue
from pellucid.eval.workbench import Workbench

CONTEXT = 24


def bench(labels: LabelTable | str | None = None) -> Workbench:
    text = random_stream(24, 60, vocab_size=VOCAB)
    readers = [Reader(small_model("topk"), text, CONTEXT, keep_inputs=True) for _ in range(2)]
    names = ("multiple_of_three", "after_multiple", "multiple_of_six")
    third, sixth = text.tokens % 3 == 0, text.tokens % 6 == 0
    after = np.stack([third, np.roll(third, 1), sixth], axis=1)
    table = LabelTable.of(after, [Label(name, "lexer", "dev", True) for name in names])
    given = table if labels is None else labels
    shared = {"train": text.tokens, "vocab_size": VOCAB, "split": "val", "seed": 0}
    return Workbench(reader=readers[0], twin=readers[1], labelled=lambda: given, **shared)


@pytest.fixture(scope="module")
def every() -> tuple:
    """A workbench, the scores of all metrics by name, and how often labels were permuted."""
    made, drawn, permuted = bench(), [], Truth.permuted
    with pytest.MonkeyPatch.context() as patch:
        draw = lambda truth, seed: drawn.append(seed) or permuted(truth, seed)
        patch.setattr(Truth, "permuted", draw)
        scores = {name: concept.measure(made) for name, concept in CONCEPTS.items()}
    return made, scores, len(drawn)


def test_every_metric_gives_a_score_with_its_twin(every):
    """The twin is the same model: whatever a metric finds, it finds twice."""
    made, taken, _ = every
    for name, scores in taken.items():
        assert [s.site for s in scores] == list(made.reader.sites()), name
        for score in scores:
            assert score.metric == name
            if score.value is not None:
                assert score.controls["random_twin"] == score.value, name
            else:
                assert score.flags[0].startswith("no value: "), name


def test_coverage_stands_beside_floors_ceiling_and_null(every):
    score = every[1]["concept_coverage"][0]
    held = {name: score.controls[name] for name in ("floor_token_only", "floor_always_on")}
    # Two of the three labels are functions of the token, the third is one of the two before.
    assert held["floor_token_only"] > 0.7 > held["floor_always_on"]
    assert score.controls["floor_best"] >= held["floor_token_only"]
    assert 0 < score.controls["permutation_null"] < score.controls["ceiling_probe"] <= 1


def test_without_labels_every_metric_says_why():
    for name, concept in CONCEPTS.items():
        (score,) = concept.measure(bench("the text has no labels"))
        assert score.value is None and "no value: the text has no labels" in score.flags, name


FLOORS = ("floor_always_on", "floor_token_only", "floor_five_gram", "floor_best")


def test_label_scores_stand_beside_floors_ceiling_and_null_or_say_why_not(every):
    for name, (score, *_) in every[1].items():
        for one in (*FLOORS, "ceiling_probe", "permutation_null"):
            held = score.controls[one]
            assert isinstance(held, float) or len(held.split()) > 5, (name, one)
        labelled = name in BY_LABEL or name.endswith("_normalised") or name == "concept_gain"
        if labelled and score.value is not None:
            for one in (*FLOORS, "permutation_null"):
                assert isinstance(score.controls[one], float), (name, one)
        if name.endswith("_normalised") and score.value is not None:
            assert score.controls["floor_best"] == 0.0 and score.controls["ceiling_probe"] == 1.0


def test_floors_are_on_the_scale_of_the_score_they_stand_beside(every):
    auroc, fms = (every[1][name][0].controls for name in ("k_sparse_auroc_1", "fms_1"))
    # A unit that is always on ranks nothing, and alone has half of the tokens right: ½² of FMS.
    assert auroc["floor_always_on"] == 0.5 and fms["floor_always_on"] == 0.25
    # Two of the three labels are functions of the token; of the third it knows nothing.
    assert auroc["floor_token_only"] == pytest.approx((1 + 1 + 0.5) / 3, abs=0.06)
    assert fms["floor_token_only"] == pytest.approx((1 + 1 + 0.25) / 3, abs=0.06)
    assert auroc["floor_five_gram"] > auroc["floor_token_only"] + 0.02


def test_labels_are_permuted_once_for_all_metrics(every):
    made, _, permuted = every
    assert permuted == FEW + DRAWS * len(made.reader.sites())


def test_what_is_shared_goes_with_its_workbench():
    made = bench()
    assert given.given(made) is given.given(made)
    shared = weakref.ref(given.given(made))
    del made
    gc.collect()
    assert shared() is None


def test_a_workbench_with_other_labels_shares_nothing():
    made = bench()
    assert len(given.given(made).truth.names) == 3
    with pytest.raises(NoValue, match="they are gone"):
        given.given(replace(made, labelled=lambda: "they are gone"))


@pytest.mark.parametrize("name", CONCEPTS)
def test_families_of_labels_are_declared(name):
    """So that a run trained on them is refused."""
    assert set(CONCEPTS[name].uses) == {"labels"}
