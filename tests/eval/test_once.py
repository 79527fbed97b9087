"""What is found once stays found, be it a value or the reason why there is none."""

import gc
import weakref

import pytest

from pellucid.eval.once import once
from pellucid.eval.score import NoValue


def test_a_value_is_found_once_for_each_key():
    kept, asked = {}, []
    find = lambda key: once(kept, key, lambda: asked.append(key) or key * 2)
    assert [find("a"), find("b"), find("a")] == ["aa", "bb", "aa"]
    assert asked == ["a", "b"]


def test_a_missing_value_is_looked_for_once_and_says_why_each_time():
    kept, asked = {}, []

    def refuse() -> None:
        asked.append(1)
        raise NoValue("there is none")

    for _ in range(2):
        with pytest.raises(NoValue, match="there is none"):
            once(kept, "a", refuse)
    assert asked == [1]


def test_a_reason_does_not_keep_what_was_at_hand():
    class Table:
        pass

    kept, seen = {}, []

    def refuse() -> None:
        table = Table()
        seen.append(weakref.ref(table))
        raise NoValue("there is none")

    with pytest.raises(NoValue):
        once(kept, "a", refuse)
    gc.collect()
    assert seen[0]() is None
