"""A stream of which few channels speak: TopK-LM."""

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

from torch import Tensor

from pellucid.errors import ConfigError
from pellucid.models.cache import LayerCache
from pellucid.models.filling import Told
from pellucid.models.position import Rotation
from pellucid.models.sparsity import largest
from pellucid.models.stream.residual import Block
from pellucid.settings.fields import setting

if TYPE_CHECKING:
    from pellucid.models.config import ModelConfig

LEVELS = 6
"""Steps in which the number of channels falls."""


class TopKStream(Block):
    """After a block only the `k` channels of the stream largest in magnitude stay (2506.21468).

    The first layers are sparse, the last `dense_last` are not. The number that stays falls from all
    channels to `k` over the first `anneal` of the training. Removing a channel removes exactly what
    it carried: nothing of it goes on by another way.
    """

    stream_exactness = "unit-ablation-exact"

    @dataclass(frozen=True, kw_only=True)
    class Config(Block.Config):
        k: int = setting(32, low=1)
        """Channels that stay."""
        dense_last: int = setting(1, low=0)
        """Layers at the end that keep every channel."""
        anneal: float = setting(0.2, low=0.0, high=1.0)
        """Share of the training over which the number falls to k."""

        def refuse(self, model: "ModelConfig") -> None:
            if self.k > model.d_model:
                raise ConfigError(
                    f"stream.k is {self.k}; at most d_model, {model.d_model}, is accepted"
                )
            if self.dense_last >= model.n_layers:
                raise ConfigError(
                    f"stream.dense_last is {self.dense_last}, which leaves no sparse layer; "
                    f"at most {model.n_layers - 1} is accepted"
                )

    def __init__(self, config: Config, model: "ModelConfig", layer: int):
        super().__init__(config, model, layer)
        self.sparse = layer < model.n_layers - config.dense_last
        self.kept = config.k

    def before_step(self, progress: float) -> None:
        """Channels that stay at this share of the training: a function of it alone."""
        k, d_model = self.config.k, self.site.n_units
        left = max(0.0, 1 - progress / self.config.anneal) if self.config.anneal else 0.0
        # A few levels only, because a compiled block is compiled again for each.
        self.kept = k + ceil(left * LEVELS) * (d_model - k) // LEVELS

    def body(
        self,
        stream: Tensor,
        rotation: Rotation | None,
        cache: LayerCache | None,
        watched: frozenset,
    ) -> tuple[Tensor, Told]:
        stream, told = super().body(stream, rotation, cache, watched - {"stream"})
        if self.sparse:
            stream = largest(stream, self.kept if self.training else self.config.k, signed=True)
        return self._look(stream, watched), told
