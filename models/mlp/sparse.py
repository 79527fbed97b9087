"""What the sparse MLPs share: weights, site, firing statistics, and the revival of dead units."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pellucid.errors import ConfigError
from pellucid.models.firing import Firing, turned
from pellucid.models.sharding import set_rows, whole
from pellucid.models.units import Exactness, UnitSite
from pellucid.settings import fields
from pellucid.settings.fields import setting


class SparseMLP(Firing):
    """Encoder `w_enc, b_enc`, decoder `w_dec, b_dec`, and a rule that leaves few units active."""

    signed = False
    exactness: Exactness = "linear-given-active-set"

    @dataclass(frozen=True, kw_only=True)
    class Config(fields.Config):
        k: int = setting(32, low=1)
        """Active units per token (for batch_topk and jumprelu: on average)."""
        width: int | None = setting(None, low=1)
        """Units; none gives 8 x d_model."""

        def resolved_width(self, d_model: int) -> int:
            width = 8 * d_model if self.width is None else self.width
            if self.k > width:
                raise ConfigError(f"mlp.k is {self.k}; at most the width, {width}, is accepted")
            return width

    def __init__(self, config: Config, d_model: int):
        super().__init__()
        self.config = config
        width = config.resolved_width(d_model)
        self.w_enc = nn.Parameter(torch.empty(width, d_model))
        self.b_enc = nn.Parameter(torch.zeros(width))
        self.w_dec = nn.Parameter(torch.empty(width, d_model))
        self.b_dec = nn.Parameter(torch.zeros(d_model))
        self.count_firing(width)
        self.site = UnitSite(
            "mlp",
            width,
            signed=self.signed,
            exactness=self.exactness,
            takes_rest=True,
            write=lambda: self.w_dec,
            read=lambda: self.w_enc,
        )

    @torch.no_grad()
    def revive(self, after: int, budget: float, generator: torch.Generator) -> dict[str, Tensor]:
        """Give the longest-silent units a new start, at most `budget` of the width at once.

        A revived unit reads the direction of a living unit, drawn by firing rate, turned by noise
        of the same length, and writes nothing until it has learned to. Returns the rows by
        parameter name, so that their optimizer state can be cleared.
        """
        rows = self.longest_silent(after, budget)
        if len(rows) == 0 or float(self.firing_rate.sum()) == 0:
            return {}
        rates = self.firing_rate.double().cpu()
        parents = torch.multinomial(rates, len(rows), replacement=True, generator=generator)
        parents = parents.to(rows.device)
        read = whole(self.w_enc)[parents]
        set_rows(self.w_enc, rows, turned(read, generator))
        set_rows(self.b_enc, rows, whole(self.b_enc)[parents])
        set_rows(self.w_dec, rows, torch.zeros_like(whole(self.w_dec)[parents]))
        self.silent_for[rows] = 0
        return {"w_enc": rows, "b_enc": rows, "w_dec": rows}
