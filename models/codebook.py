"""A codebook: what passes on is the mean of the k codes that are most like the input."""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, log2
from typing import Literal

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from pellucid.errors import ConfigError
from pellucid.kernels import sparse_decode, topk_rows
from pellucid.models.activations import Activations
from pellucid.models.filling import Cost, Rule, Told, under_autocast
from pellucid.models.firing import Firing, fired, turned
from pellucid.models.moments import tail_cosine
from pellucid.models.sharding import set_rows, whole
from pellucid.models.units import UnitSite
from pellucid.settings import fields
from pellucid.settings.fields import setting

TURN = 0.5
"""Length of the noise that turns a replaced code, in lengths of the code it is a copy of."""


@dataclass(frozen=True, kw_only=True)
class Codes(fields.Config):
    """The settings of every layer that speaks in codes."""

    codes: int = setting(512, low=1)
    """Codes in a codebook; attention has one codebook for each head."""
    k: int = setting(8, low=1)
    """Codes in a message."""
    first_k: int | None = setting(None, low=1)
    """Codes in a message when training starts, halved at equal steps until k are left; none gives
    4 x k, or all codes where there are fewer."""
    annealing: float = setting(0.5, low=0.0, high=1.0)
    """Share of the training after which messages have k codes."""
    reconstruction: float = setting(1.0, low=0.0)
    """Weight of the codes' mean squared distance from what they stand for."""
    commitment: float = setting(1.0, low=0.0)
    """Weight of the same distance as a loss of what is coded: from scratch, nothing else keeps it
    near the codes."""
    lr: float = setting(15.0, above=0.0)
    """Learning rate of the codes, in those of the other weights: codes are larger than weights."""

    def check(self) -> None:
        if self.k > self.codes:
            raise ConfigError(
                f"k is {self.k}; at most the number of codes, {self.codes}, is accepted"
            )
        if not self.k <= self.resolved_first_k() <= self.codes:
            raise ConfigError(
                f"first_k is {self.first_k}; from k, {self.k}, to the number of codes, {self.codes}, "
                f"is accepted"
            )

    def resolved_first_k(self) -> int:
        return min(4 * self.k, self.codes) if self.first_k is None else self.first_k

    def k_at(self, progress: float) -> int:
        """Codes in a message when this share of the training is done: few values, so that a
        compiled layer is compiled few times."""
        first = self.resolved_first_k()
        if progress >= self.annealing:
            return self.k
        halvings = ceil(log2(first / self.k))
        return max(self.k, first >> int(progress / self.annealing * halvings))


