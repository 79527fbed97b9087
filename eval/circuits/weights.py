"""Edges that a model's weights show: which weight leads from one node of a half to another.

Where a layer has no matrix between its nodes, its edges are passages, which have effects alone.

Between halves a channel that is written and one that is read meet in the stream; that is no weight,
and is not counted (arXiv 2511.13653).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pellucid.eval.circuits.passages import READ, Passage, passages_of
from pellucid.models import unwrap
from pellucid.models.attention.bilinear import BilinearAttention
from pellucid.models.attention.codebook import CodebookAttention
from pellucid.models.attention.gated import GatedAttention
from pellucid.models.attention.softmax import SoftmaxAttention
from pellucid.models.mlp.bilinear import BilinearMLP
from pellucid.models.mlp.dense import DenseMLP
from pellucid.models.mlp.skip_topk import SkipMLP
from pellucid.models.mlp.solu import SoLUMLP
from pellucid.models.mlp.sparse import SparseMLP
from pellucid.models.stream.dual import DualStream
from pellucid.models.stream.residual import Block
from pellucid.models.stream.topk import TopKStream

HEADED = (SoftmaxAttention, GatedAttention, BilinearAttention, CodebookAttention)
"""Attention whose queries, keys and values are each one matrix times what is read."""


class Link(NamedTuple):
    """A matrix whose every weight leads from a unit of one site to a unit of another."""

    name: str
    """of the parameter, `blocks.0.attention.w_q`"""
    source: str
    target: str
    module: nn.Module
    matrix: str
    bias: str
    """what is added to the matrix's products: it can carry the mean of what is left out"""
    from_rows: bool = False
    """whether rows are the sources, as in what a neuron writes"""

    @property
    def weight(self) -> Float[Tensor, "target source"]:
        """The weights, a row for each unit that is reached."""
        stored = getattr(self.module, self.matrix)
        return stored.T if self.from_rows else stored


class Links(NamedTuple):
    """What edges a model has, in the order of the pass."""

    found: list[Link | Passage]
    unweighted: list[str]
    """sentences on what has no weights; edges of it may be passages"""
    unknown: list[str]
    """sentences on what has no edges at all"""


def links_of(model: nn.Module) -> Links:
    """The matrices of all blocks, and passages where a layer shows none.

    A head whose units are nodes has edges, too, which nobody knows: none without that being told.
    """
    links = Links([], [], [])
    for layer, block in enumerate(unwrap(model).blocks):
        at = f"blocks.{layer}."
        if type(block) not in (Block, TopKStream, DualStream):
            why = f"{at[:-1]}: {type(block).__name__} reads its weights more than once"
            links.unweighted.append(why), links.unknown.append(why)
            continue
        attention, mlp = _of_attention(at, block), _of_mlp(at, block)
        links.found.extend(each for each in (*attention, *mlp) if not isinstance(each, str))
        links.unweighted.extend(each for each in (*attention, *mlp) if isinstance(each, str))
        # A layer without weights has passages, unless units write in no way that is known.
        unknown = attention if len(mlp) > 1 else [*attention, *mlp]
        links.unknown.extend(each for each in unknown if isinstance(each, str))
    if any(name.startswith("head.") for name in unwrap(model).sites()):
        why = f"head: what {type(unwrap(model).head).__name__} reads and writes has no known edges"
        links.unweighted.append(why), links.unknown.append(why)
    return links


def _of_attention(at: str, block: nn.Module) -> list[Link | str]:
    attention, name = block.attention, f"{at}attention"
    if type(attention) not in HEADED:
        kind = type(attention).__name__
        return [f"{name}: {kind} has no matrix from channels to queries, keys and values"]
    # In a dual stream values come from one of the streams, which `attn_in` does not show.
    read = "qk" if isinstance(block, DualStream) else "qkv"
    links: list[Link | str] = [
        Link(f"{name}.w_{x}", f"{at}attn_in", f"{name}.{x}", attention, f"w_{x}", f"b_{x}")
        for x in read
    ]
    if isinstance(block, DualStream):
        links.append(f"{name}: its values are read from the token stream alone")
    if isinstance(attention, CodebookAttention):
        return [*links, f"{name}: its codes are chosen by distance, not by weights"]
    return [*links, Link(f"{name}.w_o", f"{name}.v", f"{at}attn_out", attention, "w_o", "b_o")]


def _of_mlp(at: str, block: nn.Module) -> list[Link | Passage | str]:
    mlp, name = block.mlp, f"{at}mlp"
    if isinstance(mlp, DenseMLP | BilinearMLP | SoLUMLP):
        read, write = [("w_in", "b_in"), ("w_up", "b_up")], ("w_out", "b_out")
    elif isinstance(mlp, SparseMLP):
        read, write = [("w_enc", "b_enc")], ("w_dec", "b_dec")
    else:
        why = f"{name}: {type(mlp).__name__} has no matrix from channels to units alone"
        return [why, *passages_of(at, block)]
    out = Link(f"{name}.{write[0]}", name, f"{at}mlp_out", mlp, *write, True)
    if isinstance(mlp, SparseMLP) and hasattr(mlp, "w_up"):
        reads = [each for each in passages_of(at, block) if each.matrix == READ]
        return [f"{name}: one of the two matrices its gates read by has no bias", *reads, out]
    into = [pair for pair in read if hasattr(mlp, pair[0])]
    links = [*(Link(f"{name}.{w}", f"{at}mlp_in", name, mlp, w, b) for w, b in into), out]
    if isinstance(mlp, SkipMLP):
        past = ("w_skip", "b_dec")
        links.append(Link(f"{name}.w_skip", f"{at}mlp_in", f"{at}mlp_out", mlp, *past))
    return links


@contextmanager
def replaced(new: Mapping[tuple[nn.Module, str], Tensor]) -> Iterator[None]:
    """Run with other tensors in place of parameters, or of biases that are None.

    Gradients reach what the tensors are made of. The modules are as before afterwards.
    """
    before = []
    for (module, name), tensor in new.items():
        place = module._parameters if name in module._parameters else module.__dict__
        before.append((place, name, place[name]))
        place[name] = tensor
    try:
        yield
    finally:
        for place, name, old in before:
            place[name] = old


def mean_of(base: float | Tensor, like: Float[Tensor, " source"]) -> Float[Tensor, " source"]:
    """What a site's base is on average over rows and tokens, for each unit."""
    value = torch.as_tensor(base, dtype=like.dtype, device=like.device)
    value = value.mean((0, 1)) if value.ndim == 3 else value
    return value.expand(like.shape)
