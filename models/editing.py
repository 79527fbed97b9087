"""How an edit is made: on dense and sparse activations, and on attention edges."""

from dataclasses import replace

import torch
from torch import Tensor

from pellucid.models.activations import Activations, canonical, every_row, same_slots, where
from pellucid.models.edits import Edit, Mixture


def apply(edit: Edit, acts: Activations, start: int) -> Activations:
    """The activations after one edit; `start` is the absolute position of their first token."""
    batch, edges = acts.values.shape[0], acts.values.ndim == 4
    token = acts.values.shape[2 if edges else 1]
    _check_examples(edit, batch)
    last, source = _last_selected(edit, start, token), None
    if last is None:
        return acts
    if edit.op == "patch":
        source = _cut_source(edit.value, acts, start, last)
    edit = _on(edit, acts.values.device)
    if edges:
        return _apply_edges(edit, acts, source, start)
    mask = _chosen(edit.examples, batch, 0, acts.values.device)[:, None]
    mask = mask & _chosen(edit.positions, token, start, acts.values.device)[None]
    applied = _apply_dense if acts.indices is None else _apply_sparse
    return applied(edit, acts, source, mask)


def _on(edit: Edit, device: torch.device) -> Edit:
    ids = (None if i is None else i.to(device) for i in (edit.units, edit.positions, edit.examples))
    value = edit.value
    if isinstance(value, Mixture):
        value = Mixture(*(v.to(device) if isinstance(v, Tensor) else v for v in value))
    elif isinstance(value, Tensor):
        value = value.to(device)
    return Edit(edit.op, value, *ids)


def _chosen(ids: Tensor | None, length: int, start: int, device: torch.device) -> Tensor:
    here = torch.arange(start, start + length, device=device)
    return torch.ones_like(here, dtype=torch.bool) if ids is None else torch.isin(here, ids)


def _changed(edit: Edit, old: Tensor, source: Tensor | None) -> Tensor:
    """The selected units' new values; `old (…, picked)`."""
    if edit.op == "patch":
        return source
    if edit.op == "mix":
        return _mixed(edit.value, old)
    value = torch.as_tensor(edit.value, dtype=old.dtype, device=old.device)
    if edit.op == "set":
        return value.expand_as(old)
    return old * value if edit.op == "scale" else old + value


def _mixed(mixture: Mixture, old: Tensor) -> Tensor:
    """`old (batch, token, picked)`, each unit as far from its base as its share says.

    A share of 1 gives `old` and a share of 0 the base, bit for bit.
    """
    share, base = _parts(mixture, old)
    old, share = old.unflatten(0, (len(share), -1)), share[:, None]
    # Not addcmul: some processors round its sum once, and others (or the rest of a row) twice.
    return (share * old + (1 - share) * base).flatten(0, 1)


def _parts(mixture: Mixture, like: Tensor) -> tuple[Tensor, Tensor]:
    """The share `(some, 1, units)`, each for as many neighbouring examples, and the base.

    A base `(batch, token, units)` comes as `(some, example, token, units)`.
    """
    share = torch.atleast_2d(mixture.share.to(like))[:, None]
    if len(like) % len(share):
        raise ValueError(
            f"the share of a mixture has {len(share)} rows, which do not divide the {len(like)} "
            "examples of the batch"
        )
    base = torch.as_tensor(mixture.base, dtype=like.dtype, device=like.device)
    return share, base.unflatten(0, (len(share), -1)) if base.ndim == 3 else base


def _last_selected(edit: Edit, start: int, token: int) -> int | None:
    """The largest selected position of this pass, or None where it has none."""
    if edit.positions is None:
        return start + token - 1 if token else None
    here = edit.positions[(edit.positions >= start) & (edit.positions < start + token)]
    return int(here.max()) if len(here) else None


def _check_examples(edit: Edit, batch: int) -> None:
    if edit.examples is None or not len(edit.examples):
        return
    last = int(edit.examples.max())
    if last >= batch:
        raise ValueError(f"example {last} does not exist; the batch has examples 0 … {batch - 1}")


