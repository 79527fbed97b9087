"""Does a model copy what it has read? Random tokens, twice over: the second time can be known."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn

from pellucid.eval.bootstrap import Interval, mean
from pellucid.eval.capability.answers import LN2
from pellucid.eval.capability.parts import by_part
from pellucid.eval.score import NoValue, Score

if TYPE_CHECKING:
    from pellucid.eval.workbench import Workbench

SEQUENCES = 48
LONGEST_HALF = 64
SHORTEST_HALF = 4


def induction(bench: "Workbench") -> list[Score]:
    """Bits per token of the second half less those of the first: below 0, the model copies.

    `copied`: how often the token that is due is likelier than another of the same sequence.
    """
    half = min(LONGEST_HALF, bench.reader.context // 2)
    if half < SHORTEST_HALF:
        raise NoValue(f"a context of {bench.reader.context} has no room for two halves")
    tokens = repeated(bench.vocab_size, half, eot=bench.stream.eot, seed=bench.seed)
    measure = lambda system: copied(system.model, tokens, seed=bench.seed)
    better = lambda name: "higher" if name == "copied" else "lower"
    return by_part(bench, "induction", measure, better=better, tokens=tokens.numel())


def repeated(vocab_size: int, half: int, *, eot: int, seed: int) -> Int[Tensor, "row token"]:
    """Rows of eot and the same `half` tokens twice, each drawn evenly from all but the eot."""
    draws = np.random.default_rng([seed, 2]).integers(0, vocab_size - 1, (SEQUENCES, half))
    # The eot is left out of the numbering.
    once = torch.from_numpy(draws + (draws >= eot))
    return torch.cat([torch.full((SEQUENCES, 1), eot), once, once], dim=1)


@torch.no_grad()
def copied(
    model: nn.Module, tokens: Int[Tensor, "row token"], *, seed: int
) -> dict[str | None, Interval]:
    """What a model makes of repeated rows; intervals over rows."""
    half = tokens.shape[1] // 2
    shift = np.random.default_rng([seed, 3]).integers(1, half, half)
    rival = tokens[:, 1 + half :][:, (np.arange(half) + shift) % half]
    due, other = (torch.stack(rows) for rows in zip(*map(_row(model), tokens, rival)))
    won = 0.5 + 0.5 * torch.sign(due[:, half:] - other)
    # Both likelihoods are one number where the rival happens to be the same token: half a win.
    bits = -due / LN2
    return {
        None: mean((bits[:, half:] - bits[:, :half]).mean(1).numpy(), seed=seed, what="rows"),
        "copied": mean(won.mean(1).numpy(), seed=seed, what="rows"),
    }


def _row(model: nn.Module) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Log-probabilities of a row's own tokens, and of rivals for those of its second half."""
    device = next(model.parameters()).device

    def read(row: Tensor, rival: Tensor) -> tuple[Tensor, Tensor]:
        # The last token predicts nothing, so a row of 2n + 1 tokens is read in 2n.
        logits = model(row[None, :-1].to(device)).logits[0]
        log_p = logits.float().log_softmax(-1).double().cpu()
        due = log_p.gather(-1, row[1:, None])[:, 0]
        return due, log_p[len(rival) :].gather(-1, rival[:, None])[:, 0]

    return read
