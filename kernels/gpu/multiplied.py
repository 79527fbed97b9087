"""Layers on a CUDA device whose width is too small for gathering to pay: dense matrix products.

Units are chosen by the same kernels as in `path.py`. Products are the library's, in the dtype of
the tensors; they need rows x width of memory.
"""

from torch import Tensor

from pellucid.kernels import dense
from pellucid.kernels.gpu import path


def encode_topk(
    x: Tensor, w_enc: Tensor, b_enc: Tensor, k: int, signed: bool, mode: str
) -> tuple[Tensor, Tensor]:
    """The encoder does not depend on how the layer is multiplied out."""
    return path.encode_topk(x, w_enc, b_enc, k, signed, mode)


sparse_decode = path.on_its_device(dense.sparse_decode)
encode_topk_backward = path.on_its_device(dense.encode_topk_backward)
sparse_decode_backward = path.on_its_device(dense.sparse_decode_backward)
topk_mlp_backward = path.on_its_device(dense.topk_mlp_backward)


def topk_mlp(
    x: Tensor, w_enc: Tensor, b_enc: Tensor, w_dec: Tensor, k: int, signed: bool, mode: str
) -> tuple[Tensor, Tensor, Tensor]:
    """The two halves, one after the other: the same bits by construction."""
    values, indices = encode_topk(x, w_enc, b_enc, k, signed, mode)
    return sparse_decode(values, indices, w_dec), values, indices
