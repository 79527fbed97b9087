"""Circuits of a grid's cells: searched for once, counted whole where they are missed, resumed."""

import json
from dataclasses import asdict, replace
from math import log2
from pathlib import Path

import pytest
import torch
from support.grids import BASE

from pellucid import run as runs
from pellucid.cli import main
from pellucid.errors import RunError, UserError
from pellucid.eval.circuits import run as circuit_run
from pellucid.eval.circuits.asking import Unable
from pellucid.eval.circuits.nodes import nodes_of
from pellucid.eval.circuits.run import Search
from pellucid.eval.circuits.settings import PROFILES, Settings
from pellucid.eval.circuits.sizes import bits
from pellucid.report.grid import write_grid
from pellucid.report.grid.reading import read_grid
from pellucid.sweep import Circuits, Grid, GridError
from pellucid.sweep.attempts import Attempts
from pellucid.sweep.circuits import SECONDS, taken
from pellucid.sweep.folder import GridFolder
from pellucid.sweep.job import task_of
from pellucid.sweep.run import sweep
from pellucid.sweep.worker import serve

LEARNED = f"{BASE} train.steps=120 train.lr=0.01 dropout=0.0 train.checkpoint_every=1000"
ENDPOINTS = ("circuit_faithful_log2_bits", "circuit_nonsense_log2_ratio")
TARGET = 0.3


def pairs(file: Path, answers: tuple[str, str] = (" [", " (")) -> str:
    """A task that small models learn first: what follows `":`, and what ` =`."""
    asked = dict(zip(("answer_a", "answer_b"), answers, strict=True))
    rows = [{"prompt_a": f'{x}":', "prompt_b": f"{x} =", **asked} for x in "abcdefgh"]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


@pytest.fixture(scope="module", autouse=True)
def short():
    """Searches of a few steps over a few rows."""
    with pytest.MonkeyPatch.context() as patch:
        settings = Settings(steps=12, drawn=4, pairs=2, rounds=1)
        patch.setitem(PROFILES, "quick", settings)
        patch.setattr(circuit_run, "ROWS", 8)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Grid, GridFolder]:
    """A grid of one cell that was trained, searched and scored as a worker does it."""
    place = tmp_path_factory.mktemp("circuits")
    circuits = Circuits((pairs(place / "own.jsonl"),), target=TARGET, edges=True)
    about = {"base": LEARNED, "seeds": (0,), "endpoints": ENDPOINTS, "suite": "smoke"}
    grid, folder = Grid(name="g", circuits=circuits, **about), GridFolder(place / "out")
    cells = grid.cells()
    folder.open(grid, cells)
    answer = serve(task_of(folder, cells[0], suite="smoke", split="val", threads=1))
    assert answer["code"] == 0, answer["reason"]
    return grid, folder


@pytest.fixture
def cell(finished):
    grid, folder = finished
    return runs.load(folder.run(grid.cells()[0].name).path)


def every_link(model) -> int:
    """Weights within the layers that are not 0."""
    named = model.blocks.named_parameters()
    return sum(int(weight.count_nonzero()) for name, weight in named if ".w_" in name)


def never(self, task):
    raise AssertionError(f"{task} was searched for again")


def test_a_cell_is_searched_and_its_sizes_are_scores(finished, cell):
    grid, folder = finished
    assert folder.state(grid.cells()[0].name, "smoke") == "done"
    written = cell.folder.read_circuits()["own"]
    (read,) = read_grid(folder.path).cells
    sizes = {m: read.metrics[f"{m}:own"] for m in grid.circuits.metrics}
    assert sizes == {m: read.metrics[m] for m in grid.circuits.metrics}
    assert sizes["circuit_faithful_log2_bits"] == log2(max(written["faithful"]["bits"], 1))
    assert sizes["circuit_log2_nodes"] == log2(max(written["sizes"]["nodes"], 1))
    checks = {check["name"]: check for check in written["battery"]}
    nonsense, real = checks["nonsense_mapping"]["least"], max(written["sizes"]["bits"], 1)
    assert sizes["circuit_nonsense_log2_ratio"] == log2(max(nonsense["bits"], 1)) - log2(real)
    nodes = max(written["sizes"]["nodes"], 1)
    assert checks["nonsense_mapping"]["value"] == nodes / max(nonsense["nodes"], 1)
    assert read.metrics["bits_per_byte"] > 0 and read.better["circuit_log2_bits"] == "lower"
    manifest = cell.folder.read_manifest()
    assert manifest["scored"]["seconds"] > manifest[SECONDS]["own"] > 0


