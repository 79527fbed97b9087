"""Monet against the explicit sum over its n² experts; its router, its losses, its accounts."""

import pytest
import torch
from support.layers import ablation_error, normal, without
from support.small import first_write, small_model
from support.small import small_layer as layer

from pellucid.config import TrainConfig
from pellucid.errors import ConfigError
from pellucid.models import ModelConfig, Transformer, set_to
from pellucid.models.mlp import MLPS
from pellucid.models.mlp.monet import MonetMLP
from pellucid.models.units import SiteState, restored
from pellucid.training.optimizers import Optimizers

SPLITS = ["horizontal", "vertical"]


def monet(split: str, **fields) -> MonetMLP:
    """49 experts of 6 neurons, 2 heads that keep 3 of 7 halves; all biases drawn."""
    return layer("monet", split=split, **fields)


def coefficients(mlp, x: torch.Tensor) -> torch.Tensor:
    """A of every expert, `(…, 49)`: heads summed, softmax over the k largest scores."""
    scores = (x @ mlp.w_route.T).unflatten(-1, (2, 2, 7))
    kept = scores >= scores.topk(3).values[..., -1:]
    gates = scores.masked_fill(~kept, -torch.inf).softmax(-1)
    return torch.einsum("...hi,...hj->...ij", gates[..., 0, :], gates[..., 1, :]).flatten(-2)


def expert(mlp, i: int, j: int, x: torch.Tensor) -> torch.Tensor:
    """What expert (i, j) would write for x with a coefficient of 1."""
    e = mlp.experts
    if mlp.config.split == "horizontal":
        u, c, v = (t.unflatten(0, (7, 6)) for t in (e.w_in, e.b_in, e.w_out))
        return (x @ u[i].T + c[i]).relu() ** 2 @ v[j] + e.b_experts[j]
    u, c = (t.unflatten(0, (2, 7, 3)) for t in (e.w_in, e.b_in))
    a1 = (x @ u[0, i].T + c[0, i]).relu() ** 2
    a2 = (x @ u[1, j].T + c[1, j]).relu() ** 2
    # (half of the outputs, half of the expert, neurons of its own kind and of the other)
    v = e.w_out.unflatten(1, (7, 2, 3))
    top = a1 @ v[0, i, 0] + a2 @ v[0, i, 1] + e.b_experts[0, i]
    bottom = a1 @ v[1, j, 0] + a2 @ v[1, j, 1] + e.b_experts[1, j]
    return torch.cat([top, bottom], -1)


