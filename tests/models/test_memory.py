"""Memory layers against their definition; one table for all layers, counted and trained once."""

import copy

import pytest
import torch
import torch.nn.functional as F
from support.layers import ablation_error, gates_by_hand, normal
from support.small import first_write, small_model
from support.small import small_layer as layer

from pellucid import checkpoint
from pellucid.config import TrainConfig
from pellucid.errors import ConfigError
from pellucid.models import ModelConfig, Transformer, account
from pellucid.models.mlp import MLPS
from pellucid.models.mlp.memory import MemoryMLP
from pellucid.training.optimizers import Optimizers, tame

VALUES = "shared.memory.values"


def written(mlp, x: torch.Tensor, units=slice(None)) -> torch.Tensor:
    """What slots write, from all slots' gates: `((gates values) ⊙ silu(x W_gateᵀ)) W_out`."""
    read = gates_by_hand(mlp, x.flatten(0, 1))[:, units] @ mlp.table[0].values[units]
    return (read.view(*x.shape[:2], -1) * F.silu(x @ mlp.w_gate.T)) @ mlp.w_out


@pytest.mark.parametrize("d_value", [None, 10])
def test_the_layer_is_a_gated_sum_of_the_slots_it_reads(d_value):
    mlp, x = layer("memory", d_value=d_value), normal(2, 5, 16)
    assert torch.allclose(mlp(x)[0], written(mlp, x), atol=1e-12)
    acts, told = mlp.encode(x)
    gates = gates_by_hand(mlp, x.flatten(0, 1)).view(2, 5, 49)
    assert torch.allclose(acts.to_dense(), gates, atol=1e-12)
    assert int(told["sum/load"].sum()) == 10 * 2 * 3


class Rescaled(MemoryMLP):
    """Not unit-ablation-exact: what is read is brought to unit length."""

    def decode(self, acts, x):
        y = super().decode(acts, x)
        return y / y.norm(dim=-1, keepdim=True)


def test_removing_a_slot_removes_exactly_what_it_wrote():
    mlp, x = layer("memory"), normal(4, 8, 16)
    slots = mlp.encode(x)[0].indices[0, 0, :2].tolist()
    assert mlp.site.exactness == "unit-ablation-exact"
    assert ablation_error(mlp, x, slots, written(mlp, x, slots)) < 1e-12
    mlp.__class__ = Rescaled
    assert ablation_error(mlp, x, slots, written(mlp, x, slots)) > 1e-3


def test_layers_share_one_table_that_is_counted_and_saved_once(tmp_path):
    model = small_model("memory")
    first, second = (block.mlp for block in model.blocks)
    assert first.table[0] is second.table[0] is model.shared["memory"]
    names = [name for name, _ in model.named_parameters()]
    assert [name for name in names if name.endswith("values")] == [VALUES]
    values = 49 * 16
    layer_own = 2 * 16 * 16 + 16 * 16 + 2 * 2 * 7 * 4
    rest = sum(p.numel() for name, p in model.named_parameters() if ".mlp." not in name)
    found = account(model.config, 61)
    assert found.total == account(model).total == rest + 2 * layer_own
    assert rest > values
    assert first.cost(24).active == layer_own + 2 * 3 * 16
    parts = {"optimizer": {}, "rng": {}, "state": {}, "meta": {}}
    checkpoint.save(tmp_path, 1, model=model.state_dict(), **parts)
    assert sum("values" in name for name in model.state_dict()) == 1
    twin = small_model("memory", seed=1)
    assert not torch.equal(twin.shared["memory"].values, model.shared["memory"].values)
    twin.load_state_dict(model.state_dict())
    tokens = torch.arange(24)[None]
    assert torch.equal(twin(tokens).logits, model(tokens).logits)


def test_a_copy_reads_its_own_table():
    model = small_model("memory")
    twin = copy.deepcopy(model)
    with torch.no_grad():
        twin.shared["memory"].values.zero_()
    assert twin.blocks[1].mlp.table[0] is twin.shared["memory"]
    x = normal(1, 3, 16)
    assert not twin.blocks[0].mlp(x)[0].any()
    assert model.blocks[0].mlp(x)[0].any()


