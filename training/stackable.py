"""Which runs can be trained as one batched model: what they must share, and what cannot be stacked."""

import json
from functools import cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pellucid.config import RunConfig
from pellucid.models import ModelConfig, Transformer
from pellucid.models.gradient_rule import Routed
from pellucid.settings import fields
from pellucid.training.many import Many

FREE = (
    *("lr", "muon_lr", "weight_decay", "beta1", "beta2", "eps"),
    *("clip", "warmup", "decay", "final_lr"),
)
"""Fields of TrainConfig in which runs of one batched model may differ; and so may their seeds."""
VOCABULARY, TOKENS, ROWS, MODELS = 48, 32, 3, 2
"""Size of the trial that shows whether a model can be stacked."""
TOLERANCE, SMALLEST = 1e-9, 1e-6
"""Of two gradients in float64: their difference over the largest entry, or over this."""


def kind(config: RunConfig) -> str:
    """What runs of one batched model share, as text: all but their seeds and rates."""
    tree = fields.to_json(config)
    train = {name: value for name, value in tree["train"].items() if name not in FREE}
    rest = {name: value for name, value in tree.items() if name not in ("seed", "preset")}
    return json.dumps(rest | {"train": train}, sort_keys=True)


def refusal(config: RunConfig) -> str:
    """Why runs of a configuration cannot be trained as one batched model; nothing where they can."""
    train = config.train
    found = {
        "dropout draws noise for each run": config.model.dropout > 0,
        "train.init_from, train.teacher and train.losses look into one model": bool(
            train.init_from or train.teacher or train.losses
        ),
        "gradient_rule routes each row": issubclass(config.model.gradient_rule.builds, Routed),
        "its head learns from labels": bool(config.model.head.builds.needs),
        "train.trackers follow one run in a process": bool(train.trackers),
        "train.compile compiles one model": train.compile,
        "train.checkpoint_activations runs one model's blocks again": train.checkpoint_activations,
        "train.parallel spreads one model": train.parallel not in ("auto", "none"),
    }
    said = next((reason for reason, applies in found.items() if applies), "")
    return said or _tried(json.dumps(fields.to_json(config.model)))


@cache
def _tried(model: str) -> str:
    """Stack small twins of a model in float64, and hold every gradient to that of each alone."""
    config = fields.from_json(ModelConfig, json.loads(model))
    models = [Transformer(config, vocab_size=VOCABULARY, seed=seed) for seed in range(MODELS)]
    models = [model.double().train() for model in models]
    shape = (MODELS, ROWS, min(config.context, TOKENS) + 1)
    tokens = torch.randint(VOCABULARY, shape, generator=torch.Generator().manual_seed(0))
    if _draws(models[0], tokens[0]):
        return "a layer draws noise for each run"
    many = Many(models, partial(_loss, models[0]))
    try:
        many(tokens).sum().backward()
    except (RuntimeError, TypeError, ValueError) as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
    many.hand_out()
    for each, rows in zip(models, tokens, strict=True):
        together = {name: parameter.grad for name, parameter in each.named_parameters()}
        each.zero_grad()
        _loss(each, rows).backward()
        for name, parameter in each.named_parameters():
            if not _equal(parameter.grad, together[name]):
                return f"the gradient of {name} is another one when it is stacked"
    return ""


def _loss(model: nn.Module, tokens: Tensor) -> Tensor:
    """A loss that every weight has a part in, with what the fillings add to it."""
    logits, told = model(tokens[:, :-1])
    loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
    return loss + sum(value for name, value in told.items() if "loss/" in name)


def _draws(model: nn.Module, tokens: Tensor) -> bool:
    """Whether a pass takes numbers from the generator, whose order is each run's own."""
    with torch.random.fork_rng(devices=[]):
        before = torch.get_rng_state()
        _loss(model, tokens)
        return not torch.equal(before, torch.get_rng_state())


def _equal(alone: Tensor | None, together: Tensor | None) -> bool:
    """Whether two gradients agree; none is as good as zero."""
    if alone is None or together is None:
        there = together if alone is None else alone
        return there is None or not bool(there.any())
    scale = max(float(alone.abs().max()), SMALLEST)
    return float((alone - together).abs().max()) <= TOLERANCE * scale
