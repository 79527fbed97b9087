"""What was found about a site is kept with its harvest: several metrics rest on it."""

from collections.abc import Callable, Hashable, Iterable
from contextlib import suppress
from functools import partial, update_wrapper
from typing import Any, Generic, TypeVar

from pellucid.eval.concepts.truth import Truth
from pellucid.eval.harvest import Harvest
from pellucid.eval.once import once
from pellucid.eval.processes import each
from pellucid.eval.score import NoValue

Found = TypeVar("Found")


class remembered(Generic[Found]):
    """`find(harvest, truth, **more)`, computed once for equal labels; a NoValue is kept too."""

    def __init__(self, find: Callable[..., Found]) -> None:
        self.find = find
        update_wrapper(self, find)

    def __reduce__(self) -> str:
        return self.__qualname__

    def __call__(self, harvest: Harvest, truth: Truth, **more: Any) -> Found:
        find = lambda: self.find(harvest, truth, **more)
        return once(harvest.remembered, self._key(truth, more), find)

    def ahead(self, harvests: Iterable[Harvest], truth: Truth, **more: Any) -> None:
        """Find it for several sites at once, in all processes there are."""
        key = self._key(truth, more)
        new = [harvest for harvest in harvests if key not in harvest.remembered]
        jobs = [partial(_remembered, self, harvest, truth, more) for harvest in new]
        for harvest, found in zip(new, each(jobs), strict=True):
            harvest.remembered.update(found)

    def _key(self, truth: Truth, more: dict[str, Any]) -> Hashable:
        return (self.__module__, self.__qualname__, truth.fingerprint, *sorted(more.items()))


def _remembered(
    find: "remembered", harvest: Harvest, truth: Truth, more: dict[str, Any]
) -> dict[Hashable, Any]:
    """Everything that is known of a site once this is."""
    with suppress(NoValue):
        find(harvest, truth, **more)
    return harvest.remembered
