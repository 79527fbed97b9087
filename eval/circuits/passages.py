"""Edges within a layer that no matrix shows: what one unit reads, or one channel is written by.

A router, a selection of the input or a gate lets a unit read channels in more ways than by one
weight. Such an edge is left out as path patching does (arXiv 2304.14997): its target alone is
computed from an input in which the source is its mean. Where a filling is one matrix, that is what
leaving out a weight does. Each target takes a pass of its own through the layer; in memory they are
some at a time.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pellucid.models import mix
from pellucid.models.activations import Activations
from pellucid.models.editing import apply
from pellucid.models.filling import Told
from pellucid.models.mlp.memory import MemoryMLP
from pellucid.models.mlp.monet import MonetMLP
from pellucid.models.mlp.mxd import MixtureOfDecoders

BESIDE: Mapping[type, Callable[[nn.Module, Tensor], object]] = {
    MemoryMLP: lambda mlp, x: x,
    MonetMLP: lambda mlp, x: x,
    MixtureOfDecoders: lambda mlp, x: mlp.hidden(x),
}
"""What a decoder reads of the layer's input beside the units, of fillings where it does."""
READ, WRITE, PAST = "read", "write", "past"
"""From channels to units, from units to channels, and from channels to channels past the units."""
MOST = 512
"""Targets of a layer that are computed one by one."""
AT_ONCE = 2**24
"""Numbers of a tensor, about, when targets are computed together."""


class Passage(NamedTuple):
    """All edges from one site of a layer to another."""

    name: str
    source: str
    target: str
    module: nn.Module
    matrix: str
    """READ, WRITE or PAST"""
    n_sources: int
    n_targets: int

    @property
    def weight(self) -> Float[Tensor, "target source"] | None:
        """What each unit writes, where that is a direction of its own; else None."""
        return self.module.site.write_directions().T if self.linear else None

    @property
    def linear(self) -> bool:
        """Whether edges can be left out by their weights."""
        return self.matrix == WRITE and self.module.site.write_directions() is not None


def passages_of(at: str, block: nn.Module) -> list[Passage]:
    """The edges of a layer at `blocks.0.`; none where units write together in other ways."""
    mlp, d_model = block.mlp, block.channels["mlp_in"].n_units
    beside, units = type(mlp) in BESIDE, mlp.site.n_units
    if not beside and mlp.site.write_directions() is None:
        return []
    name, reads, writes = f"{at}mlp", f"{at}mlp_in", f"{at}mlp_out"
    found = [
        Passage(f"{name}.{READ}", reads, name, mlp, READ, d_model, units),
        Passage(f"{name}.{WRITE}", name, writes, mlp, WRITE, units, d_model),
    ]
    past = Passage(f"{name}.{PAST}", reads, writes, mlp, PAST, d_model, d_model)
    return [*found, past] if beside else found


class Shares(NamedTuple):
    """Shares of the edges of one passage, for the targets that have one below 1."""

    targets: Int[Tensor, " target"]
    share: Float[Tensor, "target source"]
    mean: Float[Tensor, " source"]

    def of(self, targets: Int[Tensor, " more"]) -> "Shares":
        """The same for other targets, among which these are; all shares of the others are 1."""
        place = torch.searchsorted(targets, self.targets)
        share = self.share.new_ones(len(targets), self.share.shape[1])
        return Shares(targets, share.index_put((place,), self.share), self.mean)

    def seen_by(
        self, some: slice, x: Float[Tensor, "row token source"]
    ) -> Float[Tensor, "target_row token source"]:
        """The input as some of the targets see it, one after the other."""
        share = self.share[some][:, None, None]
        return (share * x + (1 - share) * self.mean).flatten(0, 1)


def shares_of(
    passage: Passage, target: Tensor, source: Tensor, part: Tensor, mean: Float[Tensor, " source"]
) -> Shares:
    """Shares of edges, by target. Those that may get a gradient are all kept, whatever they are."""
    own, place = target.unique(return_inverse=True)
    whole = mean.new_ones(len(own), passage.n_sources)
    share = whole.index_put((place, source), part.to(mean))
    if not part.requires_grad:
        left = (share != 1).any(1)
        own, share = own[left], share[left]
    return Shares(own, share, mean)


