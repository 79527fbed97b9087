"""Edges between heads, neurons, the embedding and the logits: what one reads of what another wrote.

Between them stands the stream, to which every part adds and which every later part reads through a
norm. Leaving an edge out, the target alone reads a stream in which the source wrote its base: path
patching (arXiv 2304.14997). A head reads by its queries, its keys and its values, and each of the
three is an edge of its own, as in EAP-IG (arXiv 2403.17806): what moves attention and what it moves
are told apart. A head's base is that of the values it moves.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pellucid.eval.circuits.bases import Base
from pellucid.eval.circuits.nodes import Group, Nodes
from pellucid.eval.circuits.objective import Asked
from pellucid.models import Activations, Edit, Trace, intervene, mix, record, unwrap
from pellucid.models.attention.bilinear import BilinearAttention
from pellucid.models.attention.gated import GatedAttention
from pellucid.models.attention.softmax import SoftmaxAttention
from pellucid.models.stream.residual import Block

HEADS = (SoftmaxAttention, GatedAttention, BilinearAttention)
KINDS = ("head", "neuron")
EMBED, LOGITS = "embed", "logits"
Edits = Mapping[str, Edit | list[Edit]]


class Part(NamedTuple):
    """One end of edges."""

    name: str
    place: int
    """of the pass: 0 the embedding, then two for each layer, then the logits"""
    number: int
    """of the node; -1 for the embedding and the logits"""
    unit: int


class Path(NamedTuple):
    """An edge."""

    source: Part
    target: Part
    through: str | None
    """which of a head's reads: `q`, `k` or `v`; None for others"""

    @property
    def name(self) -> tuple[str, str, str | None]:
        """As it is written to a file."""
        return self.source.name, self.target.name, self.through


def reason(model: nn.Module, nodes: Nodes, others: str) -> str | None:
    """Why there are no such edges, if there are none; `others` where nodes are other things."""
    if any(group.kind not in KINDS for group in nodes.groups):
        return others
    for layer, block in enumerate(unwrap(model).blocks):
        if type(block) is not Block:
            return f"blocks.{layer}: {type(block).__name__} is no sum of what its halves write"
        if type(block.attention) not in HEADS:
            kind = type(block.attention).__name__
            return f"blocks.{layer}.attention: {kind} has no heads that write by a matrix"
        if block.mlp.site.write_directions() is None:
            kind = type(block.mlp).__name__
            return f"blocks.{layer}.mlp: units of {kind} write in no direction of their own"
    return None


def parts_of(nodes: Nodes) -> list[Part]:
    """The embedding, all heads and neurons, and the logits."""
    found = [Part(EMBED, 0, -1, 0)]
    for first, group in nodes.starts():
        found += [
            Part(f"{group.name}:{i}", place_of(group), first + i, i) for i in range(group.size)
        ]
    return [*found, Part(LOGITS, 1 + found[-1].place, -1, 0)]


def place_of(group: Group) -> int:
    """Where in the pass a group stands."""
    return 1 + 2 * group.layer + (group.kind == "neuron")


@dataclass(frozen=True)
class Pass:
    """A pass over the prompts, taken apart."""

    model: nn.Module
    trace: Trace
    base: Base
    embed_base: Tensor

    @classmethod
    def of(cls, model: nn.Module, nodes: Nodes, asked: Asked, base: Base, edits: Edits) -> "Pass":
        """Under the edits of a circuit. The embedding's base is that of the other prompt where the
        units' is of another prompt, and else its mean over the prompts."""
        model = unwrap(model)
        names = [name for name in model.sites() if not name.startswith("head.")]
        with torch.no_grad(), intervene(model, edits), record(model, names) as trace:
            model(asked.tokens)
        embedded = trace["embed"].values
        by_row = any(isinstance(b, Tensor) and b.ndim == 3 for b in base.values())
        columns = torch.arange(asked.tokens.shape[1], device=embedded.device)
        counted = columns[None] <= asked.last[:, None]
        mean = embedded[counted].mean(0).expand_as(embedded)
        return cls(model, trace, base, embedded[asked.partner] if by_row else mean)

    def stream(self, place: int) -> Float[Tensor, "row token d_model"]:
        """What a half reads, before its norm; at the last place, what the head reads."""
        layer, second = divmod(place - 1, 2)
        before = "embed" if layer == 0 else f"blocks.{layer - 1}.stream"
        stream = self.trace[before].values
        return stream + self.trace[f"blocks.{layer}.attn_out"].values if second else stream

    def change(self, part: Part) -> Float[Tensor, "row token d_model"]:
        """By how much the stream changes where a part writes its base."""
        if part.name == EMBED:
            return self.embed_base - self.trace["embed"].values
        layer, second = divmod(part.place - 1, 2)
        if second:
            return self._of_neurons(layer, [part.unit])
        moved = self._moved(f"blocks.{layer}.attention.v")
        attention = self.model.blocks[layer].attention
        mine = channels(attention, part.unit)
        edges = self.trace[f"blocks.{layer}.attention"].values[:, part.unit]
        return edges.to(moved.dtype) @ moved[..., mine] @ attention.w_o.detach()[:, mine].T

    def changes(self, parts: Iterable[Part]) -> Float[Tensor, "row token d_model"]:
        """The sum of the changes of several parts; neurons of a layer are written in one product."""
        neurons: dict[int, list[int]] = {}
        total = torch.zeros_like(self.trace["embed"].values)
        for part in parts:
            layer, second = divmod(part.place - 1, 2)
            if part.name != EMBED and second:
                neurons.setdefault(layer, []).append(part.unit)
            else:
                total = total + self.change(part)
        for layer, units in neurons.items():
            total = total + self._of_neurons(layer, units)
        return total

    def _of_neurons(self, layer: int, units: list[int]) -> Float[Tensor, "row token d_model"]:
        site = f"blocks.{layer}.mlp"
        write = self.model.sites()[site].write_directions()
        return self._moved(site)[..., units] @ write[units]

    def _moved(self, site: str) -> Float[Tensor, "row token unit"]:
        """How far each unit's base is from what it does."""
        acts = self.trace[site].to_dense()
        return torch.as_tensor(self.base[site], dtype=acts.dtype, device=acts.device) - acts


