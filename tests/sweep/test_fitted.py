"""Post-hoc arms: fitted to the dense run of the same seed, once it is there, and never before."""

import json
from dataclasses import replace
from functools import partial
from math import log2
from pathlib import Path

import pytest
from support.grids import BASE, Pretended

from pellucid.cli import main
from pellucid.errors import EXIT_NONFINITE, EXIT_USER
from pellucid.report.grid.arms import AT_EDGE, barred, groups
from pellucid.report.grid.reading import read_grid
from pellucid.sweep import Grid, GridError, Tuning, trials, worker
from pellucid.sweep.fitted import give_up_orphans, needed
from pellucid.sweep.folder import Failure, GridFolder
from pellucid.sweep.run import _run
from pellucid.sweep.tuning import SELECTED_BY

DENSE = " ".join(w for w in BASE.split() if not w.startswith("mlp.")) + " mlp=dense mlp.width=32"
CODER = "k=2 width=24 steps=4 batch=4 eval_tokens=256 lr=1e-3"
FITTED = ["posthoc-skip_coder-seed0", "posthoc-skip_coder-seed1"]
FILE = f"""\
from pellucid.sweep import Grid
grid = Grid(
    name="coders",
    base={DENSE!r},
    axes={{"activation": ["mlp.activation=relu"]}},
    baselines={{"dense": ""}},
    posthoc={{"skip coder": "kind=skip_transcoder {CODER}"}},
    seeds=(0, 1),
    suite="smoke",
)
"""


def grid(**changes) -> Grid:
    about = {"name": "coders", "base": DENSE, "baselines": {"dense": ""}, "seeds": (0, 1)}
    about["axes"] = {"activation": ["mlp.activation=relu"]}
    return Grid(**about | {"posthoc": {"skip coder": f"kind=skip_transcoder {CODER}"}} | changes)


