"""Metrics of models alone are taken by another process, while this one is busy with units."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from pellucid.eval.processes import Later, Lost, one_thread
from pellucid.eval.saved import Saved, as_saved
from pellucid.eval.score import Score
from pellucid.eval.sightings import Track
from pellucid.eval.suite import METRICS, SUITES, Metric, Suite
from pellucid.eval.taking import permitted, taken

if TYPE_CHECKING:
    from pellucid.eval.workbench import Workbench
    from pellucid.run import Run


@dataclass(frozen=True)
class Aside:
    """Metrics that another process takes whenever it has nothing else to do."""

    begun: Mapping[str, Later]

    def scores(self, track: Track, here: Callable[[str], list[Score]]) -> dict[str, list[Score]]:
        """The scores of each. The last ones are taken `here`, while another process is at others."""
        found: dict[str, list[Score]] = {}
        with one_thread():
            for name in track([*reversed(self.begun)], "tasks and texts", len(self.begun)):
                if self.begun[name].taken_back():
                    found[name] = here(name)
            for name, later in self.begun.items():
                if name not in found:
                    try:
                        found[name] = later.get()
                    except Exception:  # noqa: BLE001 - such as of labels that cannot be imported there
                        found[name] = here(name)
        return found


def aside(run: "Run", names: Sequence[str], *, dense: "Run | None", **how: Any) -> Aside:
    """Begin those of some metrics that look at models alone, where there is a process for it."""
    alone = [name for name in names if METRICS[name].alone]
    saved = as_saved(run) if alone else None
    beside = as_saved(dense) if saved is not None and dense is not None else None
    if saved is None or (dense is not None and beside is None):
        return Aside({})
    about = {"dense": beside, "limits": SUITES[how["suite"]], **how}
    jobs = {n: partial(_taken, saved, name=n, metric=METRICS[n], **about) for n in alone}
    return Aside({name: Later(job) for name, job in jobs.items()})


def _taken(saved: Saved, *, name: str, metric: Metric, limits: Suite, **how: Any) -> list[Score]:
    """Scores of a saved run. Raises Lost where metric or suite are others than were asked about."""
    if SUITES.get(how["suite"]) != limits or METRICS.get(name) != metric:
        raise Lost
    run, bench = saved.load(), _bench(saved, **how)
    allowed = permitted(run, {name: metric}, split=how["split"], by_name=False)
    return taken(bench, name, allowed[name])


@lru_cache(maxsize=1)
def _bench(saved: Saved, *, dense: Saved | None, **how: Any) -> "Workbench":
    """A workbench for all that is asked about a run."""
    from pellucid.eval.evaluate import workbench

    beside = None if dense is None else dense.load()
    return workbench(saved.load(), dense=beside, **how)
