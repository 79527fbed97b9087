"""What a run was trained or chosen by does not evaluate it, whichever run of its line did so."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from pellucid.errors import RunError
from pellucid.eval import evaluate
from pellucid.eval import suite as suites
from pellucid.eval.causal.logit_share import MEAN, WHOLE, ZERO
from pellucid.eval.families import used
from pellucid.eval.refusals import refusal
from pellucid.eval.score import Score
from pellucid.eval.suite import QUICK, Metric
from pellucid.eval.taking import permitted
from pellucid.run import RunFolder
from pellucid.training.seen import UNKNOWN, seen

LOSS = {"function": "quiet:l1", "source_sha256": "0" * 64, "sites": ["blocks.0.mlp"]}


class PlainTokenizer:
    sha256 = "0" * 64

    def save(self, path):
        path.write_text("{}")


def folder(path, *, labels="none", head="unembed", init_from=None, **manifest) -> RunFolder:
    config = {
        "format": 1,
        "data": {"corpus": {"type": "python", "labels": labels}},
        "model": {"head": {"type": head}, "gradient_rule": {"type": "none"}},
        "train": {"init_from": init_from and str(init_from), "teacher": None},
    }
    made = RunFolder(path)
    made.create(config, {"data_fingerprint": "f00d"} | manifest, PlainTokenizer())
    return made


def found(*words, **about) -> str | None:
    return refusal(
        *words, about.get("metric", "f1"), about.get("module", "m"), about.get("uses", ())
    )


def test_a_plain_run_refuses_nothing(tmp_path):
    known = seen(folder(tmp_path / "a"))
    assert known == {}
    assert found(known, uses=("labels:loop",)) is None
    assert seen(RunFolder(tmp_path / "nowhere")) == {}


def test_labels_of_the_training_are_refused_and_others_are_not(tmp_path):
    known = seen(folder(tmp_path / "a", labels="loop", head="concept"))
    reason = (
        "f1 uses labels:loop, but a was trained beside these labels (head=concept learns from them)"
    )
    assert found(known, uses=("labels:loop",)) == reason
    assert found(known, uses=("labels:dev",)) is None


def test_a_metric_that_entered_the_loss_is_refused_and_its_units_are_marked(tmp_path):
    known = seen(folder(tmp_path / "a", losses=[LOSS]))
    assert "quiet:l1 entered the loss of a" in found(known, module="quiet")
    assert found(known, module="loud") is None
    assert "saw these units" in known["site:blocks.0.mlp"]


def test_what_chose_the_model_is_refused(tmp_path):
    known = seen(folder(tmp_path / "a", selected_by=["coverage", "tasks:dev"]))
    assert "chosen by it" in found(known, metric="coverage")
    assert "chosen by it" in found(known, uses=("tasks:dev",))
    assert found(known, uses=("tasks:test",)) is None


def test_a_run_that_starts_from_another_has_seen_what_that_one_saw(tmp_path):
    folder(tmp_path / "a", labels="loop")
    folder(tmp_path / "b", init_from=tmp_path / "a", losses=[LOSS])
    known = seen(folder(tmp_path / "c", init_from=tmp_path / "b"))
    assert "c starts or learns from it" in known["labels:loop"]
    assert "entered the loss of b" in known["quiet:l1"]


def begun_from(path, source, **about) -> RunFolder:
    """A run that starts from another one, whose manifest says what a training run's does of it."""
    origin = {"init_from": {"run": source.name, "seen": seen(source)}}
    return folder(path, init_from=source.path, origin=origin, **about)


def test_what_a_source_had_seen_is_known_without_its_folder(tmp_path, monkeypatch):
    """Whether it was deleted, or its path was written from another working folder."""
    monkeypatch.chdir(tmp_path)
    runs = Path("runs")
    a = folder(runs / "a", labels="loop", losses=[LOSS], selected_by=["tasks:dev"])
    b = begun_from(runs / "b", a)
    shutil.rmtree(a.path)
    c = begun_from(tmp_path / "c", b)
    whole = seen(c)
    for key in ("labels:loop", "quiet:l1", "site:blocks.0.mlp", "tasks:dev"):
        assert "; b starts or learns from it; c starts or learns from it" in whole[key], key
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert not b.exists() and seen(c) == whole
    assert found(whole, uses=("labels:loop",)) and found(whole, module="quiet")
    assert not [key for key in whole if key.startswith(UNKNOWN)]


