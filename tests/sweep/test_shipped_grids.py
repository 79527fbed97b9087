"""The grids that ship load, plan, and analyse what they declare; none is run here."""

import json

import numpy as np
import pytest

from pellucid.cli import main
from pellucid.errors import EXIT_USER, RunError
from pellucid.experiments import analysis, h1, h3, matching
from pellucid.models.mlp import MLPS
from pellucid.sweep import load_grid
from pellucid.sweep.statistics import HEADLINE

SHIPPED = {"mlp_fillings": len(MLPS) * 3, "topk_k_width": 13 * 3, "h1": 24 * 5, "h2": 23 * 5}
SHIPPED |= {"h3": 9 * 5, "h3_minimal": 6 * 3}


@pytest.fixture
def timed(monkeypatch):
    """Steps that take as long as the model is wide, and how often they were timed."""
    asked = []

    def times(target, found):
        asked.append(found)
        return [522.0] * 9, [float(found.model.mlp.width)] * 9

    monkeypatch.setattr(matching, "_times", times)
    return asked


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_grid_plans(name, timed, capsys, tmp_path):
    assert main(["sweep", name, "--dry-run", "--out", str(tmp_path / "g")]) == 0
    grid = load_grid(name)
    said = capsys.readouterr().out
    assert f"{grid.name}: {SHIPPED[name]} cells" in said
    assert ("tuning" in said) == (grid.tune is not None)
    assert not (tmp_path / "g").exists()


def test_headlines_have_five_seeds_and_are_tuned():
    for name in ("h1", "h2", "h3"):
        grid = load_grid(name)
        assert len(grid.seeds) >= HEADLINE and grid.tune
    assert load_grid("h2").endpoints == ("bits_per_byte", "explained_loss:64bits_equal_total")


def test_fillings_see_equal_tokens():
    assert len({cell.tokens for cell in load_grid("mlp_fillings").cells()}) == 1


def test_a_metric_that_separates_is_told_from_one_that_does_not(tmp_path):
    rng = np.random.default_rng(0)
    cells = {}
    for number in range(8):
        for seed in range(5):
            name = f"c{number}-{seed}"
            cells[name] = {"seed": seed, "values": {}}
            scores = [
                _score("good", 1 + rng.normal(), -3 + rng.normal()),
                _score("noise", rng.normal(), rng.normal()),
                _score("low", -3 + rng.normal(), 1 + rng.normal(), better="lower"),
            ]
            place = tmp_path / "cells" / name
            place.mkdir(parents=True)
            (place / "scores.json").write_text(json.dumps({"scores": scores}))
    (tmp_path / "grid.json").write_text(json.dumps({"cells": cells}))
    found = h1.separations(tmp_path)
    assert found["good"][0].low > 0.4 and found["good"][1] < 0.05
    assert found["low"][0].low > 0.4
    assert found["noise"][0].low < 0 < found["noise"][0].high and found["noise"][1] > 0.05
    assert h1.table(found).count("\n") == 4


def test_separation_counts_ties_half_and_needs_twins(tmp_path):
    assert h1.auroc(np.array([[1.0, 1.0], [1.0, 1.0]])) == 0.5
    assert h1.auroc(np.array([[2.0, 1.0], [3.0, 2.0]])) == 0.875
    with pytest.raises(RunError, match="is not a grid"):
        h1.separations(tmp_path)
    (tmp_path / "grid.json").write_text('{"cells": {}}')
    with pytest.raises(RunError, match="permuted_weights"):
        h1.separations(tmp_path)


def _score(metric, value, twin, better=None):
    held = {"metric": metric, "value": value, "controls": {"permuted_weights": twin}}
    return held | {"better": better}


@pytest.mark.parametrize(("words", "says"), [([], "0 words given"), (["gone"], "is not a grid")])
@pytest.mark.parametrize("table", [h1.separations, h3.findings])
def test_an_analysis_without_a_grid_is_told_in_one_line(table, words, says, capsys):
    assert analysis(lambda folder: str(table(folder)), words) == EXIT_USER
    told = capsys.readouterr().err
    assert says in told and told.count("\n") == 1
