"""The encoder and its selection: one matrix product over a chunk of rows at a time, then top-k.

The product is the library's, in the dtype of its inputs: a Triton product that also selects is no
faster, and all that it saves is the buffer.
"""

import torch
from torch import Tensor

from pellucid.kernels.gpu.rows import topk_rows

BUFFER_BYTES = 2**30
"""Pre-activations held at a time: a small part of any such device, and chunks of 8192 rows of 65536
units in half precision, whose product runs as fast as the whole one."""

MIN_CHUNK_ROWS = 1024
"""Below this the product has too few tiles for the device, and would read the weights too often."""


def encode_topk(
    x: Tensor,
    w_enc: Tensor,
    b_enc: Tensor,
    k: int,
    signed: bool,
    out: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """The k largest of ReLU(x w_encᵀ + b_enc) in each row, or of the magnitudes if `signed`.

    x (rows d), w_enc (width d), b_enc (width), of one dtype. Returns values (rows k) in that dtype
    and int32 indices (rows k), ascending; inactive slots come last, with value 0 and index -1.
    `out` is two contiguous tensors to be filled. ValueError where `rows.serves` says no.
    """
    width = len(w_enc)
    if out is None:
        out = x.new_empty(len(x), k), x.new_empty(len(x), k, dtype=torch.int32)
    values, indices = out
    size = max(BUFFER_BYTES // (width * x.element_size()), MIN_CHUNK_ROWS)
    buffer = x.new_empty(min(size, len(x)), width)
    for start in range(0, len(x), size):
        part = slice(start, min(start + size, len(x)))
        pre = torch.addmm(b_enc, x[part], w_enc.T, out=buffer[: part.stop - start])
        topk_rows(pre, k, signed, True, (values[part], indices[part]))
    return out