class Codebook(Firing):
    """Codebook features (arXiv 2310.17230): `mean of the k codes c with the largest cos(a, c)`.

    The paper writes a sum, its code and this layer divide it by k, so that the size of a message
    does not follow k's schedule. Units are codes: activation 1/k for each code of the message, which
    the codes alone determine; how well they fit does not pass on. With several groups (heads) each
    has codes of its own for its part of the channels. The input's gradient is the output's
    (straight-through), the codes learn from the task and from their distance to the input.
    In evaluation a message always has the k codes of the configuration, also before training ends.
    """

    def __init__(
        self,
        config: Codes,
        width: int,
        *,
        kind: Literal["mlp", "attention"],
        groups: int = 1,
        write: Callable[[], Tensor] | None = None,
    ):
        super().__init__()
        self.config, self.groups = config, groups
        self.k = config.k_at(0.0)
        self.w_dec = nn.Parameter(torch.empty(groups * config.codes, width // groups))
        self.count_firing(groups * config.codes)
        self.site = UnitSite(
            kind,
            groups * config.codes,
            signed=False,
            exactness="unit-ablation-exact",
            write=write or (lambda: self.w_dec),
        )

    def encode(self, a: Float[Tensor, "batch token d_model"]) -> tuple[Activations, Told]:
        k = self.k if self.training else self.config.k
        indices = self._choose(a, k)
        values = torch.full(indices.shape, 1 / k, dtype=a.dtype, device=a.device)
        told = {"sum/fired": fired(indices, self.site.n_units)}
        return Activations(values, indices, self.site.n_units), told

    @torch.no_grad()
    def _choose(self, a: Tensor, k: int) -> Int[Tensor, "batch token slot"]:
        """The k codes of each group with the largest cosine, found in float32 or better."""
        with torch.autocast(a.device.type, enabled=False):
            dtype = torch.promote_types(a.dtype, torch.float32)
            codes = F.normalize(self.w_dec.to(dtype), dim=-1)
            codes = rearrange(codes, "(group code) d -> group code d", group=self.groups)
            parts = rearrange(
                a.to(dtype), "batch token (group d) -> batch token group d", d=codes.shape[-1]
            )
            scores = einsum(parts, codes, "b t group d, group code d -> b t group code")
            _, best = topk_rows(rearrange(scores, "b t group code -> (b t group) code"), k)
        best = rearrange(best, "(bt group) k -> bt group k", group=self.groups)
        first = torch.arange(self.groups, device=a.device, dtype=best.dtype) * self.config.codes
        return rearrange(best + first[:, None], "(b t) group k -> b t (group k)", b=a.shape[0])

    def decode(self, acts: Activations) -> Float[Tensor, "batch token d_model"]:
        """The sum of the codes, each group's in its own channels, whatever slots an edit left."""
        owner = acts.indices[..., None, :] // self.config.codes
        mine = owner == torch.arange(self.groups, device=owner.device)[:, None]
        return self._sum(
            acts.values[..., None, :].where(mine, 0), acts.indices[..., None, :].where(mine, -1)
        )

    def _sum(self, values: Tensor, indices: Tensor) -> Float[Tensor, "batch token d_model"]:
        """Of slots `(batch, token, group, slot)`."""
        (w_dec,) = under_autocast(self.w_dec)
        rows = "batch token group slot -> (batch token group) slot"
        y = sparse_decode(rearrange(values, rows), rearrange(indices, rows).int(), w_dec)
        batch, token = values.shape[:2]
        return rearrange(y, "(b t group) d -> b t (group d)", b=batch, t=token)

    def forward(self, a: Float[Tensor, "batch token d_model"]) -> tuple[Tensor, Told]:
        acts, told = self.encode(a)
        own = "batch token (group slot) -> batch token group slot"
        slots = (rearrange(t, own, group=self.groups) for t in (acts.values, acts.indices))
        return self._pass_on(a, self._sum(*slots), told)

    def split(self, a: Float[Tensor, "batch token d_model"]) -> tuple[Tensor, Told]:
        acts, told = self.encode(a)
        if torch.is_grad_enabled():
            # Constants; a recorded code still has a gradient, that of what it writes.
            acts.values.requires_grad_()
        return self._pass_on(a, self.decode(self.site(acts)), told)

    def _pass_on(self, a: Tensor, y: Tensor, told: Told) -> tuple[Tensor, Told]:
        told["loss/reconstruction"] = self.config.reconstruction * _distance(y, a.detach())
        told["loss/commitment"] = self.config.commitment * _distance(y.detach(), a)
        return y + (a - a.detach()), told

    def before_step(self, progress: float) -> None:
        self.k = self.config.k_at(progress)

    @torch.no_grad()
    def revive(self, after: int, budget: float, generator: torch.Generator) -> dict[str, Tensor]:
        """Replace the longest-silent codes, at most `budget` of all at once.

        The new code is a living one of the same group, drawn by firing rate and turned by noise, so
        that they share what the living one stood for. Returns the rows by parameter name.
        """
        rows = self.longest_silent(after, budget)
        group = rows.cpu() // self.config.codes
        rates = self.firing_rate.double().cpu().view(self.groups, -1)[group]
        rows, group, rates = (t[rates.sum(1).cpu() > 0] for t in (rows.cpu(), group, rates))
        if len(rows) == 0:
            return {}
        parents = torch.multinomial(rates, 1, generator=generator)[:, 0]
        rows, parents = (
            t.to(self.silent_for.device) for t in (rows, parents + group * self.config.codes)
        )
        set_rows(self.w_dec, rows, turned(whole(self.w_dec)[parents], generator, TURN))
        self.silent_for[rows] = 0
        return {"w_dec": rows}

    def cost(self, context: int) -> Cost:
        width = self.groups * self.w_dec.shape[1]
        rows = self.config.k * width
        work = 2 * (self.w_dec.numel() + rows)
        return Cost(self.w_dec.numel(), work, work, rows)

    def write_scale(self) -> float:
        # k codes, each with the same cosine to what they stand for, and otherwise independent.
        k, alike = (
            self.config.k,
            tail_cosine(self.config.k / self.config.codes, self.w_dec.shape[1]),
        )
        return (1 / k + (1 - 1 / k) * alike**2) ** 0.5

    def rules(self) -> dict[str, Rule]:
        # The paper's weight decay, of 0.01 at the learning rate of all; and a table of vectors is
        # not for Muon, which a rule keeps away.
        return {"w_dec": Rule(lr=self.config.lr, decay=0.01 / self.config.lr)}


def _distance(y: Tensor, a: Tensor) -> Tensor:
    """Mean square of the difference, over tokens and channels."""
    dtype = torch.promote_types(y.dtype, torch.float32)
    return (y.to(dtype) - a.to(dtype)).square().mean()


def of_codebook(told: Told) -> Told:
    """What the codebook tells, under its own name: it keeps its counts itself."""
    return {f"codebook.{key}": value for key, value in told.items()}
