"""The nodes of a model: what a circuit keeps or leaves out, made of the units of its sites."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from pellucid.errors import UserError
from pellucid.models import UnitSite, record, unwrap

Grain = Literal["channels", "parts"]
"""`channels`: what a layer reads and writes, its queries with keys, values and neurons, as in the
paper; `parts`: heads and neurons alone."""

READS, WRITES = ("attn_in", "mlp_in"), ("attn_out", "mlp_out")


class Group(NamedTuple):
    """Nodes of one kind in one layer."""

    name: str
    """`blocks.0.mlp`; a node of it is called `blocks.0.mlp:17`"""
    kind: Literal["read", "write", "neuron", "query_key", "value", "head", "unit"]
    layer: int
    """-1 outside the blocks"""
    size: int
    places: Mapping[str, Integer[Tensor, " unit"]]
    """which of the group's nodes each unit of a site belongs to"""


@dataclass(frozen=True)
class Nodes:
    """All nodes of a model, in the order of its pass, numbered through all groups."""

    groups: tuple[Group, ...]

    def __len__(self) -> int:
        return sum(group.size for group in self.groups)

    def starts(self) -> Iterator[tuple[int, Group]]:
        """Every group with the number of its first node."""
        first = 0
        for group in self.groups:
            yield first, group
            first += group.size

    @property
    def sites(self) -> tuple[str, ...]:
        """The sites whose units belong to nodes."""
        return tuple(dict.fromkeys(site for group in self.groups for site in group.places))

    def names(self, numbers: Iterable[int] | None = None) -> list[str]:
        """What nodes are called (default: all of them)."""
        every = [f"{group.name}:{i}" for group in self.groups for i in range(group.size)]
        return every if numbers is None else [every[int(number)] for number in numbers]

    def number(self, name: str) -> int:
        """The number of a node by its name; UserError where there is none."""
        group_name, _, index = name.rpartition(":")
        for first, group in self.starts():
            if group.name == group_name and index.isdecimal() and int(index) < group.size:
                return first + int(index)
        raise UserError(f"{name!r} is not a node; the model has {', '.join(self._ranges())}")

    def _ranges(self) -> list[str]:
        return [f"{group.name}:0 … {group.size - 1}" for group in self.groups]

    def by_site(self, per_node: Float[Tensor, "*batch node"]) -> dict[str, Tensor]:
        """Values of nodes as values `(*batch, unit)` of the units that belong to them."""
        # Cut, and not indexed by number: the slope of an index is as long as all nodes together.
        parts = per_node.split([group.size for group in self.groups], dim=-1)
        found = {}
        for part, group in zip(parts, self.groups, strict=True):
            for site, places in group.places.items():
                own = torch.equal(places.cpu(), torch.arange(group.size))
                found[site] = part if own else part[..., places.to(part.device)]
        return found

    def sums(self, per_unit: Mapping[str, Float[Tensor, "*batch unit"]]) -> Tensor:
        """Values of units summed over each node `(*batch, node)`; a site that is absent adds 0."""
        like = next(iter(per_unit.values()))
        total = like.new_zeros(*like.shape[:-1], len(self))
        for first, group in self.starts():
            for site, places in group.places.items():
                if site in per_unit:
                    total.index_add_(-1, first + places.to(like.device), per_unit[site])
        return total


def nodes_of(model: nn.Module, grain: Grain = "channels") -> Nodes:
    """The nodes of a model; UserError for one that shows no units, or a site that has none.

    A filling without queries, keys and values of its own enters with its units; heads are the
    values they move, so that they have a mean, and where there are none, their edges.
    """
    model = unwrap(model)
    sites, edges = model.sites(), _edges(model)
    for name, site in sites.items():
        if not site.n_units:
            raise UserError(f"site {name!r} has no units: nothing of it can be part of a circuit")
    groups: list[Group] = []
    for layer in range(len(model.blocks)):
        at = f"blocks.{layer}."
        mine = {name.removeprefix(at): site for name, site in sites.items() if name.startswith(at)}
        groups += _of_block(at, layer, mine, grain, model.blocks[layer], edges)
    return Nodes((*groups, *_of_head(sites, edges)))


