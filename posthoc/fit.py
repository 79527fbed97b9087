"""Fitting: activations of the dense run's own training rows, streamed, and nothing stored."""

import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from pellucid.errors import NonFiniteError
from pellucid.models import Transformer, record
from pellucid.models.filling import Told
from pellucid.posthoc.coder import Coder
from pellucid.posthoc.config import PosthocConfig
from pellucid.posthoc.splice import ACROSS, at_layers, learned
from pellucid.run import Run
from pellucid.training.distill import divergence
from pellucid.training.step import after_step

WARM, LAST = 0.05, 0.2
"""Shares of the steps in which the rate rises, and in which it falls to 0."""


def tokens_of(run: Run, step: int, batch: int, *, split: str = "train") -> Tensor:
    """The rows `(batch, token + 1)` of one step, in the order in which the run itself saw them."""
    context, device = run.config.model.context, next(run.model.parameters()).device
    found = run.data.rows(run.config.seed, step, batch=batch, context=context, split=split)
    return found.tokens.to(device)


@torch.no_grad()
def activations(model: nn.Module, tokens: Tensor) -> list[tuple[Tensor, Tensor]]:
    """What each layer's dense MLP reads and writes on `tokens (batch, token)`."""
    names = [(f"blocks.{i}.mlp_in", f"blocks.{i}.mlp_out") for i in range(model.config.n_layers)]
    with record(model, [name for pair in names for name in pair]) as trace:
        model(tokens)
    return [(trace[read].values, trace[write].values) for read, write in names]


def fit(
    run: Run,
    arms: list[tuple[PosthocConfig, Transformer]],
    note: Callable[[int, dict], None],
) -> list[float]:
    """Fit the coders of several spliced models, which share one pass over the dense run.

    `arms` differ in k, width, rate and what is frozen. Returns the seconds that each took, the dense
    pass not counted. Raises NonFiniteError where a loss is not finite.
    """
    config = arms[0][0]
    fits, seconds = [Fit(arm, model) for arm, model in arms], [0.0] * len(arms)
    for step in range(config.steps):
        found = activations(run.model, tokens_of(run, step, config.batch)[:, :-1])
        for number, one in enumerate(fits):
            begun = time.monotonic()
            loss = one.step(step, found)
            seconds[number] += time.monotonic() - begun
            if (step + 1) % 50 == 0 or step + 1 == config.steps:
                note(number, {"step": step + 1, "loss": loss})
    for one in fits:
        one.finish()
    return seconds


class Fit:
    """All layers' coders of one spliced model, and their optimizer."""

    def __init__(self, config: PosthocConfig, model: Transformer):
        self.config = config
        generator = torch.Generator().manual_seed(config.seed)
        self.coders = [Coder(block.mlp.train(), config, generator) for block in model.blocks]
        parameters = [p for coder in self.coders for p in coder.parameters]
        self.optimizer = torch.optim.Adam(parameters, lr=config.lr, betas=(0.9, 0.999), fused=True)

    def step(self, step: int, found: list[tuple[Tensor, Tensor]]) -> float:
        """One update from each layer's inputs and outputs; the mean loss over layers before it."""
        pairs = list(zip(self.coders, found, strict=True))
        if step == 0:
            for coder, (_, y) in pairs:
                coder.begin(y)
        self.optimizer.param_groups[0]["lr"] = self.config.lr * share(step, self.config.steps)
        losses, told = (across if self.config.kind == ACROSS else apart)(self.coders, found)
        self.optimizer.zero_grad()
        total = torch.stack(losses).sum()
        total.backward()
        value = finite(total, step)
        self.optimizer.step()
        for (coder, (x, _)), heard in zip(pairs, told, strict=True):
            coder.mlp.after_step(heard, x.shape[0] * x.shape[1])
        return value / len(pairs)

    def finish(self) -> None:
        """Put the scales into the weights."""
        scales = [coder.scale for coder in self.coders]
        for layer, coder in enumerate(self.coders):
            reach = coder.mlp.w_dec.shape[1] // coder.d_model
            coder.fold(scales[layer : layer + reach])
            coder.mlp.eval()


Losses = tuple[list[Tensor], list[Told]]


def apart(coders: list[Coder], found: list[tuple[Tensor, Tensor]]) -> Losses:
    """Each layer's loss, of its own coder alone."""
    both = [coder.loss(x, y) for coder, (x, y) in zip(coders, found, strict=True)]
    return [loss for loss, _ in both], [told for _, told in both]


def across(coders: list[Coder], found: list[tuple[Tensor, Tensor]]) -> Losses:
    """Each layer's loss, of all coders up to it, whose sum stands for what its MLP writes."""
    pairs = list(zip(coders, found, strict=True))
    written, told = zip(*(coder.mlp(x) for coder, (x, _) in pairs), strict=True)
    sums = at_layers(written, coders[0].d_model)
    losses = [
        coder.missed(x, y / coder.scale, [whole])
        for (coder, (x, y)), whole in zip(pairs, sums, strict=True)
    ]
    return losses, list(told)


def tune(
    run: Run, config: PosthocConfig, spliced: Transformer, note: Callable[[dict], None]
) -> None:
    """Move all coders, spliced in, towards the dense run's predictions: KL(dense ‖ spliced).

    Units of rule=batch_topk share a batch's budget meanwhile, and their threshold goes on following.
    """
    mlps = [block.mlp.train() for block in spliced.blocks]
    parameters = [p for mlp in mlps for p in learned(mlp, config)]
    optimizer = torch.optim.Adam(parameters, lr=config.kl_lr)
    for step in range(config.kl_steps):
        # Rows that follow those of the fit.
        tokens = tokens_of(run, config.steps + step, config.batch)[:, :-1]
        with torch.no_grad():
            wanted = run.model(tokens).logits
        logits, told = spliced(tokens)
        distance = divergence(wanted, logits, 1.0)
        gradients = torch.autograd.grad(distance, parameters)
        value = finite(distance, step)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        optimizer.param_groups[0]["lr"] = config.kl_lr * share(step, config.kl_steps)
        optimizer.step()
        after_step(spliced, told, tokens.numel())
        if (step + 1) % 50 == 0 or step + 1 == config.kl_steps:
            note({"step": config.steps + step + 1, "kl": value})
    for mlp in mlps:
        mlp.eval()


def share(step: int, steps: int) -> float:
    """Share of the peak rate: a linear rise, flat, a linear fall."""
    return min(1.0, (step + 1) / max(1, WARM * steps), (steps - step) / max(1, LAST * steps))


def finite(loss: Tensor, step: int) -> float:
    """The loss as a number; NonFiniteError where it is none."""
    value = float(loss.detach())
    if not abs(value) < float("inf"):
        raise NonFiniteError(f"the coders' loss is {value} at step {step}: try a lower lr or kl_lr")
    return value


def held_rows(run: Run, config: PosthocConfig, split: str, first: int) -> Iterator[Tensor]:
    """Batches of rows that make up about `eval_tokens` tokens, from a step on."""
    count = max(1, config.eval_tokens // (config.batch * run.config.model.context))
    for step in range(first, first + count):
        yield tokens_of(run, step, config.batch, split=split)
