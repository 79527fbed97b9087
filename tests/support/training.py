"""Small trainings, in this process or in their own, and what they leave."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from pellucid.experiments import run_config
from pellucid.run import RunFolder

DRIVER = Path(__file__).parent / "train_run.py"
SMALL = [
    "tiny",
    "data=generated",
    "data.n_documents=120",
    "data.vocab_size=300",
    "n_layers=2",
    "d_model=16",
    "context=16",
    "attention.n_heads=2",
    "mlp.width=64",
    "mlp.k=4",
    "dropout=0.1",
    "train.steps=40",
    "train.batch=8",
    "train.eval_every=20",
    "train.eval_tokens=512",
    "train.checkpoint_every=3",
    "train.log_every=5",
    "train.revive_every=7",
    "train.revive_after=600",
    "train.revive_budget=0.1",
    "train.device=cpu",
]


def small(*words: str):
    return run_config([*SMALL, *words])


def digest(folder: Path, step: int = 40) -> dict[str, str]:
    """SHA-256 of weights and moments, and the metrics without wall time."""
    place = folder / "checkpoints" / f"step-{step:08d}"
    files = {
        name: hashlib.sha256((place / name).read_bytes()).hexdigest()
        for name in ("model.safetensors", "optim.safetensors")
    }
    timed = {"seconds", "tokens_per_s"}
    rows = [
        {k: v for k, v in row.items() if k not in timed}
        for row in RunFolder(folder).read_metrics()
        if row.get("event") != "resume"
    ]
    return files | {"metrics": json.dumps(rows, sort_keys=True)}


def launch(folder: Path, point: str = "-", step: int = 0, *words: str, processes: int = 1, **kw):
    """Run the driver in a process of its own, or under torchrun."""
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node", str(processes)]
    command += [str(DRIVER), str(folder), point, str(step), *SMALL, *words]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **kw
    )


def finish(process) -> tuple[int, str]:
    out, _ = process.communicate(timeout=300)
    return process.returncode, out


def losses(folder: Path) -> np.ndarray:
    rows = RunFolder(folder).read_metrics()
    return np.array([row["loss"] for row in rows if row["kind"] == "train"])


def weights(folder: Path, step: int = 50, file: str = "model") -> dict[str, torch.Tensor]:
    return load_file(folder / "checkpoints" / f"step-{step:08d}" / f"{file}.safetensors")


def assert_same_training(a: Path, b: Path) -> None:
    assert np.abs(losses(a) - losses(b)).max() < 1e-9
    for name, value in weights(a).items():
        assert torch.allclose(value.double(), weights(b)[name].double(), atol=1e-9, rtol=0), name
