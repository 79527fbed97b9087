"""Codebooks, in the MLP and per head: definition, gradients, schedule, replacement, exactness."""

import pytest
import torch
import torch.nn.functional as F
from support.small import small_model

from pellucid.errors import ConfigError
from pellucid.models import ModelConfig, Transformer, ablate, add, intervene, record, set_to
from pellucid.models.attention import ATTENTIONS
from pellucid.models.codebook import Codebook, Codes
from pellucid.models.mlp import MLPS
from pellucid.training.optimizers import rules
from pellucid.training.step import before_step

SLOTS = {"mlp": {"mlp": "codebook"}, "attention": {"mlp": "dense", "attention": "codebook"}}


def inputs(*shape: int, seed: int = 9) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def book(groups: int = 1, **fields) -> Codebook:
    """Codes of 8 channels for each group, as many channels as a width of 8 times the groups has."""
    config = Codes(**{"codes": 20, "k": 3} | fields)
    made = Codebook(config, 8 * groups, kind="mlp", groups=groups).double().eval()
    with torch.no_grad():
        made.w_dec.copy_(inputs(groups * 20, 8, seed=3))
    return made


def nearest(made: Codebook, a: torch.Tensor, k: int) -> torch.Tensor:
    """By the definition: for each token and group, the codes with the largest cosine, ascending."""
    codes = made.w_dec.view(made.groups, -1, 8)
    parts = a.unflatten(-1, (made.groups, 8))
    cosines = F.cosine_similarity(parts[..., None, :], codes, dim=-1)
    return cosines.topk(k, dim=-1).indices.sort(dim=-1).values


@pytest.mark.parametrize("groups", [1, 3])
def test_a_message_is_the_mean_of_the_codes_with_the_largest_cosine(groups):
    made, a = book(groups), inputs(2, 5, 8 * groups)
    best = nearest(made, a, 3)
    codes = made.w_dec.view(groups, 20, 8)
    expected = torch.stack([codes[g][best[:, :, g]].mean(-2) for g in range(groups)], dim=2)
    assert torch.allclose(made(a)[0], expected.flatten(2), atol=1e-14)
    acts, told = made.encode(a)
    assert torch.equal(acts.indices, (best + 20 * torch.arange(groups)[:, None]).flatten(2).int())
    assert torch.equal(acts.values, torch.full_like(acts.values, 1 / 3))
    assert torch.equal(
        told["sum/fired"], torch.bincount(acts.indices.flatten(), minlength=20 * groups)
    )


def test_the_codebooks_stand_at_the_mlps_and_at_every_heads_output(tokens):
    model = small_model("codebook", attention="codebook")
    block, x = model.blocks[0], inputs(2, 6, 16)
    plain = small_model("codebook").blocks[0]
    plain.mlp = plain.mlp.base
    plain.mlp.load_state_dict(block.mlp.base.state_dict())
    a = plain.mlp(x)[0]
    codes = block.mlp.codebook.w_dec
    best = F.cosine_similarity(a[..., None, :], codes, dim=-1).topk(5, dim=-1).indices
    assert torch.allclose(block.mlp(x)[0], codes[best].mean(-2), atol=1e-14)
    own = {k: v for k, v in block.attention.state_dict().items() if "codebook" not in k}
    plain.attention.load_state_dict(own)
    heads = plain.attention._mix(*plain.attention._read(x, None, None))
    codes = block.attention.codebook.w_dec.view(4, 1, 12, 4)
    best = F.cosine_similarity(heads[..., None, :], codes, dim=-1).topk(3, dim=-1).indices
    said = torch.stack([codes[h, 0][best[:, h]].mean(-2) for h in range(4)], dim=2)
    expected = said.flatten(2) @ block.attention.w_o.T
    assert torch.allclose(block.attention(x)[0], expected, atol=1e-14)


