"""Biases of attention: what they add, in every kind that has them."""

import pytest
import torch
from support.small import small_model

from pellucid.models.attention import ATTENTIONS

KINDS = [tag for tag, kind in ATTENTIONS.items() if "bias" in kind.Config.__dataclass_fields__]
BIASES = ("b_q", "b_k", "b_v", "b_o")


def biased(tag: str):
    """The first layer's attention, with biases that are not 0."""
    model = small_model(attention=ATTENTIONS[tag].Config(bias=True))
    generator = torch.Generator().manual_seed(3)
    attention = model.blocks[0].attention
    with torch.no_grad():
        for name, parameter in attention.named_parameters():
            if name in BIASES:
                assert not parameter.any()  # where training starts
                parameter.normal_(generator=generator)
    return attention


def inputs() -> torch.Tensor:
    return torch.randn(2, 5, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("tag", ["softmax", "headwise", "subspace"])
def test_of_an_input_of_zero_the_biases_are_written(tag):
    attention = biased(tag)
    x = torch.zeros(2, 5, 16, dtype=torch.float64)
    written = attention.b_o.expand(2, 5, 16)
    if attention.b_v is not None:  # attention to equal values gives their value
        values = attention.b_v.expand(2, 5, 16).unflatten(-1, (-1, 4)).transpose(1, 2)
        written = attention._write(values)
        assert not torch.allclose(written, attention.b_o.expand(2, 5, 16))
    assert torch.allclose(attention(x)[0], written)
    assert torch.allclose(attention.split(x)[0], written)


@pytest.mark.parametrize("tag", KINDS)
def test_the_last_bias_is_added_to_what_heads_write_on_both_paths(tag):
    attention, x = biased(tag), inputs()
    change = torch.linspace(-1, 1, 16, dtype=torch.float64)
    for path in (attention, attention.split):
        before = path(x)[0]
        with torch.no_grad():
            attention.b_o += change
        assert torch.allclose(path(x)[0] - before, change.expand(2, 5, 16))


def test_queries_keys_and_values_have_biases_of_their_own():
    attention, x = biased("softmax"), inputs()
    for channels, name in zip(attention._project(x, x), "qkv", strict=True):
        without = x @ getattr(attention, f"w_{name}").T
        assert torch.allclose(channels - without, getattr(attention, f"b_{name}").expand(2, 5, 16))


def test_without_positions_a_softmax_does_not_see_the_biases_of_keys():
    """A bias of keys adds the same to all scores of a query."""
    attention, x = biased("softmax"), inputs()
    before = attention(x)[0]
    with torch.no_grad():
        attention.b_k += 1.0
    assert torch.allclose(attention(x)[0], before)
    with torch.no_grad():
        attention.b_q += 1.0
    assert not torch.allclose(attention(x)[0], before)
