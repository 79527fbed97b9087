"""Q-Sparse: every matrix of the MLP reads a sparse vector, and gradients pass straight through."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pellucid.errors import ConfigError
from pellucid.kernels import keep_topk
from pellucid.models.activations import Activations
from pellucid.models.filling import Cost, Told
from pellucid.models.firing import Firing
from pellucid.models.moments import second_moment
from pellucid.models.units import UnitSite
from pellucid.settings import fields
from pellucid.settings.fields import setting


class QSparseMLP(Firing):
    """`S(relu²(S(x) W_in) ⊙ (S(x) W_up)) W_out`, S keeps the k largest by magnitude.

    S rescales what it keeps to the L2 norm of the whole, and its gradient is the identity
    (arXiv 2407.10969). Units are hidden neurons after S; the site `input` has the channels of S(x).
    Nothing is exact: given the active units, the layer is a cubic form times a norm. Values are
    kept dense, because silent units have gradients too.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(fields.Config):
        k: int | None = setting(None, low=1)
        """Hidden neurons kept per token; none keeps half."""
        k_in: int | None = setting(None, low=1)
        """Channels of the input kept per token; none keeps half."""
        width: int | None = setting(None, low=1)
        """Hidden neurons; none gives 8/3 x d_model: the parameters of a dense MLP."""

        def resolved_width(self, d_model: int) -> int:
            width = round(d_model / 3) * 8 or 8 if self.width is None else self.width
            if self.k is not None and self.k > width:
                raise ConfigError(f"mlp.k is {self.k}; at most the width, {width}, is accepted")
            if self.k_in is not None and self.k_in > d_model:
                raise ConfigError(
                    f"mlp.k_in is {self.k_in}; at most d_model, {d_model}, is accepted"
                )
            return width

    def __init__(self, config: Config, d_model: int):
        super().__init__()
        self.config = config
        width = config.resolved_width(d_model)
        self.k = config.k or (width + 1) // 2
        self.k_in = config.k_in or (d_model + 1) // 2
        self.w_in = nn.Parameter(torch.empty(width, d_model))
        self.w_up = nn.Parameter(torch.empty(width, d_model))
        self.w_out = nn.Parameter(torch.empty(width, d_model))
        self.count_firing(width)
        self.site = UnitSite("mlp", width, signed=True, exactness="none", write=lambda: self.w_out)
        self.more_sites = {"input": UnitSite("mlp", d_model, signed=True, exactness="none")}

    def _read(self, x: Float[Tensor, "batch token d_model"]) -> Activations:
        return Activations(sparsify(x, self.k_in), n_units=x.shape[-1])

    def _hidden(self, read: Activations) -> tuple[Activations, Told]:
        gate = F.linear(read.values, self.w_in).relu().square()
        hidden = sparsify(gate * F.linear(read.values, self.w_up), self.k)
        fired = (hidden.detach() != 0).flatten(0, -2).sum(0)
        return Activations(hidden, n_units=self.site.n_units), {"sum/fired": fired}

    def encode(self, x: Float[Tensor, "batch token d_model"]) -> tuple[Activations, Told]:
        return self._hidden(self._read(x))

    def decode(self, acts: Activations) -> Float[Tensor, "batch token d_model"]:
        return F.linear(acts.to_dense(), self.w_out.T)

    def split(self, x: Float[Tensor, "batch token d_model"]) -> tuple[Tensor, Told]:
        acts, told = self._hidden(self.more_sites["input"](self._read(x)))
        return self.decode(self.site(acts)), told

    def cost(self, context: int) -> Cost:
        width, d_model = self.w_in.shape
        active = 2 * self.k_in * width + self.k * d_model
        return Cost(active, 6 * width * d_model, 2 * active)

    def write_scale(self) -> float:
        # Sparsifying keeps the norm, so neither k nor k_in matters.
        return (self.site.n_units * second_moment(lambda z: z.relu().square())) ** 0.5


def sparsify(
    x: Float[Tensor, "batch token channel"], k: int
) -> Float[Tensor, "batch token channel"]:
    """The k largest by magnitude, rescaled to the L2 norm of all; the gradient is the identity."""
    with torch.no_grad():
        rows = x.flatten(0, 1)
        kept = keep_topk(rows, k, signed=True)
        whole, part = (t.norm(dim=1, keepdim=True) for t in (rows, kept))
        kept *= whole / part.clamp_min(torch.finfo(part.dtype).tiny)
    # The bracket is zero: it carries the gradient alone.
    return kept.view_as(x) + (x - x.detach())
