"""Mistakes in a grid, told by the command in one sentence: nothing is started, nothing written."""

import json

import pytest

from pellucid.cli import main
from pellucid.errors import EXIT_USER

HEAD = "from pellucid.sweep import Grid, Tuning\n"
GRID = "grid = Grid(name='g', base='tiny', seeds=(0, 1), {})\n"


def swept(tmp_path, capsys, text: str, *words: str, out="out") -> str:
    """What the command says of a grid file; it has written nothing beside what was there."""
    file = tmp_path / "g.py"
    file.write_text(HEAD + text)
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    assert main(["sweep", str(file), "--out", str(tmp_path / out), *words]) == EXIT_USER
    after = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    assert after == before
    told = capsys.readouterr()
    assert told.err.startswith("pellucid: ") and told.err.count("\n") == 1
    return told.err


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ("axes={'k': ['mlp.k=8', 'mlp.k=8']}", "are the same run"),
        ("axes={'k': ['mlp.k=8', 'k=8']}", "not a field"),
        ("axes={'k': ['', 'mlp.k=32']}", "are the same run"),
        ("baselines={'a b': 'mlp.k=4', 'a,b': 'mlp.k=8'}", "would share the folder"),
        ("axes={'q': ['mlp.q=8']}", "g, q = 'mlp.q=8': mlp.q is not a field"),
        ("axes={'k': ['mlp.k=many']}", "many"),
        ("axes={'k': [8, 16]}", "axis k is [8, 16]; a list of words is accepted"),
        ("axes=['mlp.k=8']", "axes is ['mlp.k=8']; lists of words by name are accepted"),
        ("baselines={'d': 8}", "baselines is {'d': 8}; words by name are accepted"),
        ("posthoc={'d': None}", "posthoc is {'d': None}; words by name are accepted"),
        ("endpoints='bits_per_byte'", "endpoints is 'bits_per_byte'; names in a list"),
        ("margins={'bits_per_byte': 'small'}", "numbers by endpoint are accepted"),
        ("baselines={'d': 'match=dense by=magic'}", "by = 'magic' is not accepted"),
        ("baselines={'d': 'match=memory by=params'}", "has no width to solve for"),
        ("baselines={'d': 'match=dense by=loss rungs=1,2'}", "rungs are 1, 2; 4 different ones"),
        (
            "baselines={'d': 'match=dense by=nonzero constraint=weight_topk "
            "constraint.density=0.01 data.vocab_size=8192'}",
            "1 % is accepted",
        ),
        ("tune=True", "tune is True; Tuning(…) is accepted"),
        ("tune=Tuning(seeds=(1, 1))", "tune.seeds are (1, 1); different ones are accepted"),
        ("tune=Tuning(seeds=(1,))", "tune.seeds and seeds share 1"),
        ("tune=Tuning(seeds=(1.5,))", "tune.seeds is (1.5,); whole numbers from 0 in a list are"),
        ("tune=Tuning(seeds=(-5,))", "tune.seeds is (-5,); whole numbers from 0 in a list are"),
        ("tune=Tuning(seeds=(2**31,))", "g, tuning of [base]: seed = 2147483648"),
        ("tune=Tuning(rates=1e-3)", "tune.rates is 0.001; numbers in a list are accepted"),
        (
            "tune=Tuning(extensions=0.5)",
            "tune.extensions is 0.5; a whole number from 0 is accepted",
        ),
        ("tune=Tuning(words=['train.steps=5'])", "tune.words is ['train.steps=5']; a text is"),
        ("tune=Tuning(words='train.stepz=5')", "g, tuning of [base]: train.stepz is not a field"),
        ("tune=Tuning(words='train.lr=0.1')", "tune.words set train.lr, which the search chooses"),
        ("tune=Tuning(words='seed=7')", "tune.words set seed, which the search chooses"),
        (
            "tune=Tuning(dials=['mlp.l1=1'])",
            "tune.dials is ['mlp.l1=1']; lists of words by name are",
        ),
    ],
)
def test_what_is_no_grid_is_said_in_a_sentence(fields, said, tmp_path, capsys):
    assert said in swept(tmp_path, capsys, GRID.format(fields))


ARMS = "axes={'m': ['mlp=relu_l1']}, baselines={'dense': 'mlp=dense'}, posthoc={'sae': 'kind=sae k=4'}, "


