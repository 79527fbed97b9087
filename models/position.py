"""Fillings of the `position` slot: rotary, learned, or none."""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from pellucid.settings import fields
from pellucid.settings.fields import Configurable, setting

Rotation = tuple[Tensor, Tensor]


class NoPosition(Configurable, nn.Module):
    """Order is seen through the causal mask alone (arXiv 2305.19466)."""

    @dataclass(frozen=True, kw_only=True)
    class Config(fields.Config):
        """Nothing to set."""

    def __init__(self, config: Config, d_model: int, d_head: int, context: int):
        super().__init__()

    def embed(self, stream: Tensor, positions: Int[Tensor, "*batch token"]) -> Tensor:
        """The embedded tokens `(batch, token, d_model)` with what the scheme adds to them.

        Positions may also be `(batch, token)`, where rows have positions of their own.
        """
        return stream

    def rotation(self, positions: Int[Tensor, "*batch token"]) -> Rotation | None:
        """Cosines and sines that turn queries and keys, or None.

        They are `(token, d_head / 2)`, or `(batch, 1, token, d_head / 2)` of positions by row.
        """
        return None


class LearnedPosition(NoPosition):
    """One learned vector per position, added to the embedding (GPT-2)."""

    @dataclass(frozen=True, kw_only=True)
    class Config(fields.Config):
        """Nothing to set."""

    def __init__(self, config: Config, d_model: int, d_head: int, context: int):
        super().__init__(config, d_model, d_head, context)
        self.weight = nn.Parameter(torch.empty(context, d_model))

    def embed(self, stream: Tensor, positions: Int[Tensor, "*batch token"]) -> Tensor:
        return stream + self.weight[positions]


class RotaryPosition(NoPosition):
    """Queries and keys are turned by angles that grow with the position (arXiv 2104.09864)."""

    @dataclass(frozen=True, kw_only=True)
    class Config(fields.Config):
        base: float = setting(10000.0, above=1.0)
        """The slowest pair of channels turns once in about 2π x base positions."""

    def __init__(self, config: Config, d_model: int, d_head: int, context: int):
        super().__init__(config, d_model, d_head, context)
        self.base, self.d_head = config.base, d_head

    def rotation(self, positions: Int[Tensor, "*batch token"]) -> Rotation:
        pairs = torch.arange(0, self.d_head, 2, device=positions.device, dtype=torch.float64)
        angles = positions[..., None].double() * self.base ** -(pairs / self.d_head)
        angles = angles if positions.ndim == 1 else angles[:, None]
        return angles.cos().float(), angles.sin().float()


def rotate(x: Float[Tensor, "batch head token d"], rotation: Rotation) -> Tensor:
    """Turn the two halves of each head's channels against each other."""
    cos, sin = (t.to(torch.promote_types(x.dtype, torch.float32)) for t in rotation)
    a, b = rearrange(x, "batch head token (half d) -> half batch head token d", half=2)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1).to(x.dtype)


POSITIONS = {"rope": RotaryPosition, "learned": LearnedPosition, "none": NoPosition}
