"""What was found about a site is kept as long as its harvest: several metrics rest on it."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from pellucid.eval.concepts.truth import Truth
from pellucid.eval.harvest import Harvest
from pellucid.eval.score import NoValue

Found = TypeVar("Found")


def remembered(find: Callable[..., Found]) -> Callable[..., Found]:
    """`find(harvest, truth, **more)`, computed once for equal labels; a NoValue is kept too."""
    kept: WeakKeyDictionary[Harvest, dict[Any, Any]] = WeakKeyDictionary()

    @wraps(find)
    def once(harvest: Harvest, truth: Truth, **more: Any) -> Found:
        mine, key = kept.setdefault(harvest, {}), (truth.fingerprint, *sorted(more.items()))
        if key not in mine:
            try:
                mine[key] = find(harvest, truth, **more)
            except NoValue as reason:
                mine[key] = reason
        if isinstance(mine[key], NoValue):
            raise NoValue(str(mine[key]))
        return mine[key]

    return once
