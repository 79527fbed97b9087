"""The fillings of the mlp slot: their definitions, thresholds, declared exactness and revival."""

import pytest
import torch
import torch.nn.functional as F
from support.small import inputs
from support.small import small_layer as layer

from pellucid.kernels.modes import group_size
from pellucid.models.edits import ablate
from pellucid.models.mlp import MLPS
from pellucid.models.units import SiteState


def pre_activations(mlp, x):
    return F.linear(x, mlp.w_enc, mlp.b_enc)


def test_dense_activations_are_the_named_ones():
    x = inputs(2, 3)
    for name, act in (("gelu", F.gelu), ("relu", F.relu)):
        mlp = layer("dense", activation=name)
        expected = act(x @ mlp.w_in.T + mlp.b_in) @ mlp.w_out + mlp.b_out
        assert torch.allclose(mlp(x)[0], expected)
    mlp = layer("dense", activation="swiglu")
    hidden = F.silu(x @ mlp.w_in.T + mlp.b_in) * (x @ mlp.w_up.T + mlp.b_up)
    assert torch.allclose(mlp(x)[0], hidden @ mlp.w_out + mlp.b_out)


def test_topk_keeps_the_largest_and_abs_topk_the_largest_by_magnitude():
    x = inputs(2, 3)
    for tag, key in (("topk", lambda z: z), ("abs_topk", torch.abs)):
        mlp = layer(tag, k=5)
        pre = pre_activations(mlp, x)
        kept = key(pre) >= key(pre).topk(5).values[..., -1:]
        acts = pre * kept if tag == "abs_topk" else (pre * kept).relu()
        assert torch.allclose(mlp(x)[0], acts @ mlp.w_dec + mlp.b_dec)
        assert torch.equal(mlp.encode(x)[0].to_dense(), acts)


@pytest.mark.parametrize("tag", ["topk", "abs_topk"])
def test_select_groupmax_takes_at_most_one_unit_of_a_group_and_fp8_nearly_the_exact_ones(tag):
    x, exact = inputs(4, 8), layer(tag, width=400, k=12).encode(inputs(4, 8))[0].to_dense() != 0
    size = group_size(400, 12)
    for select, most, least in (("exact", size, 1.0), ("groupmax", 1, 0.9), ("fp8", size, 0.99)):
        mlp = layer(tag, width=400, k=12, select=select)
        found = mlp.encode(x)[0].to_dense() != 0
        together = found.unflatten(-1, (-1, size)).sum(-1)
        assert int(together.max()) <= most
        assert int((found & exact).sum()) / int(exact.sum()) >= least
        y, split = mlp(x)[0], mlp.split(x)[0]
        assert torch.equal(y, split)


@pytest.mark.parametrize(
    ("tag", "fields", "rows"),
    [
        ("dense", {}, 0),
        ("topk", {"k": 5}, 5),  # what the units in use write
        ("topk", {"k": 5, "select": "fp8"}, 5 + 14),  # and what its 14 candidates read
        ("codebook", {"k": 5}, 5),
        ("mxd", {"k": 5}, 5),
        ("peer", {"k": 3, "n_heads": 2}, 2 * 2 * 3),
        ("memory", {"k": 3, "n_heads": 2}, 2 * 3),
        ("linear_experts", {"k": 2, "channels": 3}, 2 * 3 * 2),
    ],
)
def test_rows_that_a_token_gathers_are_counted(tag, fields, rows):
    assert layer(tag, **fields).cost(8).gathered == rows * 16


def test_fp8_computes_its_candidates_twice():
    costs = {select: layer("topk", k=5, select=select).cost(8) for select in ("exact", "fp8")}
    assert costs["fp8"].executed - costs["exact"].executed == 2 * 14 * 16  # 5 + 1 + 8 candidates
    assert costs["fp8"].ideal == costs["exact"].ideal


