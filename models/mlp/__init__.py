"""Fillings of the `mlp` slot: one class a line."""

from pellucid.models.mlp.bilinear import BilinearMLP
from pellucid.models.mlp.codebook import CodebookMLP
from pellucid.models.mlp.dense import DenseMLP
from pellucid.models.mlp.linear_experts import LinearExpertsMLP
from pellucid.models.mlp.memory import MemoryMLP
from pellucid.models.mlp.moe import MoEMLP
from pellucid.models.mlp.monet import MonetMLP
from pellucid.models.mlp.mxd import MixtureOfDecoders
from pellucid.models.mlp.peer import PeerMLP
from pellucid.models.mlp.q_sparse import QSparseMLP
from pellucid.models.mlp.relu_l1 import ReLUL1MLP
from pellucid.models.mlp.sae import SAEMLP, BatchTopKSAEMLP
from pellucid.models.mlp.skip_topk import SkipBatchTopKMLP, SkipTopKMLP
from pellucid.models.mlp.solu import SoLUMLP
from pellucid.models.mlp.spark import SparkMLP
from pellucid.models.mlp.threshold import BatchTopKMLP, JumpReLUMLP
from pellucid.models.mlp.topk import AbsTopKMLP, TopKMLP

MLPS = {
    "dense": DenseMLP,
    "topk": TopKMLP,
    "abs_topk": AbsTopKMLP,
    "batch_topk": BatchTopKMLP,
    "jumprelu": JumpReLUMLP,
    "skip_topk": SkipTopKMLP,
    "skip_batch_topk": SkipBatchTopKMLP,
    "sae": SAEMLP,
    "sae_batch_topk": BatchTopKSAEMLP,
    "solu": SoLUMLP,
    "bilinear": BilinearMLP,
    "relu_l1": ReLUL1MLP,
    "spark": SparkMLP,
    "q_sparse": QSparseMLP,
    "linear_experts": LinearExpertsMLP,
    "mxd": MixtureOfDecoders,
    "moe": MoEMLP,
    "monet": MonetMLP,
    "peer": PeerMLP,
    "memory": MemoryMLP,
    "codebook": CodebookMLP,
}
