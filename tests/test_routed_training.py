"""Experts and memories learn the same however the work is split: a layer of each, in float64.

Their losses, running statistics and the table that two layers share must not depend on it.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.training import DRIVER, SMALL, assert_same_training, finish, weights

from pellucid.experiments import run_config
from pellucid.train import train

WORDS = [
    *(word for word in SMALL if not word.startswith(("mlp.", "n_layers", "dropout"))),
    *("n_layers=5", "mlp=memory", "mlp.n_slots=49", "mlp.k=3", "mlp.n_heads=2"),
    *("mlp.query_norm=batch", "mlp@1=moe", "mlp@1.n_experts=4", "mlp@1.width=32"),
    *("mlp@1.balance=0.1", "mlp@2=monet", "mlp@2.n_experts=64", "mlp@2.uniformity=0.1"),
    *("mlp@3=peer", "mlp@3.n_experts=49", "mlp@3.k=3", "mlp@3.query_norm=batch"),
    *("train.precision=fp64", "train.steps=50", "train.eval_every=50"),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("routed") / "one"
    assert train(run_config(WORDS), folder) == 0
    return folder


def test_accumulation_equals_one_batch(whole, tmp_path):
    assert train(run_config([*WORDS, "train.micro_batch=2"]), tmp_path / "run") == 0
    assert_same_training(whole, tmp_path / "run")


def test_activation_checkpointing_equals_keeping_everything(whole, tmp_path):
    words = [*WORDS, "train.checkpoint_activations=true"]
    assert train(run_config(words), tmp_path / "run") == 0
    assert_same_training(whole, tmp_path / "run")


def test_running_statistics_have_moved_and_the_table_is_saved_once(whole):
    saved = weights(whole)
    assert [name for name in saved if name.endswith(".values")] == ["shared.memory.values"]
    assert (saved["blocks.1.mlp.load"] - 0.25).abs().max() > 1e-3
    assert (saved["blocks.2.mlp.routing"] - 0.125).abs().max() > 1e-3
    for layer in (0, 3, 4):
        assert saved[f"blocks.{layer}.mlp.keys.query_mean"].abs().max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp2"])
def test_two_processes_equal_one(whole, tmp_path, parallel):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--master-port", str(20000 + os.getpid() % 20000)]
    command += [str(DRIVER), str(tmp_path / "run"), "-", "0", *WORDS]
    command += [f"train.parallel={parallel}", "train.world_size=2"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    code, out = finish(subprocess.Popen(command, **pipes))
    assert code == 0, out
    assert_same_training(whole, tmp_path / "run")
