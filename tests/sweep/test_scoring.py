"""Scoring is part of a plan, and what a call's end cuts off is not begun for ever."""

from dataclasses import replace

import pytest
from support.grids import BASE, write

from pellucid.cli import main
from pellucid.errors import EXIT_RESUME, EXIT_USER
from pellucid.sweep import Circuits, Grid, load_grid, scoring, slot
from pellucid.sweep import run as runner
from pellucid.sweep.engines import Place
from pellucid.sweep.folder import GridFolder
from pellucid.sweep.slot import Pace, Slot

GRID = Grid(name="s", base=BASE, axes={"k": ["mlp.k=2", "mlp.k=8"]}, seeds=(0,), suite="quick")


class Clock:
    """Seconds that pass when they are told to, on both clocks."""

    def __init__(self, monkeypatch):
        self.now = 1_000.0
        monkeypatch.setattr(scoring.time, "time", lambda: self.now)
        monkeypatch.setattr(slot.time, "time", lambda: self.now)

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def of(*words):
    (cell,) = Grid(name="g", base=" ".join(words), seeds=(0,)).cells()
    return cell


def test_a_guess_is_what_was_measured_for_the_models_that_were():
    tiny, small = of("tiny"), of("small")
    assert scoring.guessed(tiny, "quick") == pytest.approx(57)
    tokens = 200_000 / 115_278  # of the suite, and of the text that was there
    assert scoring.guessed(small, "standard") == pytest.approx(1_591 * tokens)
    assert scoring.guessed(small, "full") == scoring.guessed(small, "standard")
    assert 5 * 57 < scoring.guessed(small, "quick") < 15 * 57
    assert scoring.guessed(tiny, "standard") < scoring.guessed(small, "standard") / 4
    assert scoring.guessed(tiny, "") == 0


def test_circuits_are_part_of_a_guess():
    plain = of("small")
    searched = replace(plain, circuits=Circuits(("not_in", "for_while")))
    added = scoring.guessed(searched, "quick") - scoring.guessed(plain, "quick")
    assert added == pytest.approx(2 * 205)
    alone = replace(plain, circuits=Circuits(("not_in",), controls=False))
    added = scoring.guessed(alone, "quick") - scoring.guessed(plain, "quick")
    assert added == pytest.approx(45)
    # Two thousand steps of sixteen masks.
    long = replace(plain, circuits=Circuits(("not_in",), controls=False, profile="paper"))
    assert scoring.guessed(long, "quick") - scoring.guessed(plain, "quick") > 10 * 45


def trained(folder: GridFolder, cell):
    """A cell whose training has ended."""
    run = folder.run(cell.name)
    run.path.mkdir(parents=True, exist_ok=True)
    run.config_file.write_text('{"train": {"steps": 40}}')
    run.manifest_file.write_text('{"data_fingerprint": "d", "tokenizer_sha256": "t"}')
    run.mark_finished(step=40, seconds=10.0)
    return run


@pytest.fixture
def folder(tmp_path):
    made = GridFolder(tmp_path / "out")
    made.open(GRID, GRID.cells())
    return made


def call(folder, clock, seconds=100.0, until=None, first=True, starts=5.0):
    """A call that begins to score the first cell, which its end, or a stop, cuts off."""
    cell, other = GRID.cells()
    bound = Slot(seconds, Pace(folder, [cell, other], "quick"), clock=clock)
    clock.now += starts
    scoring.mark(folder.run(cell.name), "quick")
    clock.now = bound.until + 3 if until is None else until
    scoring.note_cut_off(bound, [cell, other], [cell] if first else [])
    return bound


def test_what_a_call_cut_off_is_known_to_the_next(folder, clock):
    cell, other = GRID.cells()
    trained(folder, cell), trained(folder, other)
    guess = scoring.guessed(cell, "quick")
    assert Pace(folder, GRID.cells(), "quick").left(cell) == guess
    call(folder, clock, seconds=2 * guess, starts=0.2 * guess)
    # 1.8 of a guess are usable; saving and leaving are no scoring.
    pace = Pace(folder, GRID.cells(), "quick")
    assert pace.left(cell) == pace.left(other) == pytest.approx(1.6 * guess, abs=0.01)
    # What was begun before the call is none of its.
    call(folder, clock, seconds=20, starts=-5)
    assert pace.left(cell) == pytest.approx(1.6 * guess, abs=0.01)
    # Once a cell was scored, its time counts, and the bound for the cell that was cut off.
    folder.run(other.name).update_manifest(scored={"suite": "quick", "seconds": 3.0})
    folder.run(other.name).path.joinpath("scores.json").write_text(
        '{"suite": "quick", "checkpoint": 40, "scores": []}'
    )
    pace = Pace(folder, GRID.cells(), "quick")
    assert pace.left(cell) == pytest.approx(1.6 * guess, abs=0.01)
    assert pace.scoring(other) == 3.0