def channels(attention: nn.Module, head: int) -> slice:
    """Which values are a head's."""
    return slice(head * attention.d_head, (head + 1) * attention.d_head)


def read(
    model: nn.Module, place: int, stream: Float[Tensor, "row token d_model"]
) -> dict[str, Activations]:
    """What a half makes of a stream: its neurons, or its queries, keys and values, by site."""
    layer, second = divmod(place - 1, 2)
    block, at = unwrap(model).blocks[layer], f"blocks.{layer}."
    if second:
        with record(model, [f"{at}mlp"], grad=True) as trace:
            block.mlp.split(block.sparsity("mlp_in", block.mlp_norm(stream)))
        return dict(trace)
    with record(model, [f"{at}attention.{x}" for x in "qkv"], grad=True) as trace:
        block.attention.split(block.sparsity("attn_in", block.attention_norm(stream)))
    return dict(trace)


def units_of(model: nn.Module, part: Part, through: str | None) -> tuple[str, Tensor]:
    """The site and the units that a part reads with: a neuron, or a head's queries, keys or values.

    A head that has several queries has them score by score.
    """
    layer = (part.place - 1) // 2
    if through is None:
        return f"blocks.{layer}.mlp", torch.tensor([part.unit])
    attention = unwrap(model).blocks[layer].attention
    n_units = attention.more_sites[through].n_units
    of_head = torch.arange(n_units).view(n_units // attention.w_o.shape[1], -1)
    mine = of_head[:, channels(attention, part.unit)].reshape(-1)
    return f"blocks.{layer}.attention.{through}", mine


def reads_of(part: Part) -> tuple[str | None, ...]:
    """What a part reads through: a head by queries, keys and values, all others in one way."""
    of_head = part.number >= 0 and part.place % 2
    return ("q", "k", "v") if of_head else (None,)


def edges(parts: list[Part]) -> Iterator[Path]:
    """All edges: from every part to those after it."""
    for target in parts:
        for through in reads_of(target):
            for source in parts:
                if source.place < target.place:
                    yield Path(source, target, through)


def n_edges(parts: Iterable[Part]) -> int:
    """How many `edges` gives, without making them: a whole model has millions."""
    here, reads = Counter(), Counter()
    for part in parts:
        here[part.place] += 1
        reads[part.place] += len(reads_of(part))
    before = lambda place: sum(count for other, count in here.items() if other < place)
    return sum(count * before(place) for place, count in reads.items())


def final_logits(
    model: nn.Module, asked: Asked, stream: Float[Tensor, "row token d_model"]
) -> Float[Tensor, "row vocab"]:
    """What the head says of a stream at the end of each prompt."""
    model = unwrap(model)
    logits = model.head(model.norm(stream), asked.tokens, None, None)[0]
    return logits[torch.arange(len(asked), device=logits.device), asked.last]


def patched(
    edits: Edits, site: str, units: Tensor, new: Mapping[str, Activations]
) -> dict[str, list[Edit]]:
    """Edits, after which some units of a site are set to new values."""
    found = {name: [*some] if isinstance(some, list) else [some] for name, some in edits.items()}
    values = new[site].select(units.to(new[site].values.device))
    found.setdefault(site, []).append(mix(values.new_zeros(len(units)), values, units))
    return found