@pytest.mark.parametrize(
    ("dials", "said"),
    [
        (
            "{'mlp=relu_l2': ['mlp.l1=1']}",
            "tune.dials name 'mlp=relu_l2', which is no value of an axis and no baseline; did you "
            "mean mlp=relu_l1?",
        ),
        ("{'m': ['mlp.l1=1']}", "tune.dials name 'm', which is no value of an axis"),
        ("{'mlp=relu_l1': ['mlp.l1=1', 'mlp.l2=1']}", "mlp.l1 and mlp.l2 are set; one field is"),
        ("{'mlp=relu_l1': ['mlp.l1=1 train.clip=2']}", "mlp.l1 and train.clip are set; one field"),
        ("{'mlp=relu_l1': ['mlp.l1=1', ' ']}", "'mlp=relu_l1': ['mlp.l1=1', ' '] is not accepted"),
        (
            "{'mlp=relu_l1': ['train.steps=9999']}",
            "train.steps is not accepted, for it is the same",
        ),
        ("{'dense': ['model.context=64']}", "'dense': context is not accepted, for it is the same"),
        ("{'dense': ['train.lr=0.1']}", "'dense': train.lr is not accepted"),
        ("{'dense': ['seed=7']}", "'dense': seed is not accepted"),
        (
            "{'dense': ['train.clip=2']}, words='train.clip=1'",
            "'dense': train.clip is not accepted",
        ),
        ("{'sae': ['kl_steps=100']}", "'sae': kl_steps is not accepted"),
        ("{'sae': ['lr=0.1']}", "'sae': lr is not accepted"),
        ("{'mlp=relu_l1': ['mlp.l3=1']}", "g, tuning of [m: mlp=relu_l1]: mlp.l3 is not a field"),
        (
            "{'dense': ['mlp.width=wide']}",
            "g, tuning of [baseline: dense]: model.mlp.width = 'wide'",
        ),
        ("{'sae': ['auxweight=1']}", "g, tuning of [baseline: sae]: auxweight is not a field"),
        ("{'sae': ['k=8,16']}", "post-hoc sae: k=8,16 gives several values; one is accepted"),
    ],
)
def test_a_dial_that_no_arm_can_turn_fairly_is_said_in_a_sentence(dials, said, tmp_path, capsys):
    text = GRID.format(f"{ARMS}tune=Tuning(dials={dials})")
    assert said in swept(tmp_path, capsys, text)


@pytest.mark.parametrize(
    ("seeds", "said"),
    [
        ("(0, 1, 0)", "seeds are (0, 1, 0); different ones are accepted"),
        ("()", "seeds are (); different ones are accepted"),
        ("3", "seeds is 3; whole numbers in a list are accepted"),
        ("(0.5,)", "seeds is (0.5,); whole numbers in a list are accepted"),
        ("(-1,)", "-1"),
    ],
)
def test_seeds_are_different_whole_numbers(seeds, said, tmp_path, capsys):
    assert said in swept(tmp_path, capsys, f"grid = Grid(name='g', seeds={seeds})\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--engine", "rai"), "--engine 'rai' is not accepted; did you mean ray"),
        (("--engine", "rai", "--dry-run"), "--engine 'rai' is not accepted"),
        (("--partition", "gpu"), "--partition is of --engine slurm"),
        (("--engine", "slurm", "--slot", "30m"), "--slot is of --engine local or ray"),
    ],
)
def test_an_engine_that_is_none_is_said_also_of_a_plan(words, said, tmp_path, capsys):
    assert said in swept(tmp_path, capsys, GRID.format(""), *words)


def test_a_folder_of_something_else_is_left_as_it_is(tmp_path, capsys):
    held = {"format": 1, "name": "other", "cells": {}, "endpoints": [], "seeds": []}
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "grid.json").write_text(json.dumps(held))
    for words in ((), ("--dry-run",)):
        said = swept(tmp_path, capsys, GRID.format("baselines={'d': 'match=dense'}"), *words)
        assert "holds another grid (its name is other)" in said
    (tmp_path / "out" / "grid.json").write_text("{")
    assert "is not valid JSON" in swept(tmp_path, capsys, GRID.format(""))
    (tmp_path / "out" / "grid.json").rename(tmp_path / "out" / "config.json")
    assert "is not a grid and not empty" in swept(tmp_path, capsys, GRID.format(""))
    (tmp_path / "file").write_text("mine")
    assert "cannot look into" in swept(tmp_path, capsys, GRID.format(""), out="file")


def test_a_lock_that_cannot_be_had_is_not_waited_for(tmp_path, capsys):
    (tmp_path / "out" / "claims" / ".begin.lock").mkdir(parents=True)
    text = "grid = Grid(name='g', baselines={'d': 'mlp.k=4'}, seeds=(0,))\n"
    (tmp_path / "g.py").write_text(HEAD + text)
    assert main(["sweep", str(tmp_path / "g.py"), "--out", str(tmp_path / "out")]) == EXIT_USER
    assert "cannot lock" in capsys.readouterr().err
