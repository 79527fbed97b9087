"""Short trainings of any filling on one batch of random tokens, with the trainer's own schedule."""

import torch
import torch.nn.functional as F
from support.small import VOCAB, labels
from torch import Tensor

from pellucid.models import ModelConfig, Transformer
from pellucid.training.step import after_step, before_step, constrain


def batch(seed: int = 5) -> Tensor:
    """Rows whose last token is only predicted."""
    return torch.randint(0, VOCAB, (4, 25), generator=torch.Generator().manual_seed(seed))


class Fit:
    """A model, Adam and one batch; `step` is one step of the trainer's order of calls."""

    def __init__(self, model: Transformer, *, lr: float = 1e-2, steps: int = 20):
        torch.manual_seed(0)  # for what draws while it is trained
        self.model, self.steps, self.done = model.train(), steps, 0
        self.tokens = batch()
        self.optimizer = torch.optim.Adam(model.parameters(), lr=lr)

    def gradient(self) -> float:
        """Set every gradient; returns the cross-entropy in nats per token."""
        before_step(self.model, self.done / self.steps)
        self.optimizer.zero_grad()
        inputs, targets = self.tokens[:, :-1], self.tokens[:, 1:]
        logits, self.told = self.model(inputs, side=labels(inputs))
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        (loss + sum(v for name, v in self.told.items() if "loss/" in name)).backward()
        return float(loss.detach())

    def step(self) -> float:
        """Change the weights once; returns the loss before it."""
        loss = self.gradient()
        self.optimizer.step()
        told = {name: v.detach() for name, v in self.told.items() if "loss/" not in name}
        after_step(self.model, told, self.tokens[:, 1:].numel())
        self.done += 1
        constrain(self.model, self.done / self.steps)
        return loss

    def silent(self) -> list[str]:
        """Parameters without a gradient, or with one of zeros."""
        named = self.model.named_parameters()
        return [name for name, p in named if p.grad is None or not p.grad.any()]


def fit(config: ModelConfig, steps: int, *, lr: float = 1e-2, dtype=torch.float32) -> list[float]:
    """The losses of so many steps."""
    run = Fit(Transformer(config, vocab_size=VOCAB).to(dtype), lr=lr, steps=steps)
    return [run.step() for _ in range(steps)]
