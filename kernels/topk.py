"""The operations: checked entry points over the operators of `operators.py`, with gradients.

`products` says how a sparse layer is multiplied out once its units are chosen: `sparse` gathers
rows, `dense` uses matrix products of the whole width, `auto` takes what `dispatch.py` says is
faster. Halves that shall give the bits of the whole layer take the same.

Ties: the lowest index wins. NaN: ranks above every number and counts as active, so it reaches the
output and the loss. Indices are not differentiable, nor are the values that `topk_mlp` returns.
"""

from torch import Tensor

from pellucid.kernels import autocast, operators
from pellucid.kernels.checks import (
    check_encode,
    check_k,
    check_sddmm,
    check_signs,
    check_slots,
    check_tensors,
)
from pellucid.kernels.dispatch import Products, check_products


def topk_rows(
    x: Tensor, k: int, *, signed: bool = False, relu: bool = False
) -> tuple[Tensor, Tensor]:
    """The k largest entries of each row of x (rows width), or the largest by magnitude if `signed`.

    Returns values (rows k), differentiable and with their sign, and int32 indices (rows k) in
    ascending order. With `relu` the values are positive: what is not is inactive, its slots come
    last with value 0 and index -1, and get no gradient. NaN is selected first and stays NaN, with
    `relu` too. ValueError if x is not a 2-D float tensor, k is not in 1..width, or both flags are
    set.
    """
    check_tensors("topk_rows", x=(x, 2))
    check_k("topk_rows", k, x.shape[1])
    check_signs("topk_rows", signed, relu)
    return operators.topk_rows(x, k, signed, relu)


def keep_topk(x: Tensor, k: int, *, signed: bool = False) -> Tensor:
    """x (rows width) with all but those entries of each row set to 0 that `topk_rows` selects.

    Differentiable: what is set to 0 has gradient 0. ValueError as for `topk_rows`.
    """
    check_tensors("keep_topk", x=(x, 2))
    check_k("keep_topk", k, x.shape[1])
    return x.masked_fill(operators.topk_dropped(x.detach(), k, signed), 0)


def encode_topk(
    x: Tensor,
    w_enc: Tensor,
    b_enc: Tensor,
    k: int,
    *,
    signed: bool = False,
    mode: str = "exact",
    products: Products = "auto",
) -> tuple[Tensor, Tensor]:
    """The k largest of ReLU(x w_encᵀ + b_enc) in each row, or of the magnitudes if `signed`.

    x (rows d), w_enc (width d), b_enc (width). Returns values (rows k), differentiable, and int32
    indices (rows k), ascending; inactive slots come last, with value 0 and index -1. `modes.py`
    says what the modes `groupmax` and `fp8` may miss. ValueError for another mode, and for shapes,
    dtypes or devices that do not agree. (TopK autoencoders: arXiv 2406.04093.)
    """
    x, w_enc, b_enc = autocast.cast(x, w_enc, b_enc)
    check_encode("encode_topk", x, w_enc, b_enc, k, mode)
    check_products("encode_topk", products)
    return operators.encode_topk(x, w_enc, b_enc, k, signed, mode, products)


def sparse_decode(
    values: Tensor, indices: Tensor, w_dec: Tensor, *, products: Products = "auto"
) -> Tensor:
    """Sum over slots of value times w_dec[index]: (rows k) twice and (width d) give (rows d).

    Indices are int32 and unique in their row; slots of index -1 add nothing and get
    gradient 0. ValueError for shapes, dtypes or devices that do not agree.
    """
    values, w_dec = autocast.cast(values, w_dec)
    check_slots("sparse_decode", values, indices, w_dec)
    check_products("sparse_decode", products)
    return operators.sparse_decode(values, indices, w_dec, products)


def sddmm(x: Tensor, weight: Tensor, indices: Tensor) -> Tensor:
    """Products x · weight[index] at the named places only: (rows d), (width d) give (rows k).

    Indices (rows k) are int32; slots of index -1 give 0. Differentiable in x and weight.
    ValueError for shapes, dtypes or devices that do not agree.
    """
    x, weight = autocast.cast(x, weight)
    check_sddmm("sddmm", x, weight, indices)
    return operators.sddmm(x, weight, indices)


def topk_mlp(
    x: Tensor,
    w_enc: Tensor,
    b_enc: Tensor,
    w_dec: Tensor,
    k: int,
    *,
    signed: bool = False,
    mode: str = "exact",
    products: Products = "auto",
) -> tuple[Tensor, Tensor, Tensor]:
    """`encode_topk` then `sparse_decode` in one step that keeps x, values and indices only.

    x (rows d), w_enc (width d), b_enc (width) and w_dec (width d_out); a top-k layer as in arXiv
    2406.04093. Returns the output (rows d_out) and the encoder's values and indices (rows k), which
    here carry no gradient. Output and gradients have the same bits as those of the two steps.
    ValueError for k out of range, and for shapes, dtypes or devices that do not agree.
    """
    x, w_enc, b_enc, w_dec = autocast.cast(x, w_enc, b_enc, w_dec)
    check_encode("topk_mlp", x, w_enc, b_enc, k, mode)
    check_products("topk_mlp", products)
    check_tensors("topk_mlp", w_enc=(w_enc, 2), w_dec=(w_dec, 2))
    if len(w_dec) != len(w_enc):
        raise ValueError(
            f"topk_mlp: w_dec must have the {len(w_enc)} rows (units) of w_enc, got {len(w_dec)}"
        )
    return operators.topk_mlp(x, w_enc, b_enc, w_dec, k, signed, mode, products)