def test_what_a_source_has_seen_since_counts_too(tmp_path):
    a = folder(tmp_path / "a")
    b = begun_from(tmp_path / "b", a)
    a.update_manifest(selected_by=["coverage"])
    assert "a was chosen by it" in found(seen(b), metric="coverage")


def test_a_score_says_that_nothing_is_known_of_a_source(make_run, monkeypatch, tmp_path):
    """Of manifests that say nothing of it: no score goes without the sentence."""
    run, gone = make_run(), tmp_path / "gone"
    b = folder(tmp_path / "b", init_from=gone)
    object.__setattr__(run, "folder", begun_from(tmp_path / "c", b))
    monkeypatch.setitem(suites.METRICS, "made_up", Metric(made_up, QUICK))
    scores = evaluate(run, metrics=["made_up", "bytes_per_token"], progress=False)
    assert [score.value is None for score in scores] == [False, False]
    reason = (
        f"what {gone} was trained and chosen by is not known: the run is not there, and the "
        f"manifest of b does not say; b starts or learns from it; c starts or learns from it"
    )
    assert all(score.flags[-1] == reason for score in scores)


def made_up(bench) -> list[Score]:
    return [
        Score(metric="made_up", value=1.0, n=1, seconds=0.0, tokens=1, flags=("no interval: one",))
    ]


@pytest.fixture
def labeled_run(make_run, tmp_path, monkeypatch):
    """A run that was trained beside loop labels, and a metric that uses them."""
    run = make_run()
    run.folder.path = tmp_path
    object.__setattr__(run, "folder", folder(tmp_path / "labeled", labels="loop"))
    table = {"made_up": Metric(made_up, QUICK, ("labels:loop",))}
    monkeypatch.setitem(suites.METRICS, "made_up", table["made_up"])
    return run


def test_a_refused_metric_is_a_score_without_a_value_and_the_rest_run(labeled_run):
    scores = {score.metric: score for score in evaluate(labeled_run, progress=False)}
    assert scores["made_up"].value is None
    assert scores["made_up"].flags[0].startswith("no value: refused: made_up uses labels:loop, but")
    assert scores["bits_per_byte"].value > 0


def test_a_refused_metric_that_was_asked_for_is_an_error(labeled_run):
    with pytest.raises(
        RunError, match="refused: made_up uses labels:loop, but labeled was trained"
    ):
        evaluate(labeled_run, metrics=["made_up"], progress=False)
    with pytest.raises(RunError, match="metric 'bits' is unknown"):
        evaluate(labeled_run, metrics=["bits"], progress=False)
    assert not labeled_run.folder.scores_file.exists()
    (score,) = evaluate(labeled_run, metrics=["bytes_per_token"], progress=False)
    assert score.metric == "bytes_per_token"


def test_every_opening_of_the_test_split_is_counted(make_run):
    run = make_run()
    name = {"metrics": ["bytes_per_token"], "progress": False}
    counted = []
    for split in ("val", "test", "val", "test"):
        evaluate(run, split=split, **name)
        counted.append(run.folder.read_scores()["test_openings"])
    assert counted == [0, 1, 1, 2]
    assert [o["suite"] for o in run.folder.read_openings()] == ["quick", "quick"]


def test_what_is_refused_beside_a_run_opens_no_test_split(make_run):
    run, other = make_run(), make_run("dense")
    other.__dict__["data"] = SimpleNamespace(fingerprint="f00d")
    refused = [
        ({"dense": run}, "is the run that is scored"),
        ({"dense": make_run()}, "is not dense"),
        ({"dense": other}, "was trained on data f00d"),
    ]
    for beside, why in refused:
        with pytest.raises(RunError, match=why):
            evaluate(run, metrics=["bytes_per_token"], split="test", progress=False, **beside)
        assert run.folder.read_openings() == []


