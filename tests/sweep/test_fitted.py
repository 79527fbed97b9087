"""Post-hoc arms: fitted to the dense run of the same seed, once it is there, and never before."""

import json
from pathlib import Path

import pytest
from support.grids import BASE

from pellucid.cli import main
from pellucid.report.grid.arms import AT_EDGE, barred, groups, rates_of
from pellucid.report.grid.reading import read_grid
from pellucid.sweep import Grid, GridError, Tuning, trials, worker
from pellucid.sweep.fitted import give_up_orphans, needed
from pellucid.sweep.folder import Failure, GridFolder

DENSE = " ".join(w for w in BASE.split() if not w.startswith("mlp.")) + " mlp=dense mlp.width=32"
CODER = "k=2 width=24 steps=4 batch=4 eval_tokens=256 lr=1e-3,2e-3"
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
        assert facts["posthoc"]["config"]["lr"] in (1e-3, 2e-3)
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


def test_fits_that_choose_among_four_rates_are_tuned(swept):
    """And one that has chosen the first or the last of them is not ranked."""
    _, out = swept
    coder = next(a for g in groups(read_grid(out)) for a in g.arms if a.label == "skip coder")
    assert coder.barred[0] == "untuned" and {c.rate for c in coder.cells} <= {1e-3, 2e-3}
    wide = rates_of("k=2 lr=2.5e-4,5e-4,1e-3,2e-3,4e-3")
    assert wide == [2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3] and rates_of("k=2") == []
    assert "untuned" not in barred(coder, None, wide) and AT_EDGE not in barred(coder, None, wide)
    [chosen, *_] = [cell.rate for cell in coder.cells]
    edge = [chosen, 2 * chosen, 4 * chosen, 8 * chosen]
    assert barred(coder, None, edge)[0] == AT_EDGE


def test_a_search_leaves_coders_to_choose_their_own_rate(tmp_path, monkeypatch):
    def read(search, point, tuning, folder):
        search.curve[point] = abs(point.rate - 2e-3)

    monkeypatch.setattr(trials, "_read", read)
    tune = Tuning(seeds=(100,), rates=(5e-4, 1e-3, 2e-3, 4e-3))
    asked, cells = grid(tune=tune), grid(tune=tune).cells()
    folder, tried = GridFolder(tmp_path / "out"), []
    folder.open(asked, cells)
    code, told = trials.tuned(asked, cells, folder, lambda _, todo: tried.extend(todo) or 0)
    assert code == 0 and tried and not any(cell.fit for cell in tried)
    assert {cell.config.train.lr for cell in told if not cell.fit} == {2e-3}
    assert [cell for cell in told if cell.fit] == [cell for cell in cells if cell.fit]


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
        ({"baselines": {"dense": "mlp=topk"}}, "the baseline dense is not dense: its layer 0 has"),
    ],
)
def test_what_cannot_be_fitted_is_refused_before_anything_starts(changes, sentence):
    with pytest.raises(GridError, match="^coders, posthoc: ") as caught:
        grid(**changes).cells()
    assert sentence in str(caught.value)
