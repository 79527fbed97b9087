"""A stream that carries what MLP units write to later layers, until these are reached."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.errors import ConfigError
from pellucid.models.cache import LayerCache
from pellucid.models.filling import Told
from pellucid.models.mlp.crosslayer import CrossLayerBatchTopKMLP, CrossLayerMLP
from pellucid.models.position import Rotation
from pellucid.models.stream.residual import Block, sites_of, told_of
from pellucid.settings.fields import setting, tag_of

if TYPE_CHECKING:
    from pellucid.models.config import ModelConfig


class CrossLayer(Block):
    """Residual blocks whose top-k units write to the MLP outputs of this and of all later layers.

    The stream of layer l is `(batch, token, (1 + n_layers - l) d_model)`: the residual stream, then
    what is due at layers l, l + 1, …; each block takes the first of these. `mlp` is not consulted.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(Block.Config):
        k: int = setting(32, low=1)
        """Active units per token and layer."""
        width: int | None = setting(None, low=1)
        """Units of a layer; none gives 8 x d_model."""

        def owned(self, slot: str) -> Any:
            return CrossLayerMLP.Config(k=self.k, width=self.width) if slot == "mlp" else None

        def refuse(self, model: "ModelConfig") -> None:
            from pellucid.models.stream import STREAMS

            for key in model.per_layer:
                if key.startswith("mlp@"):
                    raise ConfigError(
                        f"{key}: stream={tag_of(STREAMS, self)} brings the mlp itself; "
                        f"none is accepted"
                    )

    def __init__(self, config: Config, model: "ModelConfig", layer: int):
        super().__init__(config, model, layer)
        self.d_model, self.n_layers = model.d_model, model.n_layers
        reach = model.n_layers - layer
        self.mlp = model.filling("mlp", layer).replace(reach=reach).build(model.d_model)
        self.mlp.sparsify = self.sparsity
        self.sites |= sites_of("mlp", self.mlp)

    def enter(self, embedded: Float[Tensor, "batch token d_model"]) -> Tensor:
        due = embedded.new_zeros(*embedded.shape[:-1], self.n_layers * self.d_model)
        return torch.cat([embedded, due], dim=-1)

    def leave(self, stream: Tensor) -> Float[Tensor, "batch token d_model"]:
        return stream[..., : self.d_model]

    def body(
        self,
        stream: Tensor,
        rotation: Rotation | None,
        cache: LayerCache | None,
        watched: frozenset,
    ) -> tuple[Tensor, Told]:
        attend, mlp = self._halves(watched)
        residual, due = stream.tensor_split([self.d_model], dim=-1)
        x = self._at("attn_in", self.attention_norm(residual), watched)
        y, told_a = attend(x, rotation, cache)
        residual = residual + self.dropout(self._at("attn_out", y, watched))
        y, told_m = mlp(self._at("mlp_in", self.mlp_norm(residual), watched))
        now, later = (due + y).tensor_split([self.d_model], dim=-1)
        residual = residual + self.dropout(self._at("mlp_out", now, watched))
        residual = self._look(residual, watched)
        return torch.cat([residual, later], dim=-1), told_of(told_a, told_m)


class CrossLayerBatchTopK(CrossLayer):
    """A crosslayer stream whose units are the k·tokens largest of a batch (arXiv 2412.06410).

    In evaluation they are those above a threshold.
    """

    causal_in_training = False

    @dataclass(frozen=True, kw_only=True)
    class Config(CrossLayer.Config):
        momentum: float = setting(0.99, low=0.0, high=1.0)
        """Share of the old value when the inference threshold is updated after a step."""

        def owned(self, slot: str) -> Any:
            if slot != "mlp":
                return None
            return CrossLayerBatchTopKMLP.Config(k=self.k, width=self.width, momentum=self.momentum)
