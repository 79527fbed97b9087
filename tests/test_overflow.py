"""What a layer's limit of capacity leaves out is told in the metrics, and marks the cell."""

import json
from pathlib import Path

import pytest
import torch
from support.training import small

from pellucid.models.mlp.topk import TopKMLP
from pellucid.report.grid.reading import read_grid
from pellucid.run import RunFolder
from pellucid.train import train
from pellucid.training.step import Stepper

DROPPED = {3: 2, 6: 5}
"""By step, what each of the two layers leaves out."""


def grid_of(folder: Path) -> Path:
    cells = {"a": {"values": {}, "seed": 0}}
    (folder / "grid.json").write_text(json.dumps({"name": "g", "cells": cells}))
    return folder


@pytest.fixture
def limited(monkeypatch):
    """A layer that tells of what it left out, in some steps; no step of those is logged."""
    forward, gradient, now = TopKMLP.forward, Stepper.gradient, []

    def stepping(self, step):
        now[:] = [step]
        return gradient(self, step)

    def telling(self, x, *rest):
        y, told = forward(self, x, *rest)
        left_out = torch.tensor([DROPPED.get(now[0], 0)]) if self.training else torch.tensor([9])
        return y, told | {"sum/overflow": left_out}

    monkeypatch.setattr(Stepper, "gradient", stepping)
    monkeypatch.setattr(TopKMLP, "forward", telling)


def test_overflow_is_counted_and_marks_the_cell(limited, tmp_path):
    run = tmp_path / "cells" / "a"
    assert train(small("train.steps=8", "train.revive_budget=0"), run) == 0
    rows = [r for r in RunFolder(run).read_metrics() if r.get("event") == "overflow"]
    assert [(row["step"], row["units"]) for row in rows] == [(4, 4), (7, 10)]
    (cell,) = read_grid(grid_of(tmp_path)).cells
    assert cell.marks == ["14 overflows"]


def test_a_step_that_is_not_finite_is_not_skipped_but_ends_the_cell(monkeypatch, tmp_path):
    losses = Stepper.losses

    def planted(self, tokens, side):
        parts, told = losses(self, tokens, side)
        return parts | {"loss": parts["loss"] * torch.nan}, told

    monkeypatch.setattr(Stepper, "losses", planted)
    run = tmp_path / "cells" / "a"
    assert train(small("train.steps=8"), run) == 3
    (cell,) = read_grid(grid_of(tmp_path)).cells
    assert (cell.state, cell.reason, cell.marks) == ("begun", "not trained to its end", [])
