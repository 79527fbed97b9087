"""Small models for tests: float64, evaluation mode, a vocabulary of 61."""

import torch

from pellucid.models import ModelConfig, Transformer
from pellucid.models.filling import Filling
from pellucid.models.mlp import MLPS
from pellucid.settings.fields import Config, declared

VOCAB = 61

SMALL = {
    "dense": {"width": 48},
    "topk": {"width": 48, "k": 5},
    "abs_topk": {"width": 48, "k": 5},
    "skip_topk": {"width": 48, "k": 5},
    "skip_batch_topk": {"width": 48, "k": 5},
    "sae": {"width": 48, "k": 5},
    "sae_batch_topk": {"width": 48, "k": 5},
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

SMALL_FILLINGS = {
    "mlp": SMALL,
    "attention": {"codebook": {"codes": 12, "k": 3}},
    "stream": {
        "topk_stream": {"k": 5},
        "crate": {"n_heads": 4, "width": 48},
        "crosslayer": {"width": 48, "k": 5},
        "crosslayer_batch_topk": {"width": 48, "k": 5},
    },
    "head": {"backpack": {"n_senses": 4}, "concept": {"n_known": 3, "n_free": 20, "k_free": 4}},
    "site_sparsity": {
        "abs_topk": {
            "share": 0.5,
            "places": ("attn_in", "q", "k", "v", "attn_out", "mlp_in", "mlp_out"),
        }
    },
    "constraint": {"weight_topk": {"density": 0.5}},
    "gradient_rule": {"routed": {"mlp_units": 8, "heads": 1}},
}
"""Settings that make a filling small, by slot and tag; `small_filling` has the others."""

SLOTS = {name: field.table for name, field in declared(ModelConfig).items() if field.table}
"""The table of each slot."""

FILLINGS = [f"{slot}={tag}" for slot, table in SLOTS.items() for tag in table]
"""Every filling of every slot, as `slot=tag`."""


def small_filling(slot: str, tag: str) -> Config:
    """The settings of a filling that make it small: those above, or 48 units where it has a width."""
    config = SLOTS[slot][tag].Config
    default = {"width": 48} if "width" in declared(config) else {}
    return config(**SMALL_FILLINGS.get(slot, {}).get(tag, default))


def filled(*names: str) -> ModelConfig:
    """Two layers of width 16 with the fillings named `slot=tag`, or in one layer `slot@0=tag`.

    A slot of which nothing is said has the filling that a configuration has by default.
    """
    parts = [name.split("=") for name in names]
    given = {place: small_filling(place.partition("@")[0], tag) for place, tag in parts}
    layered = {place: given.pop(place) for place in [*given] if "@" in place}
    whole = {"mlp": small_filling("mlp", "topk")} | given
    return ModelConfig(n_layers=2, d_model=16, context=24, per_layer=layered, **whole)


def labels(tokens: torch.Tensor) -> dict[str, torch.Tensor]:
    """What a labelled corpus would say of tokens: bits that the token alone decides, -1 for none."""
    bits = (tokens % 2 == 0) * 1 + (tokens % 3 == 0) * 2 + (tokens < 9) * 4
    return {"labels": torch.where(tokens % 7 == 5, -1, bits)}


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
    filling = small_filling("mlp", mlp).replace(**fields or {})
    if isinstance(attention, str):
        attention = small_filling("attention", attention)
    config = ModelConfig(
        n_layers=2, d_model=16, context=24, mlp=filling, attention=attention, **changes
    )
    return Transformer(config, vocab_size=VOCAB, seed=seed).double().eval()


def small_layer(mlp: str, **fields) -> Filling:
    """The MLP alone, of 48 units where `fields` say nothing else, with biases that are not zero."""
    filling = small_filling("mlp", mlp).replace(**fields)
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
