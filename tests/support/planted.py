"""A model whose units and predictions are known functions of the tokens it reads."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from pellucid.eval.stream import Stream
from pellucid.models import Activations, UnitSite
from pellucid.models.transformer import Output

EOT = 0
Rule = Callable[[Tensor], Tensor]
"""tokens (row, column) -> activation of one unit"""


class Planted(nn.Module):
    """One mlp site whose i-th unit is `rules[i]`; `predict` gives logits, uniform by default."""

    def __init__(
        self,
        rules: Sequence[Rule],
        *,
        vocab_size: int,
        signed: bool = False,
        sparse: bool = False,
        predict: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.vocab_size, self.rules, self.sparse = vocab_size, rules, sparse
        self.anchor = nn.Parameter(torch.zeros(()))
        self.predict = predict or (lambda tokens: torch.zeros(*tokens.shape, vocab_size))
        write = lambda: torch.eye(len(rules), vocab_size)
        self.site = UnitSite("mlp", len(rules), signed=signed, exactness="none", write=write)
        self.site.name, self.site.layer = "blocks.0.mlp", 0

    def sites(self) -> dict[str, UnitSite]:
        return {self.site.name: self.site}

    def forward(self, tokens: Tensor) -> Output:
        values = torch.stack([rule(tokens).float() for rule in self.rules], dim=-1)
        self.site(as_sparse(values) if self.sparse else Activations(values, None, len(self.rules)))
        return Output(self.predict(tokens), {})

    def direct_logits(self, directions: Tensor) -> Tensor:
        """The stream is the vocabulary: unit i promotes token i."""
        return directions


def as_sparse(values: Tensor) -> Activations:
    """The same activations as slots, ascending, empty ones at the end."""
    width = values.shape[-1]
    units = torch.where(values != 0, torch.arange(width), width).sort(-1).values
    padded = torch.cat([values, values.new_zeros(*values.shape[:-1], 1)], dim=-1)
    taken = padded.gather(-1, units)
    return Activations(taken, units.masked_fill(units == width, -1).int(), width)


def before(tokens: Tensor) -> Tensor:
    """The token to the left of each, -1 at the start of a row."""
    return torch.cat([torch.full_like(tokens[:, :1], -1), tokens[:, :-1]], dim=1)


def stream_of(
    documents: Sequence[Sequence[int]], *, doc_bytes: Sequence[int] | None = None
) -> Stream:
    """A stream of documents given without their eot; by default each token is one byte."""
    laid = [np.array([EOT, *document]) for document in documents]
    return Stream(
        tokens=np.concatenate(laid).astype(np.int64),
        offsets=np.concatenate([[0], np.cumsum([len(d) for d in laid])]),
        names=[f"file_{i}.txt" for i in range(len(laid))],
        doc_bytes=np.array(doc_bytes or [len(d) for d in documents]),
        eot=EOT,
        complete=True,
    )


def random_stream(n_documents: int, length: int, *, vocab_size: int, seed: int = 0) -> Stream:
    """Documents of independent tokens from 1 to vocab_size - 1."""
    rng = np.random.default_rng(seed)
    return stream_of([rng.integers(1, vocab_size, length).tolist() for _ in range(n_documents)])
