"""Gated attention: its definition, its gates' draw and gradient, and what a closed edge carries."""

from dataclasses import replace

import pytest
import torch
from support.small import small_model

from pellucid.models import account, intervene, patch, record
from pellucid.models.attention import ATTENTIONS

SITE = "blocks.0.attention"


def half_open(attention: str = "gated", **fields):
    """A model of whose gates about half are closed."""
    chosen = ATTENTIONS[attention].Config(**fields)
    model = small_model("dense", attention=chosen)
    for block in model.blocks:
        if attention == "gated":
            torch.nn.init.zeros_(block.attention.b_gate)
    return model


def inputs(*shape: int, seed: int = 9) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def products(attention, x, half: int):
    """`q·k / √d_head` by one half of the projections, `(batch, head, query, key)`."""
    q, k = (
        (x @ w[16 * half :][:16].T).unflatten(-1, (4, 4)) for w in (attention.w_q, attention.w_k)
    )
    return torch.einsum("bthd, bshd -> bhts", q, k) / 2


def plain_logits(attention, x):
    return products(attention, x, 1) + attention.b_gate[:, None, None]


def plain_shares(attention, x):
    scores = products(attention, x, 0).exp().tril()
    return scores / scores.sum(-1, keepdim=True)


def edges_of(attention, x):
    q, k, _ = attention._read(x, None, None)
    return attention.edges(q, k)


def test_gates_stand_after_the_softmax():
    attention, x = half_open().blocks[0].attention, inputs(2, 6, 16)
    gates = (plain_logits(attention, x) > 0).double()
    assert 0.2 < gates.mean() < 0.8
    v = (x @ attention.w_v.T).unflatten(-1, (4, 4)).transpose(1, 2)
    mixed = ((gates * plain_shares(attention, x)) @ v).transpose(1, 2).flatten(2)
    assert torch.allclose(attention(x)[0], mixed @ attention.w_o.T, atol=1e-12)


def silent_keys(attention, x) -> tuple[int, bool]:
    """How many visible edges are exactly 0, and whether other values change nothing through them."""
    q, k, v = attention._read(x, None, None)
    edges = attention.edges(q, k)[0]
    closed = (edges == 0) & torch.ones_like(edges, dtype=torch.bool).tril()
    before, same = edges @ v, True
    for s in range(x.shape[1]):
        other = v.clone()
        other[:, :, s] = 1e6
        kept = (edges @ other == before).all(-1)
        same &= bool(kept[closed[..., s]].all())
        assert not kept[edges[..., s] != 0].any()
    return int(closed.sum()), same


@pytest.mark.parametrize("tag", ["gated", "softmax"])
def test_edge_exactness_holds_and_is_not_held_by_what_does_not_declare_it(tag):
    """edge-exact: some edges are closed, and nothing of their keys' values passes, bit for bit."""
    attention = half_open(tag).blocks[0].attention
    closed, same = silent_keys(attention, inputs(2, 8, 16))
    holds = closed > 0 and same
    assert holds == (attention.site.exactness == "edge-exact")


def without_edge(acts, head: int, query: int, key: int):
    values = acts.values.clone()
    values[:, head, query, key] = 0
    return replace(acts, values=values)


def test_ablating_a_closed_edge_changes_no_bit_and_an_open_one_what_it_carries(tokens):
    model = half_open()
    with torch.no_grad(), record(model, [SITE, "embed"]) as trace:
        plain = model(tokens[:1]).logits
    acts, attention = trace[SITE], model.blocks[0].attention
    x = model.blocks[0].attention_norm(trace["embed"].values)
    v = (x @ attention.w_v.T).unflatten(-1, (4, 4)).transpose(1, 2)
    edges = acts.values[0]
    visible = torch.ones_like(edges, dtype=torch.bool).tril()
    head, query, key = ((edges == 0) & visible).nonzero()[17].tolist()
    with torch.no_grad(), intervene(model, {SITE: patch(without_edge(acts, head, query, key))}):
        assert torch.equal(model(tokens[:1]).logits, plain)
    head, query, key = edges.nonzero()[23].tolist()
    carried = edges[head, query, key] * v[0, head, key] @ attention.w_o.T.view(4, 4, 16)[head]
    rotation = model.position.rotation(torch.arange(24))
    with torch.no_grad(), intervene(model, {SITE: patch(without_edge(acts, head, query, key))}):
        moved = attention.split(x, rotation)[0]
        changed = model(tokens[:1]).logits
    expected = torch.zeros_like(moved)
    expected[0, query] = carried
    assert torch.allclose(attention(x, rotation)[0] - moved, expected, atol=1e-12)
    assert not torch.equal(changed, plain)


