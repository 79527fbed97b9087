"""Plants: units that are the latents score high, those that only a wrong metric would like score low."""

from types import SimpleNamespace

import numpy as np
import pytest
from support.concepts import LENGTH, by_frequency, by_token, plant, rotated, strengths, system

from pellucid.eval.concepts import metrics
from pellucid.eval.concepts.beside import null_of
from pellucid.eval.concepts.between import normalised
from pellucid.eval.concepts.by_label import PICKED
from pellucid.eval.concepts.floors import Floor, always_on, best_of, of_last_tokens, ranked_places
from pellucid.eval.concepts.given import Given
from pellucid.eval.concepts.levels import balanced_bar, of_floors
from pellucid.eval.concepts.null import permutation_null
from pellucid.eval.concepts.probe import Ceiling, ceilings
from pellucid.eval.concepts.resampled import f1s
from pellucid.eval.concepts.scores import _BY_LABEL
from pellucid.eval.concepts.tree import balanced_accuracy
from pellucid.eval.harvest import Harvest
from pellucid.eval.score import NoValue

PLANT = plant()
TRUTH = PLANT.truth
LATENTS = strengths(TRUTH.holds)
N = len(PLANT.tokens)
UNITS = {
    "latents": system(LATENTS),
    "rotated": system(rotated(LATENTS), signed=True),
    "frequency": system(by_frequency(N)),
    "token": system(by_token(PLANT.tokens)),
    "always_on": system(np.ones((N, 4))),
}
WRONG = ("rotated", "frequency", "token", "always_on")
TOKEN = of_last_tokens(TRUTH, PLANT.tokens, order=1)
FLOOR = best_of(always_on(TRUTH), TOKEN, of_last_tokens(TRUTH, PLANT.tokens, order=5))
TOP = {"site": np.ones(16)}
LOW = f1s(TRUTH.table(FLOOR.says))
OPEN = np.ones_like(TRUTH.holds)

MEASURES = {
    "coverage": lambda s: metrics.coverage(s, TRUTH, seed=0),
    "reconstruction": lambda s: metrics.reconstruction(s, TRUTH, seed=0),
    "gain": lambda s: metrics.gain(s, TRUTH, TOKEN, seed=0),
    "normalised": lambda s: normalised(s, TRUTH, PICKED, LOW, TOP, seed=0),
    "open": lambda s: metrics.open_coverage(s, TRUTH, OPEN, seed=0),
    "unit_f1": lambda s: metrics.unit_f1(s, TRUTH, living=True, seed=0),
    "k_sparse": lambda s: metrics.k_sparse(s, TRUTH, 1, precision=False, seed=0),
    "fms": lambda s: metrics.fms(s, TRUTH, 1, seed=0),
}
LEAST = {"gain": 0.99, "normalised": 0.99, "fms": 0.85}
MOST = {"gain": 0.6, "normalised": 0.6, "k_sparse": 0.9, "unit_f1": 0.8, "coverage": 0.8}


@pytest.mark.parametrize("name", MEASURES)
def test_units_that_are_the_latents_score_high(name):
    assert MEASURES[name](UNITS["latents"])["site"].value >= LEAST.get(name, 0.99)


@pytest.mark.parametrize("units", WRONG)
@pytest.mark.parametrize("name", MEASURES)
def test_other_units_score_low(name, units):
    value = MEASURES[name](UNITS[units])["site"].value
    assert value < MEASURES[name](UNITS["latents"])["site"].value - 0.15
    assert value < MOST.get(name, 0.85)


@pytest.mark.parametrize("units", ["always_on", "frequency", "token"])
def test_what_the_floor_knows_does_not_raise_the_normalised_score(units):
    assert MEASURES["normalised"](UNITS[units])["site"].value <= 0.01
    assert MEASURES["gain"](UNITS[units])["site"].value <= 0.01


def test_one_latent_among_many_random_units_is_found():
    crowd = np.concatenate([by_frequency(N, 300), LATENTS], axis=1)
    assert MEASURES["coverage"](system(crowd))["site"].value > 0.99
    drawn = metrics.drawn_coverage(system(crowd), TRUTH, 16, seed=0)["site"].value
    every = metrics.drawn_coverage(system(crowd), TRUTH, 256, seed=0)["site"].value
    assert drawn < 0.6 < every < 0.99


