"""The corpus `latent` against the automata it is said to come from."""

import numpy as np
import pytest

from pellucid.data import DataConfig, prepare
from pellucid.data.automata import LATENTS
from pellucid.data.documents import text_hash
from pellucid.data.latent import Latent, symbol_of_token, written
from pellucid.data.latent_process import token_only_f1
from pellucid.errors import ConfigError

GOLDEN_TEXT = "96b8774ae19e136b"


def documents(n, **fields):
    return list(Latent.Config(n_documents=n, **fields).build().documents())


def drawn(documents, length=256, **fields):
    """States and symbols of many documents at once."""
    process = Latent.Config(**fields).process()
    uniform = np.random.default_rng(0).random((documents, length, len(LATENTS) + 2))
    return process, *process.draw(uniform)


def test_the_text_does_not_change_between_versions():
    joined = "".join(document.text for document in documents(20))
    assert text_hash(joined)[:16] == GOLDEN_TEXT


def test_seeds_and_languages_differ_and_more_documents_only_add():
    first = documents(5, seed=1)
    assert first[0].text != documents(5, seed=2)[0].text
    assert [d.text for d in documents(70, seed=1)][:5] == [d.text for d in first]
    other = documents(5, seed=1, language=1)
    assert other[0].text != first[0].text
    np.testing.assert_array_equal(other[0].side["topic"], first[0].side["topic"])


@pytest.mark.parametrize("latent", range(len(LATENTS)))
def test_latents_move_as_their_automaton_says(latent):
    process, states, _ = drawn(400)
    automaton = process.automata[latent]
    counted = np.zeros((automaton.size, automaton.size))
    np.add.at(counted, (states[:, :-1, latent], states[:, 1:, latent]), 1)
    visits = counted.sum(1, keepdims=True)
    error = np.sqrt(automaton.move * (1 - automaton.move) / visits)
    assert (np.abs(counted / visits - automaton.move) <= 5 * error + 1e-12).all()
    assert (counted[automaton.move == 0] == 0).all()
    starts = np.bincount(states[:, 0, latent], minlength=automaton.size) / 400
    assert np.abs(starts - automaton.start).max() < 5 * np.sqrt(automaton.start.max() / 400)


@pytest.mark.parametrize("latent", range(len(LATENTS)))
def test_every_automaton_starts_where_its_moves_leave_it(latent):
    automaton = Latent.Config().automata()[latent]
    np.testing.assert_allclose(automaton.start @ automaton.move, automaton.start, atol=1e-15)
    np.testing.assert_allclose(automaton.move.sum(1), 1)


def test_the_stack_only_pushes_on_top_and_pops_the_top():
    stack = Latent.Config(brackets=2, depth=3, n_symbols=15).automata()[0]
    assert len(stack.states) == 1 + 2 + 4 + 8
    for a, b in zip(*np.nonzero(stack.move), strict=True):
        here, there = sorted((stack.states[a], stack.states[b]), key=len)
        assert there.startswith(here) and len(there) - len(here) <= 1


def test_symbols_are_said_as_often_as_the_tables_say():
    process, states, symbols = drawn(300)
    expected = process.likelihood(states[..., None, :], np.arange(process.n_symbols))
    for symbol in range(process.n_symbols):
        said, probability = symbols == symbol, expected[..., symbol]
        spread = np.sqrt((probability * (1 - probability)).sum())
        assert abs(said.sum() - probability.sum()) < 5 * spread


def test_two_ways_to_the_same_emission_probabilities():
    process = Latent.Config().process()
    generator = np.random.default_rng(1)
    states = np.stack([generator.integers(0, size, 50) for size in process.sizes], axis=-1)
    symbols = generator.integers(0, process.n_symbols, 50)
    table = process.emission[(symbols, *states.T)]
    np.testing.assert_allclose(process.likelihood(states, symbols), table, atol=1e-15)
    np.testing.assert_allclose(process.emission.sum(0), 1)
    joint = process.emission.mean((1, 2, 4, 5)) / process.sizes[2]
    np.testing.assert_allclose(process.symbol_and_state(2), joint, atol=1e-15)


@pytest.mark.parametrize("language", range(12))
def test_no_function_of_the_token_finds_a_latent(language):
    process = Latent.Config(language=language).process()
    for latent in range(len(LATENTS)):
        assert token_only_f1(process, latent).max() < 0.3


def test_the_best_token_only_f1_is_what_is_found_by_trying_all_sets():
    process, states, symbols = drawn(80_000, 1, n_symbols=8, depth=1, quotes=3, topics=4, modulus=4)
    exact, said = token_only_f1(process, 1), np.eye(8, dtype=bool)[symbols.ravel()]
    sets = (np.arange(1, 256)[:, None] >> np.arange(8)) & 1
    for state in range(4):
        held = states[..., 1].ravel() == state
        true, claimed = sets @ (said[held].sum(0)), sets @ said.sum(0)
        found = (2 * true / (claimed + held.sum())).max()
        assert found == pytest.approx(exact[state], abs=0.005)


def test_tokens_are_symbols_and_latents_stand_beside_them(own_cache):
    config = DataConfig(corpus=Latent.Config(n_documents=30, length=40, seed=4), vocab_size=600)
    data = prepare(config, progress=False)
    split, of_token = data.split("train"), symbol_of_token(data.tokenizer.token_bytes)
    assert data.vocab_size == 257 + 12 and (of_token >= 0).sum() == 12
    original = {document.name: document for document in documents(30, length=40, seed=4)}
    for number, name in enumerate(split.names):
        first, last = split.offsets[number : number + 2]
        symbols = of_token[split.tokens[first + 1 : last]]
        assert last - first == 41 and written(symbols) == original[name].text
        for latent in LATENTS:
            side = split.side[latent]
            assert side[first] == -1
            np.testing.assert_array_equal(side[first + 1 : last], original[name].side[latent][::2])
    batch = data.rows(0, 0, batch=2, context=16)
    assert set(batch.side) == set(LATENTS) and batch.side["stack"].shape == (2, 17)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"depth": 5}, "brackets, depth: 63 states are more than n_symbols, 12"),
        ({"topics": 20}, "topics: 20 states are more than n_symbols, 12"),
        ({"quote_rate": 0.2}, "quote_rate is 0.2; with 7 kinds at most 0.142857 is accepted"),
        ({"bracket_rate": 0.5}, "bracket_rate is 0.5; with 2 kinds at most 0.333333 is accepted"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(fields, sentence):
    with pytest.raises(ConfigError, match=sentence):
        Latent.Config(**fields)
