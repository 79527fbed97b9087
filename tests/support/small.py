"""Small models for tests: float64, evaluation mode, a vocabulary of 61."""

from pellucid.models import ModelConfig, Transformer
from pellucid.models.mlp import MLPS

VOCAB = 61

SMALL = {
    "dense": {"width": 48},
    "topk": {"width": 48, "k": 5},
    "abs_topk": {"width": 48, "k": 5},
    "batch_topk": {"width": 48, "k": 5},
    "jumprelu": {"width": 48, "k": 5},
    "solu": {"width": 48},
    "bilinear": {"width": 48, "bias": True},
    "relu_l1": {"width": 48},
    "spark": {"width": 48, "k": 5},
    "q_sparse": {"width": 48, "k": 12, "k_in": 8},
    "linear_experts": {"channels": 3, "experts": 16, "k": 2, "d_key": 12},
    "mxd": {"experts": 48, "width": 24, "k": 5},
}
"""Settings of each filling of the mlp slot that give it 48 units at width 16."""


def small_model(mlp: str = "topk", *, seed: int = 0, **changes) -> Transformer:
    """Two layers of width 16 with 48 units, 5 of them active where the filling is sparse."""
    filling = MLPS[mlp].Config(**SMALL[mlp])
    config = ModelConfig(n_layers=2, d_model=16, context=24, mlp=filling, **changes)
    return Transformer(config, vocab_size=VOCAB, seed=seed).double().eval()
