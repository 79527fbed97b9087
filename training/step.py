"""One training step: rows in, gradient out, weights changed only if everything is finite."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from pellucid.config import RunConfig
from pellucid.data import Batch, TokenData
from pellucid.models import unwrap
from pellucid.models.filling import Filling, Told
from pellucid.models.head.unembed import Side
from pellucid.training.devices import reduce_told, total
from pellucid.training.levers import Levers
from pellucid.training.optimizers import Optimizers, tame
from pellucid.training.schedule import rate


@dataclass(frozen=True)
class StepResult:
    """What a step did: mean loss in nats per token, gradient norm before clipping, its verdict."""

    loss: float
    auxiliary: float
    grad_norm: float
    lr: float
    told: Told
    finite: bool
    more: dict[str, float] = field(default_factory=dict)
    """What levers added to the objective, by metric."""


class Stepper:
    """Everything one step needs, in the order it is used."""

    def __init__(
        self,
        config: RunConfig,
        model: nn.Module,
        optimizers: Optimizers,
        data: TokenData,
        accelerator: Accelerator,
        levers: Levers,
    ):
        self.config, self.model, self.optimizers = config, model, optimizers
        self.data, self.accelerator, self.levers = data, accelerator, levers

    def __call__(self, step: int) -> StepResult:
        """Train on the rows of a step; a non-finite loss or gradient leaves the weights alone."""
        before_step(self.model, step / self.config.train.steps)
        parts, told = self.gradient(step)
        norm = tame(self.model, self.config.train)
        values = torch.stack([norm.to(parts["loss"]), *parts.values()]).tolist()
        return self.update(step, values[0], dict(zip(parts, values[1:], strict=True)), told)

    def update(self, step: int, norm: float, parts: dict[str, float], told: Told) -> StepResult:
        """Take the step of the gradient that is there, unless something of it is not finite."""
        constraint = unwrap(self.model).constraint
        share = rate(self.config.train, step, constraint.density_at(step / self.config.train.steps))
        finite = all(abs(value) < float("inf") for value in (norm, *parts.values()))
        if finite:
            self.optimizers.step(share)
        self.optimizers.zero_grad()
        more = {name: part for name, part in parts.items() if name not in ("loss", "auxiliary")}
        lr = share * self.config.train.lr
        return StepResult(parts["loss"], parts["auxiliary"], norm, lr, told, finite, more)

    def gradient(self, step: int) -> tuple[dict[str, Tensor], Told]:
        """Accumulate the gradient of a step's objective; returns its parts and `told`.

        The parts are `loss` and `auxiliary`, and then what the levers add.
        """
        self.model.train()
        tally = Tally(self.accelerator)
        passes = list(self.passes(self.rows(step), self.mine()))
        for number, tokens_and_side in enumerate(passes):
            with _synced(self.model, number == len(passes) - 1):
                self._add(*tokens_and_side, tally)
        return tally.over_processes()

    def _add(self, tokens: Tensor, side: Side, tally: "Tally") -> None:
        """Add a micro-batch to the gradient and to the tally."""
        parts, heard = self.losses(tokens, side)
        # DDP and FSDP average over processes; the loss is a sum over global tokens.
        objective = self.levers.objective(parts) * self.accelerator.num_processes
        self.accelerator.backward(objective)
        tally.add(parts, heard, share=len(tokens) / len(self.mine()))

    def losses(self, tokens: Tensor, side: Side) -> tuple[dict[str, Tensor], Told]:
        """This micro-batch's share of the mean loss, of the fillings' losses, and of the levers'."""
        with self.levers.watching(self.model) as traces:
            logits, told = self.model(tokens[:, :-1], **({"side": side} if side else {}))
        targets = tokens[:, 1:]
        logits = logits if logits.dtype == torch.float64 else logits.float()
        n_global = self.config.train.batch * targets.shape[1]
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum") / n_global
        share = targets.numel() / n_global
        extra = [value for name, value in told.items() if "loss/" in name]
        auxiliary = sum(extra) * share if extra else torch.zeros_like(loss)
        heard = {name: value.detach() for name, value in told.items() if "loss/" not in name}
        more = self.levers.parts(traces, logits, tokens).items()
        added = {name: value * share for name, value in more}
        return {"loss": loss, "auxiliary": auxiliary} | added, heard

    def rows(self, step: int) -> Batch:
        """The rows of a step, over all processes."""
        batch, context = self.config.train.batch, self.config.model.context
        return self.data.rows(self.config.seed, step, batch=batch, context=context)

    def mine(self) -> Tensor:
        """Which rows of a step this process takes."""
        rows = torch.arange(self.config.train.batch)
        return rows.chunk(self.accelerator.num_processes)[self.accelerator.process_index]

    def passes(self, batch: Batch, rows: Tensor) -> Iterator[tuple[Tensor, Side]]:
        """Some rows' tokens in micro-batches, each with what the head needs beside its inputs."""
        device, needs = self.accelerator.device, unwrap(self.model).head.needs
        for part in rows.split(self.config.train.micro_batch or len(rows)):
            side: Side = {name: batch.side[name][part, :-1].to(device) for name in needs}
            yield batch.tokens[part].to(device, non_blocking=True), side


