"""What a search ranks nodes by at first: trained masks, attribution, or masks that start from it."""

from dataclasses import replace

from jaxtyping import Float
from torch import Tensor, nn

from pellucid.eval.circuits.attribution import STEPS, node_scores
from pellucid.eval.circuits.bases import Base
from pellucid.eval.circuits.nodes import Nodes
from pellucid.eval.circuits.objective import Asked
from pellucid.eval.circuits.prune import trained_masks
from pellucid.eval.circuits.settings import Settings

SPARED = 3
"""Masks that start from attribution are trained for so much fewer steps."""


def ranked(
    model: nn.Module, nodes: Nodes, asked: Asked, base: Base, settings: Settings, seed: int
) -> Float[Tensor, "copy node"]:
    """Scores of nodes, the most needed highest, by the ranking of the settings."""
    about = (model, nodes, asked, base)
    if settings.ranking == "masks":
        return trained_masks(*about, settings, seed)
    scores = node_scores(*about, steps=1 if settings.ranking == "eap" else STEPS)
    scores = scores.to(asked.tokens.device)
    if settings.ranking != "started":
        return scores[None]
    fewer = replace(settings, steps=max(1, settings.steps // SPARED))
    place = scores.argsort(stable=True).argsort().to(scores) / max(1, len(scores) - 1)
    return trained_masks(*about, fewer, seed, start=2 * place - 1)
