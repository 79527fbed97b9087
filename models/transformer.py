"""The transformer: embed → blocks → unembed; a block is two residual adds."""

from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pellucid.errors import UserError
from pellucid.models.activations import Activations
from pellucid.models.cache import Cache, LayerCache
from pellucid.models.config import ModelConfig
from pellucid.models.filling import Filling, Told
from pellucid.models.generate import generate
from pellucid.models.initialize import initialize
from pellucid.models.position import Rotation
from pellucid.models.units import UnitSite, restored


class Output(NamedTuple):
    """What a pass returns: `logits (batch, token, vocab)`, and what fillings tell the trainer."""

    logits: Float[Tensor, "batch token vocab"]
    told: Told


class Block(nn.Module):
    """stream + attention(norm(stream)), then stream + mlp(norm(stream))."""

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__()
        d_model = config.d_model
        norm = config.filling("norm", layer)
        self.attention_norm, self.mlp_norm = norm.build(d_model), norm.build(d_model)
        self.attention = config.filling("attention", layer).build(d_model)
        self.mlp = config.filling("mlp", layer).build(d_model)
        self.dropout = nn.Dropout(config.dropout)
        self.site = stream_site(d_model, self)
        self.sites = _sites("attention", self.attention) | _sites("mlp", self.mlp)
        self.sites["stream"] = self.site
        self.fast = None

    def forward(
        self,
        stream: Tensor,
        rotation: Rotation | None,
        cache: LayerCache | None,
        watched: frozenset,
    ) -> tuple[Tensor, Told]:
        # A block whose site is in use runs uncompiled: compiled code never looks at its sites.
        body = self.body if watched or self.fast is None else self.fast
        return body(stream, rotation, cache, watched)

    def body(
        self,
        stream: Tensor,
        rotation: Rotation | None,
        cache: LayerCache | None,
        watched: frozenset,
    ) -> tuple[Tensor, Told]:
        halves = {kind.partition(".")[0] for kind in watched}
        attend = self.attention.split if "attention" in halves else self.attention
        mlp = self.mlp.split if "mlp" in halves else self.mlp
        y, told_a = attend(self.attention_norm(stream), rotation, cache)
        stream = stream + self.dropout(y)
        y, told_m = mlp(self.mlp_norm(stream))
        stream = stream + self.dropout(y)
        if "stream" in watched:
            stream = self.site(Activations(stream, n_units=self.site.n_units)).values
        told = {f"attention.{k}": v for k, v in told_a.items()}
        return stream, told | {f"mlp.{k}": v for k, v in told_m.items()}


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
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.n_layers))
        self.shared = nn.ModuleDict()
        for block in self.blocks:
            block.attention.borrow(self.shared)
            block.mlp.borrow(self.shared)
        self.norm = config.norm.build(config.d_model)
        self.head = config.head.build(self.embedding)
        self.checkpointing = False
        self._sites = self._name_sites()
        initialize(self, seed)

    def forward(self, tokens: Int[Tensor, "batch token"], cache: Cache | None = None) -> Output:
        """Logits of every position; raises UserError where the rows outgrow the context."""
        start = cache.length if cache is not None else 0
        if start + tokens.shape[1] > self.config.context:
            raise UserError(
                f"the tokens are {start + tokens.shape[1]} long; "
                f"at most the context, {self.config.context}, fit"
            )
        positions = torch.arange(start, start + tokens.shape[1], device=tokens.device)
        stream = self.position.embed(self.embedding(tokens), positions)
        stream = self._look_at_embedding(stream, start)
        rotation, told = self.position.rotation(positions), {}
        for layer, block in enumerate(self.blocks):
            kept = cache.layers[layer] if cache is not None else None
            stream, heard = self._run(block, stream, rotation, kept, start)
            told |= {f"blocks.{layer}.{key}": value for key, value in heard.items()}
        if cache is not None:
            cache.length += tokens.shape[1]
        return Output(self.unembed(stream), told)

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
        """Logits of a stream at any depth (the logit lens): final norm, then the head."""
        return self.head(self.norm(stream))

    def direct_logits(self, directions: Float[Tensor, "n d_model"]) -> Float[Tensor, "n vocab"]:
        """What directions in the stream add to the logits, the final norm's scale aside."""
        return self.head(directions.to(self.norm.weight) * self.norm.weight)

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

    def _name_sites(self) -> dict[str, UnitSite]:
        named = {"embed": stream_site(self.config.d_model, self.embedding)}
        for layer, block in enumerate(self.blocks):
            for kind, site in block.sites.items():
                site.layer = layer
                named[f"blocks.{layer}.{kind}"] = site
        for name, site in named.items():
            site.name = name
        return named


def _sites(kind: str, filling: Filling) -> dict[str, UnitSite]:
    more = {f"{kind}.{name}": site for name, site in filling.more_sites.items()}
    return {kind: filling.site} | more


def stream_site(d_model: int, owner: nn.Module) -> UnitSite:
    """The residual stream's channels: each writes itself, in the dtype of the owner's weights."""
    # Not a lambda: a deep copy of the model then asks its own weights.
    write = partial(_channels, d_model, owner)
    return UnitSite("stream", d_model, signed=True, exactness="none", write=write)


def _channels(d_model: int, owner: nn.Module) -> Tensor:
    weight = next(owner.parameters())
    return torch.eye(d_model, dtype=weight.dtype, device=weight.device)


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
