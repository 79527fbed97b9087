"""Edits of a site's activations: ablate, set, scale, add, patch, by unit, position and example."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from pellucid.models.activations import Activations, canonical, where

Selection = Sequence[int] | Tensor | None


@dataclass(frozen=True)
class Edit:
    """One change of activations; `None` selects all units, positions or examples."""

    op: Literal["set", "scale", "add", "patch"]
    value: float | Tensor | Activations
    units: Tensor | None
    positions: Tensor | None
    examples: Tensor | None

    def check(self, name: str, n_units: int) -> None:
        """Raise ValueError for a unit that the site does not have."""
        if self.units is None:
            return
        if len(self.units.unique()) != len(self.units):
            raise ValueError(f"edit of {name}: a unit is named twice in {self.units.tolist()}")
        wrong = self.units[(self.units < 0) | (self.units >= n_units)]
        if len(wrong):
            raise ValueError(
                f"edit of {name}: unit {int(wrong[0])} does not exist; units are 0 … {n_units - 1}"
            )


def ablate(
    units: Selection = None,
    *,
    positions: Selection = None,
    examples: Selection = None,
    value: float | Tensor = 0.0,
) -> Edit:
    """Hold units at `value`: 0, or means `(units,)` for mean ablation."""
    return set_to(value, units, positions=positions, examples=examples)


def set_to(
    value: float | Tensor,
    units: Selection = None,
    *,
    positions: Selection = None,
    examples: Selection = None,
) -> Edit:
    """Set units to a number or to values `(units,)`; silent units become active."""
    return _edit("set", value, units, positions, examples)


def scale(
    factor: float | Tensor,
    units: Selection = None,
    *,
    positions: Selection = None,
    examples: Selection = None,
) -> Edit:
    """Multiply units by a number or by factors `(units,)`."""
    return _edit("scale", factor, units, positions, examples)


def add(
    value: float | Tensor,
    units: Selection = None,
    *,
    positions: Selection = None,
    examples: Selection = None,
) -> Edit:
    """Add a number or values `(units,)` to units; silent units become active."""
    return _edit("add", value, units, positions, examples)


def patch(
    source: Activations,
    units: Selection = None,
    *,
    positions: Selection = None,
    examples: Selection = None,
) -> Edit:
    """Take the units' activations from another pass over a batch of the same shape."""
    return _edit("patch", source, units, positions, examples)


def _edit(op, value, units, positions, examples) -> Edit:
    units, positions, examples = _ids(units), _ids(positions), _ids(examples)
    for name, ids in (("positions", positions), ("examples", examples)):
        if ids is not None and len(ids) and int(ids.min()) < 0:
            raise ValueError(f"{name} are absolute and count from 0; got {ids.tolist()}")
    return Edit(op, value, units, positions, examples)


def _ids(selection: Selection) -> Tensor | None:
    if selection is None:
        return None
    return torch.as_tensor(selection, dtype=torch.long).reshape(-1)


def apply(edit: Edit, acts: Activations, start: int) -> Activations:
    """The activations after one edit; `start` is the absolute position of their first token."""
    edit = _on(edit, acts.values.device)
    if acts.values.ndim == 4:
        return _apply_edges(edit, acts, start)
    batch, token = acts.values.shape[:2]
    mask = _chosen(edit.examples, batch, 0, acts.values.device)[:, None]
    mask = mask & _chosen(edit.positions, token, start, acts.values.device)[None]
    if acts.indices is None:
        return _apply_dense(edit, acts, mask, start)
    return _apply_sparse(edit, acts, mask, start)


def _on(edit: Edit, device: torch.device) -> Edit:
    ids = (None if i is None else i.to(device) for i in (edit.units, edit.positions, edit.examples))
    value = edit.value.to(device) if isinstance(edit.value, Tensor) else edit.value
    return Edit(edit.op, value, *ids)


def _chosen(ids: Tensor | None, length: int, start: int, device: torch.device) -> Tensor:
    here = torch.arange(start, start + length, device=device)
    return torch.ones_like(here, dtype=torch.bool) if ids is None else torch.isin(here, ids)


