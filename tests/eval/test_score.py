"""A score holds finite numbers or reasons, and reads back from JSON as it was written."""

import json

import numpy as np
import pytest

from pellucid.errors import RunError
from pellucid.eval import Score
from pellucid.eval.score import pack, unpack


def some_score(**changes) -> Score:
    fields = {
        "metric": "bits_per_byte",
        "value": 1.4304238712,
        "low": 1.39,
        "high": 0.1 + 0.2,
        "n": 23,
        "seconds": 1e-9,
        "tokens": 12345,
        "controls": {"bigram": 2.2, "permuted_weights": "made by the full scorecard"},
        "flags": ("a seeded sample of 3 documents",),
    }
    return Score(**fields | changes)


def test_reading_back_is_the_identity():
    missing = ("no value: no unit was ever active",)
    scores = [
        some_score(),
        some_score(site="blocks.0.mlp", unit_family="mlp", split="test"),
        some_score(value=None, low=None, high=None, flags=missing, controls={}),
    ]
    packed = pack(scores, checkpoint=7, suite="quick", data_fingerprint="abc")
    assert unpack(json.loads(json.dumps(packed, allow_nan=False))) == scores
    assert packed["checkpoint"] == 7
    assert packed["suite"] == "quick"
    assert packed["data_fingerprint"] == "abc"


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), np.float64(1.0), 1, True])
@pytest.mark.parametrize("name", ["value", "low", "high", "seconds"])
def test_numbers_are_plain_finite_floats(name, bad):
    with pytest.raises(ValueError, match=f"{name} is"):
        some_score(**{name: bad})


@pytest.mark.parametrize("bad", [float("nan"), np.float32(1.0), ""])
def test_a_control_is_a_finite_number_or_a_reason(bad):
    with pytest.raises(ValueError, match="control bigram"):
        some_score(controls={"bigram": bad})


def test_what_is_missing_needs_its_reason():
    with pytest.raises(ValueError, match="value is missing"):
        some_score(value=None)
    with pytest.raises(ValueError, match="low, high is missing"):
        some_score(low=None)
    assert some_score(low=None, flags=("no interval: too few",)).low is None


def test_an_unknown_format_is_refused():
    packed = pack([some_score()], checkpoint=1, suite="quick", data_fingerprint="abc")
    with pytest.raises(RunError, match="format 2"):
        unpack(packed | {"format": 2})
