"""Several runs as one batched model: a step's gradients for all of them in one pass.

Each run keeps its session, model and optimizers. What changes weights (clipping, optimizers,
revival, constraints) and what is saved is each run's own, as it is alone; only the gradient is
computed together, each run on its own rows.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from pellucid.models import unwrap
from pellucid.models.filling import Told
from pellucid.training.many import Many
from pellucid.training.optimizers import tame
from pellucid.training.session import Session
from pellucid.training.step import StepResult, Tally, before_step


class Stack:
    """Sessions of one shape at the same step, which take the next one together."""

    def __init__(self, sessions: Sequence[Session]):
        self.sessions = list(sessions)
        models = [unwrap(session.model) for session in sessions]
        self.losses = Many(models, sessions[0].stepper.losses)

    def __call__(self, step: int) -> list[StepResult]:
        """One step of each session; one that is not finite leaves that session's weights alone."""
        for session in self.sessions:
            session.model.train()
            before_step(session.model, step / session.config.train.steps)
        parts, told = self._gradient(step)
        norms = [tame(session.model, session.config.train) for session in self.sessions]
        values = torch.stack(list(parts.values()), dim=1)
        # All that must cross from the device, at once.
        found = torch.cat([torch.stack(norms)[:, None].to(values), values], dim=1).tolist()
        results = []
        for index, (session, (norm, *own)) in enumerate(zip(self.sessions, found, strict=True)):
            heard = {name: value[index] for name, value in told.items()}
            named = dict(zip(parts, own, strict=True))
            results.append(session.stepper.update(step, norm, named, heard))
        return results

    def _gradient(self, step: int) -> tuple[dict[str, Tensor], Told]:
        """Every session's gradient in its own parameters; the objective's parts `(session)`."""
        first = self.sessions[0]
        tally = Tally(first.accelerator)
        steppers = [session.stepper for session in self.sessions]
        rows = [stepper.passes(stepper.rows(step), stepper.mine()) for stepper in steppers]
        for passes in zip(*rows, strict=True):
            tokens = torch.stack([tokens for tokens, _ in passes])
            sides = [side for _, side in passes]
            side = {name: torch.stack([each[name] for each in sides]) for name in sides[0]}
            parts, heard = self.losses(tokens, side)
            first.accelerator.backward(first.levers.objective(parts).sum())
            tally.add(parts, heard, share=tokens.shape[1] / first.config.train.batch)
        self.losses.hand_out()
        return tally.over_processes()