def message_error(model, tokens, kind: str) -> float:
    """How far a layer's output is from its units' write directions, given which units spoke."""
    site = model.sites()[f"blocks.0.{kind}"]
    with torch.no_grad(), record(model, [site.name]) as trace:
        model(tokens)
    acts = trace[site.name]
    present = torch.zeros(*acts.indices.shape[:2], acts.n_units + 1, dtype=torch.float64)
    present.scatter_(-1, acts.indices.long() % (acts.n_units + 1), 1.0)
    x = heard(model, tokens, kind)
    with torch.no_grad():
        y = getattr(model.blocks[0], kind)(*x)[0]
    k = acts.count.max() if kind == "mlp" else acts.count.max() / 4
    message = present[..., :-1] @ site.write_directions() / k
    return float((y - message).abs().max())


def heard(model, tokens, kind: str) -> tuple:
    """What the first layer's filling is given."""
    block = model.blocks[0]
    with torch.no_grad():
        stream = model.embedding(tokens)
        rotation = model.position.rotation(torch.arange(tokens.shape[1]))
        if kind == "attention":
            return block.attention_norm(stream), rotation
        stream = stream + block.attention(block.attention_norm(stream), rotation)[0]
        return (block.mlp_norm(stream),)


@pytest.mark.parametrize("kind", list(SLOTS))
def test_exactness_which_codes_spoke_is_all_that_the_layer_says(kind, tokens):
    """unit-ablation-exact: the message follows from the units' names, and is their sum."""
    model = small_model(**SLOTS[kind])
    assert model.sites()[f"blocks.0.{kind}"].exactness == "unit-ablation-exact"
    assert message_error(model, tokens, kind) < 1e-12


def test_exactness_is_not_held_by_a_layer_whose_units_have_sizes(tokens):
    model = small_model("topk")
    assert model.sites()["blocks.0.mlp"].exactness != "unit-ablation-exact"
    assert message_error(model, tokens, "mlp") > 1e-3


@pytest.mark.parametrize(("kind", "k"), [("mlp", 5), ("attention", 3)])
def test_ablating_a_code_removes_it_and_leaves_the_others(kind, k):
    model, x = small_model(**SLOTS[kind]), inputs(2, 6, 16)
    name, filling = f"blocks.1.{kind}", getattr(model.blocks[1], kind)
    with torch.no_grad(), record(model, [name]) as before:
        plain = filling.split(x)[0]
    unit = int(before[name].indices[1, 4, 1])
    spoke = (before[name].indices == unit).any(-1)
    assert 0 < spoke.sum() < spoke.numel()
    with torch.no_grad(), intervene(model, {name: ablate([unit])}), record(model, [name]) as after:
        cut = filling.split(x)[0]
    kept = before[name].to_dense()
    kept[..., unit] = 0
    assert torch.equal(after[name].to_dense(), kept)
    written = model.sites()[name].write_directions()[unit] / k
    assert torch.allclose(plain - cut, spoke[..., None] * written, atol=1e-14)
    assert torch.equal(plain[~spoke], cut[~spoke])


@pytest.mark.parametrize("edit", [set_to(2.0, [1, 40]), add(0.5, [1, 40])])
def test_codes_of_any_head_can_be_forced(edit):
    """Forced codes add slots: each still writes into its own head's channels."""
    model = small_model("dense", attention="codebook")
    attention, x = model.blocks[0].attention, inputs(2, 6, 16)
    before = attention.codebook.encode(side(attention, x))[0].to_dense()[..., [1, 40]]
    with torch.no_grad(), intervene(model, {"blocks.0.attention": edit}):
        forced = attention.split(x)[0]
    moved = 2.0 - before if edit.op == "set" else torch.full_like(before, 0.5)
    expected = attention(x)[0] + moved @ attention.site.write_directions()[[1, 40]]
    assert torch.allclose(forced, expected, atol=1e-12)


def side(attention, x):
    mixed = attention._mix(*attention._read(x, None, None))
    return mixed.transpose(1, 2).flatten(2)


