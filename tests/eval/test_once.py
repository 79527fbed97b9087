"""What is found once stays found, be it a value or the reason why there is none."""

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