@contextmanager
def taken_apart(given: Mapping[nn.Module, Mapping[str, Shares]]) -> Iterator[None]:
    """Run with layers whose edges carry their shares; they are as before afterwards."""
    try:
        for mlp, shares in given.items():
            # Whether a site is in use decides which of the two a block runs.
            mlp.__dict__["forward"] = mlp.__dict__["split"] = partial(_run, mlp, shares)
        yield
    finally:
        for mlp in given:
            mlp.__dict__.pop("forward", None)
            mlp.__dict__.pop("split", None)


def _run(
    mlp: nn.Module, shares: Mapping[str, Shares], x: Float[Tensor, "row token d_model"]
) -> tuple[Tensor, Told]:
    acts, told = mlp.encode(x)
    if READ in shares and len(shares[READ].targets):
        read = shares[READ]
        values = _read(mlp, read, x).to(acts.values.dtype)
        acts = apply(mix(values.new_zeros(len(read.targets)), values, read.targets), acts, 0)
    acts = mlp.site(acts)
    written = _written_beside if type(mlp) in BESIDE else _written
    return written(mlp, shares, acts, x), told


def _read(mlp: nn.Module, read: Shares, x: Tensor) -> Float[Tensor, "row token target"]:
    def some(chosen: slice, share: Tensor, x: Tensor) -> Tensor:
        acts, _ = mlp.encode(read._replace(share=share).seen_by(chosen, x))
        return _own(acts.to_dense(), read.targets[chosen], len(x))

    width = max(x.shape[-1], mlp.site.n_units)
    return _in_turns(some, len(read.targets), x.shape[:2].numel() * width, read.share, x)


def _written(mlp: nn.Module, shares: Mapping[str, Shares], acts: Activations, x: Tensor) -> Tensor:
    y = mlp.decode(acts)
    if WRITE not in shares:
        return y
    targets, share, mean = shares[WRITE]
    weight = mlp.site.write_directions().T[targets]
    missing = mean - acts.settled().to_dense()
    return y.index_add(-1, targets, (missing @ ((1 - share) * weight).T).to(y.dtype))


def _written_beside(
    mlp: nn.Module, shares: Mapping[str, Shares], acts: Activations, x: Tensor
) -> Tensor:
    beside = BESIDE[type(mlp)]
    y = mlp.decode(acts, beside(mlp, x))
    both = [shares[name] for name in (WRITE, PAST) if name in shares]
    targets = torch.cat([each.targets for each in both]).unique() if both else []
    if not len(targets):
        return y
    values = acts.settled().to_dense()
    # A passage without edges lets all through.
    none = lambda like: Shares(targets, like.new_ones(len(targets), like.shape[-1]), like[0, 0])
    write = shares[WRITE].of(targets) if WRITE in shares else none(values)
    past = shares[PAST].of(targets) if PAST in shares else none(x)
    units = torch.arange(acts.n_units, dtype=torch.int32, device=x.device)

    def some(chosen: slice, by_unit: Tensor, by_channel: Tensor, z: Tensor, x: Tensor) -> Tensor:
        z = write._replace(share=by_unit).seen_by(chosen, z)
        seen = past._replace(share=by_channel).seen_by(chosen, x)
        every = Activations(z, units.expand(z.shape), acts.n_units)
        return _own(mlp.decode(every, beside(mlp, seen)), targets[chosen], len(x))

    numbers = x.shape[:2].numel() * max(x.shape[-1], acts.n_units)
    new = _in_turns(some, len(targets), numbers, write.share, past.share, values, x)
    return y.index_copy(-1, targets, new.to(y.dtype))


def _own(
    of_all: Float[Tensor, "target_row token unit"], targets: Tensor, rows: int
) -> Float[Tensor, "row token target"]:
    """Of each target's pass what it is itself."""
    each = of_all.unflatten(0, (len(targets), rows))
    places = torch.arange(len(targets), device=targets.device)
    return each[places, ..., targets].movedim(0, -1)


def _in_turns(some: Callable[..., Tensor], n: int, numbers: int, *tensors: Tensor) -> Tensor:
    """Targets' values, some targets at a time; for slopes they are computed again, not kept."""
    step = max(1, AT_ONCE // max(1, numbers))
    parts = []
    for first in range(0, n, step):
        chosen = slice(first, min(n, first + step))
        parts.append(
            checkpoint(some, chosen, *tensors, use_reentrant=False, preserve_rng_state=False)
        )
    return torch.cat(parts, -1)