def test_the_input_gets_the_outputs_gradient_and_the_codes_their_share_of_it():
    made, a = book(2), inputs(2, 5, 16).requires_grad_()
    weights = inputs(2, 5, 16, seed=1)
    to_a, to_codes = torch.autograd.grad((made(a)[0] * weights).sum(), [a, made.w_dec])
    assert torch.equal(to_a, weights)
    expected = torch.zeros(2, 20, 8, dtype=torch.float64)
    best = nearest(made, a.detach(), 3)
    for b, t, g in torch.cartesian_prod(torch.arange(2), torch.arange(5), torch.arange(2)):
        expected[g, best[b, t, g]] += weights[b, t].view(2, 8)[g] / 3
    assert torch.allclose(to_codes.view(2, 20, 8), expected, atol=1e-14)


def test_the_codes_are_drawn_to_the_input_and_the_input_to_the_codes():
    made, a = book(reconstruction=0.7, commitment=0.2), inputs(4, 5, 8).requires_grad_()
    y, told = made(a)
    far = (a - y).detach()
    assert float(told["loss/reconstruction"].detach()) == pytest.approx(
        0.7 * float(far.square().mean())
    )
    assert float(told["loss/commitment"].detach()) == pytest.approx(
        0.2 * float(far.square().mean())
    )
    loss = told["loss/reconstruction"] + told["loss/commitment"]
    to_a, to_codes = torch.autograd.grad(loss, [a, made.w_dec])
    assert torch.allclose(to_a, 0.2 * 2 * far / far.numel(), atol=1e-14)
    expected = torch.zeros_like(made.w_dec)
    for row, best in zip(
        far.flatten(0, 1), nearest(made, a.detach(), 3).flatten(0, 2), strict=True
    ):
        expected[best] -= 0.7 * 2 * row / far.numel() / 3
    assert torch.allclose(to_codes, expected, atol=1e-14)
    halves = [made(part)[1]["loss/reconstruction"] for part in a.split(2)]
    whole = float(told["loss/reconstruction"].detach())
    assert float(sum(halves).detach() / 2) == pytest.approx(whole)


def test_k_is_halved_at_equal_steps_and_is_a_function_of_progress_alone():
    config = Codes(codes=64, k=3, first_k=24, annealing=0.6)
    found = {p: config.k_at(p) for p in (0.0, 0.19, 0.21, 0.39, 0.41, 0.59, 0.6, 1.0)}
    assert list(found.values()) == [24, 24, 12, 12, 6, 6, 3, 3]
    assert Codes(codes=64, k=3, first_k=10, annealing=0.5).k_at(0.45) == 5
    assert {Codes(codes=64, k=3, annealing=0.0).k_at(p) for p in (0.0, 0.5)} == {3}
    assert Codes(codes=9, k=3).k_at(0.0) == 9
    assert Codes(codes=64, k=3, first_k=3).k_at(0.0) == 3


def test_training_follows_the_schedule_and_evaluation_speaks_in_k_codes(tokens):
    model = small_model("codebook", attention="codebook")
    sites = ["blocks.1.mlp", "blocks.1.attention"]

    def counts(progress: float) -> list[int]:
        before_step(model, progress)
        with torch.no_grad(), record(model, sites) as trace:
            model(tokens)
        return [int(trace[name].count.unique()) for name in sites]

    assert counts(0.0) == [5, 12]
    model.train()
    assert counts(0.0) == [20, 48]
    assert counts(0.3) == [10, 24]
    assert counts(0.5) == [5, 12]
    assert counts(0.0) == [20, 48]


