"""What a decoder makes of slots and a rest is what it makes of all units in slots of their own."""

import pytest
import torch
from support.small import small_model

from pellucid.kernels import sparse_decode
from pellucid.models import Activations, intervene, mix, record
from pellucid.models.activations import every_row

SITE = "blocks.0.mlp"
TAKING = ["topk", "abs_topk", "skip_topk", "sae", "moe", "peer", "memory", "mxd"]
COPIES, ROWS = 2, 3


def mixtures(n_units: int, tokens: int) -> dict:
    """Shares and bases of the kinds that a mixture takes."""
    draw = torch.Generator().manual_seed(0)
    some = lambda *shape: torch.rand(*shape, generator=draw, dtype=torch.float64)
    each = some(COPIES * ROWS, n_units)
    return {
        "one": (some(n_units), some(n_units), {}),
        "copies": (some(COPIES, n_units), some(n_units), {}),
        "each": (each, 0.5, {}),
        "own base": (some(COPIES, n_units), some(COPIES * ROWS, tokens, n_units), {}),
        "in part": (each, some(n_units), {"positions": [1, 5], "examples": [0, 4]}),
    }


@pytest.mark.parametrize("kind", mixtures(1, 1))
@pytest.mark.parametrize("mlp", TAKING)
def test_a_rest_writes_what_all_slots_write(mlp, kind, tokens):
    """A recorded site shows every unit, so that its decoder is given slots for all of them."""
    model, tokens = small_model(mlp), tokens.repeat(COPIES, 1)
    site = model.sites()[SITE]
    assert site.takes_rest
    share, base, where = mixtures(site.n_units, tokens.shape[1])[kind]
    share.requires_grad_()
    with intervene(model, {SITE: mix(share, base, **where)}):
        here = model(tokens).logits
        with record(model, [SITE], grad=True):
            there = model(tokens).logits
    assert torch.allclose(here, there, rtol=1e-9, atol=1e-12)
    weights = torch.linspace(-1, 1, here.numel()).view(here.shape).double()
    slopes = [torch.autograd.grad((weights * y).sum(), share)[0] for y in (here, there)]
    assert slopes[1].abs().max() > 1e-6
    assert torch.allclose(*slopes, rtol=1e-8, atol=1e-11)


def test_rows_of_a_share_are_for_neighbours(tokens):
    model, tokens = small_model("topk"), tokens.repeat(COPIES, 1)
    share, base, _ = mixtures(model.sites()[SITE].n_units, tokens.shape[1])["copies"]
    with torch.no_grad():
        with intervene(model, {SITE: mix(share, base)}):
            together = model(tokens).logits
        for copy in range(COPIES):
            with intervene(model, {SITE: mix(share[copy], base)}):
                alone = model(tokens[:ROWS]).logits
            assert torch.allclose(together[copy * ROWS :][:ROWS], alone, atol=1e-12)
        uneven = mix(share.repeat(2, 1), base)
        with (
            intervene(model, {SITE: uneven}),
            pytest.raises(ValueError, match="4 rows, which do not divide the 6 examples"),
        ):
            model(tokens)


def test_settled_activations_have_a_slot_for_each_unit():
    values, indices = torch.tensor([[[2.0, 0.0]]] * 2), torch.tensor([[[1, -1]]] * 2).int()
    acts = Activations(values, indices, 3, rest=torch.tensor([[[1.0, 10.0, 100.0]]]))
    settled = acts.settled()
    assert torch.equal(settled.to_dense(), torch.tensor([[[1.0, 12.0, 100.0]]] * 2))
    assert torch.equal(settled.indices, torch.arange(3).int().expand(2, 1, 3))
    assert settled.rest is None
    assert settled.settled() is settled


def test_every_row_stands_beside_itself():
    assert every_row(torch.tensor([[1.0], [2.0]]), 6).flatten().tolist() == [1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("products", ["sparse", "dense"])
def test_a_held_decoder_gives_the_values_the_same_gradient(products):
    draw = torch.Generator().manual_seed(0)
    values = torch.rand(5, 4, generator=draw)
    indices = torch.rand(5, 9, generator=draw).argsort(-1)[:, :4].sort(-1).values.int()
    weight, slope = torch.randn(9, 7, generator=draw), torch.randn(5, 7, generator=draw)
    values[0, 3], indices[0, 3] = 0.0, -1
    found = []
    for moving in (False, True):
        mine, held = values.clone().requires_grad_(), weight.clone().requires_grad_(moving)
        y = sparse_decode(mine, indices, held, products=products)
        found.append(torch.autograd.grad(y, mine, slope)[0])
    assert torch.equal(*found)


@pytest.mark.parametrize("attention", ["softmax", "gated"])
def test_channels_are_the_same_whether_edges_are_looked_at(attention, tokens):
    model = small_model("dense", attention=attention)
    channels, edges = ["blocks.0.attn_out", "blocks.0.attention.v"], ["blocks.0.attention"]
    with torch.no_grad():
        with record(model, channels) as alone:
            model(tokens)
        with record(model, channels + edges) as open_:
            model(tokens)
    for name in channels:
        assert torch.allclose(alone[name].values, open_[name].values, atol=1e-12)
