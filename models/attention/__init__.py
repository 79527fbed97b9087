"""Fillings of the `attention` slot: one class a line."""

from pellucid.models.attention.bilinear import BilinearAttention
from pellucid.models.attention.codebook import CodebookAttention
from pellucid.models.attention.gated import GatedAttention
from pellucid.models.attention.headwise import HeadwiseAttention
from pellucid.models.attention.softmax import SoftmaxAttention
from pellucid.models.attention.subspace import SubspaceAttention

ATTENTIONS = {
    "softmax": SoftmaxAttention,
    "headwise": HeadwiseAttention,
    "subspace": SubspaceAttention,
    "bilinear": BilinearAttention,
    "codebook": CodebookAttention,
    "gated": GatedAttention,
}
