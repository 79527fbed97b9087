"""Fillings of the `attention` slot: one class a line."""

from pellucid.models.attention.softmax import SoftmaxAttention

ATTENTIONS = {"softmax": SoftmaxAttention}
