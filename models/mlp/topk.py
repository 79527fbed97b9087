"""Top-k MLPs: of a wide hidden layer only the k strongest units of each token speak."""

from dataclasses import dataclass
from typing import Literal

from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from pellucid.errors import ConfigError
from pellucid.kernels import encode_topk, sparse_decode, topk_mlp
from pellucid.kernels.dispatch import Products, decide, decision
from pellucid.kernels.modes import candidate_count, group_count
from pellucid.models.activations import Activations, every_row
from pellucid.models.filling import Cost, Told, under_autocast
from pellucid.models.firing import fired
from pellucid.models.mlp.sparse import SparseMLP
from pellucid.models.moments import tail_second_moment
from pellucid.settings.fields import setting


class TopKMLP(SparseMLP):
    """`relu(topk(x W_enc + b_enc)) W_dec + b_dec` with `k` units per token (arXiv 2406.04093).

    Given which units are active the layer is an affine map of its input, and removing a unit
    removes exactly what it wrote.
    """

    signed = False

    @dataclass(frozen=True, kw_only=True)
    class Config(SparseMLP.Config):
        """k and the way to find the k units; the rest is shared with the other sparse rules."""

        select: Literal["exact", "groupmax", "fp8"] = setting("exact")
        """exact; groupmax: at most one unit of each group of neighbours, no row is ever selected from
        as a whole; fp8: exact among the best of a product in 8-bit floats."""
        products: Products = setting("auto")
        """sparse gathers the active units' rows, dense multiplies whole matrices; auto takes what is
        faster for this width and k on this device."""

        def resolved_width(self, d_model: int) -> int:
            width = super().resolved_width(d_model)
            if self.select == "groupmax" and self.k > (groups := group_count(width, self.k)):
                raise ConfigError(
                    f"mlp.select groupmax takes one unit of each group, and a width of {width} gives "
                    f"{groups} groups; at most {groups} is accepted as mlp.k, got {self.k}"
                )
            return width

    def __init__(self, config: Config, d_model: int):
        super().__init__(config, d_model)

    @property
    def products(self) -> Products:
        """One decision for the whole layer, also where an edit adds a slot."""
        kind = self.w_dec.device.type
        return decide(self.config.products, kind, self.site.n_units, self.config.k)

    def remark(self) -> str:
        told = decision(self.w_dec.device, self.site.n_units, self.config.k, self.config.products)
        return f"top-k layers: {told}"

    def encode(self, x: Float[Tensor, "batch token d_model"]) -> tuple[Activations, Told]:
        rows, w_enc, b_enc = under_autocast(x, self.w_enc, self.b_enc)
        values, indices = encode_topk(
            rearrange(rows, "batch token d -> (batch token) d"),
            w_enc,
            b_enc,
            self.config.k,
            signed=self.signed,
            mode=self.config.select,
            products=self.products,
        )
        told = {"sum/fired": fired(indices, self.site.n_units)}
        shape = "(batch token) slot -> batch token slot"
        values, indices = (rearrange(t, shape, batch=x.shape[0]) for t in (values, indices))
        return Activations(values, indices, self.site.n_units), told

    def decode(self, acts: Activations) -> Float[Tensor, "batch token d_model"]:
        (w_dec,) = under_autocast(self.w_dec)
        y = self._decoded(acts, w_dec)
        if acts.rest is not None:
            y = y + every_row(acts.rest.to(w_dec.dtype) @ w_dec, len(y))
        return y + self.b_dec.to(y.dtype)

    def _decoded(self, acts: Activations, w_dec: Tensor) -> Float[Tensor, "batch token d_model"]:
        """What the slots write."""
        if self.config.k < acts.values.shape[-1] == self.site.n_units:
            # An edit of all units leaves no empty slot, and gathering every row would be slow.
            return acts.to_dense().to(w_dec.dtype) @ w_dec
        flat = "batch token slot -> (batch token) slot"
        y = sparse_decode(
            rearrange(acts.values, flat),
            rearrange(acts.indices, flat),
            w_dec,
            products=self.products,
        )
        return rearrange(y, "(batch token) d -> batch token d", batch=acts.values.shape[0])

    def forward(self, x: Float[Tensor, "batch token d_model"]) -> tuple[Tensor, Told]:
        rows, w_enc, b_enc, w_dec = under_autocast(x, self.w_enc, self.b_enc, self.w_dec)
        y, _, indices = topk_mlp(
            rearrange(rows, "batch token d -> (batch token) d"),
            w_enc,
            b_enc,
            w_dec,
            self.config.k,
            signed=self.signed,
            mode=self.config.select,
            products=self.products,
        )
        y = rearrange(y, "(batch token) d -> batch token d", batch=x.shape[0])
        return y + self.b_dec.to(y.dtype), {"sum/fired": fired(indices, self.site.n_units)}

    def cost(self, context: int) -> Cost:
        encode, decode = 2 * self.w_enc.numel(), 2 * self.config.k * self.w_dec.shape[1]
        active = self.w_enc.numel() + self.b_enc.numel() + decode // 2 + self.b_dec.numel()
        again = 0  # what is computed twice is no part of the ideal
        if self.config.select == "fp8":
            again = 2 * candidate_count(self.site.n_units, self.config.k) * self.w_enc.shape[1]
        return Cost(active, encode + again + decode, encode + decode, (again + decode) // 2)

    def write_scale(self) -> float:
        width = self.site.n_units
        share = self.config.k / width
        # By magnitude, both tails of half the share; without sign, one tail above zero at most.
        tail = (
            2 * tail_second_moment(share / 2)
            if self.signed
            else tail_second_moment(min(share, 0.5))
        )
        return (width * tail) ** 0.5


class AbsTopKMLP(TopKMLP):
    """Selection by magnitude: units keep their sign (arXiv 2511.13653 §2)."""

    signed = True

    @dataclass(frozen=True, kw_only=True)
    class Config(TopKMLP.Config):
        """As for topk."""
