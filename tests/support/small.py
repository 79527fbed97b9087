"""Small models for tests: float64, evaluation mode, a vocabulary of 61."""

from pellucid.models import ModelConfig, Transformer
from pellucid.models.mlp import MLPS

VOCAB = 61


def small_model(mlp: str = "topk", *, seed: int = 0, **changes) -> Transformer:
    """Two layers of width 16 with 48 units, 5 of them active where the filling is sparse."""
    fields = {"width": 48} if mlp == "dense" else {"width": 48, "k": 5}
    config = ModelConfig(
        n_layers=2, d_model=16, context=24, mlp=MLPS[mlp].Config(**fields), **changes
    )
    return Transformer(config, vocab_size=VOCAB, seed=seed).double().eval()
