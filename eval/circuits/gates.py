"""Edges with a share each: what a circuit does when weights between its nodes are left out."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import isnan
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from pellucid.eval.circuits.bases import Base
from pellucid.eval.circuits.circuit import Placed
from pellucid.eval.circuits.nodes import Nodes
from pellucid.eval.circuits.objective import margins_of
from pellucid.eval.circuits.passages import MOST, Passage, Shares, shares_of, taken_apart
from pellucid.eval.circuits.weights import Link, Links, links_of, mean_of, replaced

LACKS = "not counted: "
"""How a reason says which parts of the model a number of edges is without."""


@dataclass(frozen=True)
class Edges:
    """The weights other than 0 between nodes that are kept, numbered through all matrices.

    Of a passage, which has no weights, every pair of such nodes is an edge.
    """

    links: tuple[Link | Passage, ...]
    targets: tuple[Int[Tensor, " edge"], ...]
    """for each matrix, the unit that each edge reaches"""
    sources: tuple[Int[Tensor, " edge"], ...]
    reasons: tuple[str, ...] = ()
    """which parts of the model show no weights, and why"""
    unknown: tuple[str, ...] = ()
    """which parts have no edges at all, and why: a number of edges is without theirs"""

    def __len__(self) -> int:
        return sum(map(len, self.sources))

    def split(self, per_edge: Tensor) -> Iterator[tuple[Link | Passage, Tensor, Tensor, Tensor]]:
        """Each matrix with its edges' targets, sources and values."""
        parts = per_edge.split([len(each) for each in self.sources])
        return zip(self.links, self.targets, self.sources, parts, strict=True)

    def weights(self) -> Float[Tensor, " edge"]:
        """The weight of each edge; NaN where it has none."""
        found = []
        for link, target, source in zip(self.links, self.targets, self.sources, strict=True):
            like = next(link.module.parameters()).detach()
            none, weight = like.new_full((len(target),), torch.nan), link.weight
            found.append(none if weight is None else weight.detach()[target, source])
        return torch.cat(found) if found else torch.zeros(0)

    def listed(
        self, nodes: Nodes, chosen: Int[Tensor, " some"], effects: Mapping[int, float]
    ) -> list[dict[str, Any]]:
        """Some of the edges as they are written to a file; an effect that nobody measured is None.

        A query and a key channel are one node: `through` tells by which matrix it is reached. The
        weight of an edge of a passage that has none is None.
        """
        number = nodes.by_site(torch.arange(len(nodes), dtype=torch.float64))
        names, weights = nodes.names(), self.weights().tolist()
        ends = [
            (int(number[link.source][s]), int(number[link.target][t]), link.matrix)
            for link, targets, sources, _ in self.split(torch.zeros(len(self)))
            for t, s in zip(targets.tolist(), sources.tolist(), strict=True)
        ]
        return [
            {
                "source": names[ends[edge][0]],
                "target": names[ends[edge][1]],
                "through": ends[edge][2],
                "weight": None if isnan(weights[edge]) else weights[edge],
                "effect": effects.get(edge),
            }
            for edge in chosen.tolist()
        ]


def links_between(model: nn.Module, nodes: Nodes) -> Links:
    """The matrices and passages whose two ends are nodes, and in words what has none."""
    found, reasons, unknown = links_of(model)
    there = set(nodes.sites)
    within = [link for link in found if {link.source, link.target} <= there]
    if found and not within:
        reasons = ["between heads and neurons stands the stream: no single weight joins two nodes"]
    return Links(within, reasons, unknown)


@torch.no_grad()
def edges_of(model: nn.Module, nodes: Nodes, kept: Bool[Tensor, " node"]) -> Edges:
    """A circuit's edges: non-zero weights between two nodes that it keeps, and their passages."""
    within, reasons, unknown = links_between(model, nodes)
    links: list[Link | Passage] = []
    held = nodes.by_site(kept.cpu().double())
    targets, sources = [], []
    for link in within:
        weight = link.weight
        device = next(link.module.parameters()).device
        rows = held[link.target].to(device).nonzero()[:, 0]
        columns = held[link.source].to(device).nonzero()[:, 0]
        if weight is None and len(rows) > MOST:
            unknown.append(f"{link.name}: more than {MOST} targets are not computed one by one")
            continue
        there_is = (
            torch.ones(len(rows), len(columns)) if weight is None else weight[rows][:, columns]
        )
        row, column = (there_is != 0).nonzero(as_tuple=True)
        links.append(link)
        targets.append(rows[row.to(device)])
        sources.append(columns[column.to(device)])
    return Edges(*map(tuple, (links, targets, sources, reasons, unknown)))


@contextmanager
def shared(edges: Edges, share: Float[Tensor, " edge"], base: Base) -> Iterator[None]:
    """Run with each edge carrying its share of what its source does, the rest being its mean.

    An edge that is left out carries weight x mean of its source. Gradients reach `share`.
    """
    new: dict[tuple[nn.Module, str], Tensor] = {}
    apart: dict[nn.Module, dict[str, Shares]] = {}
    for link, target, source, part in edges.split(share):
        if not len(part):
            continue
        if isinstance(link, Passage):
            like = next(link.module.parameters()).detach().new_empty(link.n_sources)
            mean = mean_of(base[link.source], like)
            own = apart.setdefault(link.module, {})
            own[link.matrix] = shares_of(link, target, source, part, mean)
            continue
        weight = link.weight.detach()
        kept = torch.ones_like(weight).index_put((target, source), part.to(weight))
        carried = (weight * (1 - kept)) @ mean_of(base[link.source], weight[0])
        matrix = weight * kept
        new[link.module, link.matrix] = matrix.T if link.from_rows else matrix
        key, bias = (link.module, link.bias), getattr(link.module, link.bias)
        # Two matrices may add to one bias.
        before = new.get(key, None if bias is None else bias.detach())
        new[key] = carried if before is None else before + carried
    with replaced(new), taken_apart(apart):
        yield


def loss_of(placed: Placed, edges: Edges, share: Float[Tensor, " edge"]) -> Float[Tensor, ""]:
    """Loss of a circuit whose edges have shares, in nats; differentiable in the shares."""
    asked, base = placed.asked, placed.base
    with shared(edges, share, base):
        margins = margins_of(placed.model, placed.nodes, asked, placed.share, base)
    return asked.loss(margins, placed.circuit.readout)[0]


def predicted(placed: Placed, edges: Edges) -> Float[Tensor, " edge"]:
    """By how much the loss would rise with each edge left out, to first order, in one pass.

    Edge attribution patching (arXiv 2310.10348): (mean - value) of the source · ∂loss / ∂ what the
    edge carries, summed over tokens. Its sum over an edge's tokens is -∂loss / ∂share.
    """
    like = next(placed.model.parameters())
    share = torch.ones(len(edges), dtype=like.dtype, device=like.device, requires_grad=True)
    if not len(edges):
        return share.detach()
    with torch.enable_grad():
        loss = loss_of(placed, edges, share)
        return -torch.autograd.grad(loss, share)[0]
