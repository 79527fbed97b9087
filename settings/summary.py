"""What follows from a configuration: sizes, work, tokens, epochs, and the time to expect."""

import time

import torch

from pellucid.config import RunConfig
from pellucid.models import account

FORWARDS_PER_STEP = 3
"""A backward pass computes about twice what the forward pass does."""


def summary(config: RunConfig, vocab_size: int, train_tokens: int) -> list[str]:
    """Lines for `--print-config`; `train_tokens` is the size of the train split."""
    size, train = account(config.model, vocab_size), config.train
    tokens_per_step = train.batch * config.model.context
    tokens = train.steps * tokens_per_step
    forwards = FORWARDS_PER_STEP + train.checkpoint_activations
    work = tokens * size.flops_executed * forwards
    return [
        f"parameters   {size.total:,} ({size.nonzero:,} non-zero, {size.active:,} active per token)",
        f"FLOPs        {size.flops_executed:,.0f} executed per token and forward pass, "
        f"{size.flops_ideal:,.0f} if every zero were skipped",
        f"vocabulary   {vocab_size:,} tokens",
        f"tokens       {tokens:,} in {train.steps:,} steps of {tokens_per_step:,}",
        f"epochs       {tokens / train_tokens:.2f} of {train_tokens:,} tokens",
        *_expected(config, work, forwards),
    ]


def _expected(config: RunConfig, work: float, forwards: int) -> list[str]:
    device = device_of(config)
    rate = measured_rate(config, device)
    return [
        f"time         about {spelled(work / rate)} on one {device.type} device: {work:.2e} FLOPs",
        f"             ({forwards} forward passes' worth a step) at {rate / 1e9:,.0f} GFLOP/s, which",
        "             a matrix product of this model's size has just reached here; rarely less,",
        "             up to three times as long where memory or small operations hold it up",
    ]


def device_of(config: RunConfig) -> torch.device:
    """Where a run would be trained on this machine."""
    wanted = config.train.device
    gpu = wanted == "cuda" or (wanted == "auto" and torch.cuda.is_available())
    return torch.device("cuda" if gpu and torch.cuda.is_available() else "cpu")


def measured_rate(config: RunConfig, device: torch.device, seconds: float = 0.3) -> float:
    """FLOP/s of a matrix product as wide as the model, in its precision, on `device`."""
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp64": torch.float64}
    rows = min(config.train.micro_batch or config.train.batch, 16) * min(config.model.context, 1024)
    shapes = ((rows, config.model.d_model), (config.model.d_model, 4 * config.model.d_model))
    x, w = (torch.randn(s, device=device).to(dtype[config.train.precision]) for s in shapes)
    calls, start = 0, _clock(device)
    while calls < 3 or _clock(device) - start < seconds:
        if calls == 1:  # the first call warms up
            start = _clock(device)
        x @ w
        calls += 1
    return (calls - 1) * 2 * rows * w.numel() / (_clock(device) - start)


def _clock(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def spelled(seconds: float) -> str:
    """A length of time in words."""
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} seconds"