def _synced(model: nn.Module, last: bool):
    """Exchange gradients only with the last micro-batch."""
    if isinstance(model, nn.parallel.DistributedDataParallel) and not last:
        return model.no_sync()
    if hasattr(model, "set_requires_gradient_sync"):
        model.set_requires_gradient_sync(last)
    return torch.enable_grad()


class Tally:
    """What the micro-batches of a step add up to: the objective, and what the fillings told."""

    def __init__(self, accelerator: Accelerator):
        self.accelerator = accelerator
        self.parts: dict[str, Tensor] = {}
        self.told: Told = {}

    def add(self, parts: dict[str, Tensor], heard: Told, *, share: float) -> None:
        """The objective and sums add up over micro-batches, means by their share of the rows."""
        for name, part in parts.items():
            value = part.detach().double()
            self.parts[name] = self.parts[name] + value if name in self.parts else value
        for name, value in heard.items():
            value = value if "sum/" in name else value * share
            self.told[name] = self.told[name] + value if name in self.told else value

    def over_processes(self) -> tuple[dict[str, Tensor], Told]:
        """The objective's parts and `told`, over all processes."""
        sums = total(torch.stack(list(self.parts.values())), self.accelerator)
        return dict(zip(self.parts, sums, strict=True)), reduce_told(self.told, self.accelerator)


def before_step(model: nn.Module, progress: float) -> None:
    """Tell every part with a schedule which share of the training is done."""
    for module in unwrap(model).modules():
        if hasattr(module, "before_step"):
            module.before_step(progress)


def remarks(model: nn.Module) -> list[str]:
    """What the layers have to say when a run starts, each once."""
    fillings = [m for m in unwrap(model).modules() if isinstance(m, Filling)]
    return list(dict.fromkeys(f.remark() for f in fillings if f.remark()))


def constrain(model: nn.Module, progress: float) -> None:
    """Hold the weights to the model's constraint, when this share of the training is done."""
    inner = unwrap(model)
    inner.constraint.project(inner, progress)


def overflow(told: Told) -> int:
    """What limits of capacity left out in a step, all layers together; 0 where there are none."""
    counts = [value for name, value in told.items() if name.endswith("sum/overflow")]
    return int(sum(count.sum() for count in counts))


def after_step(model: nn.Module, told: Told, tokens: int) -> None:
    """Hand each filling what its own passes told."""
    owners: dict[str, Told] = {}
    for name, value in told.items():
        owner, kind = name.rsplit(".", 1)
        owners.setdefault(owner, {})[kind] = value
    inner = unwrap(model)
    for owner, heard in owners.items():
        module = inner.get_submodule(owner)
        if hasattr(module, "after_step"):
            module.after_step(heard, tokens)
