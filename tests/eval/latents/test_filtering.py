"""Exact filtering against the enumeration of all paths of hidden states, and particles against it."""

import itertools

import numpy as np
import pytest

from pellucid.data.latent import Latent
from pellucid.eval.latents.filtering import Filter, counterfactual, filtered, put
from pellucid.eval.latents.particles import guessed


def drawn(process, documents, length, seed=0):
    draws = len(process.automata) + 2
    return process.draw(np.random.default_rng(seed).random((documents, length, draws)))


def joint(process):
    """All joint states, their start, moves and emissions, written out."""
    states = list(itertools.product(*map(range, process.sizes)))
    start = np.array([np.prod([a.start[z] for a, z in zip(process.automata, s)]) for s in states])
    move = np.array(
        [
            [np.prod([a.move[x, y] for a, x, y in zip(process.automata, s, t)]) for t in states]
            for s in states
        ]
    )
    emission = np.zeros((process.n_symbols, len(states)))
    for at, state in enumerate(states):
        for k, code in enumerate(process.code):
            said = code[state[k], state[(k + 1) % len(state)]]
            emission[said, at] += (1 - process.noise) / len(state)
        emission[:, at] += process.noise / process.n_symbols
    return states, start, move, emission


def by_paths(process, symbols):
    """P(symbols) and the posterior of the last joint state, over every path of states."""
    states, start, move, emission = joint(process)
    weight = np.zeros(len(states))
    for path in itertools.product(range(len(states)), repeat=len(symbols)):
        p = start[path[0]] * emission[symbols[0], path[0]]
        for a, b, symbol in zip(path, path[1:], symbols[1:]):
            p *= move[a, b] * emission[symbol, b]
        weight[path[-1]] += p
    return weight.sum(), weight / weight.sum(), states


def test_beliefs_and_bits_are_those_of_all_paths(small_language):
    process = small_language().process()
    _, symbols = drawn(process, 2, 3)
    found = filtered(process, symbols)
    for document, read in enumerate(symbols):
        probability, posterior, states = by_paths(process, read.tolist())
        assert 2 ** -found.bits[document].sum() == pytest.approx(probability, rel=1e-12)
        for latent, size in enumerate(process.sizes):
            expected = [
                sum(p for p, s in zip(posterior, states) if s[latent] == state)
                for state in range(size)
            ]
            belief = found.beliefs[latent][document, -1]
            np.testing.assert_allclose(belief, expected, rtol=1e-12)


def test_the_symbols_of_all_continuations_share_one_unit_of_probability(small_language):
    process = small_language().process()
    every = np.array(list(itertools.product(range(4), repeat=4)))
    assert (2 ** -filtered(process, every).bits.sum(1)).sum() == pytest.approx(1, abs=1e-12)


