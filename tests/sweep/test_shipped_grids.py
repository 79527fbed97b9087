"""The grids that ship load, plan, and analyse what they declare; none is run here."""

import json

import numpy as np
import pytest

from pellucid.cli import main
from pellucid.errors import EXIT_USER, RunError
from pellucid.eval import METRICS
from pellucid.experiments import analysis, h1, h2, h3, matching
from pellucid.models.mlp import MLPS
from pellucid.sweep import load_grid
from pellucid.sweep.statistics import HEADLINE

SHIPPED = {"mlp_fillings": len(MLPS) * 3, "topk_k_width": 13 * 3, "h1": 24 * 5, "h2": 24 * 5}
SHIPPED |= {"h3": 9 * 5, "h3_minimal": 6 * 3}


@pytest.fixture
def timed(monkeypatch):
    """Steps that take as long as the model is wide, and how often they were timed."""
    asked = []

    def times(target, found):
        asked.append(found)
        return [522.0] * 9, [float(found.model.mlp.width)] * 9

    monkeypatch.setattr(matching, "_Timer", lambda: times)
    return asked


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_grid_plans(name, timed, capsys, tmp_path):
    assert main(["sweep", name, "--dry-run", "--out", str(tmp_path / "g")]) == 0
    grid = load_grid(name)
    said = capsys.readouterr().out
    assert f"{grid.name}: {SHIPPED[name]} cells" in said
    assert ("tuning" in said) == (grid.tune is not None)
    ranked = grid.tune is not None and grid.suite in ("standard", "full")
    assert ("no arm will be ranked" in said) == (not ranked)
    assert not (tmp_path / "g").exists()


def test_headlines_have_five_seeds_and_are_tuned():
    for name in ("h1", "h2", "h3"):
        grid = load_grid(name)
        assert len(grid.seeds) >= HEADLINE and grid.tune
    assert load_grid("h2").endpoints == ("explained_loss:64bits_equal_total", "bits_per_byte")


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
    found = h1.separations(tmp_path, ("good", "noise", "low"))
    assert found["good"][0].low > 0.4 and found["good"][1] < 0.05
    assert found["low"][0].low > 0.4
    assert found["noise"][0].low < 0 < found["noise"][0].high and found["noise"][1] > 0.05
    assert h1.table(found, "AUROC", 0.5).count("\n") == 4
    alone = h1.separations(tmp_path, ("good",))
    assert alone["good"][1] == pytest.approx(found["good"][0].p) and alone["noise"][1] is None


def test_a_metric_that_follows_the_truth_is_told_from_one_that_follows_capability(tmp_path):
    """The truth hangs on regret, and so does everything: within bins of it only one is left."""
    rng, cells = np.random.default_rng(1), {}
    for number in range(24):
        for seed in range(5):
            regret, own = number / 4 + 0.01 * rng.normal(), rng.normal()
            truth = 0.1 * own - regret
            scores = [
                _score("regret", regret, 9, better="lower"),
                _score("latent_interchange", truth, 0, better="higher"),
                _score("follows", own - 10 * regret + 0.1 * rng.normal(), 0),
                _score("against", 10 * regret - own, 0),
                _score("capable", -regret + 10 * rng.normal(), 0),
            ]
            cells[f"c{number}-{seed}"] = {"seed": seed, "values": {}}
            place = tmp_path / "cells" / f"c{number}-{seed}"
            place.mkdir(parents=True)
            (place / "scores.json").write_text(json.dumps({"scores": scores}))
    (tmp_path / "grid.json").write_text(json.dumps({"cells": cells}))
    found = h1.agreements(tmp_path, ("follows", "capable", "against"))
    assert set(found) == {"follows", "against", "capable"}
    assert found["follows"][0].low > 0.5 and found["follows"][1] < 0.05
    assert found["against"][0].high < -0.5
    assert found["capable"][0].low < 0 < found["capable"][0].high and found["capable"][1] > 0.05
    assert h1.tables(tmp_path).count("| follows |") == 2


def test_correlations_of_ranks_share_ties_and_need_models():
    x = np.array([1.0, 2.0, 2.0, 3.0, 9.0])
    y = np.array([1.0, 3.0, 2.0, 4.0, 4.0])
    # By hand: ranks 1 2.5 2.5 4 5 and 1 3 2 4.5 4.5.
    assert h1.spearman(x, y) == pytest.approx(9.0 / np.sqrt(9.5 * 9.5))
    assert h1.spearman(x, -x) == pytest.approx(-1) and h1.spearman(x, np.ones(5)) is None
    assert h1.binned(np.array([[0, 1, 1], [1, 2, 2], [2, 3, 3]], dtype=float)) is None


def test_the_metrics_that_h1_tests_are_measured_by_its_suite():
    names = {name.partition(":")[0] for name in (*h1.TESTED, h1.TRUTH, h1.REGRET)}
    # That of several runs is measured by the grid.
    assert {n for n in names if h1.grid.suite not in METRICS[n].suites} == {"seed_consistency"}
    assert h1.grid.consistency and h2.grid.consistency


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
