"""A loss or gradient that is not finite: dump the batch, stop, and replay it on request."""

import torch
from safetensors.torch import save as encode

from pellucid.errors import RunError
from pellucid.models import unwrap
from pellucid.run import RunFolder
from pellucid.storage import files
from pellucid.training.step import Stepper, StepResult

FIRST = ("loss", "auxiliary")


def dump(folder: RunFolder, step: int, stepper: Stepper, result: StepResult) -> str:
    """Write the step's rows and norms beside the run; returns the sentence for the user."""
    place = folder.path / "nonfinite"
    place.mkdir(exist_ok=True)
    batch = stepper.rows(step)
    tensors = {"tokens": batch.tokens, "doc_id": batch.doc_id}
    files.replace(place / f"step-{step:08d}.safetensors", encode(tensors))
    about = {
        "step": step,
        "seed": stepper.config.seed,
        "loss": repr(result.loss),
        "auxiliary": repr(result.auxiliary),
        "grad_norm": repr(result.grad_norm),
    }
    files.write_json(place / f"step-{step:08d}.json", about, RunError)
    return (
        f"step {step}: loss {result.loss}, gradient norm {result.grad_norm}: not finite, the weights "
        f"were left as they were; `pellucid replay {folder.path} {step}` runs this batch again"
    )


def findings(stepper: Stepper, step: int) -> list[str]:
    """Run one step's gradient and say where numbers stop being finite."""
    parts, _ = stepper.gradient(step)
    added = [f"{name} {float(value)}" for name, value in parts.items() if name not in FIRST]
    first = f"loss {float(parts['loss'])}, auxiliary loss {float(parts['auxiliary'])}"
    lines = [", ".join([first, *added])]
    for name, parameter in unwrap(stepper.model).named_parameters():
        lines += _about(name, "weight", parameter.detach())
        if parameter.grad is not None:
            lines += _about(name, "gradient", parameter.grad)
    stepper.optimizers.zero_grad()
    norm_free = len(lines) == 1
    return [*lines, "every weight and gradient is finite"] if norm_free else lines


def _about(name: str, what: str, values: torch.Tensor) -> list[str]:
    bad = int((~values.isfinite()).sum())
    return [f"{name}: {bad:,} of {values.numel():,} {what} values are not finite"] if bad else []
