"""Recovery on planted units: the latents themselves, mixtures of them, and units that only look good."""

import itertools

import numpy as np
import pytest

from pellucid.data.latent import Latent
from pellucid.eval.harvest import harvested
from pellucid.eval.latents import known as known_module
from pellucid.eval.latents import recovery, similarity
from pellucid.eval.latents.known import Known
from pellucid.eval.latents.matching import assignment
from pellucid.eval.latents.regret import regret_of

LENGTH, DOCUMENTS = 96, 30


@pytest.fixture(scope="module")
def known():
    """30 documents of the corpus as it comes, laid end to end as a stream lays them."""
    process = Latent.Config().process()
    states, symbols = process.draw(np.random.default_rng(0).random((DOCUMENTS, LENGTH, 7)))
    states = np.pad(states, ((0, 0), (1, 0), (0, 0)), constant_values=-1)
    symbols = np.pad(symbols, ((0, 0), (1, 0)), constant_values=-1)
    return Known(process, symbols.ravel(), states.reshape(-1, 5))


@pytest.fixture(scope="module")
def targets(known):
    document = np.repeat(np.arange(DOCUMENTS), LENGTH + 1)
    return recovery.targets_of(known, document % 2 == 0, document, seed=0)


def plants(known, targets):
    """{name: units (token, unit)} whose truth is known."""
    rng = np.random.default_rng(1)
    latents, n = targets.held.astype(np.float32), targets.held.shape[1]
    noise = rng.random((len(latents), n)).astype(np.float32)
    token = np.eye(12, dtype=np.float32)[known.symbols]
    rotation = np.linalg.qr(rng.standard_normal((n, n)))[0]
    return {
        "latents": np.concatenate([noise, latents[:, ::-1] * 3], axis=1),
        "negated": 1 - latents,
        "beliefs": targets.believed,
        "superposed": latents @ rng.standard_normal((n, 12)).astype(np.float32),
        "rotated": latents @ rotation.astype(np.float32),
        "token": token,
        "always_on": 1 + 0.01 * noise,
        "constant": np.ones_like(latents),
    }


@pytest.fixture(scope="module")
def found(known, targets):
    """{plant: {metric: value}}"""
    measures = {
        "f1": recovery.best_f1,
        "auroc": recovery.best_auroc,
        "mcc": recovery._true_mcc,
        "belief": recovery._belief_mcc,
    }
    made = {}
    for plant, units in plants(known, targets).items():
        harvest = harvested({"": units})[""]
        made[plant] = {name: measure(harvest, targets) for name, measure in measures.items()}
    return made


def test_units_that_are_the_latents_score_one(found):
    for metric in ("f1", "auroc", "mcc"):
        assert found["latents"][metric].value == pytest.approx(1)
        assert found["negated"][metric].value == pytest.approx(1)


def test_frequent_units_and_units_of_the_token_score_low(found):
    floor = 2 / 8 / (1 + 1 / 8)
    for plant in ("token", "always_on", "constant"):
        assert found[plant]["f1"].value < floor + 0.05
        assert found[plant]["auroc"].value == pytest.approx(0.5, abs=0.08)
        assert found[plant]["mcc"].value < 0.12
    assert found["constant"]["f1"].value == pytest.approx(floor, abs=0.02)
    assert found["constant"]["mcc"].value == 0


def test_superposition_and_rotation_hide_the_latents(found):
    for metric in ("f1", "mcc"):
        assert found["rotated"][metric].value < found["latents"][metric].value - 0.3
        assert found["superposed"][metric].value < found["rotated"][metric].value


def test_beliefs_are_the_ceiling_of_what_a_reader_can_know(found):
    assert found["beliefs"]["belief"].value == pytest.approx(1, abs=1e-3)
    assert 0.5 < found["beliefs"]["f1"].value < 0.95
    assert found["latents"]["belief"].value < 0.95


def test_intervals_hold_the_value(found):
    for plant, metric in itertools.product(("beliefs", "rotated"), ("f1", "mcc", "belief")):
        interval = found[plant][metric]
        assert interval.low <= interval.value <= interval.high
        assert interval.n == DOCUMENTS // 2


def test_choices_are_made_on_the_other_half():
    """Many units of noise: the best of them on the half that is scored would look good."""
    rng = np.random.default_rng(5)
    units, held = rng.standard_normal((400, 3000)), rng.random((400, 4)) < 0.2
    document = np.repeat(np.arange(20), 20)
    a = document % 2 == 0
    targets = recovery.Targets(held, held.astype(np.float32), a, ~a, document, 0)
    harvest = harvested({"": units})[""]
    assert abs(recovery.best_auroc(harvest, targets).value - 0.5) < 0.1
    assert recovery._true_mcc(harvest, targets).value < 0.15
    everywhere = np.abs(similarity.correlations(harvest, held, ~a)).max(1).mean()
    assert everywhere > 0.2


