"""What every control is given: a circuit, its model, its prompts, and how it was found."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from math import log

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor, nn

from pellucid.eval.circuits.bases import Ablation, Base, means, resampled, zeros
from pellucid.eval.circuits.battery.readout import applied, calibrated
from pellucid.eval.circuits.battery.repeats import Repeats
from pellucid.eval.circuits.circuit import Circuit
from pellucid.eval.circuits.measured import margins_of_many
from pellucid.eval.circuits.nodes import Nodes
from pellucid.eval.circuits.objective import Asked

Finder = Callable[[nn.Module, Nodes, Asked, Base, int], Circuit]
"""How the circuit was found: model, nodes, prompts, what left-out nodes are held at, seed."""
Kept = Bool[Tensor, "copy node"]
CHANCE = log(2.0)


@dataclass(frozen=True)
class Case:
    """A circuit and all that its controls need.

    A loss under a control is that on the unseen pairs, each circuit's margins being scaled and
    shifted as is best, under the same control, on the pairs that it was found on. So a control
    never fails a circuit for being evenly biased, or up to four times less sure than it has to be.
    """

    model: nn.Module
    nodes: Nodes
    circuit: Circuit
    asked: Asked
    """the pairs that the circuit was found on"""
    unseen: Asked
    """pairs of another family of prompts"""
    text: Sequence[Integer[Tensor, "row token"]]
    """rows of training text, a few at a time: what means are taken over"""
    find: Finder
    twins: Mapping[str, Callable[[int], nn.Module]]
    """makers of models that learned nothing, by name; they take a number, 0 for the first"""
    seed: int
    repeats: Repeats = field(default_factory=Repeats)
    mean: Base | None = None
    """the means over the text, where they are known already"""
    _bases: dict = field(default_factory=dict, repr=False)

    @property
    def target(self) -> float:
        """The loss, in nats, that was asked of the circuit."""
        return self.circuit.target

    @property
    def allowed(self) -> float:
        """The loss, in nats, above which a control fails the circuit."""
        return self.target + self.repeats.slack * (CHANCE - self.target)

    @property
    def kept(self) -> Kept:
        """The circuit's nodes, as the one copy of a batch."""
        return self.circuit.kept[None]

    def apart(self) -> "Case":
        """The same case with a model of its own, so that both can be worked on side by side."""
        return replace(self, model=deepcopy(self.model))

    def rng(self, name: str) -> torch.Generator:
        """Draws of one control: the same whatever other controls are taken."""
        number = int.from_bytes(name.encode()[:7], "big")
        return torch.Generator().manual_seed((self.seed * 1_000_003 + number) % 2**62)

    def losses(
        self, kept: Kept, ablation: Ablation = "mean", *, held: bool = False
    ) -> Float[Tensor, " copy"]:
        """Losses of circuits on the unseen pairs, in nats; `held`: at the norms of a whole pass."""
        seen = self.margins(kept, self.asked, ablation, held=held)
        unseen = self.margins(kept, self.unseen, ablation, held=held)
        return self.scored(seen, unseen)

    def scored(
        self, asked: Float[Tensor, "copy asked"], unseen: Float[Tensor, "copy unseen"]
    ) -> Float[Tensor, " copy"]:
        """Losses of margins on the unseen pairs, read as is best on the others."""
        shown = applied(unseen, calibrated(asked, self.asked.wants_first, self.target))
        return self.unseen.loss(shown.flatten()).cpu()

    def margins(
        self, kept: Kept, asked: Asked, ablation: Ablation, *, held: bool
    ) -> Float[Tensor, "copy row"]:
        """Margins of some prompts in circuits."""
        base, device = self.base(ablation, asked), asked.tokens.device
        asked = asked.holding(self.model) if held else asked
        return margins_of_many(self.model, self.nodes, asked, kept.to(device), base)

    def base(self, ablation: Ablation, asked: Asked) -> Base:
        """What left-out nodes are held at, made once for each kind and set of prompts."""
        prompts = id(asked) if ablation in ("mean_task", "resample") else None
        key = ablation, prompts
        if key not in self._bases:
            # The prompts are kept too: another object must not come by their id.
            self._bases[key] = asked, self._base(ablation, asked)
        return self._bases[key][1]

    def _base(self, ablation: Ablation, asked: Asked) -> Base:
        if ablation == "zero":
            return zeros(self.nodes)
        if ablation == "mean":
            return self.mean or means(self.model, self.nodes, self.text)
        if ablation == "mean_task":
            return means(self.model, self.nodes, [asked.tokens], [asked.last])
        source = others(asked.last, self.rng("resample"))
        return resampled(self.model, self.nodes, asked.tokens, source, asked.last)


def others(last: Integer[Tensor, " row"], rng: torch.Generator) -> Integer[Tensor, " row"]:
    """For each row another one, at random among those that are at least as long.

    So values laid by the ends of the rows are there for every token; but the longest row takes one
    of the longest of the rest. Raises ValueError for a single row.
    """
    if len(last) < 2:
        raise ValueError(f"another prompt's values need two prompts at least; got {len(last)}")
    ends = last.cpu()
    picked = []
    for row, end in enumerate(ends):
        rest = torch.arange(len(ends)) != row
        fit = (rest & (ends >= min(int(end), int(ends[rest].max())))).nonzero()[:, 0]
        picked.append(int(fit[torch.randint(len(fit), (1,), generator=rng)]))
    return torch.tensor(picked)
