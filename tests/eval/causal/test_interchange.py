"""Interchange interventions on programs whose circuits are known."""

import numpy as np
import pytest
import torch
from support import programs
from support.answering import code_tokenizer
from support.causes import Caused
from support.planted import random_stream

from pellucid.eval.causal.attribution import attributions, strongest
from pellucid.eval.causal.chosen import Unit
from pellucid.eval.causal.interchange import (
    HELD_OUT,
    ONE,
    OPEN,
    QUICK_PAIRS,
    Drawn,
    choose,
    drawn,
    interchange_accuracy_quick,
    measure,
    of_task,
)
from pellucid.eval.causal.prompts import Prompts
from pellucid.eval.reader import Reader
from pellucid.eval.tasks import TASKS, TaskBatch
from pellucid.eval.workbench import Workbench
from pellucid.models import ModelConfig, Transformer
from pellucid.models.mlp import MLPS

SITE = "blocks.0.mlp"


def reader_of(model) -> Reader:
    return Reader(model, random_stream(4, 20, vocab_size=model.vocab_size), context=8)


def batch_of(rows_a, rows_b, answers) -> TaskBatch:
    """Rows of equal length, and the tokens that are right after them."""
    a, b = torch.tensor(rows_a), torch.tensor(rows_b)
    last = torch.full((len(a),), a.shape[1] - 1)
    wanted = (torch.full((len(a),), answer) for answer in answers)
    return TaskBatch("made", 0, False, a, b, last, last, *wanted, pairs=((),) * len(a))


def depths(n: int = 24) -> TaskBatch:
    """One bracket is open, or none: the first token opens or does nothing."""
    rng = np.random.default_rng(0)
    fill = [rng.permutation([1, 2, 3, 3]).tolist() for _ in range(n)]
    # The bracket of the filler is opened before it is closed.
    fill = [sorted(row, key=lambda t: t == 2) for row in fill]
    return batch_of([[0, 1, *row] for row in fill], [[0, 3, *row] for row in fill], (1, 0))


@pytest.mark.parametrize("mlp", ["dense", "topk"])
def test_the_units_of_the_circuit_are_found_and_flip_every_answer(mlp):
    program = programs.depth(mlp=mlp)
    prompts = Prompts.of(depths())
    handle = choose(program.model, prompts, (SITE,))
    assert {tuple(unit) for unit in handle.units} <= program.nodes
    rates = of_task(reader_of(program.model), prompts)
    assert (rates.flipped == 1).all() and (rates.solved == 1).all()
    assert (rates.same == 1).all() and (rates.wrong == 1).all()


def test_units_beside_a_circuit_of_heads_flip_nothing():
    program = programs.quote()
    rng = np.random.default_rng(0)
    fill = rng.integers(3, 5, (24, 4)).tolist()
    batch = batch_of([[0, 1, *row] for row in fill], [[0, 2, *row] for row in fill], (1, 2))
    scores = measure(reader_of(program.model), Drawn({"quote": batch}, {}))
    assert scores["solved"].value == 1 and scores[None].value == 0
    assert scores["same_value_preserved"].value == 1


VOCAB = 6
CUE = lambda t: (t == 1).cummax(1).values.float()


def cued(effects: torch.Tensor, rules, *, sparse: bool = False, base=None) -> Caused:
    return Caused(rules, effects, sparse=sparse, base=base)


def cues(n: int = 24) -> TaskBatch:
    rng = np.random.default_rng(0)
    fill = rng.integers(3, VOCAB, (n, 4)).tolist()
    return batch_of([[0, 1, *row] for row in fill], [[0, 2, *row] for row in fill], (4, 5))


NO_CUE = lambda t: (t == 2).cummax(1).values.float()
ALWAYS = lambda t: torch.ones_like(t, dtype=torch.float)


def to(token: int, strength: float) -> torch.Tensor:
    effect = torch.zeros(VOCAB)
    effect[token] = strength
    return effect


@pytest.mark.parametrize("sparse", [False, True])
def test_units_that_cause_the_answer_flip_it_and_those_that_go_with_it_do_not(sparse):
    effects = torch.stack([torch.zeros(VOCAB), to(4, 5.0), to(5, 5.0), to(3, 1.0)])
    model = cued(effects, [CUE, CUE, NO_CUE, ALWAYS], sparse=sparse)
    prompts = Prompts.of(cues())
    found = attributions(model, prompts, (SITE,), "last")[SITE]
    # Each of 48 prompts: a unit that falls from 1 to 0, or rises from it, moves the margin by 5.
    each = 24 * 5.0 if sparse else 48 * 5.0
    torch.testing.assert_close(found, torch.tensor([0.0, each, each, 0.0]))
    assert set(strongest({SITE: found}, 4)) == {Unit(SITE, 1), Unit(SITE, 2)}
    rates = of_task(reader_of(model), prompts)
    assert (rates.flipped == 1).all() and (rates.wrong == 1).all()


