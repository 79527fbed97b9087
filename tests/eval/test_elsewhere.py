"""What another process reads or makes is what this one would have, and leaves nothing on disk."""

from contextvars import ContextVar
from functools import partial

import numpy as np
import pytest
import torch
from support.jobs import touched, waiting

from pellucid import load
from pellucid.eval import elsewhere, processes, sightings, workbench
from pellucid.eval.bases import ica
from pellucid.eval.causal import passes
from pellucid.eval.causal.ablation import Ablator
from pellucid.eval.causal.chosen import Unit
from pellucid.eval.causal.passes import rows_of
from pellucid.eval.concepts.truth import Truth
from pellucid.eval.controls import made_units
from pellucid.eval.dictionary import random_dictionary
from pellucid.eval.elsewhere import Permuted, _begin, itself, random_twin, read_ahead
from pellucid.eval.halves import halves
from pellucid.eval.made import Source
from pellucid.eval.processes import Later, Lost, each
from pellucid.eval.reader import Reader
from pellucid.eval.rotation import rotated
from pellucid.eval.stream import sample

SITE = "blocks.1.mlp"


@pytest.fixture
def run(folder):
    return load(folder)


def about(run):
    stream = sample(run.data.split("val"), eot=run.tokenizer.eot, tokens=2048, seed=0)
    return {"stream": stream, "context": 64, "seed": 0}


def alike(ours, theirs):
    """Whether two readings are the same, bit for bit."""
    assert np.array_equal(ours.bits, theirs.bits)
    for name, kept in ours.harvest.items():
        n, again = kept.n_tokens, theirs.harvest[name]
        assert np.array_equal(kept.rows(0, n), again.rows(0, n))
        assert np.array_equal(ours.moments[name].m4, theirs.moments[name].m4)
        assert np.array_equal(ours.moments[name].histogram, theirs.moments[name].histogram)
    return True


def begin(run, model=random_twin, name="read_end_to_end"):
    """A reader of a model that another process reads too."""
    reader = Reader(model(run), **about(run))
    _begin(reader, run, model, name)
    return reader


@pytest.mark.parametrize("model", [itself, random_twin, Permuted(3)])
def test_a_model_is_read_by_another_process_as_by_this_one(run, other, model):
    reader = begin(run, model)
    here = reader.read_end_to_end()
    reader.read_end_to_end = lambda: pytest.fail("it was read here")
    assert alike(here, reader.end_to_end) and here.bits.std() > 0


def test_rows_between_are_read_by_another_process_as_by_this_one(run, other):
    reader, here = begin(run, itself, "read_between"), Reader(itself(run), **about(run))
    reader.read_between = lambda: pytest.fail("it was read here")
    assert np.array_equal(reader.overlapping.bits, here.overlapping.bits)
    assert (here.overlapping.bits != here.end_to_end.bits).mean() > 0.4


def test_files_of_another_process_go_with_what_rests_on_them(run, other):
    reader = begin(run)
    kept = reader.harvest[SITE]
    place = kept.scratch.path
    del reader
    assert kept.rows(0, 9).shape == (9, 48) and any(place.iterdir())
    del kept
    assert not place.exists()


@pytest.mark.parametrize("model", [itself, random_twin, Permuted(3)])
def test_passes_under_edits_are_of_another_process_as_of_this_one(run, other, model, monkeypatch):
    reader = begin(run, model)
    stream = reader.stream
    holds, known = (stream.tokens % 3 == 0)[:, None], stream.tokens != stream.eot
    truth = Truth(("one",), holds, known, halves(stream, 0), stream.document)
    rows = rows_of(stream, truth.half, context=64, tokens=512, seed=0)
    made = Ablator(reader, rows, truth, {SITE: [0, 3, 7]}, seed=0)
    kinds, units = ("mean", "resample", "zero"), [Unit(SITE, 7), Unit(SITE, 3)]
    edited = [None, *(made.edits(kind, units) for kind in kinds)]
    monkeypatch.setattr(passes, "each", lambda jobs: [Later(job).get() for job in jobs])
    found = passes.nats_of_each(reader, rows, edited)
    assert len({cost.tobytes() for cost in found}) == 4
    monkeypatch.setattr(reader, "sent", None)
    assert np.array_equal(found, passes.nats_of_each(reader, rows, edited))