@pytest.mark.parametrize(("split", "family"), [("val", "dev"), ("test", "test")])
@pytest.mark.parametrize("kind", ["labels", "tasks"])
def test_a_family_follows_the_split(make_run, monkeypatch, tmp_path, split, family, kind):
    """A run that was chosen by dev tasks or labels is still to be scored on the test split."""
    run = make_run()
    object.__setattr__(run, "folder", folder(tmp_path / "chosen", selected_by=[f"{kind}:dev"]))
    monkeypatch.setitem(suites.METRICS, "made_up", Metric(made_up, QUICK, (kind,)))
    chosen = {"metrics": ["made_up"], "split": split, "progress": False}
    if family == "dev":
        with pytest.raises(RunError, match=f"made_up uses {kind}:dev, but chosen was chosen by it"):
            evaluate(run, **chosen)
    else:
        (score,) = evaluate(run, **chosen)
        assert score.value == 1.0


@pytest.mark.parametrize(("split", "other"), [("val", "test"), ("test", "val")])
def test_what_units_cause_is_scored_with_the_family_of_the_split(tmp_path, split, other):
    family = {"val": "dev", "test": "test"}
    by = lambda s: [f"{kind}:{family[s]}" for kind in ("labels", "tasks")]
    ours, theirs = (
        SimpleNamespace(folder=folder(tmp_path / s, selected_by=by(s))) for s in (split, other)
    )
    kinds = {"targeted_ablation": "labels", "steering": "labels", "interchange": "tasks"}
    for name, metric in suites.METRICS.items():
        kind = next((uses for start, uses in kinds.items() if name.startswith(start)), None)
        if kind:
            about = {"split": split, "by_name": True}
            with pytest.raises(RunError, match=f"{name} uses {kind}:{family[split]}, but"):
                permitted(ours, {name: metric}, **about)
            assert set(permitted(theirs, {name: metric}, **about)) == {name}


NAMES = (
    "bits_per_byte",
    "bits_per_byte_given_up",
    "bits_per_byte_overlap",
    "bits_saved_over_5gram",
    "regret",
)


@pytest.mark.parametrize("asked", [("val:bits_per_byte",), ("val:regret",), ("bits_per_byte",)])
def test_the_loss_that_chose_a_run_is_refused_under_all_its_names(
    make_run, monkeypatch, tmp_path, asked
):
    """On that split; of a metric that finds it among others, that number alone."""
    run = make_run()
    object.__setattr__(run, "folder", folder(tmp_path / "chosen", selected_by=list(asked)))
    for name in NAMES:
        with pytest.raises(RunError, match=r"but chosen was chosen by it among the runs"):
            evaluate(run, metrics=[name], progress=False)
    two = lambda bench: [replace(*made_up(bench), metric=name) for name in ("part", "other")]
    monkeypatch.setitem(suites.METRICS, "made_up", Metric(two, QUICK, loss=("part",)))
    about = {"metrics": ["made_up"], "progress": False}
    part, other = evaluate(run, **about)
    reason = "no value: refused: part uses loss:dev, but chosen was chosen by it among the runs"
    assert part.value is None and part.flags[0].startswith(reason) and other.value == 1.0
    part, _ = evaluate(run, split="test", **about)
    assert (part.value is None) == (asked == ("bits_per_byte",))


def test_nor_is_it_shown_as_a_control(make_run, tmp_path):
    run = make_run()
    chosen = folder(tmp_path / "chosen", selected_by=["val:bits_per_byte"])
    (free,) = evaluate(run, metrics=[MEAN], progress=False)
    object.__setattr__(run, "folder", chosen)
    (score,) = evaluate(run, metrics=[MEAN], progress=False)
    assert score.value == free.value and isinstance(free.controls[WHOLE], float)
    assert free.controls[WHOLE] not in score.controls.values()
    reason = f"refused: {WHOLE} uses loss:dev, but chosen was chosen by it among the runs"
    assert score.controls[WHOLE].startswith(reason)


def test_scores_that_are_the_held_out_loss_are_declared():
    table = suites.METRICS
    assert {name for name, metric in table.items() if "loss" in metric.uses} == set(NAMES)
    assert {name: metric.loss for name, metric in table.items() if metric.loss} == {
        "explained_loss": ("explained_loss_nats_full",),
        "cross_entropy_by_class": ("cross_entropy_by_class",),
        MEAN: (WHOLE,),
        ZERO: (WHOLE,),
    }


def test_what_scores_with_labels_and_tasks_says_so():
    assert suites.METRICS["tasks"].uses == suites.METRICS["tasks_quick"].uses == ("tasks",)
    assert suites.METRICS["concept_gain"].uses == ("labels",)
    assert used(("labels", "labels:loop"), "test") == ("labels:test", "labels:loop")
