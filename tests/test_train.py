"""The trainer's promises: it resumes bit for bit, splits work without changing it, and stops safely."""

import gc
import random
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.training import (
    SMALL,
    assert_same_training,
    digest,
    finish,
    launch,
    losses,
    small,
    weights,
)

from pellucid import checkpoint
from pellucid.experiments import run_config
from pellucid.models import ablate, intervene, record
from pellucid.run import RunFolder, load
from pellucid.train import replay, train
from pellucid.training.step import Stepper


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A run of 40 steps that nobody interrupted."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    code, out = finish(launch(folder))
    assert code == 0, out
    return folder


@pytest.mark.parametrize(
    ("point", "step"),
    [
        ("step", 17),
        ("save", 21),
        pytest.param("validate", 3, marks=pytest.mark.slow),
        pytest.param("kill-save", 21, marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_run_resumes_bit_for_bit(whole, tmp_path, point, step):
    """SIGTERM in a step, in evaluation and in saving, SIGKILL between two files of a checkpoint."""
    folder = tmp_path / "run"
    code, out = finish(launch(folder, point, step))
    assert code == (-signal.SIGKILL if point == "kill-save" else 75), out
    code, out = finish(launch(folder))
    assert code == 0, out
    assert "resumed at step" in out
    assert digest(folder) == digest(whole)


def killed_and_resumed(folder: Path, kills: int, seed: int) -> int:
    """Kill the run at random moments until it has been killed so often; returns real kills."""
    drawn, real = random.Random(seed), 0
    for _ in range(kills):
        process = launch(folder)
        # Time starts to count with the first metrics, after seconds of imports.
        while process.poll() is None and not (folder / "metrics.jsonl").exists():
            time.sleep(0.05)
        time.sleep(drawn.random() * 1.5)
        process.kill()
        finish(process)
        real += process.returncode == -signal.SIGKILL
    code, out = finish(launch(folder))
    assert code == 0, out
    return real


def test_five_random_kills_change_no_bit(whole, tmp_path):
    assert killed_and_resumed(tmp_path / "run", 5, seed=0) >= 3
    assert digest(tmp_path / "run") == digest(whole)


@pytest.mark.slow
def test_fifty_random_kills_change_no_bit(whole, tmp_path):
    """Ten runs of five kills: a run is too short to survive more."""
    real = 0
    for number in range(10):
        real += killed_and_resumed(tmp_path / str(number), 5, seed=number + 1)
        assert digest(tmp_path / str(number)) == digest(whole)
    assert real >= 30


EXACT = ["train.precision=fp64", "dropout=0.0", "train.steps=50", "train.eval_every=50"]


@pytest.fixture(scope="module")
def exact(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("exact") / "one"
    assert train(small(*EXACT), folder) == 0
    return folder


def test_accumulation_equals_one_batch(exact, tmp_path):
    assert train(small(*EXACT, "train.micro_batch=2"), tmp_path / "run") == 0
    assert_same_training(exact, tmp_path / "run")


def test_two_processes_equal_one(exact, tmp_path):
    words = [*EXACT, "train.world_size=2"]
    code, out = finish(launch(tmp_path / "run", "part", 0, *words, processes=2))
    assert code == 0, out
    assert_same_training(exact, tmp_path / "run")
    # A reducer that outlives the group may wait for ever for the group's threads.
    assert out.count("wrapped models at the parting: 0") == 2, out


def test_activation_checkpointing_equals_keeping_everything(exact, tmp_path):
    words = [*EXACT, "train.checkpoint_activations=true"]
    assert train(small(*words), tmp_path / "run") == 0
    assert_same_training(exact, tmp_path / "run")


@pytest.mark.slow
def test_fully_sharded_equals_one(exact, tmp_path):
    words = [*EXACT, "train.parallel=fsdp2", "train.world_size=2"]
    code, out = finish(launch(tmp_path / "run", "-", 0, *words, processes=2))
    assert code == 0, out
    assert_same_training(exact, tmp_path / "run")


def test_what_was_not_launched_is_refused(tmp_path):
    with pytest.raises(ValueError, match="train.world_size is 2, but 1 processes joined"):
        train(small("train.world_size=2"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_non_finite_loss_never_reaches_the_weights(tmp_path, capfd):
    folder = tmp_path / "run"
    assert train(small("train.lr=1e30", "train.warmup=0.0"), folder) == 3
    said = capfd.readouterr().err
    step = checkpoint.steps(folder / "checkpoints")[-1]
    assert f"pellucid replay {folder} {step}" in said.replace("\n", " ")
    saved = checkpoint.load(checkpoint.folder(folder / "checkpoints", step))
    assert all(bool(v.isfinite().all()) for v in saved.model.values())
    dumped = load_file(folder / "nonfinite" / f"step-{step:08d}.safetensors")
    config = small()
    from pellucid.data import prepare

    rows = prepare(config.data).rows(config.seed, step, batch=8, context=16)
    assert torch.equal(dumped["tokens"], rows.tokens)
    assert replay(folder, step) == 0
    assert "not finite" in capfd.readouterr().out


def test_dead_units_are_revived_and_logged(whole):
    rows = RunFolder(whole).read_metrics()
    revived = [row for row in rows if row.get("event") == "revive"]
    assert revived and all(1 <= row["units"] <= 12 for row in revived)
    assert all(row["step"] % 7 == 0 for row in revived)


def test_revival_can_be_switched_off(tmp_path):
    words = ["train.revive_budget=0", "train.steps=15"]
    assert train(small(*words), tmp_path / "run") == 0
    rows = RunFolder(tmp_path / "run").read_metrics()
    assert not any(row.get("event") == "revive" for row in rows)


def test_another_configuration_is_refused_with_the_difference(whole, tmp_path):
    before = digest(whole)
    with pytest.raises(ValueError, match=r"model.mlp.k.* 4 there and 5 here"):
        train(small("mlp.k=5"), whole)
    assert digest(whole) == before


def test_a_finished_run_says_so_and_changes_nothing(whole, capfd):
    before = (whole / "metrics.jsonl").read_bytes()
    assert train(small("train.checkpoint_every=9"), whole) == 0
    assert "is finished" in capfd.readouterr().out
    assert (whole / "metrics.jsonl").read_bytes() == before


def test_training_learns(whole):
    rows = RunFolder(whole).read_metrics()
    held_out = [row["loss"] for row in rows if row["kind"] == "val"]
    assert held_out[-1] < held_out[0] - 0.5
    assert [row["step"] for row in rows if row["kind"] == "val"] == [0, 20, 40]


def test_muon_and_rms_normalization_train(tmp_path):
    for name, words in {
        "muon": ["train.optimizer=muon"],
        "rms": ["train.gradient=rms", "train.schedule=sharkfin", "train.eps=0.1", "train.lr=0.01"],
    }.items():
        assert train(small(*words), tmp_path / name) == 0
        loss = losses(tmp_path / name)
        assert loss[-1] < loss[0] - 0.3


@pytest.mark.parametrize("rule", ["abs_topk", "batch_topk", "jumprelu", "dense"])
def test_every_rule_trains(rule, tmp_path):
    words = [w for w in SMALL if not w.startswith("mlp.")] + [f"mlp={rule}", "mlp.width=64"]
    words += [] if rule == "dense" else ["mlp.k=4"]
    assert train(run_config(words), tmp_path / rule) == 0
    loss = losses(tmp_path / rule)
    assert loss[-1] < loss[0] - 0.3


def test_a_run_is_loaded_as_it_was_saved(whole):
    run = load(whole)
    assert run.step == 40
    saved = load_file(whole / "checkpoints" / "step-00000040" / "model.safetensors")
    own = run.model.state_dict()
    assert all(torch.equal(own[name], value) for name, value in saved.items())
    assert load(whole, step=16).step == 16


def test_sites_work_under_ddp(tmp_path):
    """One gloo process is enough for the wrapper."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    try:
        _compare_under_ddp()
    finally:
        gc.collect()  # the wrapped model, which has to go first: see `devices.part`
        torch.distributed.destroy_process_group()


def _compare_under_ddp() -> None:
    from support.small import small_model

    model = small_model("topk")
    tokens = torch.randint(0, 61, (2, 24))
    wrapped = torch.nn.parallel.DistributedDataParallel(model)
    edits = {"blocks.0.mlp": ablate([1])}
    with intervene(model, edits), record(model, "blocks.0.mlp") as a:
        plain = model(tokens).logits
    with intervene(wrapped, edits), record(wrapped, "blocks.0.mlp") as b:
        seen = wrapped(tokens).logits
    assert torch.equal(plain, seen)
    assert torch.equal(a["blocks.0.mlp"].values, b["blocks.0.mlp"].values)


def test_trackers_get_the_metrics_beside_the_file(tmp_path):
    assert train(small("train.trackers=tensorboard", "train.steps=5"), tmp_path / "run") == 0
    written = list((tmp_path / "run").rglob("events.out.tfevents.*"))
    assert written and written[0].stat().st_size > 100


def test_a_tracker_that_is_not_installed_is_refused(tmp_path):
    with pytest.raises(ValueError, match="train.trackers is swanlab; swanlab is not installed"):
        train(small("train.trackers=swanlab"), tmp_path / "run")


@pytest.mark.slow
# PyTorch's compiler looks at the `.grad` of the stream that enters a block.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_compiled_blocks_train_alike(exact, tmp_path):
    assert train(small(*EXACT, "train.compile=true"), tmp_path / "run") == 0
    assert_same_training(exact, tmp_path / "run")


def test_bfloat16_computes_low_and_keeps_full_weights(tmp_path):
    assert train(small("train.precision=bf16", "train.steps=20"), tmp_path / "low") == 0
    assert train(small("train.steps=20"), tmp_path / "full") == 0
    low, full = losses(tmp_path / "low"), losses(tmp_path / "full")
    assert 0 < np.abs(low - full).max() < 0.1
    assert all(
        v.dtype == torch.float32 for k, v in weights(tmp_path / "low", 20).items() if "w_" in k
    )


def test_jumprelu_accumulates_like_one_batch(tmp_path):
    words = [w for w in SMALL if not w.startswith("mlp.")] + EXACT
    words += ["mlp=jumprelu", "mlp.width=64", "mlp.k=4"]
    assert train(run_config(words), tmp_path / "whole") == 0
    assert train(run_config([*words, "train.micro_batch=2"]), tmp_path / "split") == 0
    assert_same_training(tmp_path / "whole", tmp_path / "split")


def test_replay_changes_nothing_and_refuses_what_was_not_trained(whole, tmp_path, capfd):
    before = {p: p.read_bytes() for p in whole.rglob("*") if p.is_file() and p.name != "lock"}
    assert replay(whole, 5) == 0
    assert "step 5 of" in capfd.readouterr().out
    with pytest.raises(ValueError, match="step 999 is not a step of"):
        replay(whole, 999)
    assert {p: p.read_bytes() for p in before} == before
    shutil.copytree(whole, tmp_path / "bare")
    shutil.rmtree(tmp_path / "bare" / "checkpoints")
    with pytest.raises(ValueError, match="no checkpoint at or before step 5"):
        replay(tmp_path / "bare", 5)
    assert (tmp_path / "bare" / "metrics.jsonl").read_bytes() == before[whole / "metrics.jsonl"]


def test_replay_goes_back_past_a_damaged_checkpoint(whole, tmp_path, capfd):
    folder = shutil.copytree(whole, tmp_path / "run")
    damaged = folder / "checkpoints" / "step-00000004" / "model.safetensors"
    data = bytearray(damaged.read_bytes())
    data[-3] ^= 1
    damaged.write_bytes(data)
    assert replay(folder, 5) == 0
    assert "every weight and gradient is finite" in capfd.readouterr().out


def test_what_is_refused_leaves_no_folder(tmp_path):
    for words, message in {
        "context=6000": "fewer than the 6001",
        "train.parallel=ddp": "one process was started",
        "train.parallel=fsdp2": "one process was started",
    }.items():
        with pytest.raises(ValueError, match=message):
            train(small(words), tmp_path / "run")
        assert not (tmp_path / "run").exists()


def test_speed_counts_the_steps_since_the_last_row(tmp_path):
    words = ["train.steps=13", "train.log_every=10", "train.checkpoint_every=100"]
    assert train(small(*words), tmp_path / "run") == 0
    rows = [r for r in RunFolder(tmp_path / "run").read_metrics() if r["kind"] == "train"]
    assert [row["step"] for row in rows] == [10, 13]
    last = rows[1]
    # Since the checkpoint of step 4 none was due: three steps in the time since the row before.
    elapsed = last["seconds"] - rows[0]["seconds"]
    assert last["tokens_per_s"] * elapsed == pytest.approx(3 * 8 * 16)


def test_operational_changes_are_kept_when_a_run_resumes(tmp_path):
    folder = tmp_path / "run"
    code, _ = finish(launch(folder, "step", 7))
    assert code == 75
    assert train(small("train.log_every=1"), folder) == 0
    assert RunFolder(folder).read_config()["train"]["log_every"] == 1


def test_an_infinite_gradient_is_not_applied(tmp_path, monkeypatch):
    """At a step that no checkpoint precedes, so that what is saved are the weights after it."""
    plain = Stepper.gradient

    def gradient(self, step):
        told = plain(self, step)
        if step == 2:
            next(self.model.parameters()).grad[0, 0] = float("inf")
        return told

    monkeypatch.setattr(Stepper, "gradient", gradient)
    assert train(small(), tmp_path / "run") == 3
    assert checkpoint.steps(tmp_path / "run" / "checkpoints")[-1] == 2
    assert all(bool(v.isfinite().all()) for v in weights(tmp_path / "run", 2).values())
