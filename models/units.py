"""Sites: where a layer shows its units, so that they can be recorded and edited."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pellucid.errors import UserError
from pellucid.models.activations import Activations, join
from pellucid.models.editing import apply
from pellucid.models.edits import Edit

Exactness = Literal[
    "weights-exact",
    "unit-ablation-exact",
    "edge-exact",
    "linear-given-active-set",
    "linear-given-gates",
    "logit-split-exact",
    "none",
]


Kind = Literal["mlp", "attention", "stream", "channel", "head"]
"""The slot whose units they are; channels are those of a block's inner vectors."""


class UnknownSite(UserError, KeyError):
    """A site name that the model does not have."""

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True)
class SiteState:
    """What is being done at a site: immutable, so that a recomputed pass can restore it."""

    edits: tuple[Edit, ...] = ()
    traces: tuple["Trace", ...] = ()
    start: int = 0

    @property
    def in_use(self) -> bool:
        return bool(self.edits or self.traces)

    def at(self, start: int) -> "SiteState":
        """The same, told the absolute position of the first token of the coming pass."""
        return replace(self, start=start)

    def edited(self, edits: tuple[Edit, ...]) -> "SiteState":
        """The same with further edits, made after those already there."""
        return replace(self, edits=(*self.edits, *edits))

    def silent(self) -> "SiteState":
        """The same edits, recorded by nobody: what a recomputation sees."""
        return replace(self, traces=())


class UnitSite:
    """The units of one layer: what they are called, read and write, and what is done to them.

    `signed` says that units take both signs; `exactness` is the class that the filling declares
    and a test proves; `pairs` that a unit has one activation for each query and key, and not for
    each token; `takes_rest` that its decoder takes activations with a rest. Directions are
    `(n_units, d_model)`, or None where a unit has no single one.
    """

    def __init__(
        self,
        kind: Kind,
        n_units: int,
        *,
        signed: bool,
        exactness: Exactness,
        pairs: bool = False,
        takes_rest: bool = False,
        write: Callable[[], Tensor] | None = None,
        read: Callable[[], Tensor] | None = None,
    ):
        self.kind, self.n_units, self.signed, self.exactness = kind, n_units, signed, exactness
        self.pairs, self.takes_rest, self._write, self._read = pairs, takes_rest, write, read
        self.name, self.layer = "", -1
        self.state = SiteState()

    def write_directions(self) -> Float[Tensor, "unit d_model"] | None:
        """What each unit adds to the residual stream per unit of activation."""
        return self._write().detach() if self._write else None

    def read_directions(self) -> Float[Tensor, "unit d_model"] | None:
        """What each unit reads, in the space of its layer's normalized input."""
        return self._read().detach() if self._read else None

    @torch.compiler.disable
    def __call__(self, acts: Activations) -> Activations:
        """Edit, then record: what is recorded is what the rest of the model sees."""
        for edit in self.state.edits:
            acts = apply(edit, acts.settled(), self.state.start)
        if self.state.traces or not self.takes_rest:
            acts = acts.settled()
        for trace in self.state.traces:
            trace._keep(self.name, acts, self.state.start)
        return acts

    def __repr__(self) -> str:
        return f"UnitSite({self.name}: {self.n_units} {self.kind} units, {self.exactness})"


def see(site: UnitSite, x: Float[Tensor, "batch token channel"]) -> Tensor:
    """Pass a vector's channels through a site."""
    return site(Activations(x, n_units=site.n_units)).values


class Trace(Mapping[str, Activations]):
    """Recorded activations by site name.

    A later pass replaces an earlier one, except where it continues it (cached generation): then
    both are joined along the positions.
    """

    def __init__(self, names: Iterable[str], *, grad: bool):
        self._names, self._grad = tuple(names), grad
        self._kept: dict[str, Activations] = {}
        self._ends: dict[str, int] = {}

    def _keep(self, name: str, acts: Activations, start: int) -> None:
        acts = acts if self._grad else acts.detach()
        if start and self._ends.get(name) == start:
            self._kept[name] = join(self._kept[name], acts)
        else:
            self._kept[name] = acts
        token = 2 if acts.values.ndim == 4 else 1
        self._ends[name] = start + acts.values.shape[token]

    def __getitem__(self, name: str) -> Activations:
        if name not in self._kept:
            reason = "the model has not run yet" if name in self._names else "it was not asked for"
            raise UnknownSite(f"site {name!r} was not recorded: {reason}")
        return self._kept[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside DDP and `torch.compile` wrappers, whose sites have canonical names."""
    while True:
        if isinstance(model, nn.parallel.DistributedDataParallel):
            model = model.module
        elif hasattr(model, "_orig_mod"):
            model = model._orig_mod
        else:
            return model


def find(model: nn.Module, names: Iterable[str]) -> list[UnitSite]:
    """The named sites; raises UnknownSite with the nearest name where there is no such site."""
    names = [names] if isinstance(names, str) else list(names)
    sites = unwrap(model).sites()
    for name in names:
        if name not in sites:
            near = get_close_matches(name, sites, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "there are " + ", ".join(sites)
            raise UnknownSite(f"the model has no site {name!r}; {hint}")
    return [sites[name] for name in names]


@contextmanager
def record(model: nn.Module, sites: Iterable[str] | str, *, grad: bool = False) -> Iterator[Trace]:
    """Record the named sites' activations in every forward pass inside the block.

    With `grad`, the recorded tensors stay in the graph: `torch.autograd.grad(loss, trace[…].values)`.
    Raises UnknownSite for a name that the model does not have.
    """
    chosen = find(model, sites)
    trace = Trace((site.name for site in chosen), grad=grad)
    with restored(chosen, [replace(s.state, traces=(*s.state.traces, trace)) for s in chosen]):
        yield trace


@contextmanager
def intervene(model: nn.Module, edits: Mapping[str, Edit | list[Edit]]) -> Iterator[None]:
    """Edit activations in every forward pass inside the block, also in cached generation.

    Nested blocks add up, the outer edits first. Raises UnknownSite for an unknown site and
    ValueError for an unknown unit, and for values or a patch that do not fit the site.
    """
    if not isinstance(edits, Mapping):
        raise ValueError(
            f"intervene takes edits by site name, as in {{'blocks.0.mlp': ablate([3])}}; "
            f"got {type(edits).__name__}"
        )
    chosen = find(model, edits)
    new = {name: _listed(name, given) for name, given in edits.items()}
    for site in chosen:
        for edit in new[site.name]:
            edit.check(site.name, site.n_units)
    with restored(chosen, [site.state.edited(new[site.name]) for site in chosen]):
        yield


def _listed(name: str, edits: Edit | list[Edit]) -> tuple[Edit, ...]:
    listed = tuple(edits) if isinstance(edits, list | tuple) else (edits,)
    for edit in listed:
        if not isinstance(edit, Edit):
            raise ValueError(
                f"intervene on {name}: an edit such as ablate() or set_to(…), or a list of them, "
                f"is accepted; got {type(edit).__name__}"
            )
    return listed


@contextmanager
def restored(sites: list[UnitSite], states: list[SiteState]) -> Iterator[None]:
    """Run with the given states, then put back those found: also how a pass is recomputed."""
    before = [site.state for site in sites]
    _restore(sites, states)
    try:
        yield
    finally:
        _restore(sites, before)


def _restore(sites: list[UnitSite], states: list[SiteState]) -> None:
    for site, state in zip(sites, states, strict=True):
        site.state = state
