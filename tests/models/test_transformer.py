"""The whole model: what it sees, how large its writes are, what its variants mean."""

import pytest
import torch

from pellucid.errors import ConfigError
from pellucid.models import ModelConfig, Transformer, account, record
from pellucid.models.attention import ATTENTIONS
from pellucid.models.head import HEADS
from pellucid.models.mlp import MLPS
from pellucid.models.norm import NORMS
from pellucid.models.position import POSITIONS


def softmax(**fields):
    return ATTENTIONS["softmax"].Config(**fields)


def build(vocab_size: int = 61, **changes) -> Transformer:
    given = {"n_layers": 2, "d_model": 16, "context": 24} | changes
    return Transformer(ModelConfig(**given), vocab_size=vocab_size).double().eval()


@pytest.mark.parametrize("position", list(POSITIONS))
@pytest.mark.parametrize("norm", list(NORMS))
@pytest.mark.parametrize("tied", [False, True])
def test_every_parameter_gets_a_gradient(position, norm, tied, tokens):
    model = build(
        position=POSITIONS[position].Config(),
        norm=NORMS[norm].Config(),
        head=HEADS["unembed"].Config(tied=tied),
        attention=softmax(n_heads=2, qk_norm=True, sink=True),
        mlp=MLPS["topk"].Config(width=32, k=8),
    )
    model(tokens).logits.square().sum().backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []
    assert tied == (model.head.weight is model.embedding.weight)


def test_rope_depends_on_distance_alone():
    """Scores of the same tokens, shifted, are the same; learned positions are not."""

    def edge(position: str, start: int) -> torch.Tensor:
        model = build(position=POSITIONS[position].Config())
        for parameter in model.position.parameters():
            torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(3))
        q, k = torch.randn(2, 1, 4, 5, 4, dtype=torch.float64, generator=generator())
        rotation = model.position.rotation(torch.arange(start, start + 5))
        from pellucid.models.position import rotate

        return rotate(q, rotation) @ rotate(k, rotation).mT

    def generator():
        return torch.Generator().manual_seed(0)

    assert torch.allclose(edge("rope", 0), edge("rope", 9), atol=1e-5)


def test_sink_is_one_more_column_of_the_softmax():
    """`softmax([scores; b])` with value 0 equals the denominator plus exp(b)."""
    model = build(attention=softmax(n_heads=2, sink=True))
    attention = model.blocks[0].attention
    torch.nn.init.constant_(attention.sink, 0.7)
    x = torch.randn(1, 6, 16, dtype=torch.float64)
    q, k, v = attention._read(x, None, None)
    scores = (q @ k.mT / attention.d_head**0.5).exp().tril()
    edges = scores / (scores.sum(-1, keepdim=True) + torch.tensor(0.7).double().exp())
    expected = attention._write(edges @ v)
    assert torch.allclose(attention(x)[0], expected, atol=1e-7)
    assert torch.allclose(attention.split(x)[0], expected, atol=1e-7)


def test_qk_norm_makes_scores_blind_to_the_size_of_queries():
    attention = build(attention=softmax(n_heads=2, qk_norm=True)).blocks[0].attention
    x = torch.randn(1, 6, 16, dtype=torch.float64)
    before = attention(x)[0]
    with torch.no_grad():
        attention.w_q.mul_(50)
    assert torch.allclose(attention(x)[0], before, atol=1e-3)


def test_generation_is_seeded_and_refuses_to_outgrow_the_context(model, tokens):
    first = model.generate(tokens[:, :4], 8, seed=3)
    assert torch.equal(first, model.generate(tokens[:, :4], 8, seed=3))
    assert not torch.equal(first, model.generate(tokens[:, :4], 8, seed=4))
    with pytest.raises(ValueError, match="at most the context, 24"):
        model.generate(tokens, 1)


def test_layers_can_be_filled_one_by_one(tokens):
    model = build(
        n_layers=3,
        mlp=MLPS["dense"].Config(width=32),
        per_layer={"mlp@1": MLPS["topk"].Config(width=40, k=3)},
    )
    with record(model, [f"blocks.{layer}.mlp" for layer in range(3)]) as trace:
        model(tokens)
    assert [acts.is_sparse for acts in trace.values()] == [False, True, False]
    assert trace["blocks.1.mlp"].count.max() == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attention": softmax(n_heads=3)}, "a divisor of d_model"),
        ({"per_layer": {"mlp@7": MLPS["dense"].Config()}}, "layers 0 … 1"),
        ({"per_layer": {"head@0": HEADS["unembed"].Config()}}, "mlp@0 or attention@0"),
        ({"mlp": MLPS["topk"].Config(k=33, width=32)}, "at most the width, 32"),
        (
            {"mlp": MLPS["abs_topk"].Config(k=17, width=32, select="groupmax")},
            "mlp.select groupmax takes one unit of each group, .* at most 16 is accepted as mlp.k",
        ),
        ({"attention": softmax(n_heads=16)}, "an even number"),
    ],
)
def test_what_cannot_work_is_refused_with_its_reason(changes, message):
    with pytest.raises(ConfigError, match=message):
        build(**changes)


def test_account_counts_what_is_there():
    """Small enough to count by hand: one layer, d 4, one head, width 6, vocabulary 5."""
    config = ModelConfig(
        n_layers=1,
        d_model=4,
        context=3,
        attention=softmax(n_heads=1),
        mlp=MLPS["topk"].Config(width=6, k=2),
    )
    found = account(config, 5)
    attention, norms, embed, head = 4 * 16, 3 * 4, 5 * 4, 5 * 4
    assert found.total == attention + norms + embed + head + (6 * 4 + 6 + 6 * 4 + 4)
    assert found.active == attention + norms + 4 + head + (6 * 4 + 6 + 2 * 4 + 4)
    assert found.flops_executed == 2 * attention + 2 * 4 * 4 + 2 * (6 * 4 + 2 * 4) + 2 * head
    model = Transformer(config, vocab_size=5)
    zeros = sum(int((p == 0).sum()) for p in model.parameters())
    assert account(model).nonzero == found.total - zeros


def test_initial_values_depend_on_the_seed_alone():
    first, again, other = (
        Transformer(ModelConfig(n_layers=1), vocab_size=9, seed=s) for s in (1, 1, 2)
    )
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True)
    )
    assert not torch.equal(first.embedding.weight, other.embedding.weight)
