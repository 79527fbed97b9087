"""Made units: what a rotation, a dictionary and a basis do to planted activations."""

import numpy as np
import pytest
import torch
from support.planted import Planted, random_stream
from support.small import VOCAB, small_model

from pellucid.eval.bases import fast_ica, ica, pca, whitening
from pellucid.eval.controls import made_units
from pellucid.eval.dictionary import random_dictionary
from pellucid.eval.halves import halves
from pellucid.eval.harvest import Harvest
from pellucid.eval.made import UNSEEN, Made, MadeUnits, Source, largest, strongest
from pellucid.eval.reader import Reader
from pellucid.eval.rotation import BLOCK, Rotation, rotated

SITE = "blocks.0.mlp"


def a_reader(mlp: str = "topk", **fields) -> Reader:
    text = random_stream(12, 40, vocab_size=VOCAB)
    return Reader(small_model(mlp, fields=fields), text, context=24, keep_inputs=True)


@pytest.mark.parametrize("n", [7, BLOCK, 2 * BLOCK + 3])
def test_a_rotation_keeps_every_length_and_angle_and_moves_every_unit(n):
    rotation, rng = Rotation(n, 0), np.random.default_rng(0)
    values = torch.from_numpy(rng.standard_normal((5, n)))
    turned = rotation(values)
    torch.testing.assert_close(turned @ turned.T, values @ values.T)
    assert not np.isclose(turned.numpy(), values.numpy()).any()
    assert torch.equal(Rotation(n, 0)(values), turned)
    assert not torch.equal(Rotation(n, 1)(values), turned)


@pytest.mark.parametrize("mlp", ["topk", "abs_topk"])
def test_rotated_sparse_units_are_as_many_on_every_token_and_mix_the_old_ones(mlp):
    reader = a_reader(mlp)
    made, kept = rotated(Source.of(reader, SITE), seed=0), reader.harvest[SITE]
    n = kept.n_tokens
    new, old = made.harvest.rows(0, n), kept.rows(0, n)
    whole = Rotation(48, 0)(torch.from_numpy(old)).numpy()
    expected = whole if mlp == "abs_topk" else whole.clip(0)
    counts, held = kept.counts(0, n), made.harvest.counts(0, n)
    np.testing.assert_array_equal(held, np.minimum(counts, (expected != 0).sum(1)))
    assert held.mean() > 0.95 * counts.mean()
    for row in range(0, n, 37):
        largest = np.sort(np.abs(expected[row]))[::-1][: held[row]]
        np.testing.assert_allclose(np.sort(np.abs(new[row]))[::-1][: held[row]], largest, rtol=1e-6)
        np.testing.assert_allclose(new[row][new[row] != 0], expected[row][new[row] != 0], rtol=1e-6)


def test_rotated_neurons_write_the_same_sum():
    reader = a_reader("dense")
    made, kept = rotated(Source.of(reader, SITE), seed=0), reader.harvest[SITE]
    written = kept.rows(0, 50) @ reader.sites()[SITE].write_directions().float().numpy()
    again = made.harvest.rows(0, 50) @ made.site(SITE).write_directions().float().numpy()
    np.testing.assert_allclose(again, written, atol=2e-3)
    assert made.site(SITE).signed and made.site(SITE).n_units == 48


def test_the_largest_of_each_row_are_kept():
    rows = torch.tensor([[3.0, -4.0, 1.0, 0.0], [-1.0, -2.0, 5.0, 2.0]])
    counts = np.array([1, 2])
    signed = [[0.0, -4.0, 0.0, 0.0], [0.0, -2.0, 5.0, 0.0]]
    unsigned = [[3.0, 0.0, 0.0, 0.0], [0.0, 0.0, 5.0, 2.0]]
    found = strongest(rows, counts, signed=True)
    # The second row ties at magnitude 2: either may stay.
    assert found[0].tolist() == signed[0]
    assert found[1].abs().sum() == 7
    assert strongest(rows, counts, signed=False).tolist() == unsigned


@pytest.mark.parametrize("signed", [True, False])
def test_the_largest_are_named_by_their_units_as_they_are_kept(signed):
    rng = np.random.default_rng(0)
    rows = torch.from_numpy(rng.standard_normal((40, 9)).astype(np.float32))
    counts = rng.integers(0, 7, 40)
    values, units = largest(rows, counts, signed=signed)
    made = torch.zeros(40, 10)
    made.scatter_(1, torch.where(units < 0, 9, units).long(), values)
    assert torch.equal(made[:, :9], strongest(rows, counts, signed=signed)) and not made[:, 9].any()
    held = (units >= 0).sum(1).numpy()
    assert (held == (counts if signed else np.minimum(counts, (rows > 0).sum(1).numpy()))).all()
    assert largest(rows, np.zeros(40, int), signed=signed)[0].abs().sum() == 0


