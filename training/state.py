"""Everything that makes a run continue bit for bit, as tensors and JSON."""

from collections.abc import Mapping
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from pellucid import checkpoint
from pellucid.models import unwrap
from pellucid.models.sharding import like, whole
from pellucid.training.optimizers import Optimizers


def model_state(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by canonical name, whole; a tied parameter stands once."""
    inner = unwrap(model)
    tied = {name for name, _ in inner.named_parameters(remove_duplicate=False)}
    tied -= {name for name, _ in inner.named_parameters()}
    state = inner.state_dict()
    return {name: whole(value).detach() for name, value in state.items() if name not in tied}


@torch.no_grad()
def load_model(model: nn.Module, saved: Mapping[str, Tensor], path: Path | str) -> None:
    """Take every weight; raises CheckpointError naming what is missing, extra or of another shape."""
    inner = unwrap(model)
    expected = model_state(inner)
    checkpoint.match(expected, saved, path)
    own = inner.state_dict()
    for name in expected:
        own[name].copy_(like(saved[name], own[name]))


def random_states(accelerator: Accelerator) -> dict[int, Tensor]:
    """Each process's generator state, gathered: the CPU's, then the GPU's."""
    mine = torch.get_rng_state()
    if accelerator.device.type == "cuda":
        mine = torch.cat([mine, torch.cuda.get_rng_state(accelerator.device)])
    gathered = accelerator.gather(mine[None].to(accelerator.device))
    return dict(enumerate(gathered.cpu()))


def restore_random(rng: Mapping[int, Tensor], accelerator: Accelerator) -> bool:
    """Continue this process's generators; False where the checkpoint has none for it."""
    saved = rng.get(accelerator.process_index)
    if saved is None or len(rng) != accelerator.num_processes:
        return False
    size = torch.get_rng_state().numel()
    torch.set_rng_state(saved[:size].contiguous())
    if accelerator.device.type == "cuda" and saved.numel() > size:
        torch.cuda.set_rng_state(saved[size:].contiguous(), accelerator.device)
    return True


def save(
    checkpoints: Path,
    step: int,
    model: nn.Module,
    optimizers: Optimizers,
    accelerator: Accelerator,
    *,
    keep: int,
    milestones: set[int],
    meta: dict,
    state: dict,
) -> None:
    """Write one checkpoint; every process takes part, the first one writes."""
    weights, moments = model_state(model), optimizers.state()
    rng = random_states(accelerator)
    if accelerator.is_main_process:
        checkpoint.save(
            checkpoints,
            step,
            model=weights,
            optimizer=moments,
            rng=rng,
            state=state,
            meta=meta,
            keep=keep,
            milestones=milestones,
        )
    accelerator.wait_for_everyone()
