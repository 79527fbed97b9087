"""What cannot be measured is said in a sentence, and never shown as 0."""

import dataclasses
import shutil

import numpy as np
import pytest
import torch
from support.planted import Planted, random_stream, stream_of

from pellucid.data import TokenData
from pellucid.errors import RunError
from pellucid.eval import evaluate
from pellucid.eval.controls import NO_SITES
from pellucid.eval.halves import halves
from pellucid.eval.reader import Reader
from pellucid.eval.score import NO_VALUE, NoValue
from pellucid.eval.stream import sample
from pellucid.eval.suite import METRICS, QUICK, Metric
from pellucid.eval.unit_statistics import CONSTANT, mean_active_units, mean_kurtosis
from pellucid.eval.workbench import Workbench
from pellucid.models import Transformer
from pellucid.report import write_report
from pellucid.run import load

VOCAB = 7


def bench(rules, text=None) -> Workbench:
    text = text or random_stream(12, 20, vocab_size=VOCAB)
    readers = [Reader(Planted(rules, vocab_size=VOCAB), text, context=16) for _ in range(2)]
    return Workbench(*readers, text.tokens, VOCAB, split="val", seed=0)


def test_a_constant_activation_has_no_kurtosis():
    (score,) = mean_kurtosis(bench([lambda t: t * 0 + 2]))
    assert score.value is None
    assert score.flags[0] == CONSTANT
    assert score.controls["random_twin"] == CONSTANT.removeprefix("no value: ")


def test_an_activation_that_is_nan_is_named():
    with pytest.raises(RunError, match=r"blocks\.0\.mlp has activations that are NaN"):
        mean_active_units(bench([lambda t: t * torch.nan]))


def test_a_control_that_is_nan_leaves_the_score_and_says_why():
    made = bench([lambda t: t == 1])
    broken = Reader(Planted([lambda t: t * torch.nan], vocab_size=VOCAB), made.stream, context=16)
    made = dataclasses.replace(made, controls={"permuted_weights": broken})
    (score,) = mean_active_units(made)
    assert score.value == pytest.approx((made.stream.tokens == 1).mean())
    assert "NaN" in score.controls["permuted_weights"]


def test_a_model_without_units_says_so():
    made = bench([lambda t: t == 1])
    for reader in (made.reader, made.twin):
        reader.model.sites = dict
    (score,) = mean_active_units(made)
    assert (score.value, score.flags) == (None, (f"no value: {NO_SITES}",))


PREDICTS = {
    "quick": {
        *("bits_per_byte", "bits_per_byte_overlap", "bits_saved_over_5gram", "bytes_per_token"),
        *("tasks_quick", "cross_entropy_by_class", "identifier_recall"),
    },
    "standard": {
        *("bits_per_byte", "bits_per_byte_overlap", "bits_saved_over_5gram", "bytes_per_token"),
        *("tasks", "cross_entropy_by_class", "identifier_recall"),
        *("induction", "calibration", "sample_validity"),
    },
}
"""What needs no unit, and has a value of a small model of this text."""


@pytest.mark.parametrize("suite", ["quick", pytest.param("standard", marks=pytest.mark.slow)])
def test_a_model_without_units_is_scored_by_what_it_predicts(folder, tmp_path, monkeypatch, suite):
    """Its layers are there, and show nothing that is scored; the run's page is written."""
    shown = Transformer.sites
    streams = lambda model: {n: s for n, s in shown(model).items() if s.kind == "stream"}
    monkeypatch.setattr(Transformer, "sites", streams)
    run = load(shutil.copytree(folder, tmp_path / "run"))
    scores = evaluate(run, suite=suite, progress=False)
    family = lambda score: score.metric.partition(":")[0]
    wanted = {name for name, metric in METRICS.items() if suite in metric.suites}
    silent = [score for score in scores if score.value is None]
    assert wanted == {family(one).partition("_nats_")[0] for one in scores}
    assert {family(one) for one in scores if one.value is not None} == PREDICTS[suite]
    assert all(len(one.flags[0]) > len(NO_VALUE) for one in silent)
    assert all(one.flags[0].startswith(NO_VALUE) for one in silent)
    for one in silent:
        if family(one) in ("mean_active_units", "rule", "concept_coverage"):
            assert one.flags[0] == NO_VALUE + NO_SITES
    assert run.folder.read_units()["sites"] == []
    assert "could not be measured" in write_report(run.folder).read_text()


def test_too_few_documents_give_a_value_without_an_interval():
    (score,) = mean_active_units(bench([lambda t: t == 1], stream_of([[1, 2], [1]])))
    assert score.value == 2 / 5 and score.low is None
    assert score.flags[0].startswith("no interval: 2 documents are too few")


def test_a_split_without_documents_is_refused(generated_data: TokenData):
    empty = dataclasses.replace(generated_data.split("val"))
    empty.__dict__["offsets"] = np.zeros(1, dtype=np.int64)
    with pytest.raises(RunError, match="has no document"):
        sample(empty, eot=0, tokens=None, seed=0)


def test_a_metric_that_cannot_be_taken_leaves_the_others(make_run, monkeypatch):
    def one_document(made):
        halves(stream_of([[1, 2]]), 0)

    monkeypatch.setitem(METRICS, "halved", Metric(one_document, QUICK))
    scores = {score.metric: score for score in evaluate(make_run(), progress=False)}
    assert scores["halved"].flags[0].startswith("no value: the text is one document")
    assert scores["halved"].value is None
    named = {name.partition(":")[0] for name in scores}
    assert named == {name for name, line in METRICS.items() if "quick" in line.suites}
    assert issubclass(NoValue, Exception)
