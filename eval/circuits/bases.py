"""What a node that is left out is held at: zero, a mean, or what it does on another prompt."""

from collections.abc import Iterable, Mapping
from typing import Literal

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from pellucid.eval.circuits.nodes import Nodes
from pellucid.models import Activations, record, unwrap

Ablation = Literal["zero", "mean", "mean_task", "resample"]
"""Zero; the mean over training text; the mean over the task's prompts; another prompt's values."""

Base = Mapping[str, float | Tensor]
"""By site: a number, values `(unit,)`, or `(batch, token, unit)`."""


def zeros(nodes: Nodes) -> Base:
    """Zero at every site."""
    return dict.fromkeys(nodes.sites, 0.0)


@torch.no_grad()
def means(
    model: nn.Module,
    nodes: Nodes,
    rows: Iterable[Integer[Tensor, "_ token"]],
    last: Iterable[Integer[Tensor, " _"]] | None = None,
) -> Base:
    """Means `(unit,)` over all tokens of all rows, in float64 sums; 0 for edges of attention.

    `last` gives the last token of each row that counts, where rows are padded.
    """
    device = next(model.parameters()).device
    sums: dict[str, Tensor | float] = {}
    total = 0
    ends = iter(last) if last is not None else None
    with record(model, nodes.sites) as trace:
        for some in rows:
            some = some.to(device)
            # Nobody reads the logits: one of each row is the least that a pass computes.
            unwrap(model).logits_at(some, torch.zeros_like(some[:, 0]))
            counted = _counted(some, next(ends) if ends is not None else None)
            total += int(counted.sum())
            for site, acts in trace.items():
                if acts.values.ndim == 4:
                    sums[site] = 0.0
                    continue
                sums[site] = sums.get(site, 0.0) + _summed(acts, counted)
    dtype = next(model.parameters()).dtype
    return {s: v if isinstance(v, float) else (v / total).to(dtype) for s, v in sums.items()}


def _summed(acts: Activations, counted: Float[Tensor, "row token"]) -> Float[Tensor, " unit"]:
    """Sums over the tokens that count, in float64."""
    if acts.is_sparse and acts.values.device.type == "cpu":
        # Slot after slot, which on a GPU would have no fixed order; no tensor of all units.
        there = acts.indices >= 0
        values = (acts.values * counted[..., None])[there]
        return torch.bincount(acts.indices[there], values, minlength=acts.n_units)
    # Row by row: a product reads what it adds up once, and no copy of all is made.
    counts = zip(counted, acts.to_dense(), strict=True)
    return sum(count @ row.double() for count, row in counts)


def _counted(rows: Tensor, last: Tensor | None) -> Float[Tensor, "row token"]:
    """1 for each token that counts, else 0."""
    if last is None:
        return torch.ones_like(rows, dtype=torch.float64)
    columns = torch.arange(rows.shape[1], device=rows.device)
    return (columns <= last[:, None].to(rows.device)).double()


@torch.no_grad()
def resampled(
    model: nn.Module,
    nodes: Nodes,
    tokens: Integer[Tensor, "row token"],
    source: Integer[Tensor, " row"],
    last: Integer[Tensor, " row"],
) -> Base:
    """Each row's base is what the units do in row `source`, `(row, token, unit)`; 0 for edges.

    Rows are laid upon each other by their ends, `last`: the answer is read there, and padding
    behind it is nobody's value. Where `source` has not begun, its first token stands in.
    """
    source, last = source.to(tokens.device), last.to(tokens.device)
    ends = last[source][:, None]
    column = torch.arange(tokens.shape[1], device=tokens.device) - last[:, None] + ends
    column = column.clamp(min=0).minimum(ends)
    with record(model, nodes.sites) as trace:
        model(tokens)
    return {
        site: 0.0 if acts.values.ndim == 4 else acts.to_dense()[source[:, None], column]
        for site, acts in trace.items()
    }
