"""One proximal-gradient step towards a sparse code (ISTA): the MLP of white-box blocks."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pellucid.models.activations import Activations
from pellucid.models.filling import Cost, Rule, Told
from pellucid.models.firing import Firing
from pellucid.models.units import UnitSite
from pellucid.settings import fields
from pellucid.settings.fields import setting


class ISTA(Firing):
    """The non-negative code z of x in a dictionary D, and what it decodes to, Dᵀz (2410.16443).

    z = ReLU(z0 + η D(x - Dᵀz0) - ηλ) with z0 = ReLU(ηDx - ηλ): one step of proximal gradient
    descent on ½|x - Dᵀz|² + λ|z|₁ over z >= 0, from z0. Units are atoms of the dictionary.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(fields.Config):
        width: int | None = setting(None, low=1)
        """Atoms; none gives 4 x d_model."""
        step_size: float = setting(0.1, above=0.0)
        """Step of the proximal gradient, eta."""
        sparsity: float = setting(0.1, low=0.0)
        """Weight of the code's absolute values, lambda."""
        lr: float = setting(1.0, above=0.0)
        """Learning rate of the dictionary, in those of the other weights."""

        def resolved_width(self, d_model: int) -> int:
            return 4 * d_model if self.width is None else self.width

    def __init__(self, config: Config, d_model: int):
        super().__init__()
        self.config = config
        width = config.resolved_width(d_model)
        self.w_dec = nn.Parameter(torch.empty(width, d_model))
        self.count_firing(width)
        self.site = UnitSite(
            "mlp",
            width,
            signed=False,
            exactness="unit-ablation-exact",
            write=lambda: self.w_dec,
            read=lambda: self.w_dec,
        )

    def encode(self, x: Float[Tensor, "batch token d_model"]) -> tuple[Activations, Told]:
        eta, threshold = self.config.step_size, self.config.step_size * self.config.sparsity
        seen = F.linear(x, self.w_dec)
        first = F.relu(eta * seen - threshold)
        again = F.linear(F.linear(first, self.w_dec.T), self.w_dec)
        code = F.relu(first + eta * (seen - again) - threshold)
        fired = (code.detach() != 0).flatten(0, -2).sum(0)
        return Activations(code, n_units=self.site.n_units), {"sum/fired": fired}

    def decode(self, acts: Activations) -> Float[Tensor, "batch token d_model"]:
        return F.linear(acts.to_dense(), self.w_dec.T)

    def rules(self) -> dict[str, Rule]:
        return {"w_dec": Rule(lr=self.config.lr)}

    def initial_std(self) -> dict[str, float]:
        # The authors' (He et al., 1502.01852): a normalized input is read with variance 2.
        return {"w_dec": (2 / self.w_dec.shape[1]) ** 0.5}

    def after_drawing(self) -> None:
        """Make the atoms frames of orthogonal vectors of their length, every one with its opposite.

        Of a pair one reads what the other does not, so that together they pass on all they are
        given: with atoms drawn alone, and nothing that passes by, a stack of layers starts by losing
        most of its input.
        """
        if self.w_dec.is_meta:
            return
        width, d_model = self.w_dec.shape
        drawn = self.w_dec[: -(-width // 2)].double()
        frames = [torch.linalg.qr(part.T)[0].T for part in drawn.split(d_model)]
        half = torch.cat(frames) * 2**0.5  # as long as drawn
        self.w_dec.copy_(torch.cat((half, -half))[:width])

    def cost(self, context: int) -> Cost:
        products = 8.0 * self.w_dec.numel()
        return Cost(self.w_dec.numel(), products, products)

    def write_scale(self) -> float:
        return 1.0  # the dictionary's own scale is the code's, too