def _changed(edit: Edit, old: Tensor, source: Tensor | None) -> Tensor:
    """The selected units' new values; `old (…, picked)`."""
    if edit.op == "patch":
        return source
    value = torch.as_tensor(edit.value, dtype=old.dtype, device=old.device)
    if edit.op == "set":
        return value.expand_as(old)
    return old * value if edit.op == "scale" else old + value


def _source(edit: Edit, shape: torch.Size, start: int) -> Activations | None:
    """The pass to patch from, cut to the positions at hand when generation is cached."""
    if edit.op != "patch":
        return None
    batch, token = shape[:2]
    source = edit.value
    if source.values.shape[0] != batch or source.values.shape[1] < start + token:
        raise ValueError(
            f"patch needs a source of at least ({batch}, {start + token}) (batch, token); "
            f"got {tuple(source.values.shape[:2])}"
        )
    cut = slice(start, start + token)
    indices = None if source.indices is None else source.indices[:, cut]
    return replace(source, values=source.values[:, cut], indices=indices)


def _apply_dense(edit: Edit, acts: Activations, mask: Tensor, start: int) -> Activations:
    source = _source(edit, acts.values.shape, start)
    if edit.units is None:
        new = _changed(edit, acts.values, None if source is None else source.to_dense())
        return replace(acts, values=torch.where(mask[..., None], new, acts.values))
    old = acts.values[..., edit.units]
    new = _changed(edit, old, None if source is None else source.select(edit.units))
    new = torch.where(mask[..., None], new, old)
    return replace(acts, values=acts.values.index_copy(-1, edit.units, new))


def _apply_sparse(edit: Edit, acts: Activations, mask: Tensor, start: int) -> Activations:
    source = _source(edit, acts.values.shape, start)
    if edit.units is None and source is not None:
        return where(mask, source, acts)
    units = edit.units
    if units is None:
        units = torch.arange(acts.n_units, device=acts.values.device)
    if _only_shrinks(edit):
        return _scale_slots(acts, units, mask, edit.value if edit.op == "scale" else 0.0)
    new = _changed(edit, acts.select(units), None if source is None else source.select(units))
    kept = _scale_slots(acts, units, mask, 0.0)
    columns = units.int().expand(*new.shape)
    new = torch.where(mask[..., None], new, 0.0)
    values = torch.cat([kept.values, new.to(kept.values.dtype)], dim=-1)
    return canonical(values, torch.cat([kept.indices, columns], dim=-1), acts.n_units)


def _only_shrinks(edit: Edit) -> bool:
    """Edits that wake no silent unit need no new slots."""
    zero = isinstance(edit.value, int | float) and edit.value == 0
    return edit.op == "scale" or (edit.op == "set" and zero)


def _scale_slots(acts: Activations, units: Tensor, mask: Tensor, factor) -> Activations:
    factors = acts.values.new_ones(acts.n_units + 1)
    factors[units] = torch.as_tensor(factor, dtype=factors.dtype, device=factors.device)
    wanted = torch.where(mask[..., None], factors[acts.indices.long()], 1.0)
    return canonical(acts.values * wanted, acts.indices, acts.n_units)


def _apply_edges(edit: Edit, acts: Activations, start: int) -> Activations:
    """Edges `(batch, head, query, key)`: units are heads, positions are queries."""
    batch, heads, queries, _ = acts.values.shape
    device = acts.values.device
    mask = _chosen(edit.examples, batch, 0, device)[:, None, None, None]
    mask = mask & _chosen(edit.units, heads, 0, device)[None, :, None, None]
    mask = mask & _chosen(edit.positions, queries, start, device)[None, None, :, None]
    per_head = edit.value
    if isinstance(per_head, Tensor) and per_head.ndim == 1:
        full = acts.values.new_zeros(heads)
        full[slice(None) if edit.units is None else edit.units] = per_head.to(full.dtype)
        per_head = full[None, :, None, None]
    source = edit.value.values if edit.op == "patch" else None
    new = _changed(replace(edit, value=per_head), acts.values, source)
    return replace(acts, values=torch.where(mask, new, acts.values))
