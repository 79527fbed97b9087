"""Top-k kernels. Import as `pellucid.kernels`."""

import torch
import torch.nn.functional as F


def encode_topk(x, w_enc, b_enc, k, *, signed=False):
    pre = F.linear(x, w_enc, b_enc)
    key = pre.abs() if signed else pre
    idx = key.topk(k, dim=-1).indices.sort(-1).values
    values = pre.gather(-1, idx)
    if not signed:
        values = values.relu()
    order = torch.where(values == 0, w_enc.shape[0], idx)
    order, place = order.sort(dim=-1, stable=True)
    empty = order == w_enc.shape[0]
    return values.gather(-1, place).masked_fill(empty, 0), order.masked_fill(empty, -1).int()


def sparse_decode(values, indices, w_dec):
    return torch.einsum("nk,nkd->nd", values, w_dec[indices.clamp_min(0).long()])


def topk_mlp(x, w_enc, b_enc, w_dec, k, *, signed=False):
    values, indices = encode_topk(x, w_enc, b_enc, k, signed=signed)
    return sparse_decode(values, indices, w_dec), values.detach(), indices
