"""Prompts in groups of like length: the shorter a group's longest, the less of a pass is padding."""

from itertools import pairwise

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from pellucid.eval.circuits.bases import Base
from pellucid.eval.circuits.nodes import Nodes
from pellucid.eval.circuits.objective import Asked, margins_of

PASS = {"cpu": 512, "cuda": 8192}
"""Tokens that are read in the time that a pass takes beside its tokens, by kind of device."""


def groups(last: Integer[Tensor, " row"], a_pass: float) -> list[Integer[Tensor, " some"]]:
    """Rows by length, such that all groups together take the fewest tokens, padding included.

    `last` is each row's last token; each group costs `a_pass` tokens more.
    """
    order = last.argsort(stable=True)
    lengths, counts = (each.tolist() for each in (last + 1).unique(return_counts=True))
    ends = [0, *torch.tensor(counts).cumsum(0).tolist()]
    best: list[tuple[float, list[int]]] = [(0.0, [0])]
    for stop, length in enumerate(lengths, start=1):
        ways = [
            (before + a_pass + (ends[stop] - ends[start]) * length, [*cuts, ends[stop]])
            for start, (before, cuts) in enumerate(best)
        ]
        best.append(min(ways, key=lambda way: way[0]))
    cuts = best[-1][1]
    return [order[a:b] for a, b in pairwise(cuts)]


def of_rows(asked: Asked, base: Base, rows: Integer[Tensor, " some"]) -> tuple[Asked, Base]:
    """Some of the rows as far as the longest of them goes, with what belongs to them.

    That is: the bases of the rows, and the scales that norms are held at.
    """
    rows = rows.to(asked.tokens.device)
    width = int(asked.last[rows].max()) + 1
    cut = lambda value: value[rows, :width]
    held = None if asked.scales is None else tuple(map(cut, asked.scales))
    tensors = (asked.last, asked.first, asked.second, asked.wants_first)
    some = Asked(cut(asked.tokens), *(each[rows] for each in tensors), scales=held)
    by_row = lambda value: isinstance(value, Tensor) and value.ndim == 3
    return some, {site: cut(value) if by_row(value) else value for site, value in base.items()}


def margins_by_length(
    model: nn.Module,
    nodes: Nodes,
    asked: Asked,
    share: Float[Tensor, "copy node"],
    base: Base,
) -> Float[Tensor, " copies_row"]:
    """As `margins_of`, in a pass for each group of prompts of like length."""
    a_pass = PASS.get(asked.tokens.device.type, max(PASS.values())) / len(share)
    apart = groups(asked.last.cpu(), a_pass)
    if len(apart) == 1 and int(asked.last.max()) + 1 == asked.tokens.shape[1]:
        return margins_of(model, nodes, asked, share, base)
    found = []
    for rows in apart:
        some, held = of_rows(asked, base, rows)
        found.append(margins_of(model, nodes, some, share, held).view(len(share), -1))
    place = torch.cat(apart).argsort().to(asked.tokens.device)
    return torch.cat(found, dim=1)[:, place].flatten()
