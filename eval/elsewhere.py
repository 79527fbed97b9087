"""Other models than the run's read the text in another process, while this one reads it with the run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
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


@dataclass(frozen=True)
class Permuted:
    """The run's model with its weights permuted."""

    seed: int

    def __call__(self, run: "Run") -> nn.Module:
        return permuted_weights(run, seed=self.seed)


@dataclass(frozen=True, eq=False)
class Sent:
    """A model that goes to another process as the run that it is made from there."""

    model: nn.Module
    saved: Saved
    make: Model

    @classmethod
    def of(cls, model: nn.Module, run: "Run", make: Model) -> "Sent | None":
        """None where there is no process, or the run is not one for it."""
        saved = as_saved(run)
        return None if saved is None else cls(model, saved, make)

    def __reduce__(self) -> tuple[Callable[..., "Sent"], tuple[Saved, Model]]:
        return _arrived, (self.saved, self.make)


@lru_cache(maxsize=1)  # jobs about a model come one after another
def _arrived(saved: Saved, make: Model) -> Sent:
    return Sent(make(saved.load()), saved, make)


def read_ahead(
    bench: "Workbench", run: "Run", dense: "Run | None", seeds: Sequence["Run"], *, overlap: bool
) -> None:
    """Begin to read with all models but the run's own, and last between the run's own rows.

    Where there is no process for a model, its reader does as ever. The models are known to another
    process from here on, for passes under edits.
    """
    bench.reader.sent = Sent.of(bench.reader.model, run, itself)
    _begin(bench.twin, run, random_twin)
    if isinstance(other := bench.controls["permuted_weights"], Reader):
        _begin(other, run, Permuted(bench.seed))
    if dense is not None and isinstance(other := bench.controls["dense_neurons"], Reader):
        _begin(other, dense, itself)
    for sibling, other in zip(bench.siblings, seeds, strict=True) if seeds else ():
        _begin(sibling.reader, other, itself)
        _begin(sibling.twin, other, random_twin)
    if overlap:
        _begin(bench.reader, run, itself, "read_between")


def _begin(reader: Reader, run: "Run", model: Model, name: str = "read_end_to_end") -> None:
    sent = reader.sent = Sent.of(reader.model, run, model)
    if sent is not None:
        reader.elsewhere[name] = _later(sent.saved, model, name, reader)


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