def test_assignment_is_the_best_of_all():
    rng = np.random.default_rng(0)
    for labels, units in [(1, 1), (4, 4), (4, 6), (5, 3), (3, 7)]:
        gain = rng.random((labels, units)).round(1)
        unit = assignment(gain)
        given = unit[unit >= 0]
        assert len(set(given)) == len(given) == min(labels, units)
        total = sum(gain[label, u] for label, u in enumerate(unit) if u >= 0)
        few, many = sorted((labels, units))
        turned = gain if labels <= units else gain.T
        best = max(
            sum(turned[i, j] for i, j in enumerate(order))
            for order in itertools.permutations(range(many), few)
        )
        assert total == pytest.approx(best)


def test_auroc_counts_ties_half_and_thresholds_split_no_ties():
    held = np.array([True, False, True, False])
    assert similarity.auroc(np.array([1.0, 1.0, 2.0, 0.0]), held) == pytest.approx(3.5 / 4)
    assert similarity.auroc(np.zeros(4), held) == 0.5
    score, threshold = similarity.best_threshold(np.array([3.0, 3.0, 5.0, 1.0]), held)
    assert (score, threshold) == (pytest.approx(0.8), 1.0)
    assert similarity.best_threshold(np.zeros(4), held) == (pytest.approx(2 / 3), -np.inf)


def test_correlations_are_numpys():
    rng = np.random.default_rng(2)
    units, wanted = rng.standard_normal((200, 5)).astype(np.float16), rng.random((200, 3))
    chosen = rng.random(200) < 0.7
    units[:, 2] = 4
    found = similarity.correlations(harvested({"": units})[""], wanted, chosen)
    for target, unit in itertools.product(range(3), (0, 1, 3, 4)):
        expected = np.corrcoef(wanted[chosen, target], units[chosen, unit].astype(float))[0, 1]
        assert found[target, unit] == pytest.approx(expected, abs=1e-6)
    assert (found[:, 2] == 0).all()


def charged(known, per_symbol):
    """Bits at the positions of the stream that predict each symbol; ends cost something else."""
    bits = np.full(len(known.symbols), 77.0)
    bits[np.flatnonzero(known.read) - 1] = per_symbol.ravel()
    return bits


def test_regret_of_the_perfect_reader_is_nothing_and_of_others_more(known):
    best = known.reader.bits
    assert regret_of(known, charged(known, best), seed=0)[:3] == (0, 0, 0)
    uniform = regret_of(known, charged(known, np.full_like(best, np.log2(12))), seed=0)
    assert uniform.value == pytest.approx(np.log2(12) - best.mean())
    assert 0.4 < uniform.low < uniform.value < uniform.high
    previous = known.symbols.reshape(DOCUMENTS, -1)[:, :-1]
    following = known.symbols.reshape(DOCUMENTS, -1)[:, 1:]
    counts = np.ones((13, 12))
    np.add.at(counts, (previous.ravel(), following.ravel()), 1)
    table = -np.log2(counts / counts.sum(1, keepdims=True))
    # Fitted on the very symbols that it is scored on, and still it pays more.
    assert regret_of(known, charged(known, table[previous, following]), seed=0).low > 0.2


def test_a_large_product_is_read_by_particles_and_says_so(small_language, monkeypatch):
    process = small_language(n_symbols=8, topics=6, modulus=5).process()
    states, symbols = process.draw(np.random.default_rng(0).random((5, 12, 7)))
    states = np.pad(states, ((0, 0), (1, 0), (0, 0)), constant_values=-1).reshape(-1, 5)
    known = Known(process, np.pad(symbols, ((0, 0), (1, 0)), constant_values=-1).ravel(), states)
    exact = Known(process, known.symbols, states).reader.bits.mean()
    monkeypatch.setattr(known_module, "EXACT_STATES", 100)
    assert not known.is_exact and process.n_states == 240
    assert 0 < known.reader.error < 0.02
    assert known.reader.bits.mean() == pytest.approx(exact, abs=3 * known.reader.error)
    assert "240 joint states are too many to hold" in known.how[0]


def test_an_estimated_reader_widens_the_interval(known, monkeypatch):
    exact = regret_of(known, charged(known, np.full((DOCUMENTS, LENGTH), 4.0)), seed=0)
    doubted = Known(known.process, known.symbols, known.states)
    doubted.__dict__["reader"] = known.reader._replace(error=0.1)
    wide = regret_of(doubted, charged(known, np.full((DOCUMENTS, LENGTH), 4.0)), seed=0)
    assert wide.value == exact.value
    assert wide.high - wide.low > 2 * 0.19 > exact.high - exact.low
