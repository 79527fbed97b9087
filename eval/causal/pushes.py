"""Ways to push a model towards a label: by a unit, and by what needs no units."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pellucid.eval.causal.chosen import Unit, densities, of_equal_density
from pellucid.eval.causal.passes import Edits, Rows, chunks
from pellucid.eval.concepts.truth import Truth
from pellucid.eval.controls import System
from pellucid.models import add, record

STRENGTHS = (0.5, 1.0, 2.0, 4.0)
"""In units of the 99th percentile of the unit's |activation| on the side that it is pushed to."""
HIGH = 99

Push = Callable[[float], Edits]
"""Edits at a strength."""

VECTORS = ("difference_in_means", "unembedding_row", "random_direction")
"""Pushes along a direction of the stream, as long as the unit's own."""
NO_DIRECTION = "the unit has no single write direction to match the length of"


@dataclass(frozen=True)
class Pusher:
    """Makes the pushes of one system; `truth` says of each token whether the next realises a label."""

    system: System
    truth: Truth
    rows: Rows
    """of half A: what the stream holds there gives the differences in means"""
    realising: Bool[Tensor, "label vocab"]
    seed: int

    def by_unit(self, unit: Unit, sign: int) -> Push:
        """Moves a unit further above 0, or below it, at every token."""
        step = sign * self.high(unit, sign)
        return lambda strength: {unit.site: add(strength * step, [unit.number])}

    def by_random_unit(self, unit: Unit, label: int) -> Push | str:
        """Moves a living unit of equal density to its usual side, or says that there is none.

        Each label has a draw of its own. The usual side is that on which the unit is active on more
        tokens of half A; above 0 where on equally many.
        """
        found = of_equal_density([unit], self._densities, seed=self.seed, label=label)
        if not found:
            return "no other unit of its site is alive"
        above, below = self._densities[found[0].site][:, found[0].number]
        return self.by_unit(found[0], 1 if above >= below else -1)

    def by_vector(self, method: str, unit: Unit, sign: int, label: int) -> Push | str:
        """Adds a direction to the stream behind the unit's layer, or says why it cannot.

        It is as long as what the unit's own push writes.
        """
        site = self.system.sites()[unit.site]
        write, stream = site.write_directions(), f"blocks.{site.layer}.stream"
        if write is None or stream not in self.system.model.sites():
            return NO_DIRECTION
        length = self.high(unit, sign) * float(write[unit.number].float().norm())
        vector = self._direction(method, stream, label)
        vector = vector / vector.norm().clamp(min=torch.finfo(vector.dtype).tiny)
        return lambda strength: {stream: add(strength * length * vector)}

    def high(self, unit: Unit, sign: int) -> float:
        """The 99th percentile of |value| on one side of 0 on half A, 0 where the unit has none."""
        tokens, values = self.system.harvest[unit.site].active(unit.number)
        values = sign * values
        kept = values[(self.truth.half[tokens] == 0) & (values > 0)]
        return float(np.percentile(kept, HIGH)) if len(kept) else 0.0

    @cached_property
    def _densities(self) -> dict[str, Float[np.ndarray, "sign unit"]]:
        return densities(self.system, self.truth.a)

    def _direction(self, method: str, stream: str, label: int) -> Float[Tensor, " d_model"]:
        model = self.system.model
        width = model.sites()[stream].n_units
        if method == "random_direction":
            rng = np.random.default_rng([self.seed, label])
            return torch.from_numpy(rng.standard_normal(width)).float()
        if method == "unembedding_row":
            weight = next(model.parameters())
            rows = model.direct_logits(torch.eye(width, dtype=weight.dtype, device=weight.device))
            return rows.detach().float().cpu()[:, self.realising[label]].mean(1)
        values = self._streams[stream]
        holds = torch.from_numpy(self.truth.holds[self.rows.places, label])
        known = torch.from_numpy(self.rows.scored)
        if not (holds & known).any():
            return torch.zeros(width)
        return values[holds & known].mean(0) - values[~holds & known].mean(0)

    @cached_property
    @torch.no_grad()
    def _streams(self) -> dict[str, Float[Tensor, "row column d_model"]]:
        """The stream behind every layer that has units, on the rows."""
        model = self.system.model
        layers = sorted({site.layer for site in self.system.sites().values()})
        names = [n for layer in layers if (n := f"blocks.{layer}.stream") in model.sites()]
        found: dict[str, list[Tensor]] = {name: [] for name in names}
        device = next(model.parameters()).device
        with record(model, names) as trace:
            for at in chunks(model, self.rows.tokens):
                model(self.rows.tokens[at].to(device))
                for name in names:
                    found[name].append(trace[name].values.float().cpu())
        return {name: torch.cat(pieces) for name, pieces in found.items()}