def test_dead_codes_become_turned_copies_of_living_ones_of_their_head():
    made = book(2)
    fired = torch.ones(40, dtype=torch.int64)
    fired[[2, 3, 30]] = 0
    # In the second group only unit 25 ever speaks.
    fired[20:] = 0
    fired[25] = 1
    made.after_step({"sum/fired": fired * 0 + 1}, tokens=50)
    made.firing_rate.zero_()
    for _ in range(3):
        made.after_step({"sum/fired": fired}, tokens=100)
    before = made.w_dec.detach().clone()
    rows = made.revive(300, 0.25, torch.Generator().manual_seed(0))["w_dec"]
    assert rows.tolist() == [2, 3, *range(20, 25), 26, 27, 28]  # a quarter of 40
    new = made.w_dec.detach()
    kept = torch.ones(40, dtype=torch.bool)
    kept[rows] = False
    assert torch.equal(new[kept], before[kept])
    cosines = F.cosine_similarity(new[rows][:, None], before[None], dim=-1)
    # Turned by noise of half the length: cos is 1 / √1.25 where the noise is orthogonal.
    assert ((cosines[2:, 25] > 0.7) & (cosines[2:, 25] < 1 - 1e-6)).all()
    living = [unit for unit in range(20) if unit not in (2, 3)]
    assert (cosines[:2, living].max(1).values > 0.7).all()
    assert not made.dead(300)[rows].any()
    assert made.dead(300).sum() == 11
    again = book(2)
    assert again.revive(0, 1.0, torch.Generator()) == {}  # nothing has spoken yet


def test_a_replaced_code_speaks_again():
    made, a = book(), inputs(40, 20, 8)
    with torch.no_grad():
        made.w_dec[4] = 0
    for _ in range(2):
        made.after_step(made.encode(a)[1], tokens=800)
    silent = made.dead(1600).nonzero().flatten().tolist()
    assert silent == [4]
    assert made.revive(1600, 0.05, torch.Generator().manual_seed(1))["w_dec"].tolist() == [4]
    assert made.encode(a)[1]["sum/fired"][4] > 0


@pytest.mark.parametrize("kind", list(SLOTS))
def test_every_parameter_gets_a_gradient(kind, tokens):
    model = small_model(**SLOTS[kind]).train()
    logits, told = model(tokens)
    (logits.square().mean() + sum(v for k, v in told.items() if "loss/" in k)).backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_codes_have_their_own_learning_rate_and_decay():
    model = small_model("codebook")
    found = rules(model)["blocks.1.mlp.codebook.w_dec"]
    assert found.lr == 15.0
    assert found.lr * found.decay == pytest.approx(0.01)


def test_codes_of_heads_write_through_their_part_of_w_o():
    attention = small_model("dense", attention="codebook").blocks[0].attention
    written = attention.site.write_directions()
    code = attention.codebook.w_dec[2 * 12 + 5]
    assert torch.allclose(written[2 * 12 + 5], attention.w_o[:, 8:12] @ code)
    assert attention.site.n_units == 48


@pytest.mark.parametrize("table", [MLPS, ATTENTIONS])
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"codes": 4, "k": 5}, "k is 5; at most the number of codes, 4, is accepted"),
        ({"codes": 9, "k": 5, "first_k": 4}, "first_k is 4; from k, 5, to the number of codes, 9"),
        ({"codes": 9, "k": 5, "first_k": 10}, "first_k is 10; from k, 5"),
        ({"k": 0}, "k = 0 is not accepted"),
        ({"annealing": 1.5}, "annealing = 1.5 is not accepted"),
    ],
)
def test_what_cannot_work_is_refused(table, fields, message):
    with pytest.raises(ConfigError, match=message):
        table["codebook"].Config(**fields)


def test_cost_counts_the_layer_inside_the_search_and_the_codes():
    model = ModelConfig(
        n_layers=1, d_model=16, mlp=MLPS["codebook"].Config(width=40, codes=48, k=5)
    )
    mlp = Transformer(model, vocab_size=8).blocks[0].mlp
    dense = (
        Transformer(
            ModelConfig(n_layers=1, d_model=16, mlp=MLPS["dense"].Config(width=40)), vocab_size=8
        )
        .blocks[0]
        .mlp
    )
    found, base = mlp.cost(24), dense.cost(24)
    assert found.active == base.active + 48 * 16
    assert found.executed == base.executed + 2 * 48 * 16 + 2 * 5 * 16
