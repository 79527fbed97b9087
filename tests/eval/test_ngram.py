"""The sorted n-gram against its definition in dictionaries, and against what is known of it."""

import subprocess
import sys
from collections import Counter, defaultdict

import numpy as np
import pytest

from pellucid.errors import DataError
from pellucid.eval import NGram


class SlowKneserNey:
    """Interpolated modified Kneser–Ney, written from the definition."""

    def __init__(self, tokens, vocab_size, order):
        self.vocab_size, self.order = vocab_size, order
        grams = {m: Counter(zip(*(tokens[i:] for i in range(m)))) for m in range(1, order + 1)}
        self.counts = {order: grams[order]}
        for m in range(1, order):
            self.counts[m] = Counter(gram[1:] for gram in grams[m + 1])
        self.discounts = {m: self._discounts(list(self.counts[m].values())) for m in self.counts}
        self.followers = {m: defaultdict(list) for m in self.counts}
        for m, counts in self.counts.items():
            for gram, count in counts.items():
                self.followers[m][gram[:-1]].append(count)

    @staticmethod
    def _discounts(counts):
        n = [sum(count == i for count in counts) for i in range(5)]
        y = n[1] / (n[1] + 2 * n[2]) if n[1] else 0.5
        out = {}
        for i in (1, 2, 3):
            d = i - (i + 1) * y * n[i + 1] / n[i] if n[i] else 0.5
            out[i] = d if 0 < d < i else 0.5
        return out

    def prob(self, context, token, m=None):
        m = min(self.order, len(context) + 1) if m is None else m
        if m == 0:
            return 1 / self.vocab_size
        history = tuple(context[len(context) - m + 1 :])
        lower = self.prob(context, token, m - 1)
        counts = self.followers[m].get(history)
        if counts is None:
            return lower
        discount = self.discounts[m]
        freed = sum(discount[min(count, 3)] for count in counts) / sum(counts)
        count = self.counts[m].get((*history, token), 0)
        own = (count - discount[min(count, 3)]) / sum(counts) if count else 0.0
        return own + freed * lower


def text(n, vocab_size, seed):
    """Tokens with structure: a walk that mostly follows a fixed successor table."""
    rng = np.random.default_rng(seed)
    successor, tokens = rng.permutation(vocab_size), [0]
    for _ in range(n - 1):
        follows = rng.random() < 0.7
        tokens.append(int(successor[tokens[-1]] if follows else rng.zipf(1.6) % vocab_size))
    return np.array(tokens)


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_ngram_agrees_with_its_definition(order):
    train, held_out = text(600, 12, 1), text(150, 12, 2)
    slow = SlowKneserNey(train.tolist(), 12, order)
    expected = [
        slow.prob(held_out[max(0, i - order + 1) : i].tolist(), int(token))
        for i, token in enumerate(held_out)
    ]
    found = NGram(train, 12, order=order).log2_probs(held_out)
    np.testing.assert_allclose(2**found, expected, rtol=1e-12)


def test_probabilities_sum_to_one_after_every_context():
    vocab_size, order = 7, 3
    ngram = NGram(text(200, vocab_size, 3), vocab_size, order=order)
    for first in range(vocab_size):
        for second in range(vocab_size):
            rows = [[first, second, last] for last in range(vocab_size)]
            total = sum(2 ** ngram.log2_probs(np.array(row))[-1] for row in rows)
            assert total == pytest.approx(1.0, abs=1e-12)


def test_tokens_never_seen_in_training_still_have_a_probability():
    ngram = NGram(np.array([1, 2, 1, 2, 1, 3, 1, 2]), 50, order=3)
    bits = -ngram.log2_probs(np.array([40, 41, 1, 2]))
    assert np.isfinite(bits).all()
    assert bits[0] > bits[2] > bits[3]


def test_bits_are_what_theory_says_of_noise_and_of_repetition():
    rng = np.random.default_rng(0)
    noise = NGram(rng.integers(0, 16, 50_000), 16, order=5)
    # Its own fourth-order contexts are a memory of noise, which costs it a little.
    assert 4.0 < -noise.log2_probs(rng.integers(0, 16, 5000)).mean() < 4.2
    cycle = np.tile(np.arange(16), 500)
    assert -NGram(cycle, 16, order=5).log2_probs(cycle[:2000])[5:].mean() < 0.01


def test_higher_order_sees_what_a_bigram_cannot():
    # a·x·b or c·x·d: what follows x depends on what came before it.
    rng = np.random.default_rng(1)
    pairs = np.array([[1, 9, 2], [3, 9, 4]])
    train, held_out = (pairs[rng.integers(0, 2, n)].ravel() for n in (3000, 300))
    bits = {o: -NGram(train, 10, order=o).log2_probs(held_out)[5::3].mean() for o in (2, 3)}
    assert bits[2] == pytest.approx(1.0, abs=0.05)
    assert bits[3] < 0.05


def test_a_large_vocabulary_does_not_overflow():
    # Packing five tokens below 50,257 side by side would need 79 bits.
    vocab_size = 50_257
    train = text(3000, 12, 4) + vocab_size - 12
    shifted = NGram(train, vocab_size, order=5).log2_probs(text(200, 12, 5) + vocab_size - 12)
    slow = SlowKneserNey(train.tolist(), vocab_size, 5)
    held_out = (text(200, 12, 5) + vocab_size - 12).tolist()
    expected = [slow.prob(held_out[max(0, i - 4) : i], held_out[i]) for i in range(200)]
    np.testing.assert_allclose(2**shifted, expected, rtol=1e-12)


def test_training_tokens_may_be_of_any_integer_type():
    train, held_out = text(500, 12, 6), text(50, 12, 7)
    wide = NGram(train, 12, order=4).log2_probs(held_out)
    narrow = NGram(train.astype(np.uint16), 12, order=4).log2_probs(held_out.astype(np.uint16))
    np.testing.assert_array_equal(wide, narrow)


def test_too_few_tokens_and_tokens_outside_the_vocabulary_are_refused():
    with pytest.raises(DataError, match="order 5 needs 5 tokens, got 3"):
        NGram(np.array([1, 2, 3]), 10, order=5)
    with pytest.raises(DataError, match="token 12 is outside the vocabulary of 10"):
        NGram(np.array([1, 12, 3]), 10, order=2)


@pytest.mark.slow
def test_ten_million_tokens_take_less_than_a_minute_and_three_gigabytes():
    program = """
import resource, time
import numpy as np
from pellucid.eval import NGram
rng = np.random.default_rng(0)
words = rng.zipf(1.3, (20_000, 12)) % 1024
tokens = words[rng.zipf(1.2, 10**6) % 20_000].ravel()[: 10**7].astype(np.uint16)
before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
NGram(tokens, 1024).log2_probs(tokens[:300_000])
print(time.process_time() - start)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    seconds, gigabytes = map(float, done.stdout.split())
    assert seconds < 60
    assert gigabytes < 3
