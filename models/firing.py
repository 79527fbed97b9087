"""Which units fire, how often, and which have fallen silent."""

import torch
from torch import Tensor

from pellucid.models.filling import Filling, Told


class Firing(Filling):
    """A filling whose units can die: counts, in buffers that are saved with the model.

    Its passes tell `sum/fired`, the number of tokens at which each unit spoke.
    """

    silent_for: Tensor
    firing_rate: Tensor

    def count_firing(self, n_units: int) -> None:
        """Register the counts; to be called once, when the filling is built."""
        self.register_buffer("silent_for", torch.zeros(n_units, dtype=torch.int64))
        self.register_buffer("firing_rate", torch.zeros(n_units, dtype=torch.float32))

    @torch.no_grad()
    def after_step(self, told: Told, tokens: int) -> None:
        fired = told["sum/fired"]
        self.silent_for += tokens
        self.silent_for[fired > 0] = 0
        self.firing_rate.lerp_((fired / tokens).to(self.firing_rate.dtype), 0.01)

    def dead(self, after: int) -> Tensor:
        """Which units have been silent over the last `after` tokens of training."""
        return self.silent_for >= after

    def longest_silent(self, after: int, budget: float) -> Tensor:
        """The dead units, the longest silent first, at most `budget` of all units."""
        dead = self.dead(after).nonzero().flatten()
        order = self.silent_for[dead].argsort(descending=True, stable=True)
        return dead[order][: int(budget * len(self.silent_for))]


@torch.no_grad()
def fired(indices: Tensor, n_units: int) -> Tensor:
    """How often each unit is among the indices; index -1 is an empty slot."""
    counts = torch.zeros(n_units + 1, dtype=torch.int64, device=indices.device)
    slots = indices.flatten().long() + 1
    return counts.scatter_add(0, slots, torch.ones_like(slots))[1:]


def turned(rows: Tensor, generator: torch.Generator, size: float = 1.0) -> Tensor:
    """Vectors `(unit, d)` turned by noise of `size` times their length, and about as long."""
    noise = torch.randn(rows.shape, generator=generator, dtype=torch.float64).to(rows)
    noise *= size * rows.norm(dim=1, keepdim=True) / noise.norm(dim=1, keepdim=True)
    return (rows + noise) / (1 + size**2) ** 0.5
