"""`PosthocConfig`: how coders are fitted to a dense run."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pellucid.errors import ConfigError
from pellucid.settings import words
from pellucid.settings.fields import Config, setting
from pellucid.settings.kinds import doubled

SWEPT = ("k", "width", "lr")
"""Fields of which several values may be given, separated by commas."""


@dataclass(frozen=True, kw_only=True)
class PosthocConfig(Config):
    """One coder for each layer, all fitted at once to activations of the run's own training rows."""

    kind: Literal["transcoder", "skip_transcoder", "crosslayer_transcoder", "sae", "matryoshka"] = (
        setting("transcoder")
    )
    """transcoder: in place of the MLP, from what it reads; sae: of what the MLP writes;
    skip_transcoder: a transcoder beside a linear map; crosslayer_transcoder: transcoders that write
    to all later layers as well; matryoshka: an sae whose first units alone must reconstruct, too."""
    rule: Literal["topk", "batch_topk"] = setting("topk")
    """topk: the k strongest units of each token; batch_topk: the strongest of a batch, k for a token
    on average, while coders are fitted, and those above a threshold afterwards (2412.06410)."""
    k: int = setting(32, low=1)
    """Active units per token."""
    width: int | None = setting(None, low=1)
    """Units of a coder; none gives 8 x d_model."""
    steps: int = setting(1000, low=1)
    """Updates of the coders."""
    batch: int = setting(16, low=1)
    """Rows of one step; a row is the run's context."""
    lr: float = setting(1e-3, above=0)
    """Peak learning rate of Adam."""
    seed: int = setting(0, low=0, high=2**31 - 1)
    """Initial coders."""
    frozen: Literal["none", "decoder", "encoder"] = setting("none")
    """Which matrix stays as it was drawn: the control that a fitted dictionary must beat."""
    dead_after: int = setting(100_000, low=1)
    """Tokens over which a unit must be silent to be helped by the auxiliary loss."""
    aux_weight: float = setting(1 / 32, low=0)
    """Weight of the loss by which silent units learn what the others leave over; 0 is without."""
    kl_steps: int = setting(0, low=0)
    """Further updates of all coders, spliced in, towards the run's own predictions."""
    kl_lr: float = setting(1e-4, above=0)
    """Learning rate of those."""
    eval_tokens: int = setting(65_536, low=1)
    """Held-out tokens on which the result is measured, and training tokens that choose a rate."""
    device: Literal["auto", "cpu", "cuda"] = setting("auto", operational=True)
    """auto takes a GPU where there is one."""


def expand(given: Sequence[str]) -> list[PosthocConfig]:
    """The configurations that words ask for: every combination of the values of k, width and lr.

    Raises ConfigError for a word that is not understood, where a value stands twice, and for rates
    of which one is not twice the one before.
    """
    options = []
    for word in given:
        path, equals, text = word.partition("=")
        values = text.split(",") if path in SWEPT else [text]
        if len(set(values)) < len(values):
            raise ConfigError(f"{path} = {text!r} is not accepted; expected different values")
        options.append([path + equals + value for value in values])
    found = [words.override(PosthocConfig(), list(one)) for one in itertools.product(*options)]
    if not doubled(rates := dict.fromkeys(config.lr for config in found)):
        raise ConfigError(
            f"lr = {','.join(f'{rate:g}' for rate in rates)} is not accepted; expected rates each "
            f"twice the one before"
        )
    return found
