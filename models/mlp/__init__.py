"""Fillings of the `mlp` slot: one class a line."""

from pellucid.models.mlp.dense import DenseMLP
from pellucid.models.mlp.threshold import BatchTopKMLP, JumpReLUMLP
from pellucid.models.mlp.topk import AbsTopKMLP, TopKMLP

MLPS = {
    "dense": DenseMLP,
    "topk": TopKMLP,
    "abs_topk": AbsTopKMLP,
    "batch_topk": BatchTopKMLP,
    "jumprelu": JumpReLUMLP,
}