def test_negative_units_count_where_units_have_signs():
    assert MEASURES["coverage"](system(-LATENTS, signed=True))["site"].value > 0.99
    with pytest.raises(NoValue, match="ever active"):
        metrics.compared(system(-LATENTS).harvest["site"], TRUTH)


def test_the_null_is_far_below_the_truth_and_above_chance():
    null = permutation_null(UNITS["latents"].harvest["site"], TRUTH, seed=0)
    assert 0.2 < null.value < 0.7
    assert null == permutation_null(UNITS["latents"].harvest["site"], TRUTH, seed=0)
    # Units that know nothing are at their null, however often they fire.
    crowd = system(by_frequency(N, 40))
    null = permutation_null(crowd.harvest["site"], TRUTH, seed=0)
    assert abs(MEASURES["coverage"](crowd)["site"].value - null.value) < 0.03


def shared_by(units) -> Given:
    """What metrics share, of a reader that is no more than a harvest."""
    reader = SimpleNamespace(
        harvest=units.harvest, sites=lambda: units.harvest, stream=SimpleNamespace()
    )
    return Given(reader, TRUTH, 0)


@pytest.mark.parametrize("name", ["concept_reconstruction", "fms_1"])
def test_units_that_know_nothing_are_at_the_null_of_every_score(name):
    measured = _BY_LABEL[name]
    for units, apart in (("latents", 0.4), ("frequency", None)):
        shared = shared_by(UNITS[units])
        null = null_of(shared, measured)["permutation_null"]["site"].value
        value = measured(UNITS[units], shared, TRUTH)["site"].value
        if apart is None:
            assert abs(value - null) < 0.05
        else:
            assert value > null + apart


def test_floors_and_probe_by_hand():
    places = ranked_places(TRUTH)
    knows = Floor(TRUTH.holds, np.ones(16), tuple(TRUTH.holds[at] * 1.0 for at in places))
    blind = always_on(TRUTH)
    for what, chance in (("auroc", 0.5), ("fms", 0.25)):
        found = of_floors(what, TRUTH, {"knows": knows, "blind": blind})
        assert (found["knows"] == 1).all() and (found["blind"] == chance).all()
        assert (found["best"] == 1).all()
    rates = of_floors("auprc", TRUTH, {"blind": blind})["blind"]
    np.testing.assert_allclose(rates, TRUTH.holds[places[1]].mean(0))
    told = of_floors("fms", TRUTH, {"token": TOKEN})["token"]
    assert (told > 0.24).all() and 0.255 < told.mean() < 0.4


def test_the_bar_of_balanced_accuracy_is_the_best_there_is():
    rng = np.random.default_rng(0)
    score, holds = rng.integers(0, 9, 300) / 9, rng.random(300) < 0.2
    every = {bar: balanced_accuracy(score >= bar, holds) for bar in np.unique(score)}
    assert every[balanced_bar(score, holds)] == max(every.values())


def test_permuted_labels_stay_together_within_documents():
    other = TRUTH.permuted(5)
    assert (other.holds != TRUTH.holds).any()
    for at in (TRUTH.a, TRUTH.b):
        blocks = TRUTH.holds[at].reshape(-1, LENGTH, TRUTH.holds.shape[1])
        moved = other.holds[at].reshape(blocks.shape)
        assert sorted(b.tobytes() for b in blocks) == sorted(b.tobytes() for b in moved)


@pytest.mark.parametrize("density", [0.1, 0.03])
def test_at_equal_density_a_denser_layer_has_no_higher_floor(density):
    """Random units, dense ones and rare ones: raw coverage prefers the dense ones, this does not."""
    rng = np.random.default_rng(0)
    loud = rng.standard_normal((N, 60))
    rare = np.where(rng.random((N, 60)) < 0.15, rng.uniform(0.1, 1, (N, 60)), 0)
    raw = [MEASURES["coverage"](system(x))["site"].value for x in (loud, rare)]
    assert raw[0] > raw[1] + 0.1
    at = [metrics.density_coverage(system(x), TRUTH, density, seed=0)["site"] for x in (loud, rare)]
    assert abs(at[0].value - at[1].value) < 0.03
    told = float(at[0].flags[-1].split()[-1])
    assert abs(at[0].value - told) < 0.05


