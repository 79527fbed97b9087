"""What several metrics rest on is found once, and so is the reason why it cannot be."""

from collections.abc import Callable, Hashable, MutableMapping
from typing import Any, TypeVar

from pellucid.eval.score import NoValue

Found = TypeVar("Found")


def once(kept: MutableMapping[Hashable, Any], key: Hashable, find: Callable[[], Found]) -> Found:
    """What `find` finds, kept under `key`; raises the NoValue that it raised, found once too."""
    if key not in kept:
        try:
            kept[key] = find()
        except NoValue as reason:
            # Without its traceback, which would keep all that was at hand when it was raised.
            kept[key] = NoValue(str(reason))
    if isinstance(kept[key], NoValue):
        raise NoValue(str(kept[key]))
    return kept[key]
