"""Logits of one position of each row, and gradients that nobody asked for."""

import pytest
import torch
from support.small import small_model

from pellucid.kernels import encode_topk, operators
from pellucid.models import ModelConfig, Transformer, ablate, intervene
from pellucid.models.head import HEADS

COLUMN = torch.tensor([3, 23, 11])


@pytest.mark.parametrize("head", HEADS)
def test_one_position_of_each_row_has_the_logits_of_the_whole_pass(head, tokens_of_small):
    about = {"n_senses": 4} if head == "backpack" else {}
    config = ModelConfig(n_layers=1, d_model=16, context=24, head=HEADS[head].Config(**about))
    model = Transformer(config, vocab_size=61, seed=1).double().eval()
    rows = torch.arange(3)
    # A site of the head is edited and seen over all positions.
    edits = [{}, *({name: ablate([0])} for name in model.sites() if name.startswith("head."))]
    for edit in edits:
        with torch.no_grad(), intervene(model, edit):
            whole = model(tokens_of_small).logits[rows, COLUMN]
            found = model.logits_at(tokens_of_small, COLUMN)
        assert torch.allclose(found, whole, rtol=1e-12, atol=1e-12), edit


def test_the_head_computes_those_positions_alone(tokens_of_small, monkeypatch):
    model = small_model("dense")
    project, seen = model.head.project, []
    monkeypatch.setattr(model.head, "project", lambda x: seen.append(x.numel()) or project(x))
    model.logits_at(tokens_of_small, COLUMN)
    assert seen == [3 * model.config.d_model]


@pytest.mark.parametrize("products", ["sparse", "dense"])
def test_an_encoder_that_is_held_gives_the_gradient_of_its_input_alone(products, monkeypatch):
    whole, calls = operators.encode_topk_backward, []
    monkeypatch.setattr(
        operators, "encode_topk_backward", lambda *about: calls.append(1) or whole(*about)
    )
    x, w, b = (torch.randn(shape).double().requires_grad_() for shape in ((5, 8), (32, 8), (32,)))
    slopes = []
    for some in ((w, b), (w.detach(), b.detach())):
        values, _ = encode_topk(x, *some, 4, signed=False, products=products)
        slopes.append(torch.autograd.grad(values.square().sum(), x)[0])
    assert torch.allclose(*slopes, rtol=1e-12) and slopes[0].abs().sum() > 0
    assert len(calls) == 1


@pytest.fixture
def tokens_of_small() -> torch.Tensor:
    return torch.randint(0, 61, (3, 24), generator=torch.Generator().manual_seed(0))