def test_a_model_that_was_changed_in_memory_is_read_here(run, other):
    with torch.no_grad():
        run.model.embedding.weight.mul_(3)
    reader = begin(run, itself)
    with pytest.raises(Lost):
        reader.elsewhere["read_end_to_end"]()
    assert alike(reader.end_to_end, reader.read_end_to_end())


def test_what_another_process_has_not_begun_is_read_here(run, other, tmp_path):
    Later(partial(waiting, tmp_path / "done"))
    reader = begin(run)
    assert alike(reader.end_to_end, reader.read_end_to_end())
    touched(tmp_path / "done")


def test_without_others_everything_is_read_here(run, monkeypatch):
    monkeypatch.setattr(processes, "_others", ContextVar("none", default=()))
    bench = workbench(run, suite="standard")
    read_ahead(bench, run, None, (), overlap=True)
    assert bench.reader.elsewhere == bench.twin.elsewhere == {}


def test_all_models_but_the_run_itself_are_read_ahead(make_run, other, tmp_path, monkeypatch):
    """The run's own rows last; the same seed twice is refused before."""
    begun = []
    monkeypatch.setattr(
        elsewhere, "_begin", lambda reader, run, *what: begun.append((reader, run, *what))
    )
    run, dense = make_run(), make_run("dense")
    bench = workbench(run, suite="standard", dense=dense)
    read_ahead(bench, run, dense, (), overlap=True)
    readers = [bench.twin, bench.controls["permuted_weights"], bench.controls["dense_neurons"]]
    assert [one[0] for one in begun] == [*readers, bench.reader]
    assert [one[2] for one in begun[::2]] == [random_twin, itself]
    assert begun[-1][2:] == (itself, "read_between")


def test_what_another_process_has_seen_is_of_the_same_text(run, other, monkeypatch):
    """A copy of it for each site would be as large as the text."""
    here, there = (Reader(itself(run), shown=4, **about(run)) for _ in range(2))
    expected = here.sightings
    monkeypatch.setattr(sightings, "each", lambda jobs: [Later(job).get() for job in jobs])
    for name, seen in there.sightings.contexts.items():
        again = expected.contexts[name]
        assert seen.stream is there.stream and np.array_equal(seen.units, again.units)
        assert repr([seen.of(i) for i in range(4)]) == repr([again.of(i) for i in range(4)])
        active = there.sightings.activity[name]
        assert np.array_equal(active.strength, expected.activity[name].strength)


@pytest.mark.parametrize("make", [rotated, random_dictionary, ica])
def test_units_are_made_by_another_process_as_by_this_one(run, other, make):
    source = Source.of(Reader(run.model.eval(), keep_inputs=True, **about(run)), SITE)
    (here,) = each([partial(make, source, seed=0)])
    there = Later(partial(make, source, seed=0)).get()
    n = here.harvest.n_tokens
    assert (
        np.array_equal(here.harvest.rows(0, n), there.harvest.rows(0, n))
        and here.remark == there.remark
    )
    for ours, theirs in ((here.write, there.write), (here.read, there.read)):
        assert (ours is None and theirs is None) or np.array_equal(ours, theirs)
    assert there.harvest.scratch.path == source.scratch.path


def test_made_units_of_several_sites_stay_with_this_process(run, other):
    reader = Reader(run.model.eval(), **about(run))
    system = made_units(reader, seed=0)["rotated_units"]
    kept = system.harvest
    place = [kept[name].scratch.path for name in kept]
    assert len(set(place)) == len(kept) > 1
    del system
    assert all(path.exists() for path in place)
    rows = {name: kept[name].rows(0, 50) for name in kept}
    expected = {name: rotated(Source.of(reader, name), seed=0).harvest for name in rows}
    assert all(np.array_equal(rows[name], expected[name].rows(0, 50)) for name in rows)
    del kept
    assert not any(path.exists() for path in place)
