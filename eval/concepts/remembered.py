"""What was found about a site is kept as long as its harvest: several metrics rest on it."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from pellucid.eval.concepts.truth import Truth
from pellucid.eval.harvest import Harvest
from pellucid.eval.once import once

Found = TypeVar("Found")


def remembered(find: Callable[..., Found]) -> Callable[..., Found]:
    """`find(harvest, truth, **more)`, computed once for equal labels; a NoValue is kept too."""
    kept: WeakKeyDictionary[Harvest, dict[Any, Any]] = WeakKeyDictionary()

    @wraps(find)
    def found(harvest: Harvest, truth: Truth, **more: Any) -> Found:
        mine, key = kept.setdefault(harvest, {}), (truth.fingerprint, *sorted(more.items()))
        return once(mine, key, lambda: find(harvest, truth, **more))

    return found