def test_a_whole_call_in_vain_is_enough(folder, clock):
    cell, other = GRID.cells()
    trained(folder, cell), trained(folder, other)
    bound = call(folder, clock, seconds=1000)
    assert slot.unscorable(bound, [cell, other]) == [cell]
    said = slot.too_short(bound, [cell])
    assert f"{cell.name}: scoring with the suite quick was cut off after 15.6 minutes" in said
    assert "no call of 15.7 minutes fits it: a longer --slot is accepted" in said
    longer = Slot(3000, bound.pace, clock=clock)
    assert slot.unscorable(longer, [cell, other]) == []


def test_half_a_call_in_vain_is_not_enough_and_three_calls_are(folder, clock):
    cell, other = GRID.cells()
    trained(folder, cell)
    for _ in range(5):  # begun after its training, each time
        bound = call(folder, clock, seconds=1000, starts=400, first=False)
    assert slot.unscorable(bound, [cell, other]) == []
    for _ in range(scoring.TIMES):
        assert slot.unscorable(bound, [cell, other]) == []
        bound = call(folder, clock, seconds=1000, starts=400)
    assert slot.unscorable(bound, [cell, other]) == [cell]
    assert slot.unscorable(Slot(3000, bound.pace, clock=clock), [cell]) == []


def test_circuits_that_are_found_are_not_in_vain(folder, clock):
    cell, _ = GRID.cells()
    run = trained(folder, cell)
    bound = Slot(1000, Pace(folder, GRID.cells(), "quick"), clock=clock)
    scoring.mark(run, "quick")
    (run.path / "circuits").mkdir()
    (run.path / "circuits" / "not_in.json").write_text('{"format": 1}')
    clock.now = bound.until
    scoring.note_cut_off(bound, [cell], [cell])
    assert slot.unscorable(bound, [cell]) == []
    assert run.read_manifest()["scoring"] == {"suite": "quick"}


def test_a_plan_counts_scoring(tmp_path, capsys):
    file = write(tmp_path, suite="quick")
    words = ["--out", str(tmp_path / "out"), "--dry-run", "--workers", "2", "--slot"]
    assert main(["sweep", str(file), *words, "30m"]) == 0
    guess = scoring.guessed(load_grid(str(file)).cells()[0], "quick")
    said = capsys.readouterr().out
    assert f"and {2 * guess:.0f} seconds to score 4 (suite and circuits)" in said
    assert "cannot be cut" not in said
    assert main(["sweep", str(file), *words, "20s"]) == 0 and guess < 18
    slower = scoring.SUITES | {"quick": scoring.Measured(570.0, 920_448, 98_304)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "SUITES", slower)
        assert main(["sweep", str(file), *words, "20s"]) == 0
    said = capsys.readouterr().out
    assert said.count("and cannot be cut: a longer --slot") == 1


class Cut:
    """An engine that begins to score each cell, and is stopped at the bound."""

    def __init__(self, folder, cells, clock, asked):
        self.folder, self.cells, self.clock, self.asked = folder, cells, clock, asked

    def run(self, watch):
        self.asked.append([cell.name for cell in self.cells])
        self.clock.now += 5
        for cell in self.cells:
            scoring.mark(self.folder.run(cell.name), "quick")
        self.clock.now += 1000
        return EXIT_RESUME


def test_a_grid_that_no_call_can_score_says_so_and_ends(folder, clock, monkeypatch, capsys):
    for cell in GRID.cells():
        trained(folder, cell)
    asked = []
    build = lambda self, folder, grid, cells, *_: Cut(folder, cells, clock, asked)
    monkeypatch.setattr(Place, "build", build)
    monkeypatch.setattr(runner.snapshot, "take", lambda _: "")
    monkeypatch.setattr(runner.time, "monotonic", clock)
    monkeypatch.setattr(slot.Slot.__init__, "__kwdefaults__", {"begun": None, "clock": clock})
    monkeypatch.setattr(runner, "_watched", lambda engine, *_: engine.run(None))
    codes = [runner.sweep(GRID, folder.path, workers=2, slot=600.0) for _ in range(2)]
    assert codes == [EXIT_RESUME, EXIT_USER] and len(asked) == 1
    said = capsys.readouterr().out
    assert "and 1 more: scoring with the suite quick was cut off after" in said
    # A longer call takes them up again.
    assert runner.sweep(GRID, folder.path, workers=2, slot=3600.0) == EXIT_RESUME
    assert len(asked) == 2
