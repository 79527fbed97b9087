"""Training of node masks: which nodes a task can be done without (arXiv 2511.13653)."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from pellucid.eval.circuits.bases import Base
from pellucid.eval.circuits.lengths import margins_by_length, of_rows
from pellucid.eval.circuits.nodes import Nodes
from pellucid.eval.circuits.objective import Asked
from pellucid.eval.circuits.settings import Settings
from pellucid.eval.stream import CHUNK_TOKENS


class Step(torch.autograd.Function):
    """1 above 0, else 0; its slope is taken to be that of sigmoid(x / temperature)."""

    @staticmethod
    def forward(ctx, x: Tensor, temperature: float) -> Tensor:
        """1 where x is above 0."""
        ctx.save_for_backward(x)
        ctx.temperature = temperature
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx, *grads: Tensor) -> tuple[Tensor, None]:
        """The gradient of the sigmoid."""
        (x,) = ctx.saved_tensors
        soft = torch.sigmoid(x / ctx.temperature)
        return grads[0] * soft * (1 - soft) / ctx.temperature, None


def trained_masks(
    model: nn.Module,
    nodes: Nodes,
    asked: Asked,
    base: Base,
    settings: Settings,
    seed: int,
    start: Float[Tensor, " node"] | float = 0.0,
) -> Float[Tensor, "copy node"]:
    """One mask for each penalty and restart: a node is kept where it is above 0.

    Masks are shared by all prompts and positions, and stay within [−1, 1]. What is minimised is
    the loss of the task and the penalty for each kept node, both in nats. `start`, within [−1, 1],
    moves masks at first, by as much as all of them lie above 0. The same seed gives the same masks,
    bit for bit.
    """
    generator = torch.Generator().manual_seed(seed)
    like = next(model.parameters())
    draws = torch.randn(settings.copies, len(nodes), generator=generator)
    mask = (settings.bias + settings.noise * draws).to(like) + settings.bias * start
    mask.requires_grad_()
    penalties = like.new_tensor(settings.penalties * settings.restarts)
    optimizer = torch.optim.AdamW(
        [mask], betas=(0.9, settings.beta2), weight_decay=settings.weight_decay
    )
    with still(model):
        for step in range(settings.steps):
            some, held = rows_of(asked, base, _pairs(asked, settings.pairs, generator))
            at_once = max(1, CHUNK_TOKENS // some.tokens.numel())
            pieces = zip(mask.split(at_once), penalties.split(at_once), strict=True)
            slopes = [
                _slope(model, nodes, some, held, each, penalty, settings.temperature)
                for each, penalty in pieces
            ]
            mask.grad = _clipped(torch.cat(slopes), settings.clip)
            optimizer.param_groups[0]["lr"] = settings.lr * _pace(step, settings)
            optimizer.step()
            with torch.no_grad():
                mask.clamp_(-1, 1)
    return mask.detach()


def _slope(
    model: nn.Module,
    nodes: Nodes,
    asked: Asked,
    base: Base,
    mask: Float[Tensor, "copy node"],
    penalty: Float[Tensor, " copy"],
    temperature: float,
) -> Tensor:
    """The gradient of some of the masks, which share a pass."""
    mask = mask.detach().requires_grad_()
    kept = Step.apply(mask, temperature)
    loss = asked.loss(margins_by_length(model, nodes, asked, kept, base))
    return torch.autograd.grad((loss + penalty * kept.sum(-1)).sum(), mask)[0]


def rows_of(asked: Asked, base: Base, pairs: Integer[Tensor, " pair"]) -> tuple[Asked, Base]:
    """Some of the pairs, as `of_rows` gives their rows."""
    return of_rows(asked, base, torch.cat([pairs, pairs + len(asked) // 2]))


def _pairs(asked: Asked, wanted: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(len(asked) // 2, generator=generator)[:wanted]


def _clipped(gradient: Float[Tensor, "copy node"], largest: float) -> Tensor:
    """Each copy by itself, or one that goes wrong would slow the others."""
    norm = gradient.norm(dim=-1, keepdim=True)
    return gradient * (largest / norm.clamp(min=largest))


def _pace(step: int, settings: Settings) -> float:
    warm = max(1.0, settings.warmup * settings.steps)
    return min((step + 1) / warm, (settings.steps - step) / max(1.0, settings.steps - warm))


@contextmanager
def still(model: nn.Module) -> Iterator[None]:
    """No gradient of the weights is computed within."""
    moving = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in moving:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in moving:
            parameter.requires_grad_(True)
