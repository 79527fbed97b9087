import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.data.splits import SPLITS, split_groups
from pellucid.errors import DataError

FRACTIONS = {"val": 0.05, "test": 0.05}


def shares(sizes, chosen):
    total = sum(sizes.values())
    return {s: sum(sizes[g] for g in sizes if chosen[g] == s) / total for s in SPLITS}


def test_held_out_splits_get_their_share_from_many_groups():
    rng = random.Random(0)
    sizes = {f"package{i}": int(1000 * rng.paretovariate(1.3)) for i in range(400)}
    chosen = split_groups(sizes, FRACTIONS)
    for split in ("val", "test"):
        assert 0.045 <= shares(sizes, chosen)[split] <= 0.06
        assert sum(chosen[group] == split for group in sizes) >= 8


def test_the_order_of_groups_does_not_matter():
    sizes = {f"g{i}": 100 + i for i in range(50)}
    backwards = dict(reversed(sizes.items()))
    assert split_groups(sizes, FRACTIONS) == split_groups(backwards, FRACTIONS)


def test_one_huge_group_is_train():
    sizes = {f"g{i}": 100 for i in range(60)} | {"huge": 10**6}
    assert split_groups(sizes, FRACTIONS)["huge"] == "train"


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text(max_size=8), st.integers(1, 10**9), min_size=3, max_size=30))
def test_no_split_is_ever_empty(sizes):
    chosen = split_groups(sizes, FRACTIONS)
    assert set(chosen) == set(sizes)
    assert set(chosen.values()) == set(SPLITS)


def test_fewer_than_three_groups_are_refused():
    with pytest.raises(DataError, match="2 document.s. or package.s. after removing copies"):
        split_groups({"a": 1, "b": 2}, FRACTIONS)


def test_the_choice_does_not_change_between_versions():
    chosen = split_groups({f"g{i}": 100 for i in range(40)}, FRACTIONS)
    held_out = {s: sorted(g for g in chosen if chosen[g] == s) for s in ("val", "test")}
    assert held_out == GOLDEN_HELD_OUT


GOLDEN_HELD_OUT = {"val": ["g10", "g33"], "test": ["g0", "g17"]}
