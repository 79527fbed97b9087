"""Pairs of texts that differ in one latent, and models whose units hold it or do not."""

import itertools

import numpy as np
import pytest
import torch
from support.compiled import Compiled
from support.planted import random_stream

from pellucid.data.automata import LATENTS
from pellucid.data.latent_process import Put
from pellucid.eval.latents.filtering import filtered
from pellucid.eval.latents.interchange import (
    CLEAR,
    PAIRS,
    SOLVED,
    Reset,
    _prompts,
    expected,
    measured,
    resets,
)
from pellucid.eval.reader import Reader
from pellucid.eval.score import NoValue
from pellucid.models import ModelConfig, Transformer
from pellucid.models.mlp import MLPS


def test_a_reset_changes_one_latent_and_what_hangs_on_it(small_language):
    process = small_language(n_symbols=8, topics=3, noise=0.0).process()
    uniform = np.random.default_rng(0).random((50, 12, 7))
    states, symbols = process.draw(uniform)
    state = (states[:, 6, 2] + 1) % 3
    changed, said = process.draw(uniform, Put(2, 6, state))
    np.testing.assert_array_equal(changed[:, 6, 2], state)
    np.testing.assert_array_equal(changed[:, :6], states[:, :6])
    np.testing.assert_array_equal(np.delete(changed, 2, 2), np.delete(states, 2, 2))
    np.testing.assert_array_equal(said[:, :6], symbols[:, :6])
    # The topic speaks, or decides what the quotation before it says; the others say what they said.
    speaker = (uniform[..., 5] * 5).astype(int)
    others = (speaker != 2) & (speaker != 1)
    np.testing.assert_array_equal(said[others], symbols[others])
    assert (said[:, 6:] != symbols[:, 6:]).any()


def test_what_is_expected_is_what_the_next_symbol_then_costs(small_language):
    process = small_language(topics=3).process()
    every = np.array(list(itertools.product(range(4), repeat=3)))
    costs = filtered(process, np.repeat(every, 4, 0)[:, :3]).bits
    assert costs.shape == (256, 3)
    longer = np.concatenate([np.repeat(every, 4, 0), np.tile(np.arange(4), 64)[:, None]], axis=1)
    paid = 2 ** -filtered(process, longer).bits[:, -1].reshape(64, 4)
    np.testing.assert_allclose(expected(process, every), paid, rtol=1e-10)


def test_pairs_differ_and_a_perfect_reader_tells_their_answers_apart(small_language):
    process = small_language(n_symbols=10, topics=6, modulus=4).process()
    pairs = resets(process, 2, length=24, seed=[0])
    assert pairs.symbols.shape == (2, PAIRS, 24)
    np.testing.assert_array_equal(pairs.symbols[0, :, :12], pairs.symbols[1, :, :12])
    log = np.log(np.stack([expected(process, side) for side in pairs.symbols]))
    rows, (own, other) = np.arange(PAIRS), pairs.answers
    assert (log[0, rows, own] - log[0, rows, other] >= CLEAR).all()
    assert (log[1, rows, other] - log[1, rows, own] >= CLEAR).all()
    again, apart = (resets(process, 2, length=24, seed=[seed]) for seed in (0, 1))
    np.testing.assert_array_equal(again.symbols, pairs.symbols)
    assert (apart.symbols != pairs.symbols).any()


def test_an_automaton_of_one_state_has_no_pairs(small_language):
    process = small_language(topics=2).process()
    alone = small_language(slots=1, values=1).process()
    assert alone.sizes[4] == 1 and resets(alone, 4, length=24, seed=[0]) is None
    assert process.sizes[2] == 2


def copier(*, by_units: bool) -> Reader:
    """Says the token that it reads: by a neuron for each, or past all neurons."""
    outputs = {v: f"out{v}" for v in range(5)}
    about = {"vocab": 5, "context": 12, "layers": 1, "width": 8, "mlp": "dense"}
    made = Compiled.blank([*outputs.values()], **about)
    for token, out in outputs.items():
        if by_units:
            made.neuron(0, token, {f"tok{token}": 1.0}, 0.0, {out: 1.0})
        else:
            made.model.embedding.weight[token, made.channels[out]] = 1.0
    made.read_out(outputs)
    return Reader(made.model, random_stream(4, 20, vocab_size=5), context=12)


@pytest.mark.parametrize("by_units", [True, False])
def test_units_that_hold_the_state_turn_every_answer_and_others_none(by_units):
    symbols = np.random.default_rng(0).integers(1, 5, (1, PAIRS, 6)).repeat(2, 0)
    answers = np.array([[1], [2]]).repeat(PAIRS, 1)
    symbols[..., -1] = answers
    prompts = {LATENTS[0]: _prompts(Reset(symbols, answers), np.arange(5), 0)}
    found = measured(copier(by_units=by_units), prompts)
    assert found[SOLVED].value == 1
    assert found[LATENTS[0]].value == found[None].value == float(by_units)


def test_a_model_without_units_has_no_value():
    class Bare:
        def sites(self):
            return {}

    with pytest.raises(NoValue, match="no site with units"):
        measured(Bare(), {})


def test_units_of_random_weights_turn_nothing(small_language):
    process = small_language(n_symbols=10, topics=6, modulus=4).process()
    pairs = resets(process, 2, length=24, seed=[0])
    prompts = {LATENTS[2]: _prompts(pairs, np.arange(10), 10)}
    mlp = MLPS["topk"].Config(width=32, k=4)
    model = ModelConfig(n_layers=1, d_model=16, context=32, mlp=mlp)
    torch.manual_seed(0)
    reader = Reader(
        Transformer(model, vocab_size=12, seed=0).eval(),
        random_stream(4, 20, vocab_size=12),
        context=32,
    )
    found = measured(reader, prompts)
    assert found[LATENTS[2]].value < 0.5 and found[None].value == found[LATENTS[2]].value
    assert found[SOLVED].value < 0.8
    assert found[LATENTS[0]].value is None and "too few resets" in found[LATENTS[0]].flags[0]
