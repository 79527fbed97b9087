"""`ModelConfig`: what fills each slot of the transformer."""

from dataclasses import dataclass, field
from typing import Any

from pellucid.errors import ConfigError
from pellucid.models.attention import ATTENTIONS
from pellucid.models.constraint import CONSTRAINTS
from pellucid.models.gradient_rule import GRADIENT_RULES
from pellucid.models.head import HEADS
from pellucid.models.mlp import MLPS
from pellucid.models.norm import NORMS
from pellucid.models.position import POSITIONS
from pellucid.models.sparsity import PLACES, SPARSITIES
from pellucid.models.stream import STREAMS
from pellucid.models.stream.residual import CHANNELS
from pellucid.settings import fields
from pellucid.settings.fields import setting, slot

PER_LAYER = {"mlp": MLPS, "attention": ATTENTIONS, "norm": NORMS}
"""Slots that each layer may fill differently, with their tables."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig(fields.Config):
    """A decoder-only transformer as a choice for each slot."""

    n_layers: int = setting(2, low=1, high=1000)
    """Blocks."""
    d_model: int = setting(128, low=1, high=2**20)
    """Width of the residual stream."""
    context: int = setting(256, low=1)
    """Tokens seen at once."""
    dropout: float = setting(0.0, low=0.0, high=0.99)
    """Share of channels dropped from each write to the stream while training."""
    mlp: Any = slot(MLPS, "topk")
    """The feed-forward half of a block."""
    attention: Any = slot(ATTENTIONS, "softmax")
    """The half of a block that moves information between positions."""
    position: Any = slot(POSITIONS, "rope")
    """How the model knows the order of tokens."""
    norm: Any = slot(NORMS, "rms")
    """Normalization before each half of a block and before the head."""
    stream: Any = slot(STREAMS, "residual")
    """How the halves of a block are joined to what was there before."""
    head: Any = slot(HEADS, "unembed")
    """From the stream to logits."""
    site_sparsity: Any = slot(SPARSITIES, "none")
    """Which channels of a block's inner vectors survive."""
    constraint: Any = slot(CONSTRAINTS, "none")
    """What weights must satisfy after every step."""
    gradient_rule: Any = slot(GRADIENT_RULES, "none")
    """Which parameters learn from which rows."""
    per_layer: dict[str, Any] = field(default_factory=dict, metadata={"per_layer": PER_LAYER})
    """Fillings of single layers, as `mlp@4` (set by words such as `mlp@4,8=dense`)."""

    def filling(self, slot_name: str, layer: int) -> Any:
        """What fills a slot in one layer."""
        owned = self.stream.owned(slot_name)
        return owned or self.per_layer.get(f"{slot_name}@{layer}", getattr(self, slot_name))

    def check(self) -> None:
        for key in self.per_layer:
            layer = int(key.partition("@")[2])
            if layer >= self.n_layers:
                raise ConfigError(f"{key}: layers 0 … {self.n_layers - 1} are accepted")
        self.stream.refuse(self)
        self.gradient_rule.refuse(self)
        self.head.check_width(self.d_model)
        for layer in range(self.n_layers):
            self.filling("mlp", layer).resolved_width(self.d_model)
            self._check_heads(self.filling("attention", layer))
            self._check_places(layer)

    def _check_places(self, layer: int) -> None:
        halves = [self.filling(half, layer).builds for half in ("attention", "mlp")]
        known = {*CHANNELS, *(place for half in halves for place in half.places)}
        for place in self.site_sparsity.where:
            if place not in known:
                raise ConfigError(
                    f"site_sparsity.places: layer {layer} has no {place}; "
                    f"{', '.join(p for p in PLACES if p in known)} are accepted"
                )

    def _check_heads(self, attention: Any) -> None:
        attention.check_width(self.d_model)
        d_head = self.d_model // attention.n_heads
        if isinstance(self.position, POSITIONS["rope"].Config) and d_head % 2:
            raise ConfigError(
                f"position rope turns pairs of channels; d_model / n_heads is {d_head}, "
                f"an even number is accepted"
            )
        if self._head_width() != d_head:
            raise ConfigError(
                f"attention.n_heads gives heads of {d_head} and of {self._head_width()} channels; "
                f"one width for all layers is accepted"
            )

    def _head_width(self) -> int:
        return self.d_model // self.filling("attention", 0).n_heads
