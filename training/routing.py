"""Carries out `gradient_rule=routed`: a step's rows by their mode, each with its own reach.

A step takes its forget rows first, and drops what they left outside of the forget units; retain rows
then pass while the forget units are 0, so that both come down to one change of a few views.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pellucid.config import RunConfig
from pellucid.data import Batch
from pellucid.models import unwrap
from pellucid.models.filling import Told
from pellucid.models.forget_units import Lines
from pellucid.models.gradient_rule import Mode, Routed
from pellucid.training.optimizers import Optimizers
from pellucid.training.step import Stepper, StepResult, Tally

ORDER: tuple[Mode, ...] = ("forget", "retain", "default")


class RoutedStepper(Stepper):
    """A step whose micro-batches are each of one mode; see `models.gradient_rule.Routed`."""

    def __init__(self, *args):
        super().__init__(*args)
        self.named = dict(unwrap(self.model).named_parameters())
        self.rule: Routed = unwrap(self.model).gradient_rule
        self.lines = self.rule.lines(unwrap(self.model))

    def __call__(self, step: int) -> StepResult:
        """As for any step; what no row of it may change keeps its bits, moments and all."""
        with held(self.optimizers, self._idle(step)):
            return super().__call__(step)

    def gradient(self, step: int) -> tuple[dict[str, Tensor], Told]:
        """As for any step, each row's part of the gradient confined to what its mode may change."""
        self.model.train()
        tally = Tally(self.accelerator)
        batch = self.rows(step)
        modes = self._modes_of(batch)
        for mode in ORDER:
            rows = [row for row in self.mine().tolist() if modes[row] == mode]
            if rows:
                with self._as(mode):
                    for tokens, side in self.passes(batch, torch.tensor(rows)):
                        self._add(tokens, side, tally)
        self._exchange()
        if set(modes) == {"forget"}:
            self._leave_out_retained()
        return tally.over_processes()

    def modes(self, step: int) -> list[Mode]:
        """What each row of a step is, over all processes."""
        return self._modes_of(self.rows(step))

    def _modes_of(self, batch: Batch) -> list[Mode]:
        return self.rule.modes(batch.tokens[:, :-1], batch.side["labels"][:, :-1])

    @contextmanager
    def _as(self, mode: Mode) -> Iterator[None]:
        """Passes of one mode, whose gradients stay in this process (`_exchange` adds them up)."""
        with ExitStack() as stack:
            if isinstance(self.model, nn.parallel.DistributedDataParallel):
                stack.enter_context(self.model.no_sync())
            if mode == "retain":
                stack.enter_context(silenced(self.lines))
            yield
        if mode == "forget":
            self._drop_outside()

    def _drop_outside(self) -> None:
        """Zero the gradient of everything but the forget units."""
        for name, parameter in self.named.items():
            if parameter.grad is not None:
                lines = self.lines.get(name)
                (lines.retain(parameter.grad) if lines else parameter.grad).zero_()

    def _exchange(self) -> None:
        """Average gradients over processes, as DDP would have."""
        world = self.accelerator.num_processes
        if world == 1:
            return
        for parameter in self.named.values():
            if parameter.grad is not None:
                dist.all_reduce(parameter.grad)
                parameter.grad.div_(world)

    def _leave_out_retained(self) -> None:
        """No gradient at all, so that the optimizer passes over what is retained as a whole."""
        for name, parameter in self.named.items():
            if name not in self.lines:
                parameter.grad = None

    def _idle(self, step: int) -> Mapping[str, Callable[[Tensor], Tensor]]:
        """By parameter, the part that no row of a step may change, where only some of it may."""
        modes = set(self.modes(step))
        if modes == {"forget"}:
            return {name: lines.retain for name, lines in self.lines.items()}
        if modes == {"retain"}:
            return {name: lines.forget for name, lines in self.lines.items()}
        return {}


def stepper(config: RunConfig, model: nn.Module, *rest) -> Stepper:
    """The stepper that carries out a model's gradient rule; arguments as for `Stepper`."""
    routed = isinstance(unwrap(model).gradient_rule, Routed)
    return (RoutedStepper if routed else Stepper)(config, model, *rest)


@contextmanager
def silenced(lines: Mapping[str, Lines]) -> Iterator[None]:
    """Forget units are 0 within, and their values and gradients afterwards what they were before.

    It is the model that `ablate` leaves, whatever its fillings, also where passes are recomputed.
    """
    parameters = [(each.forget, each.parameter) for each in lines.values()]
    values = [of(p).detach().clone() for of, p in parameters]
    grads = [None if p.grad is None else of(p.grad).clone() for of, p in parameters]
    with torch.no_grad():
        for of, parameter in parameters:
            of(parameter).zero_()
    try:
        yield
    finally:
        with torch.no_grad():
            for (of, parameter), value, grad in zip(parameters, values, grads, strict=True):
                of(parameter).copy_(value)
                if parameter.grad is not None:
                    of(parameter.grad).copy_(torch.zeros_like(value) if grad is None else grad)


@contextmanager
def held(optimizers: Optimizers, parts: Mapping[str, Callable[[Tensor], Tensor]]) -> Iterator[None]:
    """Parts of parameters, and of their moments, come out as they went in.

    Weight decay and momentum would move them without any gradient. Moments that a step begins are
    0 there, as they should be.
    """
    kept = [
        (view, view.clone())
        for name, part in parts.items()
        for view in map(part, optimizers.moved_by_steps(name))
    ]
    yield
    for view, value in kept:
        view.copy_(value)
