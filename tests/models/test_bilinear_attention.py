"""Bilinear attention: its definition, and that the weights alone determine its edges."""

import pytest
import torch
from support.small import small_model

from pellucid.models import record
from pellucid.models.attention import ATTENTIONS
from pellucid.models.position import POSITIONS


def layer(tag: str = "bilinear", **fields):
    model = small_model("dense", attention=ATTENTIONS[tag].Config(**fields))
    return model.blocks[0].attention


def inputs(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(9))


def test_it_is_the_product_of_two_scores_summed_over_values():
    attention, x = layer(n_heads=2), inputs(2, 5, 16)
    # Both pairs of projections, pair before head before channel.
    w_q, w_k = (w.view(2, 2, 8, 16) for w in (attention.w_q, attention.w_k))
    w_v = attention.w_v.view(2, 8, 16)
    mixed = torch.zeros(2, 5, 2, 8, dtype=torch.float64)
    for b in range(2):
        for t in range(5):
            for s in range(t + 1):
                for h in range(2):
                    first, second = (
                        (w_q[p, h] @ x[b, t]) @ (w_k[p, h] @ x[b, s]) / 8**0.5 for p in range(2)
                    )
                    mixed[b, t, h] += first * second / (t + 1) ** 0.5 * (w_v[h] @ x[b, s])
    expected = mixed.flatten(2) @ attention.w_o.T
    assert torch.allclose(attention(x)[0], expected, atol=1e-12)


@pytest.mark.parametrize("position", ["none", "rope", "learned"])
def test_its_edges_are_the_forms_that_the_weights_give(position, tokens):
    """weights-exact: with rotary positions the form of an edge is that of its distance."""
    model = small_model("dense", attention="bilinear", position=POSITIONS[position].Config())
    block = model.blocks[0]
    with torch.no_grad(), record(model, ["embed", "blocks.0.attention"]) as trace:
        model(tokens)
    x = block.attention_norm(trace["embed"].values)
    edges = trace["blocks.0.attention"].values
    for t, s in ((0, 0), (7, 7), (7, 2), (23, 0)):
        forms = block.attention.forms(model.position.rotation(torch.tensor([t - s])))
        scores = torch.einsum("phij, bi, bj -> pbh", forms, x[:, t], x[:, s])
        assert torch.allclose(edges[:, :, t, s], scores[0] * scores[1] / (t + 1) ** 0.5, atol=1e-6)
        if position != "rope":
            assert torch.allclose(
                edges[:, :, t, s], scores[0] * scores[1] / (t + 1) ** 0.5, atol=1e-12
            )


@pytest.mark.parametrize(
    ("tag", "fields", "exactness"),
    [
        ("bilinear", {}, "weights-exact"),
        ("bilinear", {"qk_norm": True}, "none"),
        ("softmax", {}, "none"),
        ("softmax", {"qk_norm": True}, "none"),
    ],
)
def test_a_form_of_degree_four_is_claimed_by_what_is_one(tag, fields, exactness):
    attention, x = layer(tag, **fields), inputs(1, 6, 16)
    q, k, _ = attention._read(x, None, None)
    doubled = attention._read(2 * x, None, None)[:2]
    edges, grown = attention.edges(q, k)[0], attention.edges(*doubled)[0]
    assert attention.site.exactness == exactness
    assert torch.equal(grown, 16 * edges) == (exactness == "weights-exact")
