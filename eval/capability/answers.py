"""What a model or an n-gram answers on a batch of a task, and how that is scored.

Everything is computed from `log_p (pair, prompt, answer)`: log-probabilities, in nats, of answers A
and B after prompts A and B. Answer B is NaN where the task is one against the rest.
"""

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from pellucid.eval.ngram import NGram
from pellucid.eval.stream import CHUNK_NUMBERS, CHUNK_TOKENS
from pellucid.eval.tasks import OPEN, TaskBatch

LN2 = float(np.log(2.0))
LEAST = 1e-12
"""Probability left for the rest where all of it is on one answer."""


@torch.no_grad()
def answer_log_probs(model: nn.Module, batch: TaskBatch) -> Float[np.ndarray, "pair 2 2"]:
    """log_p of a batch by a model, a few rows at a time."""
    device = next(model.parameters()).device
    width = batch.tokens_a.shape[1]
    rows = max(1, min(CHUNK_TOKENS, CHUNK_NUMBERS // model.vocab_size) // width)
    sides = []
    for tokens, last in ((batch.tokens_a, batch.last_a), (batch.tokens_b, batch.last_b)):
        pieces = [
            _at_last(model, tokens[i : i + rows].to(device), last[i : i + rows])
            for i in range(0, len(batch), rows)
        ]
        sides.append(torch.cat(pieces))
    log_p = torch.stack(sides, dim=1)
    answers = torch.stack([batch.answer_a, batch.answer_b], dim=1).clamp(min=0)
    taken = log_p.gather(2, answers[:, None].expand(-1, 2, -1)).numpy()
    return _opened(taken, batch)


def _at_last(model: nn.Module, tokens: Tensor, last: Tensor) -> Tensor:
    logits = model(tokens).logits[torch.arange(len(tokens)), last]
    return logits.float().log_softmax(-1).double().cpu()


def ngram_answer_log_probs(ngram: NGram, batch: TaskBatch) -> Float[np.ndarray, "pair 2 2"]:
    """log_p of a batch by an n-gram, which sees the last order-1 tokens of each prompt."""
    taken = np.empty((len(batch), 2, 2))
    answers = [batch.answer_a.clamp(min=0).numpy(), batch.answer_b.clamp(min=0).numpy()]
    for side, (tokens, last) in enumerate(
        ((batch.tokens_a, batch.last_a), (batch.tokens_b, batch.last_b))
    ):
        before = last_tokens(tokens.numpy(), last.numpy(), ngram.order - 1)
        for which, answer in enumerate(answers):
            rows = np.concatenate([before, answer[:, None]], axis=1)
            # The n-gram never looks further back than a row is long.
            bits = ngram.log2_probs(rows.ravel())[ngram.order - 1 :: ngram.order]
            taken[:, side, which] = bits * LN2
    return _opened(taken, batch)


def last_tokens(
    tokens: Integer[np.ndarray, "pair token"], last: Integer[np.ndarray, " pair"], count: int
) -> Integer[np.ndarray, "pair count"]:
    """The `count` tokens that end at `last`, with the first token of the row before its start."""
    columns = last[:, None] + np.arange(1 - count, 1)
    return np.take_along_axis(tokens, np.maximum(columns, 0), axis=1)


def _opened(log_p: np.ndarray, batch: TaskBatch) -> np.ndarray:
    if batch.one_vs_rest:
        log_p[:, :, 1] = np.nan
    elif (batch.answer_b == OPEN).any():
        raise ValueError(f"task {batch.name!r} has no answer B: one_vs_rest must say so")
    return log_p


def task_loss(log_p: Float[np.ndarray, "pair 2 2"]) -> Float[np.ndarray, " pair"]:
    """−½ [log p(A | x⁺) + log p(B | x⁻)] of each pair, in nats (arXiv 2511.13653).

    Probabilities are those among A and B; in one-against-rest tasks p(B) = 1 − p(A) among all
    tokens. A model that cannot tell the prompts apart has ln 2 at best.
    """
    if np.isnan(log_p[:, :, 1]).any():
        # The rest keeps a little, or a model that is certain would have an infinite loss.
        rest = np.log(np.maximum(-np.expm1(log_p[:, 1, 0]), LEAST))
        return -0.5 * (log_p[:, 0, 0] + rest)
    either = np.logaddexp(log_p[:, :, 0], log_p[:, :, 1])
    return -0.5 * (log_p[:, 0, 0] - either[:, 0] + log_p[:, 1, 1] - either[:, 1])


def margin_accuracy(log_p: Float[np.ndarray, "pair 2 2"]) -> Float[np.ndarray, " pair"]:
    """Share of the two prompts of each pair after which the right answer is the likelier one.

    Ties count half. In one-against-rest tasks there is one comparison: whether A is likelier after
    prompt A than after prompt B. A model that always prefers A has exactly one half.
    """
    if np.isnan(log_p[:, :, 1]).any():
        return wins(log_p[:, 0, 0] - log_p[:, 1, 0])
    right = log_p[:, 0, 0] - log_p[:, 0, 1], log_p[:, 1, 1] - log_p[:, 1, 0]
    return 0.5 * (wins(right[0]) + wins(right[1]))


def wins(margin: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """1 where a margin is above zero, ½ where it is zero, 0 below."""
    return 0.5 + 0.5 * np.sign(margin)