def test_single_precision_changes_bits_by_less_than_a_millionth():
    process = Latent.Config().process()
    _, symbols = drawn(process, 2, 40)
    double, single = (filtered(process, symbols, dtype=t) for t in (np.float64, np.float32))
    np.testing.assert_allclose(double.bits, single.bits, atol=3e-6)
    for a, b in zip(double.beliefs, single.beliefs, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_beliefs_are_calibrated(small_language):
    """Of the states believed with probability p after ten symbols, a share p is true."""
    process = small_language(n_symbols=8, topics=5, modulus=4, noise=0.05).process()
    states, symbols = drawn(process, 4000, 10)
    for latent, belief in enumerate(filtered(process, symbols).beliefs):
        held = states[:, -1, latent, None] == np.arange(belief.shape[-1])
        for low in np.arange(0, 1, 0.2):
            here = (belief[:, -1] >= low) & (belief[:, -1] < low + 0.2)
            if here.sum() > 400:
                assert held[here].mean() == pytest.approx(belief[:, -1][here].mean(), abs=0.06)


def test_a_perfect_reader_finds_what_the_token_hides():
    process = Latent.Config().process()
    states, symbols = drawn(process, 12, 200)
    found = filtered(process, symbols, dtype=np.float32)
    for latent, belief in enumerate(found.beliefs):
        right = belief.argmax(-1) == states[..., latent]
        assert right[:, 60:].mean() > 0.6
    assert found.bits[:, 60:].mean() < np.log2(process.n_symbols) - 0.7


def test_particles_agree_with_the_exact_filter_within_their_error(small_language):
    process = small_language(n_symbols=8, topics=6, modulus=5, noise=0.2).process()
    _, symbols = drawn(process, 6, 50)
    exact = filtered(process, symbols)
    found = guessed(process, symbols, seed=0, particles=1000, filters=6)
    assert 0 < found.error < 0.01
    assert abs(found.bits.mean() - exact.bits.mean()) < 3 * found.error + 0.001
    for a, b in zip(exact.beliefs, found.beliefs, strict=True):
        assert np.abs(a - b).mean() < 0.02


def test_more_particles_err_less_and_the_same_seed_errs_the_same(small_language):
    process = small_language(n_symbols=8, topics=6, modulus=5).process()
    _, symbols = drawn(process, 4, 30)
    exact = filtered(process, symbols).bits
    few, many = (guessed(process, symbols, seed=1, particles=n) for n in (30, 3000))
    assert np.abs(many.bits - exact).mean() < 0.3 * np.abs(few.bits - exact).mean()
    again = guessed(process, symbols, seed=1, particles=30)
    np.testing.assert_array_equal(again.bits, few.bits)
    assert few.bits.mean() != guessed(process, symbols, seed=2, particles=30).bits.mean()


def intervened_paths(process, symbols, latent, state, position):
    """The next symbol's distribution with the latent overwritten at `position` on every path."""
    states, start, move, emission = joint(process)
    place = {s: n for n, s in enumerate(states)}
    weight = start * emission[symbols[0]]
    for token in range(len(symbols)):
        if token:
            weight = (weight @ move) * emission[symbols[token]]
        if token == position:
            done = np.zeros_like(weight)
            for number, s in enumerate(states):
                done[place[(*s[:latent], state, *s[latent + 1 :])]] += weight[number]
            weight = done
    following = emission @ (weight @ move)
    return following / following.sum()


def test_counterfactuals_are_those_of_all_paths(small_language):
    process = small_language(topics=3).process()
    _, symbols = drawn(process, 1, 6)
    read = symbols[0]
    for latent, position in itertools.product(range(5), (0, 3, 5)):
        found = counterfactual(process, read, latent=latent, state=1, position=position)
        assert found.shape == (6 - position, 4)
        for later in range(position, 6):
            expected = intervened_paths(process, read[: later + 1], latent, 1, position)
            np.testing.assert_allclose(found[later - position], expected, rtol=1e-10)


def test_counterfactuals_are_what_the_generator_then_says(small_language):
    """The generator, with the latent reset after the prefix, speaks as the filter predicts."""
    process = small_language(topics=3, noise=0.0).process()
    _, symbols = drawn(process, 1, 12)
    predicted = counterfactual(process, symbols[0], latent=2, state=0, position=11)[0]
    belief = Filter(process).start(1)
    for token in range(12):
        moved = Filter(process).move(belief) if token else belief
        belief, _ = Filter(process).hear(moved, symbols[0, token : token + 1])
    generator = np.random.default_rng(3)
    drawn_at = generator.choice(belief.size, 40_000, p=belief.ravel())
    reset = np.stack(np.unravel_index(drawn_at, process.sizes), axis=-1)
    reset[:, 2] = 0
    after = np.stack(
        [
            (generator.random((40_000, 1)) >= a.move.cumsum(1)[reset[:, k]]).sum(1)
            for k, a in enumerate(process.automata)
        ],
        axis=-1,
    ).clip(max=np.array(process.sizes) - 1)
    said = process.likelihood(after[:, None], np.arange(process.n_symbols)).mean(0)
    np.testing.assert_allclose(said, predicted, atol=0.01)


def test_doing_is_not_seeing(small_language):
    """do(topic) leaves what is believed of the others; conditioning on the topic would not."""
    process = small_language(topics=3).process()
    _, symbols = drawn(process, 1, 8)
    steps, belief = Filter(process), Filter(process).start(1)
    for token, symbol in enumerate(symbols[0]):
        belief, _ = steps.hear(steps.move(belief) if token else belief, np.array([symbol]))
    done = put(belief, 2, 1)
    for latent, (a, b) in enumerate(zip(steps.marginals(belief), steps.marginals(done))):
        if latent == 2:
            np.testing.assert_array_equal(b[0], [0, 1, 0])
        else:
            np.testing.assert_allclose(a, b, rtol=1e-12)
    seen = belief.copy()
    seen[:, :, :, [0, 2]] = 0
    seen /= seen.sum()
    assert np.abs(steps.marginals(seen)[1] - steps.marginals(belief)[1]).max() > 1e-4
