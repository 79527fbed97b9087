"""Minimal pairs: every good text parses, every bad one has the mistake it is named for."""

import ast
import inspect
import statistics
import textwrap

import numpy as np
import pytest
import torch
from support.answering import code_tokenizer, constant

from pellucid.eval.capability.minimal_pairs import make_pairs, minimal_pairs, preferred
from pellucid.eval.capability.mutations import KINDS, broken, undefined
from pellucid.eval.capability.texts import snippets
from pellucid.eval.score import NoValue

VOCAB = code_tokenizer().vocab_size
NAMES = ["elsewhere", "another_place"]


@pytest.fixture(scope="module")
def pairs():
    """From the source of two modules of the standard library."""
    return make_pairs([inspect.getsource(module) for module in (statistics, textwrap)], seed=1)


def test_every_kind_is_found_in_real_code(pairs):
    assert {pair.kind for pair in pairs} == set(KINDS)


def test_good_texts_parse_and_bad_ones_do_not(pairs):
    for pair in pairs:
        ast.parse(pair.good)
        if pair.kind == "undefined_name":
            new = set(undefined(ast.parse(pair.bad))) - set(undefined(ast.parse(pair.good)))
            assert len(new) == 1, pair
        else:
            with pytest.raises(SyntaxError):
                ast.parse(pair.bad)


def test_a_mistake_is_one_edit(pairs):
    for pair in pairs:
        before, after = pair.good, pair.bad
        start = next(i for i, (a, b) in enumerate(zip(before, after)) if a != b)
        ends = zip(reversed(before[start:]), reversed(after[start:]))
        tail = next(
            (i for i, (a, b) in enumerate(ends) if a != b), min(len(before), len(after)) - start
        )
        assert "\n" not in before[start : len(before) - tail], pair


@pytest.mark.parametrize(
    "kind, text, accepted",
    [
        ("wrong_closer", "f(x)\n", {"f(x]\n", "f(x}\n"}),
        ("equals_for_comparison", "if a == b:\n    pass\n", {"if a = b:\n    pass\n"}),
        ("missing_colon", "if a:\n    x = {b: c}\n", {"if a\n    x = {b: c}\n"}),
        ("wrong_indent", "a = 1\nb = 2\n", {"a = 1\n    b = 2\n"}),
        ("keyword_order", "a = b not in c\n", {"a = b in not c\n"}),
        ("keyword_order", "for a in b:\n    pass\n", {"in a for b:\n    pass\n"}),
        ("keyword_order", "a = b is not c\n", {"a = b not is c\n"}),
        (
            "undefined_name",
            "é = 'é'; a = é\n",
            {"é = 'é'; a = elsewhere\n", "é = 'é'; a = another_place\n"},
        ),
    ],
)
def test_what_each_mistake_looks_like(kind, text, accepted):
    found = {broken(text, kind, np.random.default_rng(seed), NAMES) for seed in range(8)}
    assert found == accepted


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_without_a_place_is_left_alone(kind):
    assert broken("x = 1\n", kind, np.random.default_rng(0), NAMES) is None


def test_a_name_is_not_replaced_by_one_that_is_there():
    text = "def f(a):\n    return a\n"
    for seed in range(8):
        assert (
            broken(text, "undefined_name", np.random.default_rng(seed), ["f", "a", "print"]) is None
        )


def test_snippets_are_whole_definitions(texts):
    found = snippets([*texts, "no python ["], longest=2000, seed=0)
    assert len(found) == 2 * len(texts)
    assert all(one.text.startswith("def ") for one in found)
    assert snippets(texts, longest=2000, seed=0) == found
    assert snippets(texts, longest=10, seed=0) == []


def test_a_model_that_knows_scores_one_and_ties_are_half(texts):
    made = make_pairs(texts, seed=0)
    assert preferred(made, np.ones(len(made)))[None].value == 1
    tied = preferred(made, np.zeros(len(made)))
    assert {one.value for one in tied.values()} == {0.5}
    assert set(tied) == {None, *KINDS}


def test_the_score_is_of_whole_texts(make_bench, texts):
    """A model for which `=` is impossible prefers `==`, and cannot tell other mistakes by it."""
    logits, tokenizer = torch.zeros(VOCAB), code_tokenizer()
    [equals] = tokenizer.encode(" =")
    logits[equals] = -8.0
    scores = {s.metric: s for s in minimal_pairs(make_bench(constant(logits)))}
    assert scores["minimal_pairs:equals_for_comparison"].value == 1
    # A token less costs less, whatever it was: that is how a model that knows nothing chooses.
    colon = scores["minimal_pairs:missing_colon"]
    assert colon.value < 0.3
    assert colon.controls["random_twin"] == colon.value
    assert scores["minimal_pairs"].n == 12
    assert "kneser_ney_5gram" in scores["minimal_pairs"].controls


def test_definitions_that_do_not_fit_have_no_value(make_bench):
    with pytest.raises(NoValue, match="no Python definition that fits"):
        minimal_pairs(make_bench(constant(torch.zeros(VOCAB)), context=3))
