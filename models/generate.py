"""Sampling from the model, one token at a time, with cached keys and values."""

import torch
from jaxtyping import Int
from torch import Tensor, nn

from pellucid.errors import UserError
from pellucid.models.cache import Cache


@torch.no_grad()
def generate(
    model: nn.Module,
    tokens: Int[Tensor, "batch token"],
    n_new: int,
    *,
    temperature: float | int = 1.0,
    seed: int = 0,
) -> Int[Tensor, "batch longer"]:
    """Continue `tokens` by `n_new` sampled tokens; temperature 0 takes the likeliest.

    Honors `intervene` and `record`. Raises UserError where the text would outgrow the context.
    """
    _check(model, tokens, n_new, temperature)
    was_training = model.training
    model.eval()
    try:
        return _continue(model, tokens, n_new, temperature, seed)
    finally:
        model.train(was_training)


def _check(model: nn.Module, tokens: Tensor, n_new: int, temperature: float | int) -> None:
    longest = model.config.context
    if not isinstance(tokens, Tensor) or tokens.dtype not in (torch.int64, torch.int32):
        got = tokens.dtype if isinstance(tokens, Tensor) else type(tokens).__name__
        raise UserError(f"generate: tokens are {got}; a tensor of int64 or int32 is accepted")
    if tokens.ndim != 2:
        raise UserError(
            f"generate: tokens have shape {tuple(tokens.shape)}; (batch, token) is accepted"
        )
    if tokens.shape[1] == 0:
        raise UserError("generate: the prompt is empty; at least one token is accepted")
    if n_new < 0 or tokens.shape[1] + n_new > longest:
        raise UserError(
            f"generate: {tokens.shape[1]} + {n_new} tokens; at most the context, {longest}, fit"
        )
    if not temperature >= 0:
        raise UserError(f"generate: temperature is {temperature}; 0 or more is accepted")


def _continue(
    model: nn.Module, tokens: Tensor, n_new: int, temperature: float | int, seed: int
) -> Tensor:
    cache = Cache(len(model.blocks))
    generator = torch.Generator(tokens.device).manual_seed(seed)
    fresh = tokens
    for _ in range(n_new):
        logits = model(fresh, cache=cache).logits[:, -1]
        fresh = _sample(logits, temperature, generator)
        tokens = torch.cat([tokens, fresh], dim=1)
    return tokens


def _sample(logits: Tensor, temperature: float | int, generator: torch.Generator) -> Tensor:
    if temperature == 0:
        return logits.argmax(-1, keepdim=True)
    shares = (logits.float() / temperature).softmax(-1)
    return torch.multinomial(shares, 1, generator=generator)