def whole_heads(model: nn.Module, nodes: Nodes) -> Nodes:
    """The same nodes, heads with their queries and keys beside the values they move.

    Left out at another prompt's values, a head then writes what it writes there (arXiv 2504.13151),
    not the values from there under the attention that is here. Heads that are edges stay as they are.
    """
    sites = unwrap(model).sites()

    def whole(group: Group) -> Group:
        layer = f"blocks.{group.layer}.attention"
        if group.kind != "head" or f"{layer}.v" not in group.places:
            return group
        # Heads with two sets of queries have the second behind the first of all heads.
        width = sites[f"{layer}.v"].n_units // group.size
        places = {
            site: torch.arange(sites[site].n_units) // width % group.size
            for site in (f"{layer}.q", f"{layer}.k", f"{layer}.v")
        }
        return group._replace(places=places)

    return Nodes(tuple(map(whole, nodes.groups)))


def _of_block(
    at: str,
    layer: int,
    sites: Mapping[str, UnitSite],
    grain: Grain,
    block: nn.Module,
    edges: frozenset[str],
) -> list[Group]:
    attention = _attention(at, layer, sites, grain, block.attention.config.n_heads, edges)
    units = [_plain(f"{at}mlp", "neuron", layer, sites["mlp"])]
    if grain == "parts":
        return attention + units
    around = {
        place: [_plain(at + place, kind, layer, sites[place])] if place in sites else []
        for kind, places in (("read", READS), ("write", WRITES))
        for place in places
    }
    first = around["attn_in"] + attention + around["attn_out"]
    return first + around["mlp_in"] + units + around["mlp_out"]


def _attention(
    at: str,
    layer: int,
    sites: Mapping[str, UnitSite],
    grain: Grain,
    heads: int,
    edges: frozenset[str],
) -> list[Group]:
    name = f"{at}attention"
    own = [] if name in edges else [_plain(name, "unit", layer, sites["attention"])]
    values = sites.get("attention.v")
    if values is None or (own and grain == "parts"):
        return own or [_plain(name, "head", layer, sites["attention"])]
    if grain == "parts":
        of_head = torch.arange(values.n_units) // -(-values.n_units // heads)
        return [Group(name, "head", layer, heads, {values.name: of_head})]
    moved = _plain(values.name, "value", layer, values)
    queries, keys = sites["attention.q"], sites["attention.k"]
    both = {site.name: torch.arange(site.n_units) for site in (queries, keys)}
    matched = Group(f"{name}.qk", "query_key", layer, max(map(len, both.values())), both)
    return [matched, moved, *own]


def _of_head(sites: Mapping[str, UnitSite], edges: frozenset[str]) -> list[Group]:
    """A sense is one node: its strength at a token, and its weights between tokens."""
    names = [name for name in sites if name.startswith("head.")]
    mine = [_plain(name, "unit", -1, sites[name]) for name in names]
    groups = [group for group in mine if group.name not in edges]
    for group in (group for group in mine if group.name in edges):
        like = [i for i, other in enumerate(groups) if other.size == group.size][:1]
        for i in like:
            groups[i] = groups[i]._replace(places={**groups[i].places, **group.places})
        groups += [] if like else [group]
    return groups


def _plain(name: str, kind: str, layer: int, site: UnitSite) -> Group:
    return Group(name, kind, layer, site.n_units, {site.name: torch.arange(site.n_units)})


@torch.no_grad()
def _edges(model: nn.Module) -> frozenset[str]:
    """The sites whose activations are edges of attention."""
    device = next(model.parameters()).device
    with record(model, model.sites()) as trace:
        model(torch.zeros(1, 2, dtype=torch.long, device=device))
    return frozenset(name for name, acts in trace.items() if acts.values.ndim == 4)