def test_the_page_of_a_grid_shows_its_circuits(finished):
    _, folder = finished
    page = write_grid(folder.path, folder.path / "compare.html").read_text()
    assert "circuit faithful log2 bits" in page


def test_what_was_found_is_not_searched_for_again(finished, cell, monkeypatch):
    grid, _ = finished
    first = taken(cell, grid.circuits, "val")
    monkeypatch.setattr(Search, "write", never)
    assert taken(cell, grid.circuits, "val") == first
    assert taken(cell, replace(grid.circuits, edges=False), "val")
    for other in ({"seed": 1}, {"frozen_norm": True}, {"target": 0.25}, {"grain": "parts"}):
        with pytest.raises(AssertionError, match="searched for again"):
            taken(cell, replace(grid.circuits, **other), "val")


def test_a_file_of_the_same_name_is_another_task(cell, tmp_path, monkeypatch):
    file, about = tmp_path / "twice.jsonl", {"target": TARGET, "controls": False}
    Search(run=cell, **about).write(pairs(file))
    circuits = Circuits((str(file),), **about)
    with monkeypatch.context() as patch:
        patch.setattr(Search, "write", never)
        assert taken(cell, circuits, "val")
        file.write_text("\n".join(file.read_text().splitlines()[:4]))
        with pytest.raises(AssertionError, match="searched for again"):
            taken(cell, circuits, "val")
    (cell.folder.circuits / "twice.json").unlink()


