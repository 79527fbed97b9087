"""Held-out loss on fixed rows of the validation split."""

from math import log

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import nn

from pellucid.config import RunConfig
from pellucid.data import TokenData
from pellucid.training.devices import any_rank, total
from pellucid.training.signals import StopRequest


@torch.no_grad()
def validate(
    config: RunConfig,
    model: nn.Module,
    data: TokenData,
    accelerator: Accelerator,
    stop: StopRequest,
) -> dict[str, float] | None:
    """Mean loss in nats per token and bits per byte; None where a stop was asked for midway.

    The rows are the same in every run on the same data. Bits per byte use the split's mean bytes
    per token; `pellucid eval` counts them file by file.
    """
    context, world = config.model.context, accelerator.num_processes
    split = data.split("val")
    rows = min(config.train.eval_tokens, len(split.tokens) - 1) // context
    per_pass = max(1, min(config.train.batch // world, -(-rows // world)))
    sums = torch.zeros(2, dtype=torch.float64, device=accelerator.device)
    model.eval()
    for number in range(max(1, rows // (per_pass * world))):
        if any_rank(bool(stop), accelerator):
            return None
        batch = data.rows(0, number, batch=per_pass * world, context=context, split="val")
        tokens = batch.tokens[accelerator.process_index * per_pass :][:per_pass]
        sums += _summed(model, tokens.to(accelerator.device))
    loss_sum, count = total(sums, accelerator).tolist()
    loss = loss_sum / count
    tokens_per_byte = len(split.tokens) / int(split.doc_bytes.sum())
    return {"loss": loss, "bits_per_byte": loss / log(2) * tokens_per_byte, "tokens_seen": count}


def _summed(model: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    logits = model(tokens[:, :-1]).logits
    logits = logits if logits.dtype == torch.float64 else logits.float()
    targets = tokens[:, 1:].flatten()
    loss = F.cross_entropy(logits.flatten(0, 1), targets, reduction="sum").double()
    return torch.stack([loss, torch.full_like(loss, targets.numel())])
