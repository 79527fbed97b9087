"""Weights written by hand into the modules of the package: heads and neurons from named channels.

The stream holds one channel of a large constant, so that the division by the root mean square is by
a constant, up to |stream|² / (2 LARGE²) of what passes: with gains to match, norms do nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from pellucid.models import ModelConfig, Transformer
from pellucid.models.attention import ATTENTIONS
from pellucid.models.mlp import MLPS
from pellucid.models.norm import NORMS
from pellucid.models.position import POSITIONS

LARGE = 2.0**13
ONE = "one"
"""The channel that always reads 1."""

Node = tuple[str, int]
"""A unit by its site and number: a head, a neuron, or the embedding and the logits as wholes."""
EMBED, LOGITS = ("embed", 0), ("logits", 0)


@dataclass
class Compiled:
    """A transformer of two heads a layer, all zero but what is written."""

    model: Transformer
    channels: dict[str, int]

    @classmethod
    def blank(
        cls, names: Sequence[str], *, vocab: int, context: int, layers: int, width: int, mlp: str
    ) -> "Compiled":
        """Channels `one`, `names`, one for each token (`tok3`) and position (`pos3`), and `when`."""
        tokens, places = [f"tok{v}" for v in range(vocab)], [f"pos{p}" for p in range(context)]
        named = [ONE, "when", *tokens, *places, *names]
        d_model = -(-len(named) // 4) * 4
        filling = (
            MLPS["dense"].Config(activation="relu", width=width)
            if mlp == "dense"
            else MLPS["topk"].Config(width=width, k=width)
        )
        config = ModelConfig(
            n_layers=layers,
            d_model=d_model,
            context=context,
            mlp=filling,
            attention=ATTENTIONS["softmax"].Config(n_heads=2),
            position=POSITIONS["learned"].Config(),
            norm=NORMS["rms"].Config(eps=1e-12),
        )
        model = Transformer(config, vocab_size=vocab).double().eval().requires_grad_(False)
        made = cls(model, {name: number for number, name in enumerate(named)})
        made._clear(tokens, places)
        return made

    def _clear(self, tokens: Sequence[str], places: Sequence[str]) -> None:
        for name, parameter in self.model.named_parameters():
            gain = LARGE / self.model.config.d_model**0.5
            parameter.fill_(gain if "norm" in name else 0.0)
        embedding, position = self.model.embedding.weight, self.model.position.weight
        embedding[:, self.channels[ONE]] = LARGE
        for number, token in enumerate(tokens):
            embedding[number, self.channels[token]] = 1
        for number, place in enumerate(places):
            position[number, self.channels[place]] = 1
            position[number, self.channels["when"]] = number

    def _reading(self, channel: str) -> tuple[int, float]:
        return self.channels[channel], 1 / LARGE if channel == ONE else 1.0

    def head(
        self,
        layer: int,
        head: int,
        scores: Sequence[tuple[str, str, float]],
        moves: Sequence[tuple[str, str, float]],
    ) -> None:
        """A head whose score is Σ strength x query channel x key channel, and which adds gain x the
        mean of a channel to another one for each move (from, to, gain)."""
        attention, d_head = (
            self.model.blocks[layer].attention,
            self.model.blocks[0].attention.d_head,
        )
        if max(len(scores), len(moves)) > d_head:
            raise ValueError(f"a head of {d_head} channels cannot hold {len(scores)} scores")
        for row, (query, key, strength) in enumerate(scores, start=head * d_head):
            (q, unit_q), (k, unit_k) = self._reading(query), self._reading(key)
            attention.w_q[row, q] = unit_q * strength * d_head**0.5
            attention.w_k[row, k] = unit_k
        for row, (source, target, gain) in enumerate(moves, start=head * d_head):
            channel, unit = self._reading(source)
            attention.w_v[row, channel] = unit
            attention.w_o[self.channels[target], row] = gain

    def neuron(
        self,
        layer: int,
        unit: int,
        reads: Mapping[str, float],
        bias: float,
        writes: Mapping[str, float],
    ) -> None:
        """relu(Σ weight x channel + bias), added to other channels."""
        mlp = self.model.blocks[layer].mlp
        dense = hasattr(mlp, "w_in")
        into, start, out = (
            (mlp.w_in, mlp.b_in, mlp.w_out) if dense else (mlp.w_enc, mlp.b_enc, mlp.w_dec)
        )
        start[unit] = bias
        for name, weight in reads.items():
            channel, scale = self._reading(name)
            into[unit, channel] = weight * scale
        for name, weight in writes.items():
            out[unit, self.channels[name]] = weight

    def step(
        self, layer: int, unit: int, reads: Mapping[str, float], writes: Mapping[str, float]
    ) -> None:
        """Two neurons that together write 0 where Σ weight x channel ≤ 0, and all where it is ≥ 1."""
        self.neuron(layer, unit, reads, 0.0, writes)
        self.neuron(layer, unit + 1, reads, -1.0, {name: -w for name, w in writes.items()})

    def read_out(self, logits: Mapping[int, str]) -> None:
        """The logit of each token is what a channel holds."""
        for token, name in logits.items():
            channel, scale = self._reading(name)
            self.model.head.weight[token, channel] = scale


def rotated_stream(model: Transformer, *, seed: int) -> Transformer:
    """Turns the channels of the stream among each other: the same function, units and heads, but no
    channel means anything. Exact, because all gains are equal. Changes the model it is given."""
    d_model = model.config.d_model
    draws = torch.randn(d_model, d_model, generator=torch.Generator().manual_seed(seed)).double()
    turn, _ = torch.linalg.qr(draws)
    for name, parameter in model.named_parameters():
        if name.endswith("w_o"):
            parameter.copy_(turn.T @ parameter)
        elif "norm" not in name and parameter.shape[-1] == d_model:
            parameter.copy_(parameter @ turn)
    return model