def test_a_dictionary_reads_what_the_layer_reads_and_is_as_sparse():
    reader = a_reader()
    made, kept = random_dictionary(Source.of(reader, SITE), seed=0), reader.harvest[SITE]
    n = kept.n_tokens
    x = reader.end_to_end.inputs["blocks.0.mlp_in"].rows(0, n)
    scores = (x - x.mean(0)) @ made.read.T
    np.testing.assert_allclose(np.linalg.norm(made.read, axis=1), 1, rtol=1e-6)
    new = made.harvest.rows(0, n)
    np.testing.assert_array_equal((new != 0).sum(1), kept.counts(0, n))
    for row in range(0, n, 31):
        active = np.flatnonzero(new[row])
        np.testing.assert_array_equal(active, np.sort(np.argsort(-scores[row])[: len(active)]))
        np.testing.assert_allclose(new[row, active], scores[row, active], rtol=1e-4, atol=1e-5)


def test_principal_components_are_uncorrelated_and_explain_half_a():
    reader = a_reader()
    made = pca(Source.of(reader, SITE), seed=0)
    in_a = halves(reader.stream, 0)
    values = made.harvest.rows(0, made.harvest.n_tokens)[in_a].astype(np.float64)
    # Deviations are from the mean of all tokens, not of half A.
    np.testing.assert_allclose(values.T @ values / len(values), np.eye(values.shape[1]), atol=5e-3)
    norms = np.linalg.norm(made.read, axis=1)
    assert (np.diff(norms) >= 0).all(), "the largest variance first: its direction is scaled least"


def test_ica_finds_planted_sources_and_pca_does_not():
    rng = np.random.default_rng(0)
    sources = rng.laplace(size=(20_000, 6)) * (rng.random((20_000, 6)) < 0.3)
    mixed = sources @ rng.standard_normal((6, 6)) + 3
    seen = Harvest.of(mixed.astype(np.float32))
    center, basis = whitening(seen, np.ones(len(mixed), dtype=bool))
    white = (seen.rows(0, len(mixed)) - center) @ basis
    found = white @ fast_ica(white, seed=0).rotation.T

    def best(parts: np.ndarray) -> np.ndarray:
        return np.abs(np.corrcoef(sources.T, parts.T)[:6, 6:]).max(1)

    assert best(found).min() > 0.99
    assert best(white).min() < 0.9


def test_ica_says_whether_it_settled():
    rng = np.random.default_rng(0)
    sources = rng.laplace(size=(20_000, 4))
    white = (sources - sources.mean(0)) / sources.std(0)
    settled = fast_ica(white, seed=0)
    assert settled.settled and settled.turned < 1e-4 and settled.remark() == ""
    # Of Gaussian noise no direction is less Gaussian than another: there is nothing to settle on.
    lost = fast_ica(rng.standard_normal((2000, 60)), seed=0)
    assert not lost.settled and lost.turned > 1e-4
    assert "had not settled after 100 rounds" in lost.remark()


def test_ica_rotates_and_does_nothing_else():
    white = np.random.default_rng(0).standard_normal((500, 9))
    rotation = fast_ica(white, seed=1).rotation
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(9), atol=1e-9)


def test_made_units_are_read_like_a_model():
    reader = a_reader()
    for name, system in made_units(reader, seed=0).items():
        assert list(system.sites()) == list(reader.sites()), name
        activity = system.sightings.activity[SITE]
        harvest = system.harvest[SITE]
        if name in ("rotated_units", "random_dictionary"):
            np.testing.assert_allclose(activity.density, harvest.density())
        assert system.end_to_end.bits is reader.end_to_end.bits
        moments, rows = system.end_to_end.moments[SITE], harvest.rows(0, harvest.n_tokens)
        np.testing.assert_allclose(moments.mean, rows.mean(0), atol=1e-5)


def test_a_layer_whose_inputs_are_not_shown_says_so():
    model = Planted([lambda tokens: tokens == 1], vocab_size=5)
    reader = Reader(model, random_stream(3, 9, vocab_size=5), context=8, keep_inputs=True)
    for name, system in made_units(reader, seed=0).items():
        if name != "rotated_units":
            assert system.sites() == {} and system.reasons == {SITE: UNSEEN}


def test_ica_is_the_same_again():
    first, second = (ica(Source.of(a_reader(), SITE), seed=0) for _ in range(2))
    assert isinstance(first, Made)
    np.testing.assert_array_equal(first.harvest.rows(0, 99), second.harvest.rows(0, 99))


def test_a_control_is_made_once_for_all_that_read_it():
    reader, asked = a_reader(), []

    def make(source: Source) -> Made:
        asked.append(source.kept)
        return rotated(source, seed=0)

    units = MadeUnits(reader, make)
    found = [units.harvest, units.harvest, units.sites(), units.end_to_end, units.sightings]
    assert len(asked) == len(reader.sites()) and found[0][SITE] is found[1][SITE]