def test_a_killed_search_goes_on_with_the_next_task(cell, tmp_path, monkeypatch):
    names = [pairs(tmp_path / f"{name}.jsonl") for name in ("one", "two", "three")]
    circuits, write = Circuits(names, target=TARGET, controls=False), Search.write
    searched = []

    def killed(self, task):
        if len(searched) == 2:
            raise KeyboardInterrupt
        searched.append(Path(task).stem)
        return write(self, task)

    monkeypatch.setattr(Search, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        taken(cell, circuits, "val")
    searched.clear()
    found = taken(cell, circuits, "val")
    assert searched == ["three"] and all(score.value is not None for score in found)
    total = {score.metric: score.seconds for score in found}
    assert total["circuit_log2_bits"] >= total["circuit_log2_bits:one"] > 0
    for name in ("one", "two", "three"):
        (cell.folder.circuits / f"{name}.json").unlink()


def test_a_task_that_is_missed_is_counted_whole_and_not_dropped(cell, tmp_path):
    wrong = pairs(tmp_path / "wrong.jsonl", (" (", " ["))
    both = (wrong, pairs(tmp_path / "right.jsonl"))
    circuits = Circuits(both, target=TARGET, controls=False, edges=True)
    found = taken(cell, circuits, "test")
    by_name = {score.metric: score for score in found}
    nodes = nodes_of(cell.model)
    full = log2(bits(nodes, torch.ones(len(nodes), dtype=torch.bool)))
    assert by_name["circuit_log2_bits:wrong"].value == full
    assert "the model's own loss is" in by_name["circuit_log2_bits:wrong"].flags[0]
    assert by_name["circuit_censored"].value == 0.5
    links = every_link(cell.model)
    edges = [by_name[f"circuit_log2_edges{of}"].value for of in (":wrong", ":right", "")]
    assert edges[0] == log2(links) > edges[1] and edges[2] == (edges[0] + edges[1]) / 2
    assert by_name["circuit_log2_static_edges:wrong"].value == log2(links)
    # What the model is worth is known of both, and tells them apart.
    worth = [by_name[f"circuit_model_accuracy:{name}"].value for name in ("wrong", "right")]
    assert worth[0] <= 0.5 < 0.9 <= worth[1]
    right = by_name["circuit_log2_bits:right"].value
    assert right < full and by_name["circuit_log2_bits"].value == (full + right) / 2
    # One that was forced is no circuit of this search.
    Search(run=cell, target=TARGET, controls=False, force=True).write(wrong)
    again = {score.metric: score for score in taken(cell, circuits, "val")}
    assert again["circuit_log2_bits:wrong"].value == full


def test_what_cannot_be_asked_or_may_not_be_is_told(cell, monkeypatch):
    (first, *_) = taken(cell, Circuits(("for_while",)), "val")
    assert first.value is None and "at most the context, 16, fit" in first.flags[0]
    chosen = cell.folder.read_manifest() | {"selected_by": ["tasks:dev"]}
    monkeypatch.setattr(type(cell.folder), "read_manifest", lambda self: chosen)
    found = taken(cell, Circuits(("for_while",)), "val")
    assert {score.value for score in found} == {None}
    assert "refused: circuit uses tasks:dev" in found[0].flags[0]


def test_a_task_may_be_at_a_distance(cell, monkeypatch):
    asked = []

    def missed(self, task):
        asked.append((task, self.distance))
        raise Unable("it is missed")

    monkeypatch.setattr(Search, "write", missed)
    roomy = replace(cell.config, model=cell.config.model.replace(context=512))
    found = taken(replace(cell, config=roomy), Circuits(("not_in", "dict_or_set@8")), "val")
    assert asked == [("not_in", 0), ("dict_or_set", 8)]
    assert "circuit_log2_bits:dict_or_set@8" in {score.metric for score in found}


def test_a_full_disk_is_no_property_of_the_model(cell, monkeypatch):
    def full(self, name, circuit, **how):
        raise RunError("no space left")

    monkeypatch.setattr(type(cell.folder), "write_circuit", full)
    place = cell.folder.path.parent.parent.parent / "own.jsonl"
    with pytest.raises(RunError, match="no space left"):
        taken(cell, Circuits((str(place),), target=TARGET, seed=5, controls=False), "val")


def test_a_file_that_went_away_is_no_property_of_the_model(cell, tmp_path):
    own = pairs(tmp_path / "gone.jsonl")
    Path(own).unlink()
    with pytest.raises(UserError, match="gone.jsonl cannot be read"):
        taken(cell, Circuits((own,), target=TARGET, controls=False), "val")


def test_other_circuits_are_another_grid(finished, tmp_path):
    grid, folder = finished
    other = replace(grid, circuits=replace(grid.circuits, target=0.2))
    with pytest.raises(GridError, match="its circuits are others"):
        folder.open(other, other.cells())
    task = tmp_path / "mine.jsonl"
    mine = replace(grid, circuits=Circuits((pairs(task),)))
    place = GridFolder(tmp_path / "out")
    place.open(mine, mine.cells())
    place.open(mine, mine.cells())
    pairs(task, (" (", " ["))
    with pytest.raises(GridError, match="its circuits are others"):
        place.open(mine, mine.cells())


def test_a_cell_gets_further_with_each_circuit(finished):
    grid, folder = finished
    attempts, name = Attempts(folder), grid.cells()[0].name
    assert attempts.again(name, "SIGKILL") and attempts.again(name, "SIGKILL")
    more = folder.run(name).circuits / "another.json"
    more.write_text('{"format": 1}')
    assert attempts.again(name, "SIGKILL") and attempts.again(name, "SIGKILL")
    assert not attempts.again(name, "SIGKILL")
    more.unlink()
    folder.forget_failures()


@pytest.mark.parametrize(
    ("circuits", "said"),
    [
        (Circuits(("for_whle",)), "'for_whle' is no task; did you mean for_while"),
        (Circuits(("for_while@8",)), "'for_while@8' is no task; for_while is accepted"),
        (Circuits(("dict_or_set@9",)), "dict_or_set@8, dict_or_set@32, dict_or_set@128 is"),
        (Circuits(("dict_or_set@0",)), "'dict_or_set@0' is no task; did you mean dict_or_set"),
        (Circuits(("dict_or_set@032",)), "'dict_or_set@032' is no task"),
        (Circuits(()), "different tasks are accepted"),
        (Circuits(("not_in", "not_in")), "different tasks are accepted"),
        (Circuits("not_in"), "different tasks are accepted"),
        (Circuits(("none.jsonl",)), "there is no file none.jsonl"),
        (Circuits(("not_in",), profile="slow"), "'slow' is unknown"),
        (Circuits(("not_in",), target=0.7), "target = 0.7"),
        (Circuits(("not_in",), grain="atoms"), "circuits.grain is 'atoms'"),
        (Circuits(("not_in",), seed=-1), "circuits.seed is -1"),
        (("not_in",), r"circuits is \('not_in',\); Circuits\(…\) is accepted"),
        (Circuits(("not_in",), controls=False), "endpoint 'circuit_faithful_log2_bits' is no"),
        (None, "endpoint 'circuit_faithful_log2_bits' is no metric"),
    ],
)
def test_circuits_that_cannot_be_searched_for_are_refused(circuits, said):
    with pytest.raises(GridError, match=said):
        Grid(name="g", circuits=circuits, endpoints=ENDPOINTS).cells()


@pytest.mark.parametrize("name", ["not_in", "own@32", "one"])
def test_files_that_no_search_accepts_are_refused_before_training(name, tmp_path):
    pairs(file := tmp_path / f"{name}.jsonl")
    if name == "one":
        file.write_text(file.read_text().partition("\n")[0])
    with pytest.raises(GridError, match=f"g, circuits: task file {file}"):
        Grid(name="g", circuits=Circuits((str(file),))).cells()


@pytest.mark.parametrize("end", [":not_in", ":dict_or_set@8", ":for_while", ":dict_or_set", "s"])
def test_an_endpoint_may_be_the_size_of_one_of_the_tasks(end):
    endpoint, circuits = f"circuit_log2_bits{end}", Circuits(("not_in", "dict_or_set@8"))
    grid = Grid(name="g", circuits=circuits, endpoints=(endpoint,))
    if end in (":not_in", ":dict_or_set@8"):
        assert grid.cells()
    else:
        with pytest.raises(GridError, match=f"{endpoint}' is no metric .* did you mean circuit_"):
            grid.cells()


def test_a_plan_says_what_it_does_not_count(tmp_path, capsys):
    grid = Grid(name="g", base=BASE, circuits=Circuits(("not_in", "for_while")))
    assert sweep(grid, tmp_path / "out", dry_run=True) == 0
    said = capsys.readouterr().out
    assert "circuits of 2 tasks a cell with controls (profile quick)" in said
    assert asdict(grid.cells()[0].circuits)["tasks"] == ("not_in", "for_while")


@pytest.mark.slow
def test_a_sweep_searches_in_its_workers(tmp_path):
    file, task = tmp_path / "g.py", pairs(tmp_path / "own.jsonl")
    file.write_text(
        "from pellucid.sweep import Circuits, Grid\n"
        f"grid = Grid(name='g', base={LEARNED!r}, seeds=(0,), suite='smoke',\n"
        f"    circuits=Circuits(({task!r},), target={TARGET}), endpoints={ENDPOINTS})\n"
    )
    assert main(["sweep", str(file), "--out", str(tmp_path / "out"), "--workers", "1"]) == 0
    (read,) = read_grid(tmp_path / "out").cells
    assert set(ENDPOINTS) <= set(read.metrics)
