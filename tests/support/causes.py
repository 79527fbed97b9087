"""A model whose logits come from its units alone: what each unit causes is known."""

from collections.abc import Callable, Sequence

import torch
from support.planted import Rule, as_sparse
from torch import Tensor, nn

from pellucid.models import Activations, UnitSite
from pellucid.models.transformer import Output


class Caused(nn.Module):
    """One mlp site; logits = base(tokens) + Σ unit · effects[unit]. The stream is the vocabulary.

    `blocks.0.stream` shows the logits themselves, so that what is added to it is added to them.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        effects: Tensor,
        *,
        base: Callable[[Tensor], Tensor] | None = None,
        sparse: bool = False,
        signed: bool = False,
    ) -> None:
        super().__init__()
        self.rules, self.sparse, self.vocab_size = rules, sparse, effects.shape[1]
        self.effects = nn.Parameter(effects.float())
        self.base = base or (lambda tokens: torch.zeros(*tokens.shape, effects.shape[1]))
        about = {"signed": signed, "exactness": "none"}
        self.site = UnitSite("mlp", len(rules), write=lambda: self.effects, **about)
        self.stream = UnitSite("stream", self.vocab_size, **about)
        self.site.name, self.stream.name = "blocks.0.mlp", "blocks.0.stream"
        self.site.layer = self.stream.layer = 0

    def sites(self) -> dict[str, UnitSite]:
        return {site.name: site for site in (self.site, self.stream)}

    def forward(self, tokens: Tensor) -> Output:
        values = torch.stack([rule(tokens).float() for rule in self.rules], dim=-1)
        # In the graph, so that gradients with respect to units can be asked for.
        values = values + 0 * self.effects.sum()
        acts = as_sparse(values) if self.sparse else Activations(values, None, len(self.rules))
        kept = self.site(acts).to_dense()
        logits = self.base(tokens) + kept @ self.effects
        return Output(self.stream(Activations(logits, n_units=self.vocab_size)).values, {})

    def direct_logits(self, directions: Tensor) -> Tensor:
        return directions
