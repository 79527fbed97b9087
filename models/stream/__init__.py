"""Fillings of the `stream` slot: one kind of block a line."""

from pellucid.models.stream.crate import Crate
from pellucid.models.stream.crosslayer import CrossLayer, CrossLayerBatchTopK
from pellucid.models.stream.dual import DualStream
from pellucid.models.stream.residual import Block
from pellucid.models.stream.topk import TopKStream

STREAMS = {
    "residual": Block,
    "topk_stream": TopKStream,
    "dual_stream": DualStream,
    "crate": Crate,
    "crosslayer": CrossLayer,
    "crosslayer_batch_topk": CrossLayerBatchTopK,
}
