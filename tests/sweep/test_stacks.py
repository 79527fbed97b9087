"""Cells that differ in seed and rates are trained by one worker together, and lose nothing by it."""

import threading
from dataclasses import replace

import pytest
from support.grids import BASE

from pellucid.errors import EXIT_NONFINITE, EXIT_RESUME, EXIT_USER, UserError
from pellucid.run import RunFolder
from pellucid.sweep import Grid, local, snapshot
from pellucid.sweep.engines import Place
from pellucid.sweep.folder import GridFolder
from pellucid.sweep.local import LocalEngine
from pellucid.sweep.stacks import groups
from pellucid.sweep.trials import UNSCORED
from pellucid.train import train

SHORT = f"{BASE} dropout=0.0 train.steps=4"
GRID = Grid(
    name="k",
    base=SHORT,
    axes={"k": ["mlp.k=2", "mlp.k=8"], "lr": ["", "train.lr=1e-3"]},
    seeds=(0, 1),
)
NAMES = [cell.name for cell in GRID.cells()]


def test_groups_are_made_of_what_differs_in_seed_and_rate():
    cells = GRID.cells()
    assert groups(cells, 4) == [tuple(NAMES[:4]), tuple(NAMES[4:])]
    # Five of three are three and two, not three and a rest of one.
    longer = replace(GRID, axes={"lr": GRID.axes["lr"]}, seeds=(0, 1, 2)).cells()[:5]
    assert [len(group) for group in groups(longer, 4)] == [2, 3]
    # What is done leaves the others of its kind together.
    assert groups(cells[1:5], 4) == [tuple(NAMES[1:4])]
    assert groups(cells[:1] + cells[4:5], 4) == []


class Stub:
    """A worker that answers from a plan: by a stack's size, or by a cell's name."""

    def __init__(self, plan: dict, asked: list):
        self.plan, self.asked, self.process = plan, asked, self
        self.returncode = -9

    def ask(self, task: dict):
        tasks = task.get("stack", [task])
        names = [RunFolder(each["path"]).name for each in tasks]
        self.asked.append(names)
        if "stack" in task:
            return self.plan["stack"](names)
        return {"code": self.plan.get(names[0], 0), "reason": "planned", "seconds": 0.0}

    def poll(self):
        return None

    def ending(self):
        return "SIGKILL"

    def terminate(self):
        pass

    def send_signal(self, signum):
        pass

    def close(self):
        pass


@pytest.fixture
def ran(tmp_path, monkeypatch):
    """Run the grid's first four cells with a worker that does as planned."""

    def run(suite: str = "quick", beside: int = 0, **plan):
        folder, asked = GridFolder(tmp_path / "out"), []
        folder.open(GRID, GRID.cells())
        monkeypatch.setattr(LocalEngine, "_start", lambda self, index: Stub(plan, asked))
        told = {"suite": suite, "workers": 1, "stack": 4, "beside": beside}
        engine = LocalEngine(folder, GRID.cells()[:4], **told)
        return engine, engine.run(), asked, folder

    return run


FOUR = NAMES[:4]
ALONE = [[name] for name in FOUR]


def test_what_was_trained_together_is_scored_one_by_one(ran):
    engine, code, asked, _ = ran(stack=lambda names: {"endings": [[0, ""]] * 4})
    assert code == 0 and asked == [FOUR, *ALONE] and set(engine.board.ended) == set(FOUR)
    assert engine.board.running == {} and engine.board.said == []


def test_trials_need_no_scores(ran):
    engine, code, asked, _ = ran(suite="", stack=lambda names: {"endings": [[0, ""]] * 4})
    assert code == 0 and asked == [FOUR] and set(engine.board.ended) == set(FOUR)


def test_one_cell_that_fails_does_not_lose_the_others(ran):
    endings = [[0, ""], [EXIT_NONFINITE, ""], [EXIT_USER, "its disk is full"], [0, ""]]
    third = {FOUR[2]: EXIT_USER}
    _, code, asked, folder = ran(stack=lambda names: {"endings": endings}, **third)
    # What is not sure to be the cell's own fault is tried alone before it has failed.
    assert code == 0 and asked == [FOUR, [FOUR[0]], [FOUR[2]], [FOUR[3]]]
    assert "not finite" in folder.failure(FOUR[1]).reason
    assert folder.failure(FOUR[2]).reason == "planned"


