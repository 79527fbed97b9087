"""Text and models for tests of rules: units that are rules, and a loss that depends on them."""

import numpy as np
import torch
from jaxtyping import Float
from support.planted import stream_of
from torch import Tensor, nn

from pellucid.eval.rules.text import Text
from pellucid.eval.stream import Stream
from pellucid.models import Activations, UnitSite
from pellucid.models.transformer import Output

VOCAB = 64
CONTEXT = 128


def common_text(n_documents: int = 100, length: int = 250, *, seed: int = 0) -> Stream:
    """Independent tokens, the first few of them frequent (Zipf's law)."""
    rng = np.random.default_rng(seed)
    chance = 1 / np.arange(1, VOCAB)
    drawn = rng.choice(np.arange(1, VOCAB), (n_documents, length), p=chance / chance.sum())
    return stream_of(drawn.tolist())


def text_of(stream: Stream, labels: np.ndarray | None = None) -> Text:
    return Text.of(stream, context=CONTEXT, vocab_size=VOCAB, labels=labels)


class Spoken(nn.Module):
    """Unit i is active on its own few tokens; the next token's logits are linear in the units.

    With a `rotation`, the site shows rotated units, and the logits are what they were.
    """

    def __init__(self, table: Float[Tensor, "vocab unit"], rotation: Tensor | None = None) -> None:
        super().__init__()
        self.vocab_size, self.table = len(table), nn.Parameter(table)
        n_units = table.shape[1]
        self.rotation = torch.eye(n_units) if rotation is None else rotation
        generator = torch.Generator().manual_seed(1)
        self.write = torch.randn(n_units, self.vocab_size, generator=generator)
        self.site = UnitSite(
            "mlp",
            n_units,
            signed=rotation is not None,
            exactness="none",
            write=lambda: self.rotation.T @ self.write,
        )
        self.site.name, self.site.layer = "blocks.0.mlp", 0

    def sites(self) -> dict[str, UnitSite]:
        return {self.site.name: self.site}

    def forward(self, tokens: Tensor) -> Output:
        units = self.site(Activations(self.table[tokens] @ self.rotation, None, self.site.n_units))
        return Output(3 * units.values @ self.rotation.T @ self.write, {})

    @torch.no_grad()
    def text(self, n_documents: int, length: int, *, seed: int = 0) -> Stream:
        """Documents of tokens drawn as the model predicts them: its loss is then the least."""
        generator = torch.Generator().manual_seed(seed)
        logits = self(torch.arange(self.vocab_size)[None]).logits[0]
        chance = logits.softmax(-1)
        rows = [torch.randint(1, self.vocab_size, (n_documents,), generator=generator)]
        for _ in range(length - 1):
            rows.append(torch.multinomial(chance[rows[-1]], 1, generator=generator)[:, 0])
        return stream_of(torch.stack(rows, 1).tolist())