def test_values_are_trained_by_the_rule_of_their_own():
    """Their rate is that of all others times values_lr, they do not decay, and are clipped alone."""
    model = small_model("memory", fields={"values_lr": 5.0, "values_clip": 0.5}).train()
    config = TrainConfig(lr=1e-3, weight_decay=0.1, clip=1e9)
    optimizers = Optimizers(model, config)
    values = model.shared["memory"].values
    groups = {
        id(p): (group["lr"], group["weight_decay"])
        for group in optimizers.all[0].param_groups
        for p in group["params"]
    }
    assert groups[id(values)] == (5e-3, 0.0)
    assert groups[id(model.blocks[0].mlp.w_out)] == (1e-3, 0.1)
    (1e3 * model(torch.arange(24)[None]).logits.square().mean()).backward()
    others = model.blocks[0].mlp.w_out.grad.clone()
    assert values.grad.norm() > 0.5
    tame(model, config)
    assert float(values.grad.norm()) == pytest.approx(0.5, rel=1e-4)
    assert torch.allclose(model.blocks[0].mlp.w_out.grad, others)
    before, read = values.detach().clone(), values.grad.norm(dim=1) > 0
    optimizers.step(share=0.5)
    moved = (values - before).detach().abs()
    assert torch.allclose(moved[read].amax(1), torch.tensor(2.5e-3).double(), rtol=1e-3)
    assert not moved[~read].any()  # neither read nor decayed
    assert read.any()


def test_the_table_starts_with_values_of_unit_length():
    values = Transformer(ModelConfig(mlp=MLPS["memory"].Config()), vocab_size=8).shared["memory"]
    lengths = values.values.detach().square().sum(1)
    assert float(lengths.mean()) == pytest.approx(1.0, rel=0.05)


@pytest.mark.parametrize(
    "fields",
    [
        {"n_slots": 64, "k": 1, "n_heads": 1},
        {"n_slots": 64, "k": 8, "n_heads": 8},
        {"n_slots": 4096, "k": 16, "n_heads": 2, "d_value": 32},
        {"n_slots": 4096, "k": 64, "n_heads": 8, "query_norm": "batch"},
    ],
)
def test_writes_start_with_the_size_of_the_dense_baseline(fields):
    size = first_write("memory", **fields)
    assert size == pytest.approx(first_write("dense"), rel=0.2)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n_slots": 50}, "n_slots is 50; .* 49 or 64"),
        ({"n_slots": 49, "k": 8}, "k is 8; at most 7"),
        ({"n_heads": 3}, "n_heads is 3; a divisor of d_model / 2"),
    ],
)
def test_what_cannot_work_is_refused_with_its_reason(fields, message):
    with pytest.raises(ConfigError, match=message):
        ModelConfig(d_model=16, mlp=MLPS["memory"].Config(**fields))


@pytest.mark.parametrize(
    ("field", "value"), [("n_slots", 64), ("d_value", 8), ("values_lr", 2.0), ("values_clip", 9.0)]
)
def test_layers_that_ask_for_different_tables_are_refused(field, value):
    other = MLPS["memory"].Config(**{"n_slots": 49, "k": 3, "n_heads": 2} | {field: value})
    with pytest.raises(ConfigError, match=rf"mlp\.{field} is {value} in one layer"):
        small_model("memory", per_layer={"mlp@1": other})
    with pytest.raises(ConfigError, match="share one table"):
        account(small_model("memory").config.replace(per_layer={"mlp@1": other}), 61)


def test_layers_may_read_the_table_in_their_own_ways():
    other = MLPS["memory"].Config(n_slots=49, k=7, n_heads=4)
    model = small_model("memory", per_layer={"mlp@1": other})
    acts = model.blocks[1].mlp.encode(normal(1, 9, 16))[0]
    assert acts.count.max() > 7
    assert model.blocks[1].mlp.table[0] is model.shared["memory"]