@pytest.fixture(scope="module")
def swept(kept_worker_of_module, tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("coders")
    (folder / "coders.py").write_text(FILE)
    assert run(folder / "coders.py", folder / "out") == 0
    return folder / "coders.py", folder / "out"


def run(file: Path, out: Path) -> int:
    return main(["sweep", str(file), "--out", str(out), "--workers", "1"])


def manifest(out: Path, name: str) -> dict:
    return json.loads((out / "cells" / name / "manifest.json").read_text())


def test_coders_are_cells_beside_the_runs_they_are_fitted_to():
    dense, coders = grid().cells()[2:4], grid().cells()[4:]
    assert [cell.name for cell in coders] == FITTED
    assert [cell.fit.source for cell in coders] == [cell.name for cell in dense]
    assert [cell.values for cell in coders] == [{"baseline": "skip coder"}] * 2
    assert [cell.tokens for cell in coders] == [4 * 4 * 16] * 2
    assert coders[0].fit.words[-1] == "seed=0" and coders[1].fit.words[-1] == "seed=1"
    assert coders[0].config.model.mlp.k == 2 and coders[0].config.model.mlp.width == 24


def test_a_grid_fits_coders_to_what_it_has_trained(swept, capsys):
    file, out = swept
    for seed, name in enumerate(FITTED):
        facts = manifest(out, name)
        assert facts["posthoc"]["config"]["seed"] == seed
        assert facts["posthoc"]["config"]["lr"] == 1e-3
        assert Path(facts["origin"]["posthoc"]["run"]).name == f"dense-seed{seed}"
        scores = json.loads((out / "cells" / name / "scores.json").read_text())["scores"]
        assert {"bits_per_byte", "living_share"} <= {score["metric"] for score in scores}
    times = [(out / "cells" / name / "scores.json").stat().st_mtime_ns for name in FITTED]
    assert run(file, out) == 0
    assert "6 of 6 cells done" in capsys.readouterr().out
    assert times == [(out / "cells" / name / "scores.json").stat().st_mtime_ns for name in FITTED]


def test_the_dense_run_stands_beside_the_scores_of_its_coders(swept, monkeypatch):
    _, out = swept
    beside = []
    monkeypatch.setattr("pellucid.eval.evaluate", lambda *a, dense, **kw: beside.append(dense))
    task = {"suite": "smoke", "split": "val", "circuits": None}
    fit = {"source": str(out / "cells" / "dense-seed1"), "words": []}
    for name, given in ((FITTED[1], fit), ("dense-seed1", None)):
        worker._score(task | {"fit": given}, GridFolder(out).run(name))
    assert [run and run.folder.name for run in beside] == ["dense-seed1", None]


def test_a_fit_that_was_killed_begins_again(swept):
    file, out = swept
    cell = out / "cells" / FITTED[0]
    before = json.loads((cell / "manifest.json").read_text())
    (cell / "scores.json").unlink()
    (cell / "manifest.json").write_text(
        json.dumps({k: v for k, v in before.items() if k != "finished"})
    )
    assert run(file, out) == 0
    after = manifest(out, FITTED[0])
    assert after["posthoc"]["held_out"] == before["posthoc"]["held_out"]
    assert (cell / "scores.json").exists()


def test_the_page_shows_them_as_baselines(swept, tmp_path):
    _, out = swept
    page, table = tmp_path / "page.html", tmp_path / "table.csv"
    assert main(["compare", str(out), "--out", str(page), "--csv", str(table)]) == 0
    assert "skip coder" in page.read_text()
    rows = [line for line in table.read_text().splitlines() if ",skip coder," in line]
    assert any(",bits_per_byte," in line for line in rows)


def test_coders_are_ranked_by_the_search_that_the_grid_made_for_them(swept):
    """Not by the rates that their words name."""
    _, out = swept
    coder = next(a for g in groups(read_grid(out)) for a in g.arms if a.label == "skip coder")
    assert coder.barred[0] == "untuned"
    about = {"values": {"baseline": "skip coder"}, "field": "lr", "at_edge": False}

    def reason(rate: float, **changes) -> str:
        arm = about | {"chosen": {"rate": rate, "dial": ""}} | changes
        return barred(coder, {"field": "train.muon_lr", "arms": [arm]})[0]

    assert reason(1e-3) == "does not beat the 5-gram"
    assert reason(2e-3) == "not trained at the rate that was chosen"
    assert reason(1e-3, at_edge=True) == AT_EDGE
    assert reason(1e-3, chosen=None) == "untuned"


TUNE = Tuning(seeds=(100, 101), rates=(5e-4, 1e-3, 2e-3, 4e-3))
SEARCHED = {
    "skip coder": f"kind=skip_transcoder {CODER.replace('lr=1e-3', 'lr=1e-2,2e-2,4e-2,8e-2')}"
}


def searched(path: Path, **changes) -> tuple[Grid, GridFolder, list]:
    asked = grid(tune=TUNE, posthoc=SEARCHED, **changes)
    folder, cells = GridFolder(path), asked.cells()
    folder.open(asked, cells)
    return asked, folder, cells


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """A search to its end, the best rate of every arm planted: the folder's grid, and what it found."""
    asked, folder, cells = searched(tmp_path_factory.mktemp("planted") / "out")
    before = trials.first_round(asked, cells, folder)
    run = Pretended(folder, {"skip coder": 0.16, "dense": 1e-3, "activation": 2e-3})
    code, told = trials.tuned(asked, cells, folder, run)
    assert code == 0
    return asked, folder, cells, before, run, told


def test_coders_are_searched_like_any_arm_on_dense_runs_of_the_tuning_seeds(planted):
    _, folder, _, _, run, told = planted
    fits = [cell for cell in run.cells if cell.fit]
    dense = {c.name: c for c in run.cells if c.values.get("baseline") == "dense"}
    assert {dense[cell.fit.source].config.train.lr for cell in fits} == {1e-3}
    assert all(dense[cell.fit.source].seed == cell.seed == cell.config.seed for cell in fits)
    # The best of the rates that its words name lies at their edge.
    rates = [1e-2, 2e-2, 4e-2, 8e-2, 0.16, 0.32]
    assert [(c.config.train.lr, c.seed) for c in fits] == [
        (r, s) for r in rates for s in (100, 101)
    ]
    assert all(
        [w for w in c.fit.words if w.startswith("lr=")] == [f"lr={c.config.train.lr:g}"]
        for c in fits
    )
    coders = [cell for cell in told if cell.fit]
    assert [(c.config.train.lr, c.fit.source) for c in coders] == [
        (0.16, "dense-seed0"),
        (0.16, "dense-seed1"),
    ]
    assert [c.fit.words[-2:] for c in coders] == [("lr=0.16", "seed=0"), ("lr=0.16", "seed=1")]
    assert [(c.name, c.selected_by) for c in coders] == [(name, SELECTED_BY) for name in FITTED]
    arm = json.loads((folder.path / "tuning.json").read_text())["arms"][-1]
    assert (arm["values"], arm["field"], arm["runs"]) == ({"baseline": "skip coder"}, "lr", 12)
    assert arm["chosen"] == {"rate": 0.16, "dial": ""} and not arm["at_edge"]
    bits = [2 + abs(log2(rate / 0.16)) + 0.1005 for rate in rates]
    assert [point["bits"] for point in arm["curve"]] == pytest.approx(bits)
    # Their weights stay until the last coder is fitted to them.
    assert run.calls[0][1] == {name for name in run.calls[0][0] if name in dense}
    assert run.calls[-1] == ([*dense], set())


def test_coders_are_fitted_anew_where_another_dense_run_was_chosen(planted):
    """What `--dry-run` expects is told by the dense run that is known to be best."""
    asked, folder, cells, before, run, _ = planted
    names = lambda found: [cell.name for cell in found if cell.fit]
    after = names(trials.first_round(asked, cells, folder))
    assert len(names(before)) == 8 and after == names(run.cells)[:8]
    assert not {*names(before)} & {*names(run.cells)}


def test_coders_of_a_dense_arm_that_cannot_be_tuned_stay_untuned(tmp_path):
    asked, folder, cells = searched(tmp_path / "out")
    run = Pretended(folder, {"dense": 1e-9, "activation": 2e-3})
    code, told = trials.tuned(asked, cells, folder, run)
    assert code == 0 and not any(cell.fit for cell in run.cells)
    assert [cell for cell in told if cell.fit] == [cell for cell in cells if cell.fit]
    arm = json.loads((folder.path / "tuning.json").read_text())["arms"][-1]
    assert arm["chosen"] is None
    assert arm["defect"] == "dense, which it would be fitted to, could not be tuned"


def test_a_bounded_call_keeps_the_weights_that_coders_need(planted):
    asked, folder, _, _, run, _ = planted
    first, kept = run.calls[0]
    weights = {name: folder.run(name).checkpoints for name in first}
    for path in weights.values():
        path.mkdir()
    about = {"folder": folder, "console": None, "place": None, "workers": 1, "sources": set}
    ask = partial(_run, replace(asked, suite=""), run.cells, bounded=lambda pace: None, **about)
    assert ask(kept) == 0
    assert {name for name, path in weights.items() if path.exists()} == kept
    assert ask(()) == 0 and not any(path.exists() for path in weights.values())


def test_coders_that_diverge_are_told_from_those_that_cannot_be_fitted(swept, tmp_path):
    _, out = swept
    task = {"words": [], "matched": None, "selected_by": [], "suite": ""}
    fit = {"source": str(out / "cells" / "dense-seed0")}
    for word, code in (("lr=1e30", EXIT_NONFINITE), ("k=25", EXIT_USER)):
        words = ["kind=skip_transcoder", *CODER.split(), word]
        told = task | {"path": str(tmp_path / word), "fit": fit | {"words": words}}
        assert worker._attempt(told)[0] == code, word


@pytest.mark.slow
def test_a_tuned_grid_of_coders_from_file_to_page(kept_worker, tmp_path, capsys):
    file, out = tmp_path / "coders.py", tmp_path / "out"
    tune = "tune=Tuning(seeds=(9,), rates=(5e-4, 1e-3, 2e-3, 4e-3), words='train.steps=2', extensions=1)"
    few = FILE.replace("lr=1e-3", "lr=1e-2,2e-2,4e-2,8e-2").replace("(0, 1)", "(0,)")
    few = few.replace("import Grid", "import Grid, Tuning").replace(
        "seeds=", f"{tune},\n    seeds=", 1
    )
    file.write_text(few)
    assert main(["sweep", str(file), "--out", str(out), "--dry-run"]) == 0
    assert "coders, tuning: 12 cells" in capsys.readouterr().out
    words = ["--workers", "1", "--slot", "20m"]
    assert main(["sweep", str(file), "--out", str(out), *words]) == 0
    arm = json.loads((out / "tuning.json").read_text())["arms"][-1]
    cell = manifest(out, FITTED[0])
    assert cell["posthoc"]["config"]["lr"] == arm["chosen"]["rate"]
    assert cell["selected_by"] == list(SELECTED_BY)
    best = min(arm["curve"], key=lambda point: point["bits"])
    assert arm["chosen"]["rate"] == best["rate"] and len(arm["curve"]) >= 4
    made = {path.name: manifest(out, path.name) for path in (out / "cells").iterdir()}
    fitted = [facts["origin"]["posthoc"]["run"] for facts in made.values() if "posthoc" in facts]
    assert len(fitted) == len(arm["curve"]) + 1
    [source] = {name for name in fitted if name != "dense-seed0"}
    assert source.startswith("dense,") and source.endswith("-seed9")
    assert not [*(out / "cells").glob("*/checkpoints")]
    assert main(["compare", str(out)]) == 0
    assert "Tuning of skip coder" in (out / "compare.html").read_text()


def test_coders_of_a_run_that_failed_fail_with_it(tmp_path):
    folder, cells = GridFolder(tmp_path / "out"), grid().cells()
    folder.open(grid(), cells)
    assert needed(folder, cells, "smoke") == {"dense-seed0", "dense-seed1"}
    folder.fail("dense-seed1", Failure("it ran out of memory", 1, 1))
    give_up_orphans(folder, cells)
    assert folder.state(FITTED[0], "smoke") == "missing"
    assert folder.failure(FITTED[1]).reason == "dense-seed1, which it would be fitted to, failed"
    assert needed(folder, cells, "smoke") == {"dense-seed0"}


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"posthoc": {"a": "of=wide k=2"}}, "of=wide names no baseline"),
        ({"posthoc": {"dense": "k=2"}}, "post-hoc dense: a baseline has that name"),
        ({"posthoc": {"a": "k=2,4"}}, "post-hoc a: one k and one width are accepted"),
        ({"posthoc": {"a": "depth=2"}}, "depth is not a field"),
        ({"posthoc": {"a": "lr=1e-3,2e-3"}}, "post-hoc a: lr gives 2 rates, of which tune=Tuning"),
        (
            {"tune": Tuning(seeds=(9,)), "posthoc": {"a": "lr=1e-3"}},
            "gives 1 rates; 4 are accepted",
        ),
        (
            {"tune": Tuning(seeds=(9,)), "posthoc": {"a": "lr=1e-3,2e-3,4e-3,9e-3"}},
            "lr = 0.001,0.002,0.004,0.009 is not accepted; expected rates each twice",
        ),
        ({"baselines": {"dense": "mlp=topk"}}, "the baseline dense is not dense: its layer 0 has"),
    ],
)
def test_what_cannot_be_fitted_is_refused_before_anything_starts(changes, sentence):
    with pytest.raises(GridError, match="^coders, posthoc: ") as caught:
        grid(**changes).cells()
    assert sentence in str(caught.value)
