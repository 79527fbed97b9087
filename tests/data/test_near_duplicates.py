import numpy as np
import pytest

from pellucid.data.near_duplicates import (
    PERMUTATIONS,
    NearDuplicates,
    rows_per_band,
    shingles,
    signature,
    similarity,
)


def words(rng, n):
    return [f"w{number}" for number in rng.integers(0, 10**6, n)]


def pair_at(jaccard, rng, n=2000):
    """Two texts whose shingle sets overlap about that much: the second's tail is new."""
    shared = int(2 * n * jaccard / (1 + jaccard))
    first = words(rng, n)
    return " ".join(first), " ".join(first[:shared] + words(rng, n - shared))


def exact_jaccard(a, b):
    a, b = (set(shingles(text).tolist()) for text in (a, b))
    return len(a & b) / len(a | b)


@pytest.mark.parametrize("jaccard", [0.2, 0.5, 0.8, 0.95])
def test_similarity_estimates_jaccard(jaccard):
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(20):
        a, b = pair_at(jaccard, rng)
        errors.append(similarity(signature(a), signature(b)) - exact_jaccard(a, b))
    standard_error = np.sqrt(jaccard * (1 - jaccard) / PERMUTATIONS)
    assert abs(np.mean(errors)) < 4 * standard_error / np.sqrt(20)
    assert np.std(errors) < 2 * standard_error


def test_shingles_are_runs_of_five_words_whatever_the_punctuation_and_case():
    assert shingles("a b c d e f").size == 2
    assert np.array_equal(shingles("A, b; c.d(e)"), shingles("a b c d e"))
    assert not np.array_equal(shingles("a b c d e"), shingles("e d c b a"))
    assert shingles("one two").size == 1
    assert shingles("+ - *").size == 0 and signature("") is None


def test_near_copies_are_found_and_others_kept():
    rng = np.random.default_rng(1)
    seen, found = NearDuplicates(0.8), {"copy": 0, "other": 0}
    for number in range(60):
        a, copy = pair_at(0.93, rng)
        _, other = pair_at(0.55, rng)
        assert seen.copy_of(f"a{number}", a) is None
        found["copy"] += seen.copy_of(f"copy{number}", copy) == f"a{number}"
        found["other"] += seen.copy_of(f"other{number}", other) is not None
    assert found == {"copy": 60, "other": 0}


def test_a_similar_text_below_the_threshold_is_kept():
    rng = np.random.default_rng(2)
    for _ in range(20):
        seen = NearDuplicates(0.8)
        a, b = pair_at(0.6, rng)
        seen.copy_of("a", a)
        assert seen.copy_of("b", b) is None


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8, 0.9, 1.0])
def test_bands_miss_at_most_one_percent_at_the_threshold(threshold):
    rows = rows_per_band(threshold)
    assert (1 - threshold**rows) ** (PERMUTATIONS // rows) <= 0.01


def test_texts_without_words_are_no_copies_of_each_other():
    seen = NearDuplicates(0.8)
    assert [seen.copy_of(str(i), text) for i, text in enumerate(["+++", "---", "+++"])] == [
        None
    ] * 3
