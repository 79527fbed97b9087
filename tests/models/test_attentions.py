"""What every filling of the attention slot promises: causality, caches, sizes, edges, gradients."""

import pytest
import torch
from support.small import small_filling, small_model

from pellucid.errors import ConfigError
from pellucid.models import ModelConfig, Transformer, ablate, account, intervene, patch, record
from pellucid.models.attention import ATTENTIONS
from pellucid.models.cache import Cache
from pellucid.models.position import POSITIONS


def config(tag: str, **changes):
    return small_filling("attention", tag).replace(**changes)


def inputs(*shape: int, seed: int = 9) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def edge_site(model) -> str:
    """Where the edges of the first layer are seen."""
    sites = model.sites()
    return "blocks.0.attention.edges" if "blocks.0.attention.edges" in sites else EDGES


EDGES = "blocks.0.attention"


@pytest.mark.parametrize("position", list(POSITIONS))
@pytest.mark.parametrize("attention", list(ATTENTIONS))
def test_a_cached_pass_gives_the_logits_of_a_whole_one(attention, position, tokens):
    model = small_model("dense", attention=attention, position=POSITIONS[position].Config())
    torch.nn.init.normal_(model.embedding.weight, generator=torch.Generator().manual_seed(1))
    cache, parts = Cache(2), []
    with torch.no_grad():
        whole = model(tokens).logits
        for part in (tokens[:, :10], tokens[:, 10:11], tokens[:, 11:]):
            parts.append(model(part, cache=cache).logits)
    assert torch.allclose(torch.cat(parts, dim=1), whole, atol=1e-6)


def test_generation_with_a_cache_honors_edits_as_full_passes_do(attending, tokens):
    site = edge_site(attending)
    with torch.no_grad(), intervene(attending, {site: ablate([1, 2], positions=[3, 7, 9])}):
        grown = attending.generate(tokens[:, :5], 10, temperature=0)
        slow = tokens[:, :5]
        for _ in range(10):
            slow = torch.cat([slow, attending(slow).logits[:, -1:].argmax(-1)], dim=1)
    assert torch.equal(grown, slow)


def test_recording_changes_nothing_and_edges_are_causal(attending, tokens):
    with torch.no_grad(), record(attending, attending.sites()) as trace:
        seen = attending(tokens).logits
    with torch.no_grad():
        assert torch.allclose(attending(tokens).logits, seen, atol=1e-12)
    edges = trace[edge_site(attending)].values
    assert edges.shape == (3, 4, 24, 24)
    assert not edges.triu(1).any()
    assert edges.abs().sum((0, 2, 3)).all()
    assert set(trace) == set(attending.sites())


def test_edges_are_edited_by_head_and_query(attending, tokens):
    site = edge_site(attending)

    def edges(*edits):
        seen = [site, "blocks.0.stream"]
        edited = intervene(attending, {site: list(edits)})
        with torch.no_grad(), edited, record(attending, seen) as trace:
            attending(tokens)
        return trace[site], trace["blocks.0.stream"].values

    plain, stream = edges()
    expected = plain.values.clone()
    expected[:, 1, 3] = 0
    edited, moved = edges(ablate([1], positions=[3]))
    assert torch.equal(edited.values, expected)
    assert torch.equal(moved[:, :3], stream[:, :3])
    assert torch.equal(moved[:, 4:], stream[:, 4:])
    assert not torch.equal(moved[:, 3], stream[:, 3])
    other = edges(patch(plain))[1]
    assert torch.allclose(other, stream, atol=1e-12)


@pytest.mark.parametrize("length", [7, 150])  # of one block of queries, and of several
@pytest.mark.parametrize("tag", list(ATTENTIONS))
def test_fused_and_split_paths_agree_in_values_and_gradients(tag, length):
    model = small_model("dense", attention=tag)
    if tag == "gated":
        torch.nn.init.zeros_(model.blocks[0].attention.b_gate)  # half of them are open
        model.blocks[0].attention.weight.fill_(10.0)
    attention, x = model.blocks[0].attention.eval(), inputs(2, length, 16).requires_grad_()
    rotation = model.position.rotation(torch.arange(length))
    results, means = [], []
    for path in (attention, attention.split):
        y, told = path(x, rotation)
        means.append(
            {name: value.detach().item() for name, value in told.items() if "sum/" not in name}
        )
        loss = (y * inputs(*y.shape, seed=1)).sum() + sum(v for k, v in told.items() if "loss" in k)
        grads = torch.autograd.grad(loss, [x, *attention.parameters()])
        results.append((y, *grads))
    assert means[0] == pytest.approx(means[1], abs=1e-9)
    for a, b in zip(*results, strict=True):
        assert torch.allclose(a, b, atol=1e-6)
        assert b.any()


@pytest.mark.parametrize("qk_norm", [False, True])
@pytest.mark.parametrize("tag", list(ATTENTIONS))
def test_every_parameter_gets_a_gradient_in_training(tag, qk_norm, tokens):
    chosen = config(tag, n_heads=2, qk_norm=qk_norm)
    model = small_model("dense", attention=chosen).train()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        logits, told = model(tokens)
    (logits.square().mean() + sum(v for k, v in told.items() if "loss/" in k)).backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


@pytest.mark.parametrize("tag", ["bilinear", "codebook", "gated"])
@pytest.mark.parametrize("d_model", [64, 128])
def test_writes_start_with_the_size_of_softmax_attentions(tag, d_model):
    """Root mean square of what attention writes over a row of 256 tokens, within 20 %."""

    def size(tag: str) -> float:
        model = ModelConfig(n_layers=2, d_model=d_model, attention=ATTENTIONS[tag].Config())
        attention = Transformer(model, vocab_size=8).eval().blocks[0].attention
        with torch.no_grad():
            return float(attention(inputs(4, 256, d_model).float())[0].square().mean().sqrt())

    assert size(tag) == pytest.approx(size("softmax"), rel=0.2)


@pytest.mark.parametrize("tag", list(ATTENTIONS))
def test_a_model_and_its_config_count_the_same(tag):
    model = ModelConfig(n_layers=2, d_model=16, attention=config(tag))
    found, counted = account(Transformer(model, vocab_size=9)), account(model, 9)
    assert (found.total, found.active) == (counted.total, counted.active)
    assert found.flops_executed == counted.flops_executed


@pytest.mark.parametrize("tag", ["bilinear", "gated"])
def test_a_second_score_costs_two_projections_and_a_product(tag):
    one, two = (ATTENTIONS[t].Config().build(16).cost(24) for t in ("softmax", tag))
    gates = 4 if tag == "gated" else 0
    assert two.active == one.active + 2 * 16 * 16 + gates
    assert two.executed == one.executed + 2 * (2 * 16 * 16) + 25 * 16


@pytest.mark.parametrize("tag", list(ATTENTIONS))
def test_heads_that_do_not_divide_the_width_are_refused(tag):
    with pytest.raises(ConfigError, match=r"n_heads is 3; a divisor of d_model \(16\) is accepted"):
        ModelConfig(d_model=16, attention=config(tag, n_heads=3))