def test_units_that_cannot_fire_so_often_do_not_take_part():
    rare = np.where(np.arange(N)[:, None] % 100 == 0, 1.0, 0.0) * np.ones((1, 3))
    found = metrics.density_coverage(system(rare), TRUTH, 0.1, seed=0)["site"]
    assert found.value is None and "no unit can fire on 10 %" in found.flags[0]
    assert metrics.density_coverage(system(rare), TRUTH, 0.01, seed=0)["site"].value is not None


def test_fms_falls_when_several_units_know_the_same():
    """A copy of each unit leaves coverage as it is, and takes the local part away."""
    twice = system(np.concatenate([LATENTS, LATENTS], axis=1))
    assert MEASURES["coverage"](twice)["site"].value > 0.99
    assert MEASURES["fms"](twice)["site"].value < 0.6
    assert MEASURES["fms"](UNITS["latents"])["site"].value > 0.85


def test_k_star_counts_the_units_that_are_needed():
    full = {"site": Ceiling(*np.ones((4, 16)))}
    assert metrics.median_k_star(UNITS["latents"], TRUTH, full, seed=0)["site"].value == 1
    assert metrics.median_k_star(UNITS["rotated"], TRUTH, full, seed=0)["site"].value > 1
    blind = metrics.median_k_star(UNITS["frequency"], TRUTH, full, seed=0)["site"]
    assert blind.value is None and "fewer than half" in blind.flags[0]


def test_the_probe_reads_the_latents_from_a_rotated_stream():
    mixed = rotated(LATENTS).astype(np.float32)
    found = ceilings({"site": Harvest.of(mixed, signed=True)}, TRUTH, seed=0)["site"]
    assert found.f1.min() > 0.97 and found.auroc.min() > 0.99
    noise = Harvest.of(np.random.default_rng(0).standard_normal(mixed.shape))
    assert abs(ceilings({"site": noise}, TRUTH, seed=0)["site"].auroc.mean() - 0.5) < 0.05


def test_always_on_has_its_closed_form():
    rate = TRUTH.holds[TRUTH.b].mean(0)
    constant = f1s(TRUTH.table(always_on(TRUTH).says))
    np.testing.assert_allclose(constant, 2 * rate / (1 + rate))


def test_a_token_that_tells_all_is_a_floor_of_one_on_unseen_text():
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 50, N)
    holds = np.stack([tokens % 5 == 0, np.roll(tokens, 2) % 5 == 0], axis=1)
    truth = type(TRUTH)(("now", "then"), holds, TRUTH.known, TRUTH.is_a, TRUTH.document)
    one, five = (f1s(truth.table(of_last_tokens(truth, tokens, order=k).says)) for k in (1, 5))
    assert one[0] == 1 and one[1] < 0.4
    assert five[0] > 0.99


def test_labels_that_are_too_rare_are_left_out():
    holds = TRUTH.holds.copy()
    holds[:, 0] = False
    rest = type(TRUTH)(TRUTH.names, holds, TRUTH.known, TRUTH.is_a, TRUTH.document).scorable()
    assert rest.names == TRUTH.names[1:]
    none = type(TRUTH)(TRUTH.names, holds & False, TRUTH.known, TRUTH.is_a, TRUTH.document)
    with pytest.raises(NoValue, match="none of 16 labels"):
        none.scorable()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_unit_that_is_not_finite_is_a_sentence(value):
    broken = LATENTS.copy()
    broken[7, 2] = value
    found = metrics.coverage(system(broken), TRUTH, seed=0)["site"]
    assert found.value is None and found.flags[0].startswith("no value: unit 2 is")


def test_silent_units_are_a_sentence():
    for name in MEASURES:
        found = MEASURES[name](system(np.zeros((N, 3))))["site"]
        assert found.value is None and found.flags[0].startswith("no value: "), name


def test_same_seed_same_bits():
    again = lambda: metrics.coverage(system(rotated(LATENTS), signed=True), TRUTH, seed=3)["site"]
    assert again() == again()


def test_the_interval_holds_the_value_and_narrows_with_documents():
    found = MEASURES["coverage"](UNITS["rotated"])["site"]
    assert found.low < found.value < found.high and found.n == 20
    fewer = TRUTH.document // 8
    truth = type(TRUTH)(TRUTH.names, TRUTH.holds, TRUTH.known, fewer % 2 == 0, fewer)
    short = metrics.coverage(UNITS["rotated"], truth, seed=0)["site"]
    assert short.low is None and "too few to resample" in short.flags[0]
