"""A run trained beside others in one batched model is the run that it would be alone."""

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.training import SMALL, weights

from pellucid.errors import EXIT_NONFINITE, EXIT_OK, EXIT_RESUME, EXIT_USER
from pellucid.experiments import run_config
from pellucid.models.mlp import MLPS
from pellucid.run import RunFolder, load
from pellucid.train import train
from pellucid.training.stackable import kind, refusal
from pellucid.training.stacked import Stack
from pellucid.training.together import Ending, Member, train_together

PLAIN = [word for word in SMALL if not word.startswith("mlp.")]
EXACT = ["train.precision=fp64", "dropout=0.0", "train.steps=24", "train.checkpoint_every=50"]
TOPK = ["mlp=topk", "mlp.width=64", "mlp.k=4"]
OTHERS = (["seed=3"], ["seed=4", "train.lr=0.02", "train.weight_decay=0.3", "train.clip=0.05"])


def members(folder: Path, *words: str, each=OTHERS) -> list[Member]:
    return [
        Member(run_config([*PLAIN, *words, *own]), folder / f"run{i}", folder / f"run{i}.log")
        for i, own in enumerate(each)
    ]


def rows(path: Path) -> list[dict]:
    """What a run's metrics say, without what was measured in seconds."""
    timed = ("seconds", "tokens_per_s")
    found = [row for row in RunFolder(path).read_metrics() if row.get("event") != "resume"]
    return [{k: v for k, v in row.items() if k not in timed} for row in found]


def assert_same(a: Path, b: Path, step: int, tolerance: float) -> None:
    """Equal weights, moments, counts and metrics, up to a tolerance."""
    for file in ("model", "optim"):
        ours, theirs = weights(a, step, file), weights(b, step, file)
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            gap = (value.double() - theirs[name].double()).abs().max()
            assert float(gap) <= tolerance, (name, float(gap))
    assert len(rows(a)) == len(rows(b))
    for ours, theirs in zip(rows(a), rows(b), strict=True):
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            assert value == theirs[key] or abs(value - theirs[key]) <= tolerance, (
                key,
                ours,
                theirs,
            )


@pytest.mark.parametrize(
    "words",
    [
        ["mlp=dense"],
        [*TOPK, "mlp.products=sparse"],
        [*TOPK, "mlp.products=dense", "train.micro_batch=4"],
        ["mlp=jumprelu", *TOPK[1:]],
        pytest.param(
            ["mlp=dense", "train.optimizer=muon", "head.tied=true", "constraint=weight_topk"],
            marks=pytest.mark.slow,
        ),
    ],
    ids=("dense", "sparse", "accumulated", "jumprelu", "muon"),
)
def test_each_run_is_what_it_is_alone(tmp_path, words):
    group = members(tmp_path, *EXACT, *words)
    group[0] = replace(group[0], matched={"by": "params"})
    assert train_together(group) == [Ending(EXIT_OK)] * 2
    for member in group:
        alone = tmp_path / "alone" / member.path.name
        assert train(member.config, alone) == EXIT_OK
        assert_same(member.path, alone, 24, 1e-9)
        assert "finished after 24 steps" in member.log.read_text()
    first, second = (weights(member.path, 24) for member in group)
    assert any(not torch.equal(first[name], second[name]) for name in first)
    manifest = RunFolder(group[0].path).read_manifest()
    assert manifest["matched"] == {"by": "params"}
    assert manifest["stacked"] == {"runs": 2} and manifest["finished"]["step"] == 24
    assert load(group[1].path).step == 24


@pytest.fixture
def at_step(monkeypatch):
    """Have something happen in the middle of a batched step, once."""

    def at(step: int, do: Callable[[Stack], None]) -> None:
        take = Stack.__call__

        def taken(self, now: int):
            if now == step:
                monkeypatch.setattr(Stack, "__call__", take)
                do(self)
            return take(self, now)

        monkeypatch.setattr(Stack, "__call__", taken)

    return at


