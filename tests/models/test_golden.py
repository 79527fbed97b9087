"""Every filling learns the same numbers on every machine, in every run, and in two processes.

After a change that is meant to change them: `PYTHONPATH=tests python tests/models/test_golden.py`.
"""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support import every_filling
from support.fitting import Fit, fit
from support.small import FILLINGS, SLOTS, VOCAB, filled

from pellucid.models import Transformer

GOLDEN = Path(__file__).with_name("golden.json")
STEPS = (0, 1, 10, 25, 49)
"""The steps whose losses are kept."""

DRAW = {"attention=gated"}
"""Fillings that draw while they are trained, in each process for itself."""


@torch.no_grad()
def draw(model: Transformer) -> None:
    """Replace the drawn weights by those of a generator that is the same to the last bit anywhere.

    Normal numbers differ in their last bits between processors. The uniform ones here have the
    deviation of what they replace, rounded to a power of two.
    """
    generator = torch.Generator().manual_seed(0)
    for _, parameter in sorted(model.named_parameters()):
        if parameter.numel() > 1 and (deviation := float(parameter.std())) > 0:
            whole = torch.randint(-(2**20), 2**20, parameter.shape, generator=generator)
            scale = 2.0 ** round(math.log2(deviation)) * 3**0.5 / 2**20
            parameter.copy_(whole * scale)


def losses(name: str) -> list[float]:
    """Some of the losses of fifty steps in float64."""
    model = Transformer(filled(name), vocab_size=VOCAB).double()
    draw(model)
    run = Fit(model, lr=3e-3, steps=50)
    found = [run.step() for _ in range(50)]
    return [found[step] for step in STEPS]


@pytest.mark.parametrize("name", FILLINGS)
def test_losses_are_the_recorded_ones(name):
    recorded = json.loads(GOLDEN.read_text())
    assert name in recorded, f"no losses of {name} are recorded; see the top of {__file__}"
    assert losses(name) == pytest.approx(recorded[name], rel=1e-9, abs=0)


def test_only_fillings_that_exist_are_recorded():
    assert sorted(json.loads(GOLDEN.read_text())) == sorted(FILLINGS)


@pytest.mark.parametrize("name", FILLINGS)
def test_two_runs_are_equal_to_the_last_bit(name):
    assert fit(filled(name), 10) == fit(filled(name), 10)


def test_a_small_difference_would_be_found():
    """A change of the learning rate by 1e-8."""
    assert fit(filled(), 10, dtype=torch.float64) != pytest.approx(
        fit(filled(), 10, dtype=torch.float64, lr=1e-2 * (1 + 1e-8)), rel=1e-9, abs=0
    )


def two_processes(path: Path) -> dict[str, torch.Tensor]:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--master-port", str(20000 + os.getpid() % 20000)]
    command += [every_filling.__file__, str(path)]
    tests = str(Path(every_filling.__file__).parents[1])
    paths = os.pathsep.join([tests, *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": paths}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return load_file(path)


def splits(name: str) -> bool:
    """Whether what a filling does to a row in training depends on that row alone."""
    slot, tag = name.split("=")
    return name not in DRAW and getattr(SLOTS[slot][tag], "causal_in_training", True)


def test_two_processes_equal_one(tmp_path):
    one, two = every_filling.all_trained(tmp_path), two_processes(tmp_path / "two.safetensors")
    assert one.keys() == two.keys()
    apart = dict.fromkeys(FILLINGS, 0.0)
    for key, value in one.items():
        name = key.partition("/")[0]
        apart[name] = max(apart[name], float((value.double() - two[key].double()).abs().max()))
    assert {name: gap for name, gap in apart.items() if splits(name) and not gap < 1e-9} == {}
    assert apart["mlp=batch_topk"] > 1e-6  # its budget is divided among the rows of a process


if __name__ == "__main__":
    text = json.dumps({name: losses(name) for name in FILLINGS}, indent=1)
    GOLDEN.write_text(text + "\n")