def written(mlp, x: torch.Tensor, units) -> torch.Tensor:
    """The explicit sum over some experts, one after the other."""
    a = coefficients(mlp, x)
    return sum(a[..., unit, None] * expert(mlp, unit // 7, unit % 7, x) for unit in units)


@pytest.mark.parametrize("split", SPLITS)
def test_the_layer_is_the_explicit_sum_over_all_experts(split):
    mlp, x = monet(split), normal(2, 5, 16)
    expected = written(mlp, x, range(49))
    assert torch.allclose(mlp(x)[0], expected, atol=1e-12)
    acts, _ = mlp.encode(x)
    assert torch.allclose(acts.to_dense(), coefficients(mlp, x), atol=1e-12)
    assert torch.allclose(mlp.decode(acts, x), expected, atol=1e-12)
    assert acts.count.min() >= 9
    assert acts.count.max() <= 18


@pytest.mark.parametrize("split", SPLITS)
def test_gradients_are_those_of_the_explicit_sum_on_both_paths(split):
    mlp, x = monet(split), normal(2, 5, 16).requires_grad_()
    weights, inputs = normal(2, 5, 16, seed=1), [x, *mlp.parameters()]
    wanted = torch.autograd.grad((written(mlp, x, range(49)) * weights).sum(), inputs)
    for path in (mlp, mlp.split):
        y, _ = path(x)
        got = torch.autograd.grad((y * weights).sum(), inputs)
        for a, b in zip(got, wanted, strict=True):
            assert torch.allclose(a, b, atol=1e-12)


class Renormalized(MonetMLP):
    """Not unit-ablation-exact: the experts that remain take over the weight of those removed."""

    def split(self, x):
        acts = self.site(self.encode(x)[0])
        return self.decode(acts, x) / acts.values.sum(-1, keepdim=True), {}


@pytest.mark.parametrize("split", SPLITS)
def test_removing_experts_removes_exactly_their_terms(split):
    mlp, x = monet(split), normal(4, 8, 16)
    units = mlp.encode(x)[0].indices[0, 0, :3].tolist()
    terms = written(mlp, x, units)
    assert mlp.site.exactness == "unit-ablation-exact"
    assert ablation_error(mlp, x, units, terms) < 1e-12
    assert float(without(mlp, x, list(range(49))).detach().abs().max()) < 1e-12
    mlp.__class__ = Renormalized
    assert ablation_error(mlp, x, units, terms) > 1e-3


@pytest.mark.parametrize("split", SPLITS)
def test_an_expert_can_be_woken_where_it_was_silent(split):
    mlp, x = monet(split), normal(4, 8, 16)
    with restored([mlp.site], [SiteState(edits=(set_to(0.7, [11]),))]):
        y = mlp.split(x)[0]
    others = [unit for unit in range(49) if unit != 11]
    expected = written(mlp, x, others) + 0.7 * expert(mlp, 1, 4, x)
    assert (coefficients(mlp, x)[..., 11] == 0).any()
    assert torch.allclose(y, expected, atol=1e-12)


def test_many_experts_are_masked_without_a_tensor_of_all_of_them():
    """2^18 experts at 64 tokens: one float for each would take 134 MB."""
    config = ModelConfig(
        n_layers=1, d_model=64, mlp=MLPS["monet"].Config(n_experts=2**18, width=1024)
    )
    mlp = Transformer(config, vocab_size=8).double().eval().blocks[0].mlp
    x, largest = normal(1, 64, 64), 0
    units = mlp.encode(x)[0].indices[0, 0, :5].tolist()

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, tuple | list) else (out,):
                if isinstance(tensor, torch.Tensor):
                    largest = max(largest, tensor.numel())
            return out

    with torch.no_grad(), Watch():
        masked = without(mlp, x, units)
    assert not torch.equal(masked, mlp(x)[0])
    assert largest <= 2**18 + 1  # a number for each expert, none for each expert and token


def test_losses_are_those_of_the_paper_and_add_up_over_a_split_batch():
    mlp, x = monet("horizontal", uniformity=2.0, ambiguity=3.0), normal(4, 6, 16)
    scores = (x @ mlp.w_route.T).unflatten(-1, (2, 2, 7))
    kept = scores >= scores.topk(3).values[..., -1:]
    gates = scores.masked_fill(~kept, -torch.inf).softmax(-1).flatten(0, 1).detach()
    told = mlp.encode(x)[1]
    sharp = float(gates.amax(-1).mean())
    assert float(told["loss/ambiguity"].detach()) == pytest.approx(3 * (1 - sharp))
    assert float(told["loss/uniformity"].detach()) == pytest.approx(0.0, abs=1e-6)
    assert torch.allclose(told["mean/routing"], gates.mean(0))
    mlp.after_step(told, tokens=24)
    assert torch.allclose(mlp.routing, 0.9 / 7 + 0.1 * gates.mean(0), atol=1e-6)
    # At its own mean the tangent is the loss itself, and so is its slope.
    with torch.no_grad():
        mlp.routing.copy_(gates.mean(0).clamp_min(0.01 / 7))
    loss = mlp.encode(x)[1]["loss/uniformity"]
    uneven = -(7 * mlp.routing).log().mean()
    off = ((gates.mean(0) - mlp.routing) / mlp.routing).mean()
    assert float(loss.detach()) == pytest.approx(2 * float(uneven - off))
    halves = [mlp.encode(part)[1]["loss/uniformity"] for part in x.split(2)]
    assert float(sum(halves).detach() / 2) == pytest.approx(float(loss.detach()))


def test_at_its_own_mean_uniformity_has_the_gradient_of_the_papers_loss():
    mlp, x = monet("horizontal", uniformity=1.0, ambiguity=0.0), normal(4, 32, 16)
    scores = (x @ mlp.w_route.T).unflatten(-1, (2, 2, 7))
    kept = scores >= scores.topk(3).values[..., -1:]
    mean = scores.masked_fill(~kept, -torch.inf).softmax(-1).flatten(0, 1).mean(0)
    wanted = torch.autograd.grad(-mean.log().mean(), mlp.w_route, retain_graph=True)[0]
    mlp.routing.copy_(mean.detach())
    got = torch.autograd.grad(mlp.encode(x)[1]["loss/uniformity"], mlp.w_route)[0]
    assert wanted.abs().max() > 1e-3
    assert torch.allclose(got, wanted, atol=1e-12)


def test_what_is_told_counts_what_was_mixed():
    mlp, x = monet("horizontal"), normal(2, 5, 16)
    for told in (mlp(x)[1], mlp.encode(x)[1], mlp.split(x)[1]):
        assert told["sum/load"].shape == (2, 7)
        assert told["sum/load"].sum(1).tolist() == [10 * 2 * 3] * 2
        assert int(told["sum/fired"].sum()) == 10 * 2 * 9
        assert torch.equal(told["sum/fired"] > 0, (coefficients(mlp, x) > 0).flatten(0, 1).any(0))


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize(
    "fields",
    [
        {"n_experts": 16, "k": 1, "n_heads": 1, "width": 256},
        {"n_experts": 64, "k": 8, "n_heads": 4, "width": 256},
        {"n_experts": 1024, "k": 4, "n_heads": 8, "width": 1024},
        {"n_experts": 4096, "k": 16, "n_heads": 2, "width": 4096},
        {"n_experts": 4096, "width": 1024},
    ],
)
def test_writes_start_with_the_size_of_the_dense_baseline(split, fields):
    size = first_write("monet", split=split, **fields)
    assert size == pytest.approx(first_write("dense"), rel=0.2)


def test_cost_is_counted_by_hand():
    """d 16, 7 halves of 6 neurons, 2 heads that keep 3 of 7: a share 1 - (4/7)² is met."""
    cost = monet("horizontal").cost(10)
    router, matrices, mixing = 16 * 2 * 2 * 7, 42 * 16 * 2 + 7 * 16, 2 * 2 * 7 * 6
    met = 1 - (4 / 7) ** 2
    assert cost.executed == 2 * (router + matrices + mixing)
    assert cost.ideal == pytest.approx(2 * (router + met * matrices + mixing * 3 / 7))
    assert cost.active == router + round(met * (matrices + 42))


@pytest.mark.parametrize("split", SPLITS)
def test_what_experts_write_learns_faster_and_their_biases_do_not_decay(split):
    model = small_model("monet", fields={"split": split, "width": 42, "write_lr": 3.0})
    groups = Optimizers(model, TrainConfig(lr=1e-3, weight_decay=0.1)).all[0].param_groups
    rates = {id(p): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    experts = model.blocks[1].mlp.experts
    assert rates[id(experts.w_out)] == (3e-3, 0.1)
    assert rates[id(experts.w_in)] == (1e-3, 0.1)
    assert rates[id(experts.b_experts)] == (1e-3, 0.0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n_experts": 50}, "n_experts is 50; .* 49 or 64"),
        ({"n_experts": 16, "k": 5}, "k is 5; at most 4"),
        ({"n_experts": 49}, "width is 64; a multiple of 7"),
        ({"n_experts": 64, "split": "vertical", "width": 24}, "width is 24; a multiple of 16"),
    ],
)
def test_what_cannot_work_is_refused_with_its_reason(fields, message):
    with pytest.raises(ConfigError, match=message):
        ModelConfig(d_model=16, mlp=MLPS["monet"].Config(**fields))


def test_outputs_of_an_odd_width_are_not_halved():
    with pytest.raises(ConfigError, match="split is 'vertical'.* got 15"):
        MLPS["monet"].Config(n_experts=16, split="vertical", width=16).resolved_width(15)