def _cut_source(source: Activations, acts: Activations, start: int, last: int) -> Activations:
    """The source over the positions at hand, in the dtype and on the device of `acts`.

    It must reach `last`; positions after that are not selected, so that padding stands in.
    """
    edges, values = acts.values.ndim == 4, source.values
    axis, stop = (2, start + acts.values.shape[2]) if edges else (1, start + acts.values.shape[1])
    _check_shapes(values, acts.values, axis, last)
    if edges:
        values = _fit(values, 3, 0, acts.values.shape[3])
    indices = source.indices
    if indices is not None:
        indices = _fit(indices, axis, start, stop, fill=-1).to(acts.values.device)
    return replace(source, values=_fit(values, axis, start, stop).to(acts.values), indices=indices)


def _check_shapes(source: Tensor, target: Tensor, axis: int, last: int) -> None:
    axes = "(batch, head, query, key)" if target.ndim == 4 else "(batch, token)"
    least = (*target.shape[:axis], last + 1, last + 1)[: 4 if axis == 2 else 2]
    got = tuple(source.shape[: len(least)])
    same = source.ndim == target.ndim and got[:axis] == least[:axis]
    if not same or any(size < need for size, need in zip(got[axis:], least[axis:], strict=True)):
        got = got if source.ndim == target.ndim else tuple(source.shape)
        raise ValueError(f"patch needs a source of at least {least} {axes}; got {got}")


def _fit(values: Tensor, axis: int, start: int, stop: int, fill: int = 0) -> Tensor:
    """Entries `start … stop` of an axis, filled up where it ends before."""
    cut = values.narrow(axis, start, max(0, min(stop, values.shape[axis]) - start))
    missing = list(cut.shape)
    missing[axis] = stop - start - cut.shape[axis]
    if not missing[axis]:
        return cut
    return torch.cat([cut, cut.new_full(missing, fill)], dim=axis)


def _apply_dense(
    edit: Edit, acts: Activations, source: Activations | None, mask: Tensor
) -> Activations:
    if edit.units is None:
        new = _changed(edit, acts.values, None if source is None else source.to_dense())
        return replace(acts, values=_where(edit, mask, new.expand_as(acts.values), acts.values))
    old = acts.values[..., edit.units]
    new = _changed(edit, old, None if source is None else source.select(edit.units))
    new = torch.where(mask[..., None], new, old)
    return replace(acts, values=acts.values.index_copy(-1, edit.units, new))


def _apply_sparse(
    edit: Edit, acts: Activations, source: Activations | None, mask: Tensor
) -> Activations:
    if edit.units is None and source is not None and source.is_sparse:
        if edit.positions is None and edit.examples is None:
            return same_slots(source, acts)[0]
        return where(mask, source, acts)
    units = edit.units
    if units is None:
        units = torch.arange(acts.n_units, device=acts.values.device)
    if _only_shrinks(edit):
        return _scale_slots(acts, units, mask, edit.value if edit.op == "scale" else 0.0)
    if edit.op == "mix" and edit.units is None:
        return _mixed_slots(edit, acts, mask)
    new = _changed(edit, acts.select(units), None if source is None else source.select(units))
    kept = _scale_slots(acts, units, mask, 0.0)
    columns = units.int().expand(*new.shape)
    new = torch.where(mask[..., None], new, 0.0)
    values = torch.cat([kept.values, new.to(kept.values.dtype)], dim=-1)
    return canonical(values, torch.cat([kept.indices, columns], dim=-1), acts.n_units)


def _mixed_slots(edit: Edit, acts: Activations, mask: Tensor) -> Activations:
    """All units mixed: the slots keep their shares, and what the base adds is the rest.

    Silent units are part of the rest: a share of 1 has a gradient at a base that is not 0.
    """
    share, base = _parts(edit.value, acts.values)
    slots = acts.indices.unflatten(0, (len(share), -1)).flatten(1, 2)
    kept = Picked.apply(share[:, 0], slots).view(acts.values.shape) * acts.values
    # One for all examples of a share, unless each has a base of its own, or is edited in part.
    rest = (1 - share) * base if base.ndim < 4 else ((1 - share[:, None]) * base).flatten(0, 1)
    if edit.positions is not None or edit.examples is not None:
        rest = torch.where(mask[..., None], every_row(rest, len(mask)), 0.0)
    return replace(acts, values=_where(edit, mask, kept, acts.values), rest=rest)


