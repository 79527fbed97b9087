"""A model whose weights are those of the run, each matrix shuffled within itself."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pellucid.models import Transformer

if TYPE_CHECKING:
    from pellucid.run import Run


def rebuilt(run: "Run", seed: int) -> Transformer:
    """A model of the run's architecture with the random initial values of a seed, on its device."""
    weight = next(run.model.parameters())
    twin = Transformer(run.config.model, vocab_size=run.model.vocab_size, seed=seed)
    return twin.to(device=weight.device, dtype=weight.dtype).eval()


@torch.no_grad()
def permuted_weights(run: "Run", *, seed: int) -> Transformer:
    """The run's model with the entries of every matrix permuted, embeddings too; vectors stay.

    Each matrix keeps its multiset of values, the zeros of a weight-sparse one with them, so that
    what is left of a score needs the sizes of the weights but not what training made of them. A
    stack of matrices is permuted matrix by matrix.
    """
    model = rebuilt(run, run.config.seed)
    model.load_state_dict(run.model.state_dict())
    generator = torch.Generator().manual_seed(seed)
    for _, parameter in sorted(model.named_parameters()):
        if parameter.ndim >= 2:
            parameter.copy_(shuffled(parameter, generator))
    return model


def shuffled(weight: Tensor, generator: torch.Generator) -> Tensor:
    """The entries of each matrix (the last two axes) in a random order of its own."""
    matrices = weight.flatten(0, -3) if weight.ndim > 2 else weight[None]
    mixed = [
        m.flatten()[torch.randperm(m.numel(), generator=generator).to(m.device)] for m in matrices
    ]
    return torch.stack(mixed).view_as(weight)
