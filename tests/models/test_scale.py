"""What is written at initialization has one size, whatever the filling, its width and sparsity."""

import itertools
import math

import pytest
import torch
from support.fitting import Fit
from support.small import FILLINGS, VOCAB, filled, first_write

from pellucid.errors import ConfigError
from pellucid.models import ModelConfig, Transformer
from pellucid.models.attention import ATTENTIONS
from pellucid.models.mlp import MLPS
from pellucid.settings.fields import declared

WIDTHS = (256, 1024, 4096)


def sizes(tag: str) -> list[dict[str, int]]:
    """Each whole number among a filling's settings a quarter and four times as large, and widths
    with numbers of active units; without those that the filling refuses."""
    defaults, found = MLPS[tag].Config(), []
    for name in declared(type(defaults)):
        value = getattr(defaults, name)
        if name == "width":
            found += [{name: width} for width in WIDTHS]
        elif isinstance(value, int) and not isinstance(value, bool):
            found += [{name: max(1, value // 4)}, {name: value}, {name: 4 * value}]
    if {"width", "k"} <= declared(type(defaults)).keys():
        found += [{"width": w, "k": k} for w, k in itertools.product(WIDTHS, (4, 64))]
    return [size for size in found if accepted(tag, size)]


def accepted(tag: str, size: dict[str, int]) -> bool:
    try:
        ModelConfig(n_layers=1, d_model=64, mlp=MLPS[tag].Config(**size))
    except ConfigError:
        return False
    return True


@pytest.mark.parametrize("tag", MLPS)
def test_writes_start_with_the_size_of_the_dense_baseline(tag):
    dense = first_write("dense", width=1024)
    ratios = {str(size): first_write(tag, **size) / dense for size in sizes(tag)}
    assert len(ratios) >= 3
    assert {size: r for size, r in ratios.items() if not 0.8 < r < 1.2} == {}


def first_token(tag: str, n_heads: int) -> float:
    """Root mean square of what attention writes at a position that sees itself alone."""
    attention = ATTENTIONS[tag].Config(n_heads=n_heads)
    config = ModelConfig(n_layers=2, d_model=64, mlp=MLPS["dense"].Config(), attention=attention)
    layer = Transformer(config, vocab_size=8).eval().blocks[0].attention
    x = torch.randn(256, 1, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return float(layer(x)[0].square().mean().sqrt())


@pytest.mark.parametrize("tag", ATTENTIONS)
def test_attention_starts_with_one_size_whatever_its_heads(tag):
    """Later positions average what they see, each kind in its way."""
    four = first_token(tag, 4)
    assert {n: r for n in (1, 2, 8) if not 0.8 < (r := first_token(tag, n) / four) < 1.2} == {}


@pytest.mark.parametrize("name", FILLINGS)
def test_every_model_starts_out_knowing_nothing(name):
    """Heads and streams write no block's output: their size shows in the first loss."""
    loss = Fit(Transformer(filled(name), vocab_size=VOCAB)).gradient()
    assert abs(loss - math.log(VOCAB)) < 0.15