def test_what_cannot_be_stacked_is_run_one_by_one_and_said_once(ran):
    engine, code, asked, _ = ran(stack=lambda names: {"refused": "dropout draws noise"})
    assert code == 0 and asked == [FOUR, *ALONE]
    assert engine.board.said == [f"not stacked, {FOUR[0]} and 3 more: dropout draws noise"]


def test_what_cannot_be_stacked_runs_in_processes_beside_each_other(ran, monkeypatch):
    """All four are begun before one has ended, and each is run once."""
    together, ask = threading.Barrier(4), Stub.ask

    def waiting(stub, task):
        if "stack" not in task:
            together.wait(20)
        return ask(stub, task)

    monkeypatch.setattr(Stub, "ask", waiting)
    engine, code, asked, _ = ran(beside=3, stack=lambda names: {"refused": "dropout draws noise"})
    assert code == 0 and asked[0] == FOUR and sorted(asked[1:]) == sorted(ALONE)
    assert set(engine.board.ended) == set(FOUR) and not engine.queue


def test_what_can_be_stacked_is_left_to_the_one_process(ran):
    engine, code, asked, _ = ran("", beside=3, stack=lambda names: {"endings": [[0, ""]] * 4})
    assert code == 0 and asked == [FOUR] and not engine.queue


def test_as_many_share_a_gpu_as_would_be_one_model():
    assert Place(stack=16).beside(2, most=100) == 30
    assert Place(stack=16, per_gpu=4).beside(1, most=100) == 12
    assert Place(stack=16).beside(1, most=5) == 5 and Place(stack=16).beside(1, most=-1) == 0
    assert Place(stack=16, workers=2).beside(2, most=100) == 0
    assert Place(stack=16).beside(0, most=100) == Place().beside(2, most=100) == 0


def test_a_worker_that_dies_leaves_cells_that_go_on_one_by_one(ran):
    _, code, asked, folder = ran(stack=lambda names: None)
    assert code == 0 and asked == [FOUR, *ALONE] and not list(folder.failures.iterdir())


def test_what_breaks_the_engine_itself_is_raised(ran):
    """A thread that ends takes its cells along: without them the grid is not done."""

    def full(names):
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space left"):
        ran(stack=full)


def test_what_another_runner_holds_is_left_out(ran, tmp_path, monkeypatch):
    monkeypatch.setattr(local, "BUSY", 0.01)
    folder = GridFolder(tmp_path / "out")
    folder.open(GRID, GRID.cells())
    held = folder.claim(FOUR[1])

    def answer(names):
        held.__exit__(None, None, None)
        return {"endings": [[EXIT_RESUME, ""]] * len(names)}

    assert held.__enter__()
    _, code, asked, _ = ran(stack=answer)
    assert code == 0 and asked[0] == [FOUR[0], *FOUR[2:]] and [FOUR[1]] in asked


def test_stacks_are_of_this_machine():
    with pytest.raises(UserError, match="--stack is of --engine local, not of ray"):
        Place(engine="ray", stack=4).check()


def test_a_worker_trains_cells_together(kept_worker, tmp_path):
    """Two seeds beside a rate at which both diverge: the first two are what they are alone."""
    wild = "train.lr=1e30 train.warmup=0.0"
    grid = Grid(name="s", base=SHORT, axes={"lr": ["", wild]}, seeds=(0, 1))
    folder, cells = GridFolder(tmp_path / "out"), grid.cells()
    folder.open(grid, cells)
    snapshot.take(folder.code)
    engine = Place(stack=4).build(folder, replace(grid, suite=UNSCORED), cells, 1)
    assert engine.run() == 0
    assert [folder.state(c.name, UNSCORED) for c in cells] == ["done", "done", "failed", "failed"]
    assert all(folder.failure(cell.name).code == EXIT_NONFINITE for cell in cells[2:])
    for cell in cells[:2]:
        ours = folder.run(cell.name)
        assert ours.read_manifest()["stacked"] == {"runs": 4}
        assert train(cell.config, tmp_path / cell.name) == 0
        assert abs(held_out(ours) - held_out(RunFolder(tmp_path / cell.name))) < 1e-5


def held_out(run: RunFolder) -> float:
    return [row["loss"] for row in run.read_metrics() if row["kind"] == "val"][-1]