def test_a_stopped_run_goes_on_alone_or_with_others_that_are_behind(tmp_path, at_step):
    words = [*EXACT, *TOPK, "train.steps=16"]
    first, second, third = members(tmp_path, *words, each=(*OTHERS, ["seed=5"]))
    at_step(7, lambda stack: os.kill(os.getpid(), signal.SIGTERM))
    assert train_together([first, second]) == [Ending(EXIT_RESUME)] * 2
    assert "SIGTERM: saved at step 8" in first.log.read_text()
    assert train(first.config, first.path) == EXIT_OK
    # The third has not begun: it catches up, and then they go on together.
    assert train_together([second, third, first]) == [Ending(EXIT_OK)] * 3
    for member in (first, second, third):
        alone = tmp_path / "alone" / member.path.name
        assert train(member.config, alone) == EXIT_OK
        assert_same(member.path, alone, 16, 1e-9)


def test_what_ends_one_run_does_not_end_the_others(tmp_path, at_step):
    words = [*EXACT, "mlp=dense", "train.steps=6", "train.log_every=1"]
    good, bad, taken = members(tmp_path, *words, each=(["seed=0"], ["seed=1"], ["seed=2"]))
    assert train(run_config([*PLAIN, *words, "seed=7", "train.steps=1"]), taken.path) == EXIT_OK

    def poison(stack: Stack) -> None:
        session = next(each for each in stack.sessions if each.config.seed == 1)
        session.model.blocks[0].mlp.w_in.data[0, 0] = torch.nan

    at_step(3, poison)
    endings = train_together([taken, bad, good])
    assert [ending.code for ending in endings] == [EXIT_USER, EXIT_NONFINITE, EXIT_OK]
    assert "seed is 7 there and 2 here" in endings[0].reason
    assert (bad.path / "nonfinite" / "step-00000003.json").exists()
    assert not RunFolder(bad.path).is_finished
    left = load(bad.path)
    assert left.step == 3 and bool(left.model.blocks[0].mlp.w_in[1:].isfinite().all())
    assert train(good.config, tmp_path / "alone") == EXIT_OK
    assert_same(good.path, tmp_path / "alone", 6, 1e-9)


def test_in_single_precision_the_first_losses_agree(tmp_path):
    """Sums are made in another order."""
    words = ["dropout=0.0", *TOPK, "train.steps=4", "train.log_every=1"]
    group = members(tmp_path, *words)
    assert train_together(group) == [Ending(EXIT_OK)] * 2
    for member in group:
        alone = tmp_path / "alone" / member.path.name
        assert train(member.config, alone) == EXIT_OK
        ours, theirs = (
            [row["loss"] for row in rows(path) if row["kind"] == "train"]
            for path in (member.path, alone)
        )
        assert len(ours) == 4 and max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) < 1e-5


def config(*words: str):
    return run_config([*PLAIN, "dropout=0.0", *words])


def test_runs_of_one_kind_differ_in_seed_and_rates_alone():
    same = ["train.lr=0.1", "seed=3", "train.beta2=0.9", "train.weight_decay=0.0", "train.clip=0"]
    assert len({kind(config(*w)) for w in ([], same[:1], same)}) == 1
    others = ["mlp=dense", "d_model=32", "train.steps=7", "train.schedule=wsd", "data.seed=1"]
    assert len({kind(config(*w)) for w in ([], *([other] for other in others))}) == 6


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["dropout=0.1"], "dropout draws noise"),
        (["attention@1=gated", "attention@1.n_heads=2"], "a layer draws noise"),
        (["train.compile=true"], "train.compile"),
        (["train.teacher=x"], "train.teacher"),
    ],
)
def test_what_cannot_be_stacked_says_why(words, said):
    assert said in refusal(config(*words))


def test_the_trial_finds_a_layer_that_keeps_something_between_passes(monkeypatch):
    """It raises no error, but what one pass leaves is what all the models then see."""
    dense = MLPS["dense"]
    encode = dense.encode

    def counting(self, x):
        acts, told = encode(self, x)
        self.passes = getattr(self, "passes", 0) + 1
        return acts, told | {"loss/own": self.passes * self.w_in.square().sum()}

    assert refusal(config("mlp=dense", "mlp.width=40")) == ""
    monkeypatch.setattr(dense, "encode", counting)
    assert "blocks.0.mlp.w_in is another one" in refusal(config("mlp=dense", "mlp.width=48"))
