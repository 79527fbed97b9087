"""Two streams that are added up only where they are read: dual-stream transformers."""

import inspect
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.errors import ConfigError
from pellucid.models.attention import ATTENTIONS
from pellucid.models.cache import LayerCache
from pellucid.models.filling import Filling, Told
from pellucid.models.position import Rotation
from pellucid.models.stream.residual import Block, told_of
from pellucid.models.units import UnitSite, see

if TYPE_CHECKING:
    from pellucid.models.config import ModelConfig


class DualStream(Block):
    """Attention writes the token stream, the MLP the context stream (arXiv 2603.07461).

    Both halves read the norm of the sum of the streams; attention takes its values from the token
    stream alone. The stream is `(batch, token, 2 d_model)`, token half first. The logits are the
    head's of the sum, hence the sum of each stream's, up to the final norm's common scale. How much
    heads may mix is attention's: `attention=headwise`.
    """

    stream_exactness = "logit-split-exact"

    @dataclass(frozen=True, kw_only=True)
    class Config(Block.Config):
        """Nothing to set."""

        def refuse(self, model: "ModelConfig") -> None:
            for layer in range(model.n_layers):
                if not _takes_source(model.filling("attention", layer).builds):
                    accepted = [tag for tag, kind in ATTENTIONS.items() if _takes_source(kind)]
                    raise ConfigError(
                        "stream=dual_stream takes attention's values from the token stream alone; "
                        f"attention {', '.join(accepted[:-1])} or {accepted[-1]} is accepted"
                    )

    def __init__(self, config: Config, model: "ModelConfig", layer: int):
        super().__init__(config, model, layer)
        d_model = model.d_model
        self.value_norm = model.filling("norm", layer).build(d_model)
        write = partial(_both, d_model, self)
        self.site = UnitSite(
            "stream", 2 * d_model, signed=True, exactness=self.stream_exactness, write=write
        )
        self.sites["stream"] = self.site

    def enter(self, embedded: Float[Tensor, "batch token d_model"]) -> Tensor:
        return torch.cat([embedded, torch.zeros_like(embedded)], dim=-1)

    def leave(self, stream: Tensor) -> Float[Tensor, "batch token d_model"]:
        token, context = stream.chunk(2, dim=-1)
        return token + context

    def parts(self, stream: Tensor) -> dict[str, Tensor]:
        token, context = stream.chunk(2, dim=-1)
        return {"token": token, "context": context}

    def body(
        self,
        stream: Tensor,
        rotation: Rotation | None,
        cache: LayerCache | None,
        watched: frozenset,
    ) -> tuple[Tensor, Told]:
        attend, mlp = self._halves(watched)
        token, context = stream.chunk(2, dim=-1)
        x = self._at("attn_in", self.attention_norm(token + context), watched)
        y, told_a = attend(x, rotation, cache, self.value_norm(token))
        token = token + self.dropout(self._at("attn_out", y, watched))
        x = self._at("mlp_in", self.mlp_norm(token + context), watched)
        y, told_m = mlp(x)
        context = context + self.dropout(self._at("mlp_out", y, watched))
        stream = torch.cat([token, context], dim=-1)
        return (see(self.site, stream) if "stream" in watched else stream), told_of(told_a, told_m)


def _takes_source(attention: type[Filling]) -> bool:
    """Whether a kind of attention can take its values from another stream than its queries."""
    return "source" in inspect.signature(attention.forward).parameters


def _both(d_model: int, owner: DualStream) -> Tensor:
    weight = next(owner.parameters())
    eye = torch.eye(d_model, dtype=weight.dtype, device=weight.device)
    return torch.cat([eye, eye])
