"""Whether the best learning rate stays where it is when a layer becomes four times as wide.

`pellucid bench widths [only=dense,topk] [json=PATH]` trains a small model with each filling of the
mlp slot at two sizes and a ladder of learning rates, on a generated text, and prints the loss of the
last steps in nats. A step of the ladder is a factor of 2. Each size has a rate of its own: how far
the best one moves says whether a rate tuned at one size may be used at the other. The optimizer is
the trainer's: what a filling declares of its parameters' rates is part of it.
"""

import json
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from pellucid.config import TrainConfig
from pellucid.errors import UserError
from pellucid.experiments import own_words
from pellucid.models import ModelConfig, Transformer
from pellucid.models.mlp import MLPS
from pellucid.settings.fields import Config, declared
from pellucid.training.optimizers import Optimizers, tame
from pellucid.training.step import after_step, before_step

WIDTHS = (128, 512)
RATES = tuple(2.0**-n for n in range(10, 3, -1))
STEPS, COUNTED, ROWS, CONTEXT, VOCABULARY, SEEDS = 150, 30, 8, 32, 64, 3
K = 16
"""Active units at both widths, where a filling asks for their number."""

SIZES = {
    "linear_experts": ("experts", (16, 64)),
    "mxd": ("experts", WIDTHS),
    "moe": ("n_experts", (4, 16)),
    "peer": ("n_experts", (256, 1024)),
    "memory": ("n_slots", (256, 1024)),
    "codebook": ("codes", WIDTHS),
}
"""What grows by a factor of 4 where that is not the field `width`; k is then the filling's own."""


@dataclass(frozen=True)
class Row:
    """Losses by learning rate at one size, and the rate of the lowest."""

    filling: str
    field: str
    width: int
    losses: dict[float, float]
    best: float


def main(words: list[str]) -> int:
    """Print the table; 1 where a best rate moved by more than a factor of 2."""
    given, unknown = own_words(words, {"only", "json"})
    if unknown:
        raise UserError(f"bench widths: {unknown[0]} is not known; only=… and json=… are accepted")
    tags = given["only"].split(",") if "only" in given else list(MLPS)
    _check(tags)
    print(f"{'filling':16}{'size':>16}" + "".join(f"{rate:8.2g}" for rate in RATES))
    rows = [_measure(tag, *size) for tag in tags for size in sizes(tag)]
    if path := given.get("json"):
        result = {"format": 1, "torch": torch.__version__, "rows": [asdict(row) for row in rows]}
        Path(path).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0 if all(moved(tag, rows) <= 2 for tag in tags) else 1


def moved(tag: str, rows: list[Row]) -> float:
    """The factor between a filling's best learning rates."""
    best = [row.best for row in rows if row.filling == tag]
    return max(best) / min(best)


def sizes(tag: str) -> list[tuple[str, int]]:
    """The field that grows and its two values."""
    field, values = SIZES.get(tag, ("width", WIDTHS))
    return [(field, value) for value in values]


def sized(tag: str, field: str, size: int) -> Config:
    """The filling at that size."""
    config = MLPS[tag].Config()
    active = {"k": K} if tag not in SIZES and "k" in declared(type(config)) else {}
    return config.replace(**{field: size}, **active)


def _check(tags: list[str]) -> None:
    for tag in tags:
        if tag not in MLPS:
            raise UserError(f"bench widths: only={tag} is no filling; {', '.join(MLPS)} are")


def _measure(tag: str, field: str, size: int) -> Row:
    losses = {rate: loss(sized(tag, field, size), rate) for rate in RATES}
    row = Row(tag, field, size, losses, min(losses, key=losses.__getitem__))
    shown = "".join(f"{value:8.3f}" for value in losses.values())
    print(f"{tag:16}{f'{field}={size}':>16}{shown}  best {row.best:.4g}", flush=True)
    return row


def loss(filling: Config, rate: float) -> float:
    """Nats per token over the last steps, as a mean over seeds; each step sees new text."""
    return sum(_train(filling, rate, seed) for seed in range(SEEDS)) / SEEDS


def _train(filling: Config, rate: float, seed: int) -> float:
    config = ModelConfig(n_layers=2, d_model=32, context=CONTEXT, mlp=filling)
    train = TrainConfig(lr=rate)
    model = Transformer(config, vocab_size=VOCABULARY, seed=seed).train()
    optimizers = Optimizers(model, train)
    seen = []
    for step in range(STEPS):
        before_step(model, step / STEPS)
        tokens = text(seed * STEPS + step)
        logits, told = model(tokens[:, :-1])
        found = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        (found + sum(value for name, value in told.items() if "loss/" in name)).backward()
        tame(model, train)
        optimizers.step(min(1.0, (step + 1) / 15) * (1 - 0.9 * step / STEPS))
        optimizers.zero_grad()
        after_step(model, told, tokens[:, 1:].numel())
        seen.append(float(found.detach()))
    return sum(seen[-COUNTED:]) / COUNTED


@cache
def text(step: int) -> Tensor:
    """Rows of a chain in which the last two tokens leave four likely next ones."""
    generator = torch.Generator().manual_seed(step)
    tokens = torch.randint(VOCABULARY, (ROWS, CONTEXT + 1), generator=generator)
    drawn = torch.randint(4, tokens.shape, generator=generator)
    for at in range(2, CONTEXT + 1):
        before = tokens[:, at - 1] * 31 + (tokens[:, at - 2] % 4) * 17
        tokens[:, at] = (before + drawn[:, at] * 7) % VOCABULARY
    return tokens
