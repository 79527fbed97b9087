"""Small models for tests: float64, evaluation mode, a vocabulary of 61."""

import torch

from pellucid.models import ModelConfig, Transformer
from pellucid.models.attention import ATTENTIONS
from pellucid.models.filling import Filling
from pellucid.models.mlp import MLPS
from pellucid.settings.fields import Config

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
    "moe": {"width": 48, "n_experts": 6, "k": 2},
    "monet": {"n_experts": 49, "k": 3, "n_heads": 2, "width": 42},
    "peer": {"n_experts": 49, "k": 3, "n_heads": 2},
    "memory": {"n_slots": 49, "k": 3, "n_heads": 2},
    "codebook": {"width": 40, "codes": 48, "k": 5},
}
"""Settings of each filling of the mlp slot that give it 48 or 49 units at width 16."""

SMALL_ATTENTION = {"codebook": {"codes": 12, "k": 3}}
"""Settings of fillings of the attention slot whose defaults are large."""


def small_model(
    mlp: str = "topk",
    *,
    attention: str | Config = "softmax",
    seed: int = 0,
    fields: dict | None = None,
    **changes,
) -> Transformer:
    """Two layers of width 16 with 48 units, 5 of them active where the filling is sparse.

    `fields` are settings of the MLP beside those of the table, `changes` those of the model. The
    attention is a tag of its table, or a configuration.
    """
    filling = MLPS[mlp].Config(**SMALL[mlp] | (fields or {}))
    if isinstance(attention, str):
        attention = ATTENTIONS[attention].Config(**SMALL_ATTENTION.get(attention, {}))
    config = ModelConfig(
        n_layers=2, d_model=16, context=24, mlp=filling, attention=attention, **changes
    )
    return Transformer(config, vocab_size=VOCAB, seed=seed).double().eval()


def small_layer(mlp: str, **fields) -> Filling:
    """The MLP alone, of 48 units where `fields` say nothing else, with biases that are not zero."""
    filling = MLPS[mlp].Config(**SMALL[mlp] | fields)
    config = ModelConfig(n_layers=1, d_model=16, mlp=filling)
    layer = Transformer(config, vocab_size=8, seed=2).double().eval().blocks[0].mlp
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            if name.rpartition(".")[2].startswith("b_"):
                parameter.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
    return layer


def inputs(*shape: int) -> torch.Tensor:
    """Unit-normal inputs of a small layer."""
    return torch.randn(*shape, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(9))


@torch.no_grad()
def first_write(mlp: str, **fields) -> float:
    """Root mean square of what an MLP at width 64 writes at initialization to unit-normal inputs."""
    config = ModelConfig(n_layers=2, d_model=64, mlp=MLPS[mlp].Config(**fields))
    layer = Transformer(config, vocab_size=8).eval().blocks[0].mlp
    x = torch.randn(2, 256, 64, generator=torch.Generator().manual_seed(1))
    return float(layer(x)[0].square().mean().sqrt())