def test_inert_and_constant_units_flip_nothing():
    by_the_base = lambda t: CUE(t)[..., None] * to(4, 5.0) + NO_CUE(t)[..., None] * to(5, 5.0)
    effects = torch.stack([torch.zeros(VOCAB), to(4, 3.0)])
    model = cued(effects, [CUE, ALWAYS], base=by_the_base)
    scores = measure(reader_of(model), Drawn({"cues": cues()}, {}))
    assert scores[None].value == 0 and scores["cues"].high == 0


def test_a_model_that_always_gives_one_answer_flips_nothing():
    model = cued(torch.stack([to(4, 3.0), to(5, 0.1)]), [ALWAYS, NO_CUE])
    scores = measure(reader_of(model), Drawn({"cues": cues()}, {}))
    assert scores["solved"].value == 0.5 and scores[None].value == 0


def test_prompts_of_unequal_length_are_laid_upon_each_other_by_their_ends():
    batch = cues()
    longer = torch.cat([batch.tokens_b[:, :2], torch.full((24, 1), 3), batch.tokens_b[:, 2:]], 1)
    padded = torch.nn.functional.pad(batch.tokens_a, (0, 1))
    moved = TaskBatch(
        *("made", 0, False, padded, longer, batch.last_a, batch.last_b + 1),
        *(batch.answer_a, batch.answer_b),
        pairs=batch.pairs,
    )
    effects = torch.stack([to(4, 5.0), to(5, 5.0)])
    rates = of_task(reader_of(cued(effects, [CUE, NO_CUE])), Prompts.of(moved))
    assert (rates.flipped == 1).all() and (rates.same == 1).all()


def test_scores_of_a_transformer_stand_beside_its_twin():
    tokenizer = code_tokenizer()
    config = ModelConfig(n_layers=1, d_model=16, context=64, mlp=MLPS["topk"].Config(width=32, k=4))
    readers = [
        reader_of(Transformer(config, vocab_size=tokenizer.vocab_size, seed=seed).eval())
        for seed in (0, 1)
    ]
    for reader in readers:
        reader.context = 64
    tokens = readers[0].stream.tokens
    about = {"split": "val", "seed": 0, "tokenizer": tokenizer}
    bench = Workbench(*readers, tokens, tokenizer.vocab_size, **about)
    quick = {score.metric: score for score in interchange_accuracy_quick(bench)}
    assert quick["interchange_accuracy_quick"].n == QUICK_PAIRS // 2
    assert isinstance(quick["interchange_accuracy_quick"].controls["random_twin"], float)
    assert "interchange_accuracy_quick:single_double_quote" in quick
    assert (
        quick["interchange_accuracy_quick"].value
        <= quick["interchange_accuracy_quick:solved"].value
    )
    assert set(drawn(bench, ONE).batches) == set(ONE)


def test_every_task_of_two_answers_is_asked_in_the_family_of_the_split():
    tokenizer = code_tokenizer()
    model = ModelConfig(n_layers=1, d_model=16, context=256, mlp=MLPS["topk"].Config(width=8, k=4))
    reader = reader_of(Transformer(model, vocab_size=tokenizer.vocab_size, seed=0).eval())
    reader.context = 256
    texts = {}
    for split in ("val", "test"):
        about = {"split": split, "seed": 0, "tokenizer": tokenizer}
        made = Workbench(reader, reader, reader.stream.tokens, tokenizer.vocab_size, **about)
        asked = drawn(made, TASKS, pairs=4)
        assert set(asked.batches) | set(asked.missing) == set(TASKS)
        alone = {name for name, task in TASKS.items() if task.one_vs_rest}
        assert {name for name, why in asked.missing.items() if why == OPEN} == alone
        assert len(asked.batches) > 20
        assert any(TASKS[name].held_out for name in asked.batches)
        texts[split] = {name: {p.form for p in b.pairs} for name, b in asked.batches.items()}
    for name in set(texts["val"]) & set(texts["test"]):
        assert not texts["val"][name] & texts["test"][name], name


def test_held_out_tasks_stand_apart_and_what_cannot_be_asked_says_why():
    effects = torch.stack([to(4, 5.0), to(5, 5.0)])
    by_cue, by_nothing = cues(), cues()
    inert = [ALWAYS, ALWAYS]
    both = {"for_while": by_cue, "not_in": by_nothing}
    missing = {"class_init": OPEN}
    scores = measure(reader_of(cued(effects, [CUE, NO_CUE])), Drawn(both, missing))
    assert scores[None].n == scores[HELD_OUT].n == len(by_cue) // 2
    assert scores[None].value == scores[HELD_OUT].value == scores["not_in"].value == 1
    assert scores["for_while:solved"].value == 1 and scores["held_out:solved"].value == 1
    assert scores["class_init"].value is None and OPEN in scores["class_init"].flags[0]
    only = measure(reader_of(cued(effects, inert)), Drawn({"not_in": by_nothing}, {}))
    assert only[None].value is None and only[HELD_OUT].value == 0
