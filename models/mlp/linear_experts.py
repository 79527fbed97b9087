"""Sparsely gated linear experts: the gates are the layer's only nonlinearity."""

from dataclasses import dataclass
from math import isqrt

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from pellucid.errors import ConfigError
from pellucid.models.activations import Activations, canonical
from pellucid.models.filling import Cost, Told
from pellucid.models.firing import Firing, fired
from pellucid.models.mlp.slots import decode_slots, products_at
from pellucid.models.product_keys import product_topk, selected_second_moment
from pellucid.models.units import UnitSite
from pellucid.settings import fields
from pellucid.settings.fields import setting


class LinearExpertsMLP(Firing):
    """`y = Σ_channels Σ_{e in top k} s_e (x · w_in,e) w_out,e` (arXiv 2606.07414).

    Each channel has its own experts of rank 1 and no activation function. The scores s are raw
    sums of product keys. Given the gates the layer is a matrix (`jacobian`), of rank
    channels x k at most. Units are experts, their activation is s_e (x · w_in,e); the site `gates`
    has s_e.
    """

    rows_of_units = ("w_in", "w_out")  # queries may have as many rows by chance

    @dataclass(frozen=True, kw_only=True)
    class Config(fields.Config):
        k: int = setting(8, low=1)
        """Active experts per channel and token."""
        channels: int = setting(8, low=1)
        """Groups of experts that are routed apart from each other."""
        experts: int | None = setting(None, low=1)
        """Experts of a channel, a square; none gives about 8 x d_model over all channels."""
        d_key: int = setting(128, low=1)
        """Width of the router's hidden layer."""

        def n_keys(self, d_model: int) -> int:
            """Root of the number of a channel's experts."""
            experts = self.experts
            if experts is None:
                return max(round((8 * d_model / self.channels) ** 0.5), isqrt(self.k - 1) + 1)
            root = isqrt(experts)
            if root**2 != experts:
                raise ConfigError(
                    f"mlp.experts is {experts}; a square such as {(root + 1) ** 2} is accepted"
                )
            if self.k > experts:
                raise ConfigError(f"mlp.k is {self.k}; at most mlp.experts, {experts}, is accepted")
            return root

        def resolved_width(self, d_model: int) -> int:
            return self.channels * self.n_keys(d_model) ** 2

    def __init__(self, config: Config, d_model: int):
        super().__init__()
        self.config, self.n_keys = config, config.n_keys(d_model)
        n_units = config.resolved_width(d_model)
        self.w_query = nn.Parameter(torch.empty(config.d_key, d_model))
        self.w_score = nn.Parameter(torch.empty(2 * config.channels * self.n_keys, config.d_key))
        self.w_in = nn.Parameter(torch.empty(n_units, d_model))
        self.w_out = nn.Parameter(torch.empty(n_units, d_model))
        self.count_firing(n_units)
        exact = {"signed": True, "exactness": "linear-given-gates", "read": lambda: self.w_in}
        self.site = UnitSite("mlp", n_units, write=lambda: self.w_out, **exact)
        self.more_sites = {"gates": UnitSite("mlp", n_units, **exact)}

    def gates(self, x: Float[Tensor, "batch token d_model"]) -> Activations:
        """Scores of the chosen experts; expert e of channel c is unit c · experts + e."""
        scores = F.linear(F.linear(x, self.w_query), self.w_score)
        shape = "batch token (half c n) -> half (batch token c) n"
        halves = rearrange(scores, shape, half=2, c=self.config.channels)
        values, experts = product_topk(*halves, self.config.k)
        shape = "(batch token c) k -> batch token c k"
        values, experts = (
            rearrange(t, shape, batch=x.shape[0], c=self.config.channels) for t in (values, experts)
        )
        first = torch.arange(self.config.channels, device=x.device, dtype=torch.int32)
        units = experts + (first * self.n_keys**2)[:, None]
        return canonical(values.flatten(2), units.flatten(2), self.site.n_units)

    def _speak(self, x: Tensor, gates: Activations) -> tuple[Activations, Told]:
        values = gates.values * products_at(x, self.w_in, gates.indices)
        told = {"sum/fired": fired(gates.indices, self.site.n_units)}
        return canonical(values, gates.indices, self.site.n_units), told

    def encode(self, x: Float[Tensor, "batch token d_model"]) -> tuple[Activations, Told]:
        return self._speak(x, self.gates(x))

    def decode(self, acts: Activations) -> Float[Tensor, "batch token d_model"]:
        return decode_slots(acts, self.w_out)

    def split(self, x: Float[Tensor, "batch token d_model"]) -> tuple[Tensor, Told]:
        acts, told = self._speak(x, self.more_sites["gates"](self.gates(x)))
        return self.decode(self.site(acts)), told

    def jacobian(self, gates: Activations) -> Float[Tensor, "batch token d_model d_read"]:
        """The matrix J of each token, `y = J x` while the gates hold: `Σ_e s_e w_out,e w_in,eᵀ`."""
        return (self.w_out.T * gates.to_dense()[:, :, None]) @ self.w_in

    def cost(self, context: int) -> Cost:
        router = self.w_query.numel() + self.w_score.numel()
        rows = 2 * self.config.channels * self.config.k * self.w_in.shape[1]
        active = router + rows
        return Cost(active, 2 * active, 2 * active, rows)

    def initial_std(self) -> dict[str, float]:
        """By fan-in: the scores of both halves are unit-normal at first."""
        d_key, d_model = self.w_query.shape
        return {"w_query": d_model**-0.5, "w_score": d_key**-0.5}

    def write_scale(self) -> float:
        active = self.config.channels * self.config.k
        return (active * selected_second_moment(self.n_keys, self.config.k)) ** 0.5
