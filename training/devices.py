"""Device, precision, processes and wrappers through accelerate, asserted to be those asked for."""

import gc
import os

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.tracking import get_available_trackers
from accelerate.utils import DistributedDataParallelKwargs
from torch import nn

from pellucid.config import TrainConfig
from pellucid.errors import ConfigError
from pellucid.run import RunFolder

PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp64": "no"}


def start(config: TrainConfig, folder: RunFolder) -> Accelerator:
    """Join the processes of this run; raises ConfigError where they are not those asked for."""
    _check_device(config.device)
    _check_trackers(config.trackers)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    use_cpu = config.device == "cpu" or not torch.cuda.is_available()
    if not use_cpu:
        # Sums on a GPU are ordered only where cuBLAS may not choose its workspace anew.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False
    # accelerate keeps the device and precision of a process's first run; the next may have others.
    AcceleratorState._reset_state(reset_partial_state=not dist.is_initialized())
    accelerator = Accelerator(
        cpu=use_cpu,
        mixed_precision=PRECISIONS[config.precision],
        log_with=list(config.trackers) or None,
        project_dir=str(folder.path),
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
    )
    _check_world(config, accelerator)
    return accelerator


def _check_device(device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "train.device is 'cuda', but torch finds no GPU; 'cpu' or 'auto' is accepted"
        )


def _check_trackers(wanted: tuple[str, ...]) -> None:
    installed = {str(tracker) for tracker in get_available_trackers()}
    if missing := [name for name in wanted if name not in installed]:
        raise ConfigError(
            f"train.trackers is {', '.join(wanted)}; {missing[0]} is not installed "
            f"(`pip install pellucid[tensorboard]` brings TensorBoard)"
        )


def _check_world(config: TrainConfig, accelerator: Accelerator) -> None:
    world = accelerator.num_processes
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    wanted = config.world_size if config.world_size is not None else launched
    if world != wanted:
        raise ConfigError(
            f"train.world_size is {wanted}, but {world} processes joined; start that many with "
            f"`torchrun --nproc-per-node {wanted} train.py …` (accelerate starts one on a CPU)"
        )
    if config.batch % world:
        raise ConfigError(
            f"train.batch is {config.batch}; a multiple of {world} processes is accepted"
        )
    per_rank = config.batch // world
    if config.micro_batch is not None and per_rank % config.micro_batch:
        raise ConfigError(
            f"train.micro_batch is {config.micro_batch}; a divisor of {per_rank}, the rows of one "
            f"process, is accepted"
        )
    if config.parallel == "none" and world > 1:
        raise ConfigError(f"train.parallel is 'none', but {world} processes joined")
    if config.parallel in ("ddp", "fsdp2") and launched == 1:
        raise ConfigError(
            f"train.parallel is {config.parallel!r}, but one process was started; start several "
            f"with `torchrun --nproc-per-node 2 train.py …`, or use 'auto'"
        )
    if config.parallel == "fsdp2" and config.optimizer == "muon":
        raise ConfigError(
            "train.optimizer is 'muon', which needs whole matrices; 'adamw' works with fsdp2"
        )
    if accelerator.mixed_precision != PRECISIONS[config.precision]:
        raise ConfigError(
            f"train.precision is {config.precision!r}, but accelerate runs "
            f"{accelerator.mixed_precision!r}; unset ACCELERATE_MIXED_PRECISION"
        )


def wrap(model: nn.Module, config: TrainConfig, accelerator: Accelerator) -> nn.Module:
    """The model on its device in the wrapper asked for: none, DDP or FSDP2."""
    model = model.to(accelerator.device)
    if config.precision == "fp64":
        model = model.double()
    model.checkpointing = config.checkpoint_activations
    if config.compile:
        model.compile_blocks()
    if config.parallel == "fsdp2":
        return shard(model, config, accelerator)
    wrapped = accelerator.prepare_model(model)
    is_ddp = isinstance(wrapped, nn.parallel.DistributedDataParallel)
    if is_ddp != (accelerator.num_processes > 1):
        raise ConfigError(
            f"train.parallel is {config.parallel!r}, but accelerate wrapped the model in "
            f"{type(wrapped).__name__} for {accelerator.num_processes} processes"
        )
    return wrapped


def shard(model: nn.Module, config: TrainConfig, accelerator: Accelerator) -> nn.Module:
    """FSDP2 by PyTorch's own `fully_shard`: on a CPU accelerate silently runs something else."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    low = torch.bfloat16 if config.precision == "bf16" else None
    policy = MixedPrecisionPolicy(param_dtype=low, reduce_dtype=torch.float32 if low else None)
    for block in model.blocks:
        fully_shard(block, mesh=mesh, mp_policy=policy)
    return fully_shard(model, mesh=mesh, mp_policy=policy)


def reduce_told(told: dict[str, torch.Tensor], accelerator: Accelerator) -> dict[str, torch.Tensor]:
    """Sum `sum/…` and average `mean/…` over processes, each kind in one call."""
    if accelerator.num_processes == 1 or not told:
        return told
    reduced = {}
    for kind, share in (("sum/", 1), ("mean/", accelerator.num_processes)):
        names = [name for name in told if kind in name]
        if not names:
            continue
        flat = torch.cat([told[name].double().flatten() for name in names])
        dist.all_reduce(flat)
        parts = flat.div(share).split([told[name].numel() for name in names])
        for name, part in zip(names, parts, strict=True):
            reduced[name] = part.view(told[name].shape).to(told[name].dtype)
    return reduced


def any_rank(flag: bool, accelerator: Accelerator) -> bool:
    """Whether the flag is set in any process."""
    if accelerator.num_processes == 1:
        return flag
    tensor = torch.tensor(float(flag), device=accelerator.device)
    dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    return bool(tensor)


def total(value: torch.Tensor, accelerator: Accelerator) -> torch.Tensor:
    """The sum of a tensor over processes."""
    if accelerator.num_processes > 1:
        dist.all_reduce(value)
    return value


def part(accelerator: Accelerator) -> None:
    """Close the process group: threads that it leaves running may abort a process at its exit.

    The wrapped model has to go first, so its caller drops it. DDP's reducer holds the group too; as
    the last to let go it would wait for the group's threads without releasing the interpreter,
    which a thread may be waiting for in order to drop a tensor: neither would ever end.
    """
    if accelerator.num_processes > 1:
        accelerator.wait_for_everyone()
        accelerator.free_memory()
        gc.collect()
        dist.destroy_process_group()
