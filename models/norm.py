"""Fillings of the `norm` slot."""

from dataclasses import dataclass

from torch import nn

from pellucid.settings import fields
from pellucid.settings.fields import Configurable, setting


class RMSNorm(Configurable, nn.RMSNorm):
    """Division by the root mean square, so that 0 keeps its meaning (arXiv 1910.07467)."""

    @dataclass(frozen=True, kw_only=True)
    class Config(fields.Config):
        eps: float = setting(1e-5, above=0.0)
        """Added to the mean square."""

    def __init__(self, config: Config, d_model: int):
        super().__init__(d_model, eps=config.eps)


class LayerNorm(Configurable, nn.LayerNorm):
    """Centering, division by the standard deviation, gain and bias (arXiv 1607.06450)."""

    @dataclass(frozen=True, kw_only=True)
    class Config(fields.Config):
        eps: float = setting(1e-5, above=0.0)
        """Added to the variance."""

    def __init__(self, config: Config, d_model: int):
        super().__init__(d_model, eps=config.eps)


NORMS = {"rms": RMSNorm, "layer": LayerNorm}
