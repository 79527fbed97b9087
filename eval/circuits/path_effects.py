"""What edges between parts do: left out one by one, and to first order in one backward pass each.

Edge attribution patching (arXiv 2310.10348), and EAP-IG with inputs between the two prompts (arXiv
2403.17806): Σ over tokens of (what the source writes when left out - what it writes) · the gradient
of the loss at what the target alone reads, a head by its queries, keys or values.
"""

from collections.abc import Iterable
from itertools import groupby

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pellucid.eval.circuits.attribution import inputs
from pellucid.eval.circuits.bases import Base
from pellucid.eval.circuits.nodes import Nodes
from pellucid.eval.circuits.objective import Asked, Readout, edits_of
from pellucid.eval.circuits.paths import (
    LOGITS,
    Part,
    Pass,
    Path,
    edges,
    final_logits,
    parts_of,
    patched,
    read,
    units_of,
)
from pellucid.models import Edit, intervene, mix, record, unwrap

Name = tuple[str, str, str | None]
"""Source, target, and by which read of a head."""
PLAIN = Readout()


@torch.no_grad()
def effects(
    model: nn.Module,
    nodes: Nodes,
    asked: Asked,
    base: Base,
    chosen: Iterable[Path],
    share: Float[Tensor, " node"] | None = None,
    readout: Readout = PLAIN,
) -> dict[Name, float]:
    """By how much the loss (nats) rises with each edge left out; `share` is that of a circuit."""
    edits = {} if share is None else edits_of(nodes, share, base)
    seen = Pass.of(model, nodes, asked, base, edits)

    def loss(logits: Tensor) -> float:
        return float(asked.loss(asked.margins(logits), readout)[0])

    last = parts_of(nodes)[-1].place
    whole = loss(final_logits(model, asked, seen.stream(last)))
    found: dict[Name, float] = {}
    held: tuple[Part | None, int, dict] = (None, -1, {})
    for edge in sorted(chosen, key=lambda edge: (edge.source, edge.target, edge.through or "")):
        source, target, through = edge
        if target.place == last:
            stream = seen.stream(last) + seen.change(source)
            found[edge.name] = loss(final_logits(model, asked, stream)) - whole
            continue
        if held[:2] != (source, target.place):
            stream = seen.stream(target.place) + seen.change(source)
            held = (source, target.place, read(model, target.place, stream))
        with intervene(model, patched(edits, *units_of(model, target, through), held[2])):
            logits = unwrap(model).logits_at(asked.tokens, asked.last)
        found[edge.name] = loss(logits) - whole
    return found


def edge_scores(
    model: nn.Module,
    nodes: Nodes,
    asked: Asked,
    base: Base,
    steps: int = 1,
    share: Float[Tensor, " node"] | None = None,
    readout: Readout = PLAIN,
) -> dict[Name, float]:
    """The same to first order for every edge: EAP, or with more `steps` EAP-IG.

    Beside the scores, memory is linear in nodes: one source and one target are looked at at a time.
    """
    circuit = {} if share is None else edits_of(nodes, share, base)
    parts = parts_of(nodes)
    if share is not None:
        kept = share.tolist()
        parts = [part for part in parts if part.number < 0 or kept[part.number]]
    here = Pass.of(model, nodes, asked, base, circuit)
    found: dict[Name, float] = {}
    for edits in inputs(model, asked, steps):
        slopes = _Slopes(model, nodes, asked, base, edits | circuit, readout)
        for (target, through), into in groupby(edges(parts), key=lambda edge: edge[1:]):
            slope = slopes.at(target, through)
            for edge in into:
                score = float((here.change(edge.source) * slope).sum()) / steps
                found[edge.name] = found.get(edge.name, 0.0) + score
    return found


class _Slopes:
    """Gradients of the loss at what single parts read, in one pass."""

    def __init__(
        self,
        model: nn.Module,
        nodes: Nodes,
        asked: Asked,
        base: Base,
        edits: dict[str, Edit],
        readout: Readout,
    ):
        self.model, self.asked, self.readout = model, asked, readout
        self.seen = Pass.of(model, nodes, asked, base, edits)
        names = [
            f"blocks.{layer}.{name}"
            for layer in range(len(unwrap(model).blocks))
            for name in ("attention.q", "attention.k", "attention.v", "mlp")
        ]
        self.slopes = self._of_units(names, edits)
        self.read: dict[int, tuple] = {}

    def _loss(self, logits: Tensor) -> Tensor:
        return self.asked.loss(self.asked.margins(logits), self.readout)[0]

    def _of_units(self, names: list[str], edits: dict[str, Edit]) -> dict[str, Tensor]:
        like, sites = next(self.model.parameters()), unwrap(self.model).sites()
        # Mixed with a share of 1, units are dense and part of the graph.
        same = {
            name: mix(
                torch.ones(
                    sites[name].n_units, dtype=like.dtype, device=like.device
                ).requires_grad_()
            )
            for name in names
        }
        both = {name: [edits[name]] for name in edits} | {
            name: [*([edits[name]] if name in edits else []), same[name]] for name in names
        }
        with torch.enable_grad(), intervene(self.model, both):
            with record(self.model, names, grad=True) as trace:
                logits = unwrap(self.model).logits_at(self.asked.tokens, self.asked.last)
            loss = self._loss(logits)
            values = [trace[name].values for name in names]
            found = torch.autograd.grad(loss, values, allow_unused=True)
        return {
            name: torch.zeros_like(value) if slope is None else slope
            for name, value, slope in zip(names, values, found, strict=True)
        }

    def at(self, target: Part, through: str | None) -> Float[Tensor, "row token d_model"]:
        """∂loss / ∂ the stream, by way of one read of one part alone."""
        if target.place not in self.read:
            # One half at a time, or all halves' graphs would be held at once.
            self.read = {target.place: self._half(target)}
        stream, values = self.read[target.place]
        if target.name == LOGITS:
            return torch.autograd.grad(values["loss"], stream, retain_graph=True)[0]
        site, units = units_of(self.model, target, through)
        units = units.to(stream.device)
        seen, slope = values[site][..., units], self.slopes[site][..., units]
        # Which codes speak has no slope: to first order nothing passes by way of them.
        (found,) = torch.autograd.grad(seen, stream, slope, retain_graph=True, allow_unused=True)
        return torch.zeros_like(stream) if found is None else found

    def _half(self, target: Part) -> tuple[Tensor, dict[str, Tensor]]:
        stream = self.seen.stream(target.place).detach().requires_grad_()
        with torch.enable_grad():
            if target.name == LOGITS:
                return stream, {"loss": self._loss(final_logits(self.model, self.asked, stream))}
            acts = read(self.model, target.place, stream)
            return stream, {site: each.to_dense() for site, each in acts.items()}
