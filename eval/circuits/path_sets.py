"""Edges between a circuit's heads and neurons: ranked, and left out together.

With a set of edges left out each target reads a stream in which the sources that it lost wrote their
base, and later targets read what it makes of that: path patching (arXiv 2304.14997) of many edges.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pellucid.eval.circuits.circuit import Circuit, Placed
from pellucid.eval.circuits.nodes import Nodes
from pellucid.eval.circuits.objective import edits_of
from pellucid.eval.circuits.path_effects import Name, edge_scores, effects
from pellucid.eval.circuits.paths import (
    LOGITS,
    Edits,
    Part,
    Pass,
    Path,
    final_logits,
    n_edges,
    parts_of,
    patched,
    read,
    units_of,
)
from pellucid.models import intervene, unwrap

MOST = 2048
"""Edges of a circuit that are left out in sets; of more, each alone is enough work."""


@dataclass(frozen=True)
class Paths:
    """The edges between a circuit's parts, those of the largest effect first."""

    placed: Placed
    edges: tuple[Path, ...]
    strength: Float[Tensor, " edge"]
    """the size of each edge's effect alone, in nats, or of its slope where it was not tried"""
    tried: dict[Name, float]
    """by how much the loss rises without each edge that was tried alone"""

    @classmethod
    def of(cls, placed: Placed, tried: int) -> "Paths":
        """All edges of a circuit; the `tried` of the steepest slopes are left out one by one."""
        about = placed.model, placed.nodes, placed.asked, placed.base
        circuit = {"share": placed.share, "readout": placed.circuit.readout}
        guess = edge_scores(*about, **circuit)
        steepest = sorted(guess, key=lambda edge: -abs(guess[edge]))
        named = {part.name: part for part in parts_of(placed.nodes)}
        every = {edge: Path(named[edge[0]], named[edge[1]], edge[2]) for edge in steepest}
        chosen = [every[edge] for edge in steepest[:tried]]
        found = effects(*about, chosen, **circuit)
        strength = {edge: abs(effect) for edge, effect in (guess | found).items()}
        order = sorted(steepest, key=strength.get, reverse=True)
        sizes = torch.tensor([strength[edge] for edge in order], dtype=torch.double)
        ranked = tuple(every[edge] for edge in order)
        return cls(placed, ranked, sizes, found)

    @torch.no_grad()
    def loss(self, without: Int[Tensor, " some"]) -> float:
        """The circuit's loss with these edges left out, in nats."""
        placed = self.placed
        model, nodes, asked, base = placed.model, placed.nodes, placed.asked, placed.base
        edits: Edits = edits_of(nodes, placed.share, base)
        gone = sorted((self.edges[i] for i in without.tolist()), key=lambda e: e.target.place)
        for place, into in groupby(gone, key=lambda edge: edge.target.place):
            # What earlier halves write has changed where they lost edges.
            seen = Pass.of(model, nodes, asked, base, edits)
            for sources, targets in _alike(into):
                stream = seen.stream(place) + seen.changes(sources)
                if targets[0][0].name == LOGITS:
                    return self._loss(final_logits(model, asked, stream))
                new = read(model, place, stream)
                for target, through in targets:
                    edits = patched(edits, *units_of(model, target, through), new)
        with intervene(model, dict(edits)):
            return self._loss(unwrap(model).logits_at(asked.tokens, asked.last))

    def _loss(self, logits: Tensor) -> float:
        asked = self.placed.asked
        return float(asked.loss(asked.margins(logits), self.placed.circuit.readout)[0])

    def listed(self, chosen: Iterable[int]) -> list[dict[str, str | float | None]]:
        """Some of the edges as they are written to a file; an effect that nobody tried is None."""
        return [
            {
                "source": edge.source.name,
                "target": edge.target.name,
                "through": edge.through,
                "weight": None,
                "effect": self.tried.get(edge.name),
            }
            for edge in (self.edges[i] for i in chosen)
        ]


def count(nodes: Nodes, circuit: Circuit) -> int:
    """How many edges there are between a circuit's parts."""
    kept = circuit.kept.tolist()
    parts = [part for part in parts_of(nodes) if part.number < 0 or kept[part.number]]
    return n_edges(parts)


def _alike(
    some: Iterable[Path],
) -> Iterator[tuple[tuple[Part, ...], list[tuple[Part, str | None]]]]:
    """Targets that lose the same sources, and these: such targets read the same stream."""
    lost: dict[tuple[Part, str | None], list[Part]] = {}
    for source, target, through in some:
        lost.setdefault((target, through), []).append(source)
    found: dict[tuple[Part, ...], list[tuple[Part, str | None]]] = {}
    for target, sources in lost.items():
        found.setdefault(tuple(sorted(sources)), []).append(target)
    yield from found.items()