def test_batch_topk_keeps_k_per_token_over_the_batch_and_a_threshold_in_evaluation():
    mlp = layer("batch_topk", k=5, momentum=0.5)
    x, pre = inputs(4, 8), pre_activations(layer("batch_topk", k=5), inputs(4, 8)).relu()
    mlp.train()
    acts, told = mlp.encode(x)
    assert int((acts.values > 0).sum()) == 5 * 32
    assert acts.count.min() < acts.count.max()
    smallest = pre.detach().flatten().sort(descending=True).values[5 * 32 - 1]
    assert told["mean/threshold"] == pytest.approx(float(smallest))
    before = float(mlp.threshold)
    mlp.after_step(told, tokens=32)
    assert float(mlp.threshold) == pytest.approx((before + float(smallest)) / 2)
    values = mlp.eval().encode(x)[0].values
    assert torch.equal(values, pre * (pre >= mlp.threshold))


def test_jumprelu_is_a_hard_threshold_whose_estimated_gradient_is_the_kernels():
    mlp = layer("jumprelu", k=5, bandwidth=0.5)
    x = inputs(2, 4)
    pre, theta = pre_activations(mlp, x), mlp.log_threshold.exp()
    values = mlp.encode(x)[0].values
    assert torch.equal(values, pre * (pre > theta))
    grad = torch.autograd.grad(values.sum(), mlp.log_threshold)[0]
    near = ((pre - theta).abs() < 0.25).double().sum((0, 1))
    assert torch.allclose(grad, -near * theta / 0.5 * theta)


def test_jumprelus_penalty_pulls_the_running_mean_to_k_and_adds_up_over_a_split_batch():
    mlp = layer("jumprelu", k=5, bandwidth=0.5)
    x = inputs(4, 4)
    acts, told = mlp.encode(x)
    assert float(told["loss/sparsity"].detach()) == 0.0  # the running mean starts at k
    count = float((acts.values != 0).sum(-1).double().mean())
    assert float(told["mean/active"]) == pytest.approx(count)
    mlp.mean_active.fill_(8.0)
    penalty = mlp.encode(x)[1]["loss/sparsity"]
    expected = 0.05 * (0.6**2 + 2 * 0.6 * (count - 8) / 5)
    assert float(penalty.detach()) == pytest.approx(expected)
    to_theta = torch.autograd.grad(penalty, mlp.log_threshold)[0]
    near = ((pre_activations(mlp, x) - mlp.log_threshold.exp()).abs() < 0.25).double().sum((0, 1))
    slope = 0.05 * 2 * 0.6 / 5 / 16
    assert torch.allclose(to_theta, -near * mlp.log_threshold.exp() / 0.5 * slope)
    halves = [mlp.encode(part)[1]["loss/sparsity"] for part in x.split(2)]
    assert float(sum(halves).detach() / 2) == pytest.approx(expected)
    mlp.after_step(mlp.encode(x)[1], tokens=16)
    assert float(mlp.mean_active) == pytest.approx(8 + 0.1 * (count - 8))


def test_a_revived_jumprelu_unit_can_fire_again():
    mlp = layer("jumprelu", k=5)
    with torch.no_grad():
        mlp.log_threshold[3] = 5.0
    fired = (mlp.encode(inputs(8, 16))[0].values != 0).sum((0, 1))
    assert fired[3] == 0
    mlp.after_step(mlp.encode(inputs(8, 16))[1], tokens=128)
    rows = mlp.revive(128, 0.5, torch.Generator().manual_seed(0))
    assert 3 in rows["log_threshold"].tolist()
    assert (mlp.encode(inputs(8, 16))[0].values[..., 3] != 0).any()


def affine_error(mlp, x, step: torch.Tensor) -> tuple[float, bool]:
    """Second difference of the layer along a step, and whether the active set stayed the same."""
    same = all(
        torch.equal(mlp.encode(x)[0].to_dense() != 0, mlp.encode(x + s)[0].to_dense() != 0)
        for s in (step, -step)
    )
    y = [mlp(x + s)[0] for s in (step, 0 * step, -step)]
    return float((y[0] - 2 * y[1] + y[2]).abs().max()), same


PROVEN_ELSEWHERE = [tag for tag in MLPS if layer(tag).site.exactness == "unit-ablation-exact"]


