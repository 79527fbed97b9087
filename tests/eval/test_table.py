"""Scores for a terminal, and for a file in its place."""

import pytest

from pellucid.eval.score import Score
from pellucid.eval.table import table
from pellucid.settings.console import console_of

LONG = "targeted_ablation_resample_quick"


@pytest.fixture
def printed(capsys):
    def of(*scores: Score) -> str:
        console_of(150).print(table(scores))
        return capsys.readouterr().out

    return of


def scored(**more) -> Score:
    about = {"metric": LONG, "site": "blocks.0.mlp", "value": 0.5, "low": 0.4, "high": 0.7}
    return Score(**(about | {"n": 9, "seconds": 1.0, "tokens": 64, "better": "higher"} | more))


def test_a_file_holds_whole_names_and_each_control_once(printed):
    flags = ("a control scores as well: random_twin 0.6, pca 0.7",)
    text = printed(scored(controls={"random_twin": 0.6, "pca": 0.7, "ica": 0.1}, flags=flags))
    assert LONG in text and "0.5 !" in text
    assert "random_twin 0.6 !, pca 0.7 !, ica 0.1 " in text
    assert text.count("random_twin") == 1


def test_what_has_no_value_says_why(printed):
    text = printed(
        scored(value=None, low=None, high=None, flags=("no value: the corpus has no labels",))
    )
    assert "–" in text and "no value: the corpus has no labels" in text