class Picked(torch.autograd.Function):
    """Entries `(row, token, slot)` of a table `(row, unit)` at each row's indices; any where empty."""

    @staticmethod
    def forward(ctx, table: Tensor, indices: Tensor) -> Tensor:
        """A gather along the units."""
        columns = indices.long().clamp(min=0)
        ctx.save_for_backward(columns)
        ctx.width = table.shape[1]
        return table.gather(1, columns.flatten(1)).view(indices.shape)

    @staticmethod
    def backward(ctx, *grads: Tensor) -> tuple[Tensor, None]:
        """Sums over a row's tokens in a fixed order: adding by index on a GPU has none."""
        (columns,), grad = ctx.saved_tensors, grads[0]
        rows, tokens = columns.shape[:2]
        if grad.device.type == "cpu":
            empty = grad.new_zeros(rows, ctx.width)
            return empty.scatter_add_(1, columns.flatten(1), grad.flatten(1)), None
        empty = grad.new_zeros(rows, tokens, ctx.width)
        return empty.scatter_add_(2, columns, grad).sum(1), None


def _where(edit: Edit, mask: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """The new values where the edit is made: everywhere, unless it names positions or examples."""
    if edit.positions is None and edit.examples is None:
        return new
    return torch.where(mask[..., None], new, old)


def _only_shrinks(edit: Edit) -> bool:
    """Edits that wake no silent unit need no new slots."""
    zero = isinstance(edit.value, int | float) and edit.value == 0
    return edit.op == "scale" or (edit.op == "set" and zero)


def _scale_slots(acts: Activations, units: Tensor, mask: Tensor, factor) -> Activations:
    factors = acts.values.new_ones(acts.n_units + 1)
    factors[units] = torch.as_tensor(factor, dtype=factors.dtype, device=factors.device)
    wanted = torch.where(mask[..., None], factors[acts.indices.long()], 1.0)
    return canonical(acts.values * wanted, acts.indices, acts.n_units)


def _apply_edges(
    edit: Edit, acts: Activations, source: Activations | None, start: int
) -> Activations:
    """Edges `(batch, head, query, key)`: units are heads, positions are queries."""
    batch, heads, queries, keys = acts.values.shape
    device = acts.values.device
    mask = _chosen(edit.examples, batch, 0, device)[:, None, None, None]
    mask = mask & _chosen(edit.units, heads, 0, device)[None, :, None, None]
    mask = mask & _chosen(edit.positions, queries, start, device)[None, None, :, None]
    mask = mask & _past(queries, keys, start, device)
    per_head = edit.value
    if edit.op == "mix":
        new = _mixed_heads(edit, acts.values)
        return replace(acts, values=torch.where(mask, new, acts.values))
    if isinstance(per_head, Tensor) and per_head.ndim == 1:
        full = acts.values.new_zeros(heads)
        full[slice(None) if edit.units is None else edit.units] = per_head.to(full.dtype)
        per_head = full[None, :, None, None]
    new = _changed(
        replace(edit, value=per_head), acts.values, None if source is None else source.values
    )
    return replace(acts, values=torch.where(mask, new, acts.values))


def _mixed_heads(edit: Edit, old: Tensor) -> Tensor:
    """Edges `(batch, head, query, key)` mixed by head."""
    heads = torch.arange(old.shape[1], device=old.device) if edit.units is None else edit.units
    share, base = _parts(edit.value, old)
    share = every_row(share[:, 0].expand(-1, len(heads)), len(old))[..., None, None]
    base = base.expand(len(heads))[:, None, None]
    return old.index_copy(1, heads, share * old[:, heads] + (1 - share) * base)


def _past(queries: int, keys: int, start: int, device: torch.device) -> Tensor:
    """Which edges may be edited, `(query, key)`: one into the future would show later tokens."""
    query = torch.arange(start, start + queries, device=device)
    return torch.arange(keys, device=device)[None] <= query[:, None]
