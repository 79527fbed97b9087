"""Other models than the run's read the text in another process, while this one reads it with the run."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import nn

from pellucid.eval.permuted import permuted_weights, rebuilt
from pellucid.eval.processes import Later, Lost
from pellucid.eval.reader import Predictions, Reader
from pellucid.eval.saved import Saved, as_saved
from pellucid.eval.scratch import Scratch

if TYPE_CHECKING:
    from pellucid.eval.workbench import Workbench
    from pellucid.run import Run

Model = Callable[["Run"], nn.Module]
"""The run's model or one made from it: a function that can be sent."""


def itself(run: "Run") -> nn.Module:
    """The run's model."""
    return run.model.eval()


def random_twin(run: "Run") -> nn.Module:
    """The run's model with the random initial values of its seed."""
    return rebuilt(run, run.config.seed)


def read_ahead(
    bench: "Workbench", run: "Run", dense: "Run | None", seeds: Sequence["Run"], *, overlap: bool
) -> None:
    """Begin to read with all models but the run's own, and last between the run's own rows.

    Where there is no process for a model, its reader does as ever.
    """
    _begin(bench.twin, run, random_twin)
    if isinstance(other := bench.controls["permuted_weights"], Reader):
        _begin(other, run, partial(permuted_weights, seed=bench.seed))
    if dense is not None and isinstance(other := bench.controls["dense_neurons"], Reader):
        _begin(other, dense, itself)
    for sibling, other in zip(bench.siblings, seeds, strict=True) if seeds else ():
        _begin(sibling.reader, other, itself)
        _begin(sibling.twin, other, random_twin)
    if overlap:
        _begin(bench.reader, run, itself, "read_between")


def _begin(reader: Reader, run: "Run", model: Model, name: str = "read_end_to_end") -> None:
    saved = as_saved(run)
    if saved is not None:
        reader.elsewhere[name] = _later(saved, model, name, reader)


def _later(saved: Saved, model: Model, name: str, reader: Reader) -> Callable[[], Predictions]:
    scratch = Scratch()
    about = {"stream": reader.stream, "context": reader.context, "seed": reader.seed}
    later = Later(partial(_read, saved, model, name, scratch=scratch, **about))
    track, what = reader.track, f"{reader.label}reading, in another process"

    def read() -> Predictions:
        if later.taken_back():
            raise Lost
        for one in track([later], what, 1):
            found = one.get()
        for kept in found.harvest.values():
            # What comes from there knows the path alone.
            kept.scratch = scratch
        return found

    return read


def _read(saved: Saved, model: Model, name: str, **about: Any) -> Predictions:
    return getattr(Reader(model(saved.load()), **about), name)()
