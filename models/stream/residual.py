"""The residual stream: what each half of a block writes is added to what was there."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pellucid.models.cache import LayerCache
from pellucid.models.filling import Filling, Told
from pellucid.models.position import Rotation
from pellucid.models.units import Exactness, UnitSite, see
from pellucid.settings import fields
from pellucid.settings.fields import Configurable

if TYPE_CHECKING:
    from pellucid.models.config import ModelConfig

CHANNELS = ("attn_in", "attn_out", "mlp_in", "mlp_out")
"""What a block's halves read and write, as sites of d_model channels each."""


class Block(Configurable, nn.Module):
    """stream + attention(norm(stream)), then stream + mlp(norm(stream)).

    A filling of the `stream` slot is a kind of block. `enter` makes the stream from the embedded
    tokens, `leave` gives what the head reads.
    """

    stream_exactness: ClassVar[Exactness] = "none"

    @dataclass(frozen=True, kw_only=True)
    class Config(fields.Config):
        """Nothing to set."""

        def owned(self, slot: str) -> Any:
            """What fills a slot of a block, where the stream brings it itself; else None."""
            return None

        def refuse(self, model: "ModelConfig") -> None:
            """Raise ConfigError for a model that cannot work with this stream."""

    def __init__(self, config: Config, model: "ModelConfig", layer: int):
        super().__init__()
        self.config, d_model = config, model.d_model
        norm = model.filling("norm", layer)
        self.attention_norm, self.mlp_norm = norm.build(d_model), norm.build(d_model)
        self.attention = model.filling("attention", layer).build(d_model)
        self.mlp = model.filling("mlp", layer).build(d_model)
        self.sparsity = model.site_sparsity.build()
        self.attention.sparsify = self.mlp.sparsify = self.sparsity
        self.dropout = nn.Dropout(model.dropout)
        self.site = stream_site(d_model, self, self.stream_exactness)
        self.channels = {
            place: UnitSite("channel", d_model, signed=True, exactness="none") for place in CHANNELS
        }
        halves = sites_of("attention", self.attention) | sites_of("mlp", self.mlp)
        self.sites = halves | {"stream": self.site} | self.channels
        self.fast = None

    def enter(self, embedded: Float[Tensor, "batch token d_model"]) -> Tensor:
        """The stream before the first block."""
        return embedded

    def leave(self, stream: Tensor) -> Float[Tensor, "batch token d_model"]:
        """What the head reads of the stream after the last block."""
        return stream

    def embedding_std(self) -> float:
        """Deviation of an untied embedding at first."""
        return 1.0

    def parts(self, stream: Tensor) -> dict[str, Tensor]:
        """Vectors `(batch, token, d_model)` whose sum the head reads, by name."""
        return {"stream": self.leave(stream)}

    def forward(
        self,
        stream: Tensor,
        rotation: Rotation | None,
        cache: LayerCache | None,
        watched: frozenset,
    ) -> tuple[Tensor, Told]:
        # A block whose site is in use runs uncompiled: compiled code never looks at its sites.
        body = self.body if watched or self.fast is None else self.fast
        return body(stream, rotation, cache, watched)

    def body(
        self,
        stream: Tensor,
        rotation: Rotation | None,
        cache: LayerCache | None,
        watched: frozenset,
    ) -> tuple[Tensor, Told]:
        attend, mlp = self._halves(watched)
        x = self._at("attn_in", self.attention_norm(stream), watched)
        y, told_a = attend(x, rotation, cache)
        stream = stream + self.dropout(self._at("attn_out", y, watched))
        y, told_m = mlp(self._at("mlp_in", self.mlp_norm(stream), watched))
        stream = stream + self.dropout(self._at("mlp_out", y, watched))
        return self._look(stream, watched), told_of(told_a, told_m)

    def _halves(self, watched: frozenset) -> tuple[Callable, Callable]:
        """Each half as it runs: by its split path where one of its sites is in use."""
        halves = {kind.partition(".")[0] for kind in watched}
        attend = self.attention.split if "attention" in halves else self.attention
        return attend, self.mlp.split if "mlp" in halves else self.mlp

    def _at(self, place: str, x: Tensor, watched: frozenset) -> Tensor:
        """What passes at a place between the halves, sparse and edited as it may be."""
        x = self.sparsity(place, x)
        return see(self.channels[place], x) if place in watched else x

    def _look(self, stream: Tensor, watched: frozenset) -> Tensor:
        return see(self.site, stream) if "stream" in watched else stream


def told_of(attention: Told, mlp: Told) -> Told:
    """What both halves told, each under the name of its half."""
    told = {f"attention.{key}": value for key, value in attention.items()}
    return told | {f"mlp.{key}": value for key, value in mlp.items()}


def sites_of(kind: str, filling: Filling) -> dict[str, UnitSite]:
    """All sites of one half, by name within the block."""
    more = {f"{kind}.{name}": site for name, site in filling.more_sites.items()}
    return {kind: filling.site} | more


def stream_site(d_model: int, owner: nn.Module, exactness: Exactness = "none") -> UnitSite:
    """The residual stream's channels: each writes itself, in the dtype of the owner's weights."""
    # Not a lambda: a deep copy of the model then asks its own weights.
    write = partial(_channels, d_model, owner)
    return UnitSite("stream", d_model, signed=True, exactness=exactness, write=write)


def _channels(d_model: int, owner: nn.Module) -> Tensor:
    weight = next(owner.parameters())
    return torch.eye(d_model, dtype=weight.dtype, device=weight.device)
