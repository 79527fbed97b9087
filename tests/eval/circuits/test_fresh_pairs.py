"""Pairs that nothing was chosen by: of the family that is measured on, and never asked before."""

from types import SimpleNamespace

import pytest

from pellucid.eval.circuits import asking as module
from pellucid.eval.circuits.asking import UNSEEN, asking, fresh_pairs
from pellucid.eval.tasks import TASKS


@pytest.fixture
def run(generated_data):
    config = SimpleNamespace(model=SimpleNamespace(context=256))
    return SimpleNamespace(tokenizer=generated_data.tokenizer, config=config)


def prompts(batch):
    return [prompt for pair in batch.pairs for prompt in (pair.prompt_a, pair.prompt_b)]


@pytest.mark.parametrize(("task", "distance"), [("var_if", 0), ("var_if", 8), ("if_equals", 0)])
def test_fresh_pairs_have_no_prompt_that_was_asked(run, task, distance):
    asked = asking(run, task, drawn=48, seed=3, distance=distance)
    found = fresh_pairs(run, asked, seed=3)
    known = {*prompts(asked.searched), *prompts(asked.unseen)}
    assert known.isdisjoint(prompts(found)) and len(set(prompts(found))) == 2 * len(found)
    assert UNSEEN / 2 < len(found) <= UNSEEN and found.distance == distance
    assert {pair.form for pair in found.pairs} <= set(TASKS[task].dealt("dev"))
    assert found.pairs == fresh_pairs(run, asked, seed=3).pairs
    # The prompts that another seed's search is measured on are no fresh ones of this seed.
    assert set(found.pairs) - set(asking(run, task, drawn=4, seed=4).unseen.pairs)


def test_where_no_prompts_are_left_it_is_told(run, monkeypatch):
    asked = asking(run, "while_return_true", drawn=48, seed=0)
    monkeypatch.setattr(module, "FEWEST", 10**6)
    assert "of 256 pairs drawn anew" in fresh_pairs(run, asked, seed=0)
    own = asked._replace(name="own")
    assert fresh_pairs(run, own, seed=0) == "all pairs of a file of one's own are asked"
    short = SimpleNamespace(model=SimpleNamespace(context=4))
    run.config = short
    assert "at most the context, 4, fit" in fresh_pairs(run, asked, seed=0)
