"""Log-probabilities that a model gives to whole sequences."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from pellucid.errors import UserError
from pellucid.eval.stream import CHUNK_NUMBERS, CHUNK_TOKENS


def token_log_probs(
    model: nn.Module, rows: Sequence[Sequence[int]], *, context: int
) -> list[Tensor]:
    """For each row, (token - 1, 2): log p of each token after the first, in nats, and whether the
    model ranks it first.

    Rows of similar length are read together, padded at their ends, which no token before sees.
    Raises UserError for a row that does not fit: `context` tokens are read, one more predicted.
    """
    longest = max((len(row) for row in rows), default=0)
    if longest > context + 1:
        raise UserError(f"a text has {longest} tokens; at most {context + 1} can be scored at once")
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    found: list[Tensor] = [torch.empty(0, 2)] * len(rows)
    while order:
        width = len(rows[order[-1]])
        taken = [order.pop() for _ in range(min(len(order), _rows(model, width)))]
        for i, scored in zip(taken, _read(model, [rows[i] for i in taken], width)):
            found[i] = scored
    return found


def sums(model: nn.Module, rows: Sequence[Sequence[int]], *, context: int) -> np.ndarray:
    """Σ log p of all tokens but the first of each row (row,), in nats."""
    scored = token_log_probs(model, rows, context=context)
    return np.array([float(one[:, 0].sum()) for one in scored])


def _rows(model: nn.Module, width: int) -> int:
    return max(1, min(CHUNK_TOKENS, CHUNK_NUMBERS // model.vocab_size) // max(width, 1))


@torch.no_grad()
def _read(model: nn.Module, rows: list[Sequence[int]], width: int) -> list[Tensor]:
    device = next(model.parameters()).device
    laid = torch.zeros(len(rows), width, dtype=torch.long)
    for i, row in enumerate(rows):
        laid[i, : len(row)] = torch.tensor(row, dtype=torch.long)
    if width < 2:
        return [torch.empty(0, 2, dtype=torch.float64) for _ in rows]
    laid = laid.to(device)
    logits = model(laid[:, :-1]).logits.float()
    targets = laid[:, 1:]
    log_p = logits.log_softmax(-1).gather(-1, targets[..., None])[..., 0]
    both = torch.stack([log_p.double(), (logits.argmax(-1) == targets).double()], dim=-1).cpu()
    return [both[i, : max(0, len(row) - 1)] for i, row in enumerate(rows)]
