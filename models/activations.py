"""What the units of one site did in one forward pass: dense, or sparse with unit indices."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

DENSE_BYTES = 2**30


@dataclass(frozen=True)
class Activations:
    """Activations of one site.

    Dense: `values (batch, token, unit)` and no indices. Sparse: `values` and int32 `indices`
    `(batch, token, slot)`, ascending and unique within a token; an empty slot has value 0 and
    index -1 and stands at the end. Attention edges: `values (batch, head, query, key)`, no indices.
    """

    values: Float[Tensor, "batch token slot"] | Float[Tensor, "batch head query key"]
    indices: Int[Tensor, "batch token slot"] | None = None
    n_units: int = 0
    rest: Float[Tensor, "batch token unit"] | None = None
    """What all units do beside the slots, added to them: one row for as many neighbouring ones, one
    token for all. Only between a site and a decoder that takes it: nobody else is shown a rest."""

    @property
    def is_sparse(self) -> bool:
        return self.indices is not None

    @property
    def count(self) -> Int[Tensor, "batch token"]:
        """Active units of each token: filled slots, or non-zero values where all are stored."""
        if self.indices is not None:
            return (self.indices >= 0).sum(-1)
        return (self.values != 0).sum(-1)

    def to_dense(self, max_bytes: int = DENSE_BYTES) -> Float[Tensor, "batch *places unit"]:
        """All units' values; raises ValueError where they would take more than `max_bytes`."""
        if self.indices is None:
            return self.values
        rows = self.values.shape[:-1].numel()
        size = rows * self.n_units * self.values.element_size()
        if size > max_bytes:
            raise ValueError(
                f"to_dense would take {size:,} bytes for {rows:,} tokens x {self.n_units:,} units; "
                f"at most {max_bytes:,} are allowed: stream the sparse form or raise max_bytes"
            )
        return self._scatter(self.indices.long(), self.n_units)

    def select(self, units: Int[Tensor, " picked"]) -> Float[Tensor, "batch token picked"]:
        """Values of the named units alone, without a tensor of all units."""
        if self.indices is None:
            return self.values[..., units]
        place = torch.full((self.n_units + 1,), len(units), device=units.device)
        place[units] = torch.arange(len(units), device=units.device)
        return self._scatter(place[self.indices.long()], len(units))

    def _scatter(self, columns: Tensor, width: int) -> Tensor:
        """Spread slots over `width` columns; what points elsewhere lands in a dropped last column."""
        columns = torch.where(self.indices < 0, width, columns)
        empty = self.values.new_zeros(*self.values.shape[:-1], width + 1)
        return empty.scatter_add(-1, columns, self.values)[..., :width]

    def settled(self) -> "Activations":
        """The same without a rest: every unit then has a slot of its own, its value 0 or not."""
        if self.rest is None:
            return self
        values = replace(self, rest=None).to_dense()
        values = values + every_row(self.rest, len(values))
        units = torch.arange(self.n_units, dtype=torch.int32, device=values.device)
        return Activations(values, units.expand(values.shape), self.n_units)

    def detach(self) -> "Activations":
        return replace(self, values=self.values.detach())


def every_row(some: Float[Tensor, "some ..."], rows: int) -> Float[Tensor, "rows ..."]:
    """Each row as often as `rows` has room for it, beside itself."""
    return some[:, None].expand(-1, rows // len(some), *some.shape[1:]).flatten(0, 1)


def canonical(values: Tensor, indices: Tensor, n_units: int) -> Activations:
    """Sort slots by unit and empty those whose value is 0; each unit stands at most once."""
    order = torch.where(values == 0, n_units, indices.long())
    order, places = order.sort(dim=-1, stable=True)
    empty = order == n_units
    values = values.gather(-1, places).masked_fill(empty, 0.0)
    return Activations(values, order.masked_fill(empty, -1).int(), n_units)


def merge(
    values: Float[Tensor, "*row slot"], indices: Int[Tensor, "*row slot"], copies: int
) -> tuple[Float[Tensor, "*row slot"], Int[Tensor, "*row slot"]]:
    """Sort slots by unit; those of one unit are summed into its first, and the others emptied.

    A unit stands at most `copies` times in a row, as where so many heads choose from one table.
    Emptied slots stay where they are. A loop over copies, because adding by index has no fixed
    order on a GPU.
    """
    units, places = indices.sort(dim=-1, stable=True)
    values = values.gather(-1, places)
    total = values
    for shift in range(1, copies):
        same = (units[..., shift:] == units[..., :-shift]) & (units[..., shift:] >= 0)
        more = torch.where(same, values[..., shift:], 0.0)
        total = total + torch.nn.functional.pad(more, (0, shift))
    again = torch.zeros_like(units, dtype=torch.bool)
    again[..., 1:] = units[..., 1:] == units[..., :-1]
    return total.masked_fill(again | (units < 0), 0.0), units.masked_fill(again, -1)


def same_slots(a: Activations, b: Activations) -> tuple[Activations, Activations]:
    """Both with as many slots as the larger of the two."""
    slots = max(a.values.shape[-1], b.values.shape[-1])
    return widen(a, slots), widen(b, slots)


def widen(acts: Activations, slots: int) -> Activations:
    """The same activations with empty slots added at the end."""
    extra = (0, slots - acts.values.shape[-1])
    if not extra[1]:
        return acts
    values = torch.nn.functional.pad(acts.values, extra)
    return replace(
        acts, values=values, indices=torch.nn.functional.pad(acts.indices, extra, value=-1)
    )


def join(first: Activations, then: Activations) -> Activations:
    """Two passes over consecutive positions as one (cached generation)."""
    if first.values.ndim == 4:
        keys = then.values.shape[-1] - first.values.shape[-1]
        padded = torch.nn.functional.pad(first.values, (0, keys))
        return replace(first, values=torch.cat([padded, then.values], dim=2))
    if first.indices is None:
        return replace(first, values=torch.cat([first.values, then.values], dim=1))
    first, then = same_slots(first, then)
    return replace(
        first,
        values=torch.cat([first.values, then.values], dim=1),
        indices=torch.cat([first.indices, then.indices], dim=1),
    )


def where(mask: Bool[Tensor, "batch token"], a: Activations, b: Activations) -> Activations:
    """`a` at the masked tokens, `b` elsewhere, both in the form of `b`."""
    if b.indices is None:
        return replace(b, values=torch.where(mask[..., None], a.to_dense(), b.values))
    a, b = same_slots(a, b)
    values = torch.where(mask[..., None], a.values, b.values)
    return replace(b, values=values, indices=torch.where(mask[..., None], a.indices, b.indices))
