"""Under `torch.vmap` an operation does for each model what it does for one alone."""

import pytest
import torch
from torch import Tensor

from pellucid.kernels import encode_topk, keep_topk, sddmm, sparse_decode, topk_mlp, topk_rows
from pellucid.models.firing import fired

CELLS, ROWS, D, WIDTH, K = 3, 7, 5, 24, 4


@pytest.fixture
def drawn() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    shapes = {
        "x": (ROWS, D),
        "w_enc": (WIDTH, D),
        "b_enc": (WIDTH,),
        "w_dec": (WIDTH, D),
        "values": (ROWS, K),
    }
    made = {
        name: torch.randn(CELLS, *shape, generator=generator, dtype=torch.float64)
        for name, shape in shapes.items()
    }
    places = [torch.randperm(WIDTH, generator=generator)[:K] for _ in range(CELLS * ROWS)]
    made["indices"] = torch.stack(places).sort(-1).values.int().view(CELLS, ROWS, K)
    made["indices"][:, 2, -1] = -1
    # A row whose units are all silent, and one where their pre-activations are 0.
    made["b_enc"][1] -= 50
    made["x"][2, 3], made["b_enc"][2] = 0.0, 0.0
    return made


def mlp(products, signed=False):
    return lambda x, w_enc, b_enc, w_dec: topk_mlp(
        x, w_enc, b_enc, w_dec, K, products=products, signed=signed
    )


def encode(products, signed=False):
    return lambda x, w_enc, b_enc: encode_topk(x, w_enc, b_enc, K, products=products, signed=signed)


OPERATIONS = {
    "rows": (lambda w_enc: topk_rows(w_enc, 2), ("w_enc",)),
    "signed rows": (lambda w_enc: topk_rows(w_enc, 2, signed=True), ("w_enc",)),
    "kept": (lambda w_enc: keep_topk(w_enc, 2, signed=True), ("w_enc",)),
    "encode": (encode("sparse"), ("x", "w_enc", "b_enc")),
    "encode, dense": (encode("dense"), ("x", "w_enc", "b_enc")),
    "encode, dense, signed": (encode("dense", signed=True), ("x", "w_enc", "b_enc")),
    "mlp": (mlp("sparse"), ("x", "w_enc", "b_enc", "w_dec")),
    "mlp, dense": (mlp("dense"), ("x", "w_enc", "b_enc", "w_dec")),
    "mlp, dense, signed": (mlp("dense", signed=True), ("x", "w_enc", "b_enc", "w_dec")),
    "decode": (sparse_decode, ("values", "indices", "w_dec")),
    "sddmm": (sddmm, ("x", "w_enc", "indices")),
}


def weighed(made: Tensor | tuple[Tensor, ...]) -> Tensor:
    """A scalar of every float that an operation returns and may be derived."""
    made = (made,) if isinstance(made, Tensor) else made
    free = [part for part in made if part.is_floating_point() and part.requires_grad]
    return sum((part * torch.linspace(1, 2, part.shape[-1]).double()).sum() for part in free)


def leaves(drawn: dict[str, Tensor], names: tuple[str, ...]) -> list[Tensor]:
    own = [drawn[name].clone() for name in names]
    return [t.requires_grad_() if t.is_floating_point() else t for t in own]


@pytest.mark.parametrize("name", OPERATIONS)
def test_values_and_gradients_are_those_of_each_model_alone(drawn, name):
    operation, names = OPERATIONS[name]
    together, alone = leaves(drawn, names), leaves(drawn, names)
    made = torch.vmap(operation)(*together)
    weighed(made).backward()
    each = [operation(*(t[i] for t in alone)) for i in range(CELLS)]
    sum(weighed(one) for one in each).backward()
    if isinstance(made, Tensor):
        made, each = (made,), [(one,) for one in each]
    for part, others in zip(made, zip(*each, strict=True), strict=True):
        torch.testing.assert_close(part, torch.stack(others), rtol=0, atol=1e-12)
    for ours, theirs in zip(together, alone, strict=True):
        if ours.requires_grad:
            assert theirs.grad.abs().sum() > 0
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-12)


@pytest.mark.parametrize("products", ["sparse", "dense"])
def test_models_may_share_an_input_and_stand_on_any_axis(drawn, products):
    x, w_enc, b_enc, w_dec = (drawn[n].clone() for n in ("x", "w_enc", "b_enc", "w_dec"))
    x = x[0].requires_grad_()
    turned = w_enc.movedim(0, 1).requires_grad_()
    y, *_ = torch.vmap(mlp(products), in_dims=(None, 1, 0, 0))(x, turned, b_enc, w_dec)
    each = [mlp(products)(x, w_enc[i], b_enc[i], w_dec[i])[0] for i in range(CELLS)]
    torch.testing.assert_close(y, torch.stack(each), rtol=0, atol=1e-12)
    found = torch.autograd.grad(weighed(y), x)[0]
    wanted = torch.autograd.grad(sum(weighed(one) for one in each), x)[0]
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


def test_units_are_counted_for_each_model(drawn):
    counts = torch.vmap(lambda indices: fired(indices, WIDTH))(drawn["indices"])
    each = [fired(indices, WIDTH) for indices in drawn["indices"]]
    assert torch.equal(counts, torch.stack(each)) and int(counts.sum()) == CELLS * (ROWS * K - 1)
