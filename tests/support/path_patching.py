"""A transformer of two heads and four neurons a layer in plain numpy, taken apart edge by edge.

Every neuron, the logits, and the queries, keys and values of every head read a stream of their own,
so that each edge can be left out. No
code is shared with the package: the weights alone are taken from one of its models.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

Edge = tuple[str, str, str | None]
"""Source, target, and which of a head's reads: `q`, `k`, `v`."""


class Taken:
    """The weights of a small model without biases: relu neurons, softmax heads, rms norms."""

    def __init__(self, model, eps: float = 1e-5):
        self.w = {name: p.detach().double().numpy() for name, p in model.named_parameters()}
        self.layers, self.heads = len(model.blocks), model.blocks[0].attention.config.n_heads
        self.eps = eps

    def embed(self, tokens: np.ndarray) -> np.ndarray:
        return self.w["embedding.weight"][tokens] + self.w["position.weight"][: tokens.shape[1]]

    def norm(self, name: str, x: np.ndarray) -> np.ndarray:
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + self.eps) * self.w[name]

    def of_head(self, layer: int, head: int, streams: Sequence[np.ndarray]) -> np.ndarray:
        """What one head writes, given the streams that its queries, keys and values read."""
        at, gain = f"blocks.{layer}.attention.", f"blocks.{layer}.attention_norm.weight"
        width = self.w[at + "w_o"].shape[1] // self.heads
        mine = slice(head * width, (head + 1) * width)
        q, k, v = (
            self.norm(gain, x) @ self.w[f"{at}w_{name}"][mine].T
            for name, x in zip("qkv", streams, strict=True)
        )
        scores = q @ k.swapaxes(1, 2) / np.sqrt(width)
        scores = np.where(np.tril(np.ones(scores.shape[1:], bool)), scores, -np.inf)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        return shares @ v @ self.w[at + "w_o"][:, mine].T

    def of_neuron(self, layer: int, unit: int, x: np.ndarray) -> np.ndarray:
        """What one neuron writes, given the stream it reads."""
        at, x = f"blocks.{layer}.mlp.", self.norm(f"blocks.{layer}.mlp_norm.weight", x)
        return np.maximum(x @ self.w[at + "w_in"][unit], 0)[..., None] * self.w[at + "w_out"][unit]

    def parts(self) -> list[tuple[str, int, Sequence[str | None], Callable]]:
        """Names, places in the pass, reads, and functions of a stream for each read."""
        found = []
        for layer in range(self.layers):
            for head in range(self.heads):
                run = lambda x, layer=layer, head=head: self.of_head(layer, head, x)
                found.append((f"blocks.{layer}.attention:{head}", 2 * layer, "qkv", run))
            for unit in range(len(self.w[f"blocks.{layer}.mlp.w_in"])):
                run = lambda x, layer=layer, unit=unit: self.of_neuron(layer, unit, x[0])
                found.append((f"blocks.{layer}.mlp:{unit}", 2 * layer + 1, [None], run))
        return found

    def run(
        self,
        embedded: np.ndarray,
        added: Mapping[Edge, np.ndarray] | None = None,
    ) -> tuple[np.ndarray, dict[str, np.ndarray], list[Edge]]:
        """Logits, what every part wrote, and all edges; `added` is put on what one part reads of
        another."""
        added = added or {}
        written, place = {"embed": embedded}, {"embed": -1}
        edges: list[Edge] = []

        def stream(target: str, at: int, through: str | None) -> np.ndarray:
            total = np.zeros_like(embedded)
            for source, value in written.items():
                if place[source] < at:
                    edges.append((source, target, through))
                    total = total + value + added.get((source, target, through), 0.0)
            return total

        for name, at, reads, part in self.parts():
            written[name] = part([stream(name, at, through) for through in reads])
            place[name] = at
        x = self.norm("norm.weight", stream("logits", 2 * self.layers, None))
        return x @ self.w["head.weight"].T, written, edges
