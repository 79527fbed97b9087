"""A harvest gives back what units did, by token and by unit, and leaves nothing on disk."""

from pathlib import Path

import numpy as np
import pytest
from support.planted import random_stream
from support.small import VOCAB, small_model

from pellucid.eval.harvest import CHUNK, Harvest, harvested
from pellucid.eval.reader import Reader
from pellucid.eval.stream import walk


def made_up(density: float, tokens: int = CHUNK + 77, units: int = 9) -> np.ndarray:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((tokens, units)).astype(np.float16).astype(np.float32)
    values[rng.random(values.shape) > density] = 0
    values[:, 3] = 0
    return values


@pytest.mark.parametrize("density", [0.05, 0.9])
def test_what_was_put_in_comes_out(density):
    values = made_up(density)
    kept = harvested({"site": values}, signed=True)["site"]
    assert kept.sparse == (density < 0.25)
    np.testing.assert_array_equal(np.concatenate([rows for _, rows in kept.chunks()]), values)
    np.testing.assert_array_equal(kept.rows(5, 11), values[5:11])
    np.testing.assert_array_equal(kept.columns([7, 3, 0]), values[:, [7, 3, 0]])
    np.testing.assert_allclose(kept.density(), (values != 0).mean(0))
    for unit in (0, 3):
        places, found = kept.active(unit)
        np.testing.assert_array_equal(places, np.flatnonzero(values[:, unit]))
        np.testing.assert_array_equal(found, values[places, unit])


def test_places_by_unit_are_all_there_and_no_unit_is_split():
    values = made_up(0.05)
    kept = Harvest.of(values)
    unit, token = np.nonzero(values.T)
    for most, n_blocks in ((1, 8), (1000, 3), (10**9, 1)):
        held = list(kept.by_unit(most))
        assert len(held) == n_blocks
        assert len({int(u) for units, _, _ in held for u in set(units)}) == 8
        units, tokens, found = (np.concatenate(part) for part in zip(*held, strict=True))
        np.testing.assert_array_equal(units, unit)
        np.testing.assert_array_equal(tokens, token)
        np.testing.assert_array_equal(found, values[token, unit])


def test_no_tokens_is_an_empty_harvest():
    kept = Harvest.of(np.zeros((0, 4), dtype=np.float32))
    assert kept.n_tokens == 0 and list(kept.chunks()) == []
    assert kept.columns([1]).shape == (0, 1)


@pytest.mark.parametrize("mlp", ["dense", "topk"])
def test_a_reader_harvests_what_its_model_recorded(mlp):
    model, text = small_model(mlp), random_stream(7, 31, vocab_size=VOCAB)
    reader = Reader(model, text, context=24)
    (name, kept), *_ = reader.harvest.items()
    assert kept.sparse == (mlp == "topk") and kept.n_tokens == len(text.tokens)
    windows = walk(model, text, context=24, stride=24, sites=(name,))
    seen = [window.trace[name].to_dense().flatten(0, 1).numpy() for window in windows]
    np.testing.assert_allclose(
        kept.rows(0, len(text.tokens)), np.concatenate(seen), rtol=5e-4, atol=1e-7
    )


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="counts pages as Linux does")
@pytest.mark.parametrize("density", [0.2, 1.0])
def test_what_has_been_read_does_not_stay_in_memory(density):
    """Harvests of all systems together are larger than memory may be."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((200_000, 64), dtype=np.float32) * (rng.random(64) < density)
    many = [Harvest.of(values) for _ in range(2)]
    before = mapped_megabytes()
    for kept in many:
        held = list(kept.chunks(tokens=50_000))[-1], kept.active(1), kept.columns([0, 5])
        assert mapped_megabytes() < before + 5, "of 25 MB or more"
        del held


def mapped_megabytes() -> float:
    """Memory that shows files, in this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssFile")) / 1e3


def test_the_disk_is_given_back():
    kept = Harvest.of(made_up(0.05))
    folder = kept._folder
    assert folder.exists()
    del kept
    assert not folder.exists()
