"""Known latents are recovered by units that are they; seeds agree where units mean the same."""

import numpy as np
import pytest
from support.concepts import plant, rotated, strengths

from pellucid.eval.concepts.matching import recovered, seed_consistency
from pellucid.eval.harvest import Harvest
from pellucid.eval.score import NoValue

TRUTH = plant().truth
LATENTS = strengths(TRUTH.holds)
A, B = TRUTH.a, TRUTH.b


def known(units: np.ndarray) -> float:
    latents = TRUTH.holds.astype(np.float32)
    return recovered(units[A], latents[A], units[B], latents[B], seed=0).value


def test_latents_are_recovered_from_themselves_and_not_from_a_rotation():
    assert known(LATENTS[:, ::-1]) > 0.9
    assert known(rotated(LATENTS)) < 0.5
    assert known(np.random.default_rng(0).random(LATENTS.shape)) < 0.1
    assert known(LATENTS[:, :4]) == pytest.approx(4 / 16, abs=0.02), "lost latents count 0"


def consistency(*runs: np.ndarray) -> float:
    ours, *others = (Harvest.of(x.astype(np.float32), signed=True) for x in (LATENTS, *runs))
    return seed_consistency(ours, others, A, B, seed=0).value


def test_seeds_agree_on_permuted_units_and_not_on_rotated_or_random_ones():
    again = strengths(TRUTH.holds, seed=7)[:, ::-1]
    assert consistency(again) > 0.9
    assert consistency(again, rotated(LATENTS)) == pytest.approx(
        (consistency(again) + consistency(rotated(LATENTS))) / 2, abs=0.02
    )
    assert consistency(rotated(LATENTS)) < 0.6
    assert consistency(np.random.default_rng(0).random(LATENTS.shape)) < 0.1


def test_a_larger_run_has_no_advantage():
    """Its units enter in equal number; among more there would be better matches by chance."""
    rng = np.random.default_rng(0)
    few, many = (rng.standard_normal((len(LATENTS), n)) for n in (16, 400))
    assert consistency(many) < consistency(few) + 0.02


def test_other_text_is_refused():
    short = Harvest.of(LATENTS[:100])
    with pytest.raises(NoValue, match="not the same text"):
        seed_consistency(Harvest.of(LATENTS), [short], A, B, seed=0)
