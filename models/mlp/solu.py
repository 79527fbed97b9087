"""SoLU: neurons of one token compete in a softmax before they may write."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pellucid.models.activations import Activations
from pellucid.models.filling import Cost, Filling, Told
from pellucid.models.units import UnitSite
from pellucid.settings import fields
from pellucid.settings.fields import setting


class SoLUMLP(Filling):
    """`n = LN(z ⊙ softmax(z))`, `z = x W_in + b_in`, written as `n W_out + b_out`.

    The softmax is over the hidden neurons of a token (transformer-circuits.pub/2022/solu). Units
    are the values n after the norm; the site `pre_norm` has those before it, where small values are
    still small: the norm may make them large again. Nothing about them is exact but their basis.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(fields.Config):
        width: int | None = setting(None, low=1)
        """Hidden neurons; none gives 4 x d_model."""
        eps: float = setting(1e-5, above=0.0)
        """Added to the variance of width · z ⊙ softmax(z), whose size does not depend on width."""

        def resolved_width(self, d_model: int) -> int:
            return 4 * d_model if self.width is None else self.width

    def __init__(self, config: Config, d_model: int):
        super().__init__()
        self.config = config
        width = config.resolved_width(d_model)
        self.w_in = nn.Parameter(torch.empty(width, d_model))
        self.b_in = nn.Parameter(torch.zeros(width))
        self.gain = nn.Parameter(torch.ones(width))
        self.shift = nn.Parameter(torch.zeros(width))
        self.w_out = nn.Parameter(torch.empty(width, d_model))
        self.b_out = nn.Parameter(torch.zeros(d_model))
        neurons = {"signed": True, "exactness": "none", "read": lambda: self.w_in}
        self.site = UnitSite("mlp", width, write=lambda: self.w_out, **neurons)
        self.more_sites = {"pre_norm": UnitSite("mlp", width, **neurons)}

    def _compete(self, x: Float[Tensor, "batch token d_model"]) -> Activations:
        """`z ⊙ softmax(z)`, in float32 at least: in half precision most shares would be 0."""
        z = F.linear(x, self.w_in, self.b_in)
        z = z.to(torch.promote_types(z.dtype, torch.float32))
        return Activations(z * z.softmax(-1), n_units=self.site.n_units)

    def _normalize(self, acts: Activations) -> Activations:
        width = self.site.n_units
        eps = self.config.eps / width**2
        # The parameters' own dtype would be that of a half-precision model.
        gain, shift = self.gain.to(acts.values.dtype), self.shift.to(acts.values.dtype)
        values = F.layer_norm(acts.values, (width,), gain, shift, eps)
        return Activations(values, n_units=width)

    def encode(self, x: Float[Tensor, "batch token d_model"]) -> tuple[Activations, Told]:
        return self._normalize(self._compete(x)), {}

    def decode(self, acts: Activations) -> Float[Tensor, "batch token d_model"]:
        return F.linear(acts.to_dense().to(self.w_out.dtype), self.w_out.T, self.b_out)

    def split(self, x: Float[Tensor, "batch token d_model"]) -> tuple[Tensor, Told]:
        acts = self._normalize(self.more_sites["pre_norm"](self._compete(x)))
        return self.decode(self.site(acts)), {}

    def cost(self, context: int) -> Cost:
        matrices = self.w_in.numel() + self.w_out.numel()
        return Cost(sum(p.numel() for p in self.parameters()), 2 * matrices, 2 * matrices)

    def write_scale(self) -> float:
        # The norm gives every unit variance 1.
        return self.site.n_units**0.5
