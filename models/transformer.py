"""The transformer: embed → blocks → head."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pellucid.errors import UserError
from pellucid.models.activations import Activations
from pellucid.models.beginnings import Beginnings
from pellucid.models.cache import Cache, LayerCache
from pellucid.models.config import ModelConfig
from pellucid.models.filling import Told
from pellucid.models.generate import generate
from pellucid.models.head.unembed import Side
from pellucid.models.initialize import initialize
from pellucid.models.position import Rotation
from pellucid.models.stream.residual import Block, stream_site
from pellucid.models.units import UnitSite, restored


class Output(NamedTuple):
    """What a pass returns: `logits (batch, token, vocab)`, and what fillings tell the trainer."""

    logits: Float[Tensor, "batch token vocab"]
    told: Told


class Transformer(nn.Module):
    """A decoder-only transformer whose layers are the fillings named by its config."""

    def __init__(self, config: ModelConfig, *, vocab_size: int, seed: int = 0):
        super().__init__()
        self.config, self.vocab_size = config, vocab_size
        self.embedding = nn.Embedding(
            vocab_size, config.d_model, _weight=torch.empty(vocab_size, config.d_model)
        )
        d_head = config.d_model // config.filling("attention", 0).n_heads
        self.position = config.position.build(config.d_model, d_head, config.context)
        self.blocks = nn.ModuleList(
            config.stream.build(config, layer) for layer in range(config.n_layers)
        )
        self.shared = nn.ModuleDict()
        for block in self.blocks:
            block.attention.borrow(self.shared)
            block.mlp.borrow(self.shared)
        self.norm = config.norm.build(config.d_model)
        self.head = config.head.build(self.embedding)
        self.constraint = config.constraint.build()
        self.constraint.check(self)
        self.gradient_rule = config.gradient_rule.build()
        self.gradient_rule.check(self)
        self.checkpointing = False
        self._sites = self._name_sites()
        initialize(self, seed)

    def forward(
        self,
        tokens: Int[Tensor, "batch token"],
        cache: Cache | None = None,
        side: Side | None = None,
    ) -> Output:
        """Logits of every position; raises UserError where the rows outgrow the context.

        `side` is what the corpus says of the tokens beside the text, for heads that learn from it.
        """
        hidden, told = self._hidden(tokens, cache)
        start = cache.length if cache is not None else 0
        head = self.head.split if self._watch_head(start) else self.head
        logits, heard = head(hidden, tokens, cache.head if cache is not None else None, side)
        if cache is not None:
            cache.length += tokens.shape[1]
        return Output(logits, told | {f"head.{key}": value for key, value in heard.items()})

    def logits_at(
        self, tokens: Int[Tensor, "batch token"], column: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch vocab"]:
        """Logits of one position of each row: the head is spared all others, where it may be."""
        rows = torch.arange(len(tokens), device=tokens.device)
        if not self.head.pointwise or self._watch_head(0):
            return self(tokens).logits[rows, column]
        hidden, _ = self._hidden(tokens, None)
        hidden, tokens = hidden[rows, column], tokens[rows, column]
        return self.head(hidden[:, None], tokens[:, None])[0][:, 0]

    def logits_of(
        self, beginnings: Beginnings, copies: int = 1
    ) -> Float[Tensor, "copies_row vocab"]:
        """Logits at the ends of rows, all of them read several times over where edits differ.

        To edits each beginning is an example of one token. Raises ValueError for heads that look
        beyond the position itself, or that are looked at.
        """
        if not self.head.pointwise or self._watch_head(0):
            raise ValueError("the head reads more than the ends of the rows, or is looked at")
        tokens = beginnings.tokens.repeat(copies)[:, None]
        with beginnings.mixed_by(block.attention for block in self.blocks):
            hidden, _ = self._hidden(tokens, None, beginnings)
        ends = beginnings.ends.repeat(copies, 1)
        ends = ends + len(beginnings.tokens) * torch.arange(copies, device=ends.device)[:, None]
        hidden, tokens = hidden[ends.flatten()], tokens[ends.flatten()]
        return self.head(hidden, tokens)[0][:, 0]

    def _hidden(
        self,
        tokens: Int[Tensor, "batch token"],
        cache: Cache | None,
        beginnings: Beginnings | None = None,
    ) -> tuple[Tensor, Told]:
        """What the head reads, and what the blocks told."""
        stream, told = self._stream(tokens, cache, beginnings)
        return self.norm(self.blocks[-1].leave(stream)), told

    def _stream(
        self,
        tokens: Int[Tensor, "batch token"],
        cache: Cache | None = None,
        beginnings: Beginnings | None = None,
    ) -> tuple[Tensor, Told]:
        start = cache.length if cache is not None else 0
        end = start + (tokens.shape[1] if beginnings is None else beginnings.width)
        if end > self.config.context:
            raise UserError(
                f"the tokens are {end} long; at most the context, {self.config.context}, fit"
            )
        if beginnings is None:
            positions = torch.arange(start, end, device=tokens.device)
        else:
            positions = beginnings.positions_of(tokens)
        embedded = self.position.embed(self.embedding(tokens), positions)
        stream = self.blocks[0].enter(self._look_at_embedding(embedded, start))
        rotation, told = self.position.rotation(positions), {}
        for layer, block in enumerate(self.blocks):
            kept = cache.layers[layer] if cache is not None else None
            stream, heard = self._run(block, stream, rotation, kept, start)
            told |= {f"blocks.{layer}.{key}": value for key, value in heard.items()}
        return stream, told

    def _run(
        self,
        block: Block,
        stream: Tensor,
        rotation: Rotation | None,
        kept: LayerCache | None,
        start: int,
    ) -> tuple[Tensor, Told]:
        watched = watch(block, start)
        if self.checkpointing and self.training and torch.is_grad_enabled():
            return checkpointed(block, stream, rotation, watched)
        return block(stream, rotation, kept, watched)

    def sites(self) -> dict[str, UnitSite]:
        """Every unit site by its canonical name, e.g. `blocks.0.mlp`."""
        return dict(self._sites)

    def unembed(
        self, stream: Float[Tensor, "batch token d_model"]
    ) -> Float[Tensor, "batch token vocab"]:
        """Logits of a stream at any depth (the logit lens): final norm, then the head's matrix."""
        return self.head.project(self.norm(stream))

    def direct_logits(self, directions: Float[Tensor, "n d_model"]) -> Float[Tensor, "n vocab"]:
        """What directions in the stream add to the logits, the final norm's scale aside."""
        return self.head.project(directions.to(self.norm.weight) * self.norm.weight)

    @torch.no_grad()
    def logit_parts(
        self, tokens: Int[Tensor, "batch token"]
    ) -> dict[str, Float[Tensor, "batch token vocab"]]:
        """The logits as a sum of named parts: streams, senses, concepts, the bigram table.

        Where the head reads the stream as it is, each stream's part is taken at the final norm's
        scale, which the streams share. Their sum is the logits, up to rounding.
        """
        stream, _ = self._stream(tokens)
        x = self.norm(self.blocks[-1].leave(stream))
        parts = self.head.parts(x, tokens)
        streams = self.blocks[-1].parts(stream)
        if "stream" not in parts or len(streams) == 1:
            return parts
        named = {name: self.head.project(self._normed(p, x, stream)) for name, p in streams.items()}
        return named | {name: part for name, part in parts.items() if name != "stream"}

    def _normed(self, part: Tensor, normed: Tensor, stream: Tensor) -> Tensor:
        """One part of the stream as it stands in the normalized whole (exact for RMS norms)."""
        whole = self.blocks[-1].leave(stream)
        scale = whole.square().mean(-1, keepdim=True) + self.norm.eps
        return part * scale.rsqrt() * self.norm.weight

    def compile_blocks(self) -> None:
        """Regional compilation: one graph per kind of block, shared by equal blocks."""
        for block in self.blocks:
            block.fast = torch.compile(block.body)

    generate = generate

    def _look_at_embedding(self, stream: Tensor, start: int) -> Tensor:
        site = self._sites["embed"]
        if not site.state.in_use:
            return stream
        site.state = site.state.at(start)
        return site(Activations(stream, n_units=site.n_units)).values

    def _watch_head(self, start: int) -> bool:
        used = [site for site in self.head.sites.values() if site.state.in_use]
        for site in used:
            site.state = site.state.at(start)
        return bool(used)

    def _name_sites(self) -> dict[str, UnitSite]:
        named = {"embed": stream_site(self.config.d_model, self.embedding)}
        for layer, block in enumerate(self.blocks):
            for kind, site in block.sites.items():
                site.layer = layer
                named[f"blocks.{layer}.{kind}"] = site
        named |= {f"head.{kind}": site for kind, site in self.head.sites.items()}
        for name, site in named.items():
            site.name = name
        return named


def watch(block: Block, start: int) -> frozenset[str]:
    """Which of the block's sites are in use; they learn the position of the first token."""
    watched = frozenset(kind for kind, site in block.sites.items() if site.state.in_use)
    for kind in watched:
        site = block.sites[kind]
        site.state = site.state.at(start)
    return watched


def checkpointed(
    block: Block, stream: Tensor, rotation: Rotation | None, watched: frozenset
) -> tuple[Tensor, Told]:
    """Run a block and keep only its input; the backward pass runs it again.

    The second run sees the edits of the first, whatever is active by then, and records nothing.
    """
    sites = list(block.sites.values())
    states = [site.state for site in sites]

    def run(stream: Tensor) -> tuple[Tensor, Told]:
        nonlocal states
        with restored(sites, states):
            states = [state.silent() for state in states]
            return block(stream, rotation, None, watched)

    return checkpoint(run, stream, use_reentrant=False)
