"""Units looked up by product keys: gates, query norms, and what is refused."""

import pytest
import torch

from pellucid.errors import ConfigError
from pellucid.models.mlp.lookup import ProductKeys, check_k, gate_energy, key_width, side_of
from pellucid.models.product_keys import product_topk


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def keys(norm: str) -> ProductKeys:
    module = ProductKeys(12, n_heads=2, d_key=6, side=5, k=3, norm=norm).double()
    with torch.no_grad():
        module.w_query.copy_(normal(12, 12, seed=2))
        module.keys.copy_(normal(2, 2, 5, 3, seed=3))
    return module


def by_hand(module: ProductKeys, query: torch.Tensor):
    """Gates and units of standardized queries `(token, 12)`, one token and head at a time."""
    gates, units = [], []
    for row in query.view(-1, 2, 2, 3):
        for head in range(2):
            first, second = (module.keys[head, half] @ row[head, half] for half in (0, 1))
            best, chosen = (first[:, None] + second[None]).flatten().topk(3)
            chosen, order = chosen.sort()
            gates.append(best[order].softmax(0))
            units.append(chosen)
    return torch.stack(gates).view(-1, 2, 3), torch.stack(units).view(-1, 2, 3)


def test_queries_are_divided_by_their_own_size():
    module, x = keys("rms"), normal(7, 12, seed=4)
    gates, units, told = module(x)
    halves = (x @ module.w_query.T).view(7, 4, 3)
    halves = halves / (halves.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    wanted, chosen = by_hand(module, halves.view(7, 12))
    assert torch.equal(units.long(), chosen)
    assert torch.allclose(gates, wanted, atol=1e-12)
    assert told == {}


def test_batch_norm_uses_statistics_of_earlier_steps_so_that_tokens_stay_apart():
    module, x = keys("batch").train(), normal(7, 12, seed=4)
    query = x @ module.w_query.T
    for _ in range(2):
        mean, square = module.query_mean.clone(), module.query_square.clone()
        gates, units, told = module(x)
        wanted, chosen = by_hand(module, (query - mean) / (square - mean**2).sqrt())
        assert torch.equal(units.long(), chosen)
        assert torch.allclose(gates, wanted, atol=1e-12)
        assert torch.allclose(module(x[:1])[0], gates[:1], atol=1e-14)
        module.after_step(told, tokens=7)
        assert torch.allclose(module.query_mean, 0.99 * mean + 0.01 * query.mean(0))
        assert torch.allclose(module.query_square, 0.99 * square + 0.01 * query.square().mean(0))


def test_scores_keep_their_precision_under_autocast():
    module, x = keys("rms"), normal(7, 12, seed=4).float()
    with torch.autocast("cpu", torch.bfloat16):
        gates, units, _ = module.float()(x)
    plain, chosen, _ = module(x)
    assert gates.dtype == torch.float32
    assert torch.equal(gates, plain)
    assert torch.equal(units, chosen)


def test_gate_energy_is_that_of_fresh_draws():
    fresh = product_topk(*normal(2, 20_000, 16, seed=8), 4)[0].softmax(-1).square().sum(-1).mean()
    assert gate_energy(16, 4) == pytest.approx(float(fresh), rel=0.03)


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        (lambda: side_of(60, "mlp.n_experts"), "mlp.n_experts is 60; .* 49 or 64 is accepted"),
        (lambda: check_k(9, 8, "mlp.k"), "mlp.k is 9; at most 8"),
        (lambda: key_width(None, 3, 16), "mlp.n_heads is 3; a divisor of d_model / 2"),
        (lambda: key_width(5, 3, 16), "mlp.d_key is 5; an even number"),
    ],
)
def test_sizes_that_cannot_work_are_refused(refused, message):
    with pytest.raises(ConfigError, match=message):
        refused()
