"""What `pellucid circuit` refuses: each mistake is told in one sentence, and nothing is written."""

import json
import re
from pathlib import Path

import pytest

from pellucid import cli
from pellucid import run as runs
from pellucid.commands import circuits
from pellucid.errors import EXIT_USER
from pellucid.models import Transformer, UnitSite

PAIRS = [
    {"prompt_a": f"for {x}", "prompt_b": f"if {x}", "answer_a": "+", "answer_b": "-"}
    for x in "abcd"
]


def written(file: Path, pairs: list[dict[str, str]]) -> str:
    file.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    return str(file)


@pytest.fixture
def run(make_run, monkeypatch):
    """A run that the command finds in its folder."""
    made = make_run("dense")
    monkeypatch.setattr(circuits, "run_folder", lambda path: made.folder)
    monkeypatch.setattr(runs, "load", lambda *where, **how: made)
    return made


@pytest.mark.parametrize(
    ("task", "says"),
    [
        ([PAIRS[0] | {"answer_b": "+"}] * 2, "answers cannot be told apart"),
        ([PAIRS[0] | {"prompt_a": "for a " * 40}] * 2, "at most the context, 32, fit"),
        (PAIRS, "the model's own loss is .* --force to search all the same"),
        ("for_whle", "task 'for_whle' is unknown: all, a file of pairs"),
        ("gone.jsonl", "task file gone.jsonl"),
    ],
)
def test_the_command_tells_a_mistake_in_one_sentence(run, tmp_path, capsys, task, says):
    if not isinstance(task, str):
        task = written(tmp_path / "own.jsonl", task)
    code = cli.main(["circuit", str(run.folder.path), "--task", task, "--target", "0.01"])
    err = capsys.readouterr().err.strip()
    assert code == EXIT_USER and re.search(says, err) and "\n" not in err
    assert not run.folder.circuits.exists()


def test_a_site_without_units_is_told_by_the_command(run, tmp_path, capsys, monkeypatch):
    task = written(tmp_path / "own.jsonl", PAIRS)
    named = Transformer.sites

    def emptied(model):
        sites = dict(named(model))
        sites["blocks.1.mlp"] = UnitSite("mlp", 0, signed=True, exactness="none")
        return sites

    monkeypatch.setattr(Transformer, "sites", emptied)
    assert cli.main(["circuit", str(run.folder.path), "--task", task, "--force"]) == EXIT_USER
    err = capsys.readouterr().err.strip()
    assert "site 'blocks.1.mlp' has no units" in err and "\n" not in err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--edges", "--edges"),
        ("--profile paper --target 0.3", "--profile, --target"),
        ("--grain parts --frozen-norm", "--grain, --frozen-norm"),
        ("--no-controls --seed 1 --force", "--no-controls, --seed, --force"),
    ],
)
def test_what_a_weight_would_ignore_is_refused(make_run, capsys, words, told):
    """Before the run is loaded; what is given as it is by default changes nothing."""
    folder = make_run("topk").folder
    folder.config_file.write_text("{}")
    command = ["circuit", str(folder.path), "--weight", "blocks.0.mlp.w_enc:3,5"]
    assert cli.main([*command, *words.split()]) == EXIT_USER
    err = capsys.readouterr().err
    assert f"does not use {told}: beside it --step alone is accepted" in err
    assert err.strip().count("\n") == 0