@pytest.mark.parametrize("tag", [tag for tag in MLPS if tag not in PROVEN_ELSEWHERE])
def test_declared_exactness_holds_and_is_not_held_by_what_does_not_declare_it(tag):
    """linear-given-active-set: an affine map of the input while the same units are active.

    Other classes are proven in the tests of the fillings that declare them.
    """
    mlp = layer(tag)
    with torch.no_grad():
        error, same = affine_error(mlp, inputs(1, 1), 1e-3 * inputs(1, 1).flip(-1))
    assert same
    if mlp.site.exactness == "linear-given-active-set":
        assert error < 1e-14
    else:
        assert error > 1e-9


@pytest.mark.parametrize("tag", list(MLPS))
def test_fused_and_split_paths_agree_in_values_and_gradients(tag):
    x = inputs(2, 5).requires_grad_()
    mlp = layer(tag)
    results = []
    for path in (mlp, mlp.split):
        y, _ = path(x)
        weights = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(0))
        grads = torch.autograd.grad((y * weights).sum(), [x, *mlp.parameters()], allow_unused=True)
        results.append((y, grads))
    (y_a, grads_a), (y_b, grads_b) = results
    assert torch.equal(y_a, y_b)
    for a, b in zip(grads_a, grads_b, strict=True):
        assert (a is None and b is None) or torch.allclose(a, b, atol=1e-12)


@pytest.mark.parametrize("tag", list(MLPS))
def test_every_parameter_of_every_filling_gets_a_gradient(tag):
    mlp = layer(tag).train()
    y, told = mlp(inputs(8, 32))
    (y.square().sum() + sum(value for name, value in told.items() if "loss/" in name)).backward()
    silent = [name for name, p in mlp.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


@pytest.mark.parametrize("tag", list(MLPS))
def test_an_ablated_unit_takes_with_it_exactly_what_it_wrote(tag):
    mlp, x = layer(tag), inputs(3, 5)
    acts, directions = mlp.encode(x)[0].to_dense(), mlp.site.write_directions()
    if directions is None:
        return
    units = torch.tensor([3, 17, 40])
    before = mlp.split(x)[0]
    mlp.site.state = SiteState(edits=(ablate(units),))
    removed = before - mlp.split(x)[0]
    assert acts[..., units].any()
    assert torch.allclose(removed, acts[..., units] @ directions[units], atol=1e-13)


# The compiler's own, about autograd functions.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("tag", list(MLPS))
def test_every_filling_is_compiled_as_one_graph(tag):
    mlp, x = layer(tag), inputs(2, 5)
    torch.compiler.reset()
    compiled = torch.compile(mlp, backend="eager", fullgraph=True)
    assert torch.allclose(compiled(x)[0], mlp(x)[0], atol=1e-12)


def test_directions_are_the_weights_that_read_and_write():
    mlp = layer("topk", k=5)
    acts = mlp.encode(inputs(1, 1))[0]
    written = acts.to_dense() @ mlp.site.write_directions() + mlp.b_dec
    assert torch.allclose(mlp.decode(acts), written)
    assert torch.equal(mlp.site.read_directions(), mlp.w_enc)
    assert layer("dense", activation="swiglu").site.read_directions() is None


def test_dead_units_are_counted_and_revived_within_the_budget():
    mlp = layer("topk", k=4)
    fired = torch.ones(48, dtype=torch.int64)
    fired[:10] = 0
    for _ in range(3):
        mlp.after_step({"sum/fired": fired}, tokens=100)
    assert mlp.dead(300).nonzero().flatten().tolist() == list(range(10))
    assert not mlp.dead(301).any()
    before = mlp.w_enc.clone()
    generator = torch.Generator().manual_seed(0)
    rows = mlp.revive(300, 0.1, generator)
    assert rows["w_dec"].tolist() == [0, 1, 2, 3]  # 10 % of 48, the longest silent first
    assert not mlp.w_dec[:4].any()
    assert mlp.dead(300).nonzero().flatten().tolist() == list(range(4, 10))
    assert torch.equal(mlp.w_enc[4:], before[4:])
    living = F.normalize(before[10:], dim=1)
    cosines = (F.normalize(mlp.w_enc[:4], dim=1) @ living.T).max(1).values
    assert (cosines > 0.5).all() and (cosines < 0.95).all()
    assert mlp.revive(300, 0.0, generator) == {}
