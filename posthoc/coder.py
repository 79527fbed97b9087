"""One layer's coder while it is fitted: what it reconstructs, and its losses."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pellucid.kernels import encode_topk, sparse_decode
from pellucid.models.activations import Activations
from pellucid.models.filling import Told
from pellucid.models.mlp.sae import AutoencoderMLP
from pellucid.models.mlp.skip_topk import SkipMLP
from pellucid.posthoc.config import PosthocConfig
from pellucid.posthoc.splice import learned

PREFIXES = (8, 4, 2, 1)
"""A matryoshka's first 1/8, 1/4 and 1/2 of the units reconstruct alone, too (2503.17547)."""
AUX_UNITS = 2
"""Silent units that help with a token: so many times k at most."""


class Coder:
    """A spliced layer's coder, in units in which what it reconstructs has unit variance.

    `begin` takes these units from the first batch, `fold` puts them back into the weights.
    """

    def __init__(self, mlp: nn.Module, config: PosthocConfig, generator: torch.Generator):
        self.mlp, self.config = mlp, config
        self.reads_target = isinstance(mlp, AutoencoderMLP)
        self.scale, self.d_model = 1.0, mlp.w_enc.shape[1]
        self._draw(generator)
        self.parameters = learned(mlp, config)

    @torch.no_grad()
    def _draw(self, generator: torch.Generator) -> None:
        """Decoder rows of unit length in random directions, which an sae's encoder reads as well.

        A transcoder's decoder that learns starts at 0: the layer then writes the mean alone.
        """
        w_enc, w_dec = self.mlp.w_enc, self.mlp.w_dec
        rows = torch.randn(w_dec.shape, generator=generator).to(w_dec)
        reach = w_dec.shape[1] // self.d_model
        rows *= reach**0.5 / rows.norm(dim=1, keepdim=True)
        w_dec.copy_(rows)
        if self.reads_target:
            w_enc.copy_(rows)
        elif self.config.frozen != "decoder":
            w_dec.zero_()

    @torch.no_grad()
    def begin(self, target: Float[Tensor, "batch token d_model"]) -> None:
        """Take scale and offset from a batch of what is to be reconstructed."""
        mean = target.mean((0, 1))
        self.scale = float((target - mean).square().mean().sqrt()) or 1.0
        self.mlp.b_dec[: self.d_model] = mean / self.scale
        if self.reads_target:
            self.mlp.b_enc.copy_(-self.mlp.w_enc @ self.mlp.b_dec)

    @torch.no_grad()
    def fold(self, scales: list[float]) -> None:
        """Put the scales into the weights, so that the layer reads and writes what the dense one did.

        `scales` are those of the layers that the coder writes to, its own the first.
        """
        each = torch.tensor(scales).to(self.mlp.w_dec).repeat_interleave(self.d_model)
        self.mlp.w_dec.mul_(each)
        self.mlp.b_dec.mul_(each)
        if self.reads_target:
            self.mlp.w_enc.div_(self.scale)
        if isinstance(self.mlp, SkipMLP):
            self.mlp.w_skip.mul_(self.scale)

    def loss(
        self,
        x: Float[Tensor, "batch token d_model"],
        y: Float[Tensor, "batch token d_model"],
    ) -> tuple[Tensor, Told]:
        """Share of the variance of y that is not reconstructed from x, and the auxiliary loss."""
        target = y / self.scale
        read = target if self.reads_target else x
        acts, told = self.mlp.code(read) if self.reads_target else self.mlp.encode(read)
        return self.missed(read, target, self._written(acts, read)), told

    def missed(self, read: Tensor, target: Tensor, written: list[Tensor]) -> Tensor:
        """The loss of what was written for the target: the whole last, prefixes before it."""
        total = (target - target.mean((0, 1))).square().sum().clamp_min(1e-12)
        shares = [(target - one).square().sum() / total for one in written]
        left = (target - written[-1]).detach()
        return torch.stack(shares).mean() + self._auxiliary(read, left)

    def _written(self, acts: Activations, read: Tensor) -> list[Tensor]:
        """What the units write, the whole last; a matryoshka's prefixes before it."""
        if self.config.kind != "matryoshka":
            whole = self.mlp.decode(acts)
            return [whole + self.mlp.skip(read) if isinstance(self.mlp, SkipMLP) else whole]
        firsts = [self.mlp.site.n_units // part for part in PREFIXES]
        return [self.mlp.decode(_first(acts, first)) for first in firsts]

    def _auxiliary(self, read: Tensor, left: Tensor) -> Tensor:
        """Silent units reconstruct what the others leave over (arXiv 2406.04093 A.2)."""
        dead = self.mlp.dead(self.config.dead_after).nonzero().flatten()
        if len(dead) == 0 or self.config.aux_weight == 0:
            return left.new_zeros(())
        rows, over = read.flatten(0, 1), left.flatten(0, 1)
        k = min(AUX_UNITS * self.config.k, len(dead))
        values, indices = encode_topk(rows, self.mlp.w_enc[dead], self.mlp.b_enc[dead], k)
        helped = sparse_decode(values, indices, self.mlp.w_dec[dead, : self.d_model])
        share = (over - helped).square().sum() / over.square().sum().clamp_min(1e-12)
        return self.config.aux_weight * share


def _first(acts: Activations, units: int) -> Activations:
    """The activations of the first units alone."""
    units_of = torch.arange(acts.n_units, device=acts.values.device)
    of_slots = units_of if acts.indices is None else acts.indices
    return Activations(acts.values * (of_slots < units), acts.indices, acts.n_units)
