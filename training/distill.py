"""`train.teacher`: a model learns another one's predictions beside the text (arXiv 1503.02531)."""

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from jaxtyping import Float
from torch import Tensor

from pellucid.config import RunConfig
from pellucid.errors import RunError
from pellucid.training.sources import Source


def check(source: Source, config: RunConfig) -> None:
    """Raise RunError where the teacher cannot read rows as long as the student's."""
    theirs, ours = source.run.config.model.context, config.model.context
    if theirs < ours:
        raise RunError(
            f"train.teacher is {source.run.folder.path}, whose context is {theirs}; "
            f"at least that of this run, {ours}, is accepted"
        )


class Teacher:
    """A frozen model whose predictions a student is held to."""

    def __init__(self, source: Source, config: RunConfig, accelerator: Accelerator):
        self.model = source.place(config, accelerator)
        self.weight, self.temperature = config.train.teacher_weight, config.train.temperature
        self.accelerator = accelerator

    def distance(self, tokens: Tensor, logits: Tensor) -> Tensor:
        """Mean over tokens of KL(teacher ‖ student) in nats, both softened, for `tokens` read."""
        with torch.no_grad(), self.accelerator.autocast():
            wanted = self.model(tokens).logits.to(logits.dtype)
        return divergence(wanted, logits, self.temperature)

    def mixed(self, loss: Tensor, distance: Tensor) -> Tensor:
        """(1 - w) · loss + w · T² · distance: T² keeps the gradient's size at any temperature."""
        return (1 - self.weight) * loss + self.weight * self.temperature**2 * distance


def divergence(
    teacher: Float[Tensor, "batch token vocab"],
    student: Float[Tensor, "batch token vocab"],
    temperature: float,
) -> Float[Tensor, ""]:
    """Mean over tokens of KL(softmax(teacher / T) ‖ softmax(student / T)), in nats."""
    wanted = F.log_softmax(teacher / temperature, dim=-1)
    given = F.log_softmax(student / temperature, dim=-1)
    summed = F.kl_div(given, wanted, reduction="sum", log_target=True)
    return summed / student.shape[:-1].numel()
