"""The kernels' rows as tokens: sparse activations `(batch, token, slot)` read and written."""

from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from pellucid.kernels import encode_topk, sddmm, sparse_decode
from pellucid.models.activations import Activations, every_row

ROWS = "batch token d -> (batch token) d"


def encode_slots(
    x: Float[Tensor, "batch token d_model"],
    weight: Float[Tensor, "unit d_model"],
    bias: Float[Tensor, " unit"],
    k: int,
) -> Activations:
    """The k largest of relu(x weightᵀ + bias) of each token."""
    values, indices = encode_topk(rearrange(x, ROWS), weight, bias, k)
    return Activations(as_tokens(values, x), as_tokens(indices, x), len(weight))


def products_at(
    x: Float[Tensor, "batch token d_model"],
    weight: Float[Tensor, "unit d_model"],
    indices: Int[Tensor, "batch token slot"],
) -> Float[Tensor, "batch token slot"]:
    """Products of each token with the rows of the weight that its slots name; 0 for empty slots."""
    return as_tokens(sddmm(rearrange(x, ROWS), weight, rearrange(indices, ROWS)), x)


def decode_slots(
    acts: Activations, weight: Float[Tensor, "unit d_model"]
) -> Float[Tensor, "batch token d_model"]:
    """Each token's sum of values times the rows of the weight that its slots name."""
    y = sparse_decode(rearrange(acts.values, ROWS), rearrange(acts.indices, ROWS), weight)
    y = as_tokens(y, acts.values)
    if acts.rest is not None:
        y = y + every_row(acts.rest.to(y.dtype) @ weight.to(y.dtype), len(y))
    return y


def as_tokens(rows: Tensor, like: Tensor) -> Tensor:
    """Rows `(batch token, …)` as `(batch, token, …)` of a tensor with those axes."""
    return rows.unflatten(0, like.shape[:2])
