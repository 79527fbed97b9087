"""`pellucid eval` on runs that cannot be scored, or not in full: sentences, and no silent 0."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pellucid import checkpoint, cli
from pellucid.errors import EXIT_OK, EXIT_USER
from pellucid.eval import suite as suites
from pellucid.eval.still import CONSTANT, SILENT

WORDS = [
    *("tiny", "data=files", "data.vocab_size=300", "data.val_fraction=0.3", "context=64"),
    *("n_layers=1", "d_model=16", "attention.n_heads=2", "mlp.width=24", "mlp.k=4"),
    *("train.steps=1", "train.batch=2", "train.eval_every=1", "train.eval_tokens=64"),
]
SITE = "blocks.0.mlp"
LABELLED = ("concept_coverage", "concept_gain", "targeted_ablation_zero", "steering")
UNITS = ("mean_active_units", "max_active_units", "living_share", "description_length", "rule")
EVERYWHERE = (*UNITS, "bits_per_byte", "logit_share")


def text(n: int) -> str:
    body = "\n".join(f"    if x[{i}] == {i % n}:\n        y = '{i * n} (b'" for i in range(12))
    return f"def f{n}(x, y):\n{body}\n    return y + {n}\n"


def trained(folder: Path, ending: str, documents: int) -> Path:
    """A run of one step on so many files whose names end so."""
    source = folder / "files"
    source.mkdir()
    for n in range(1, documents + 1):
        (source / f"{n}{ending}").write_text(text(n))
    assert cli.main(["train", *WORDS, f"data.path={source}", f"run={folder / 'run'}"]) == EXIT_OK
    return folder / "run"


@pytest.fixture(scope="module")
def code(tmp_path_factory) -> Path:
    return trained(tmp_path_factory.mktemp("code"), ".py", 60)


@pytest.fixture(autouse=True)
def some_metrics(monkeypatch):
    """Those that are looked at here, and few units with rules."""
    for name in set(suites.METRICS) - {*LABELLED, *EVERYWHERE}:
        monkeypatch.delitem(suites.METRICS, name)


def changed(run: Path, to: Path, edit: Callable[[dict], None]) -> Path:
    """A copy of a run whose newest checkpoint has other weights."""
    shutil.copytree(run, to)
    last = checkpoint.load(max((to / "checkpoints").iterdir()))
    edit(last.model)
    checkpoint.save(
        to / "checkpoints",
        last.step + 1,
        model=last.model,
        optimizer=last.optimizer,
        rng=last.rng,
        state=last.state,
        meta=last.meta,
    )
    return to


def scored(run: Path) -> dict[str, dict]:
    """What `scores.json` says after an evaluation, by metric; every number that is missing has a reason."""
    assert cli.main(["eval", str(run), "--suite", "standard"]) == EXIT_OK
    scores = json.loads((run / "scores.json").read_text())["scores"]
    for score in scores:
        starts = [flag.partition(":")[0] for flag in score["flags"]]
        assert score["value"] is not None or "no value" in starts, score
        assert score["low"] is not None or {"no value", "no interval"} & set(starts), score
    return {score["metric"]: score for score in scores}


def of_units(scores: dict[str, dict]) -> list[dict]:
    return [s for name, s in scores.items() if name.partition(":")[0] in (*UNITS, "logit_share")]


def test_a_run_without_checkpoints_is_one_sentence(code, tmp_path, capsys):
    shutil.copytree(code, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    assert cli.main(["eval", str(tmp_path / "run")]) == EXIT_USER
    assert "run has no checkpoint yet" in capsys.readouterr().err
    assert not (tmp_path / "run" / "scores.json").exists()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_model_that_predicts_nan_is_one_sentence(code, tmp_path, capsys, value):
    run = changed(code, tmp_path / "run", lambda m: m["embedding.weight"].fill_(value))
    assert cli.main(["eval", str(run)]) == EXIT_USER
    assert "NaN" in capsys.readouterr().err
    assert not (run / "scores.json").exists()


def test_without_labels_what_needs_them_says_so_and_the_rest_runs(tmp_path):
    scores = scored(trained(tmp_path, ".log", 60))
    reason = "no value: no document has a name that ends in .py or .txt or .md"
    for name in LABELLED:
        assert scores[name]["value"] is None and scores[name]["flags"][0] == reason, name
    for name in ("bits_per_byte", "mean_active_units", "rule:r2_64bits", "logit_share"):
        assert scores[name]["value"] is not None, name


def test_units_that_are_never_on_are_told_beside_every_number(code, tmp_path):
    def silence(model):
        model[f"{SITE}.w_enc"].zero_()
        model[f"{SITE}.b_enc"].fill_(-1.0)

    scores = scored(changed(code, tmp_path / "run", silence))
    for name in LABELLED:
        assert scores[name]["value"] is None, name
    numbers = [s for s in of_units(scores) if s["value"] is not None]
    assert {s["metric"] for s in numbers} >= {"mean_active_units", "description_length"}
    for score in numbers:
        assert score["value"] == 0 and any(SILENT in flag for flag in score["flags"]), score
    assert not any(SILENT in flag for flag in scores["bits_per_byte"]["flags"])


def test_units_that_are_constant_are_told_beside_every_number(code, tmp_path):
    def fix(model):
        model[f"{SITE}.w_enc"].zero_()
        model[f"{SITE}.b_enc"].fill_(2.0)

    scores = scored(changed(code, tmp_path / "run", fix))
    for score in of_units(scores):
        told = any(CONSTANT in flag for flag in score["flags"])
        assert told or score["value"] is None, score
    assert any(CONSTANT in flag for flag in scores["targeted_ablation_zero"]["flags"])
    assert scores["mean_active_units"]["value"] == 4


def test_too_little_text_gives_numbers_without_intervals(tmp_path):
    scores = scored(trained(tmp_path, ".py", 12))
    assert scores["bits_per_byte"]["value"] > 0 and scores["bits_per_byte"]["low"] is None
    assert "documents are too few" in scores["bits_per_byte"]["flags"][0]
    assert "documents are too few" in scores["mean_active_units"]["flags"][0]