def test_a_gate_is_drawn_as_often_as_it_is_likely():
    attention, x = half_open().blocks[0].attention.train(), inputs(1, 5, 16)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        draws = torch.stack([edges_of(attention, x)[0] != 0 for _ in range(3000)]).double().mean(0)
    likely = plain_logits(attention, x).sigmoid().tril()
    assert torch.allclose(draws, likely, atol=0.05)


def test_a_drawn_gate_has_the_gradient_of_its_sigmoid():
    attention, x = half_open(temperature=0.5).blocks[0].attention.train(), inputs(1, 5, 16)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        edges, _ = edges_of(attention, x)
        torch.manual_seed(3)
        uniform = torch.rand(1, 4, 5, 5, dtype=torch.float64)
    weights = inputs(*edges.shape, seed=1).tril()
    grad = torch.autograd.grad((edges * weights).sum(), attention.b_gate)[0]
    logits = plain_logits(attention, x)
    soft = ((logits + uniform.logit()) / 0.5).sigmoid()
    slope = soft * (1 - soft) / 0.5
    expected = (weights * plain_shares(attention, x) * slope).sum((0, 2, 3))
    assert torch.allclose(grad, expected, atol=1e-10)
    assert torch.equal(
        edges != 0, ((logits + uniform.logit()) > 0) & (plain_shares(attention, x) > 0)
    )


def test_the_loss_is_the_expected_share_of_open_edges_and_adds_up_over_a_split_batch():
    attention, x = half_open(sparsity=0.3).blocks[0].attention, inputs(4, 6, 16)
    likely = plain_logits(attention, x).sigmoid()[..., torch.ones(6, 6).tril().bool()].mean()
    loss = edges_of(attention, x)[1]["loss/edges"]
    assert float(loss.detach()) == pytest.approx(0.3 * float(likely.detach()))
    halves = [edges_of(attention, part)[1]["loss/edges"] for part in x.split(2)]
    assert float(sum(halves).detach() / 2) == pytest.approx(float(loss.detach()))
    grad = torch.autograd.grad(loss, attention.b_gate)[0]
    assert (grad > 0).all()  # less bias, fewer open edges


def test_the_weight_of_the_loss_rises_and_is_a_function_of_progress_alone():
    attention, x = half_open(sparsity=0.3, annealing=0.4).blocks[0].attention, inputs(2, 6, 16)
    full = float(edges_of(attention, x)[1]["loss/edges"].detach())
    for progress, share in ((0.0, 0.0), (0.1, 0.25), (0.4, 1.0), (1.0, 1.0), (0.2, 0.5)):
        attention.before_step(progress)
        loss = float(edges_of(attention, x)[1]["loss/edges"].detach())
        assert loss == pytest.approx(share * full, abs=1e-6)
    at_once = half_open(annealing=0.0).blocks[0].attention
    at_once.before_step(0.0)
    assert float(at_once.weight) == pytest.approx(0.01)


def test_ideal_cost_counts_the_open_edges():
    model = half_open()
    attention = model.blocks[0].attention
    before = attention.cost(24)
    assert before.ideal == before.executed
    told = edges_of(attention, inputs(4, 6, 16))[1]
    share = float(
        (plain_logits(attention, inputs(4, 6, 16)) > 0)[..., torch.ones(6, 6).tril().bool()]
        .double()
        .mean()
    )
    assert float(told["mean/open"]) == pytest.approx(share)
    for _ in range(200):
        attention.after_step(told, tokens=24)
    # Mixing takes 2 x 16 operations for an edge; a query of 24 sees 12.5 keys on average.
    saved = (1 - share) * 12.5 * 2 * 16
    after = attention.cost(24)
    assert after.executed == before.executed
    assert after.ideal == pytest.approx(before.ideal - saved, rel=1e-5)
    assert account(model).flops_ideal < account(model).flops_executed
